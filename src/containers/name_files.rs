//! The files by which a container knows names: `hosts` and `resolv.conf`, purely.
//!
//! What it does: what stands in them depends on the network. In a network of the user's own a name
//! server of ours answers; on the default bridge, as with docker, the host's resolvers do, as far as
//! they can be reached from there; in the host's network all is as on the host.
//!
//! | Network | resolv.conf | hosts |
//! |---|---|---|
//! | the host's | the host's | the host's, and --add-host |
//! | none | the host's | its own name on loopback |
//! | `bridge` | the host's, without resolvers on loopback | its own name and address, --link |
//! | of the user's own | 127.0.0.11 | its own name and addresses |
//! | user-mode | 10.0.2.3 | its own name on 10.0.2.100 |
//!
//! What it implements: resolv.conf(5), hosts(5), with docker's rules for both.
//! Interface: [`Reach`], [`hosts`], [`resolv_conf`], [`resolvers`]. Read next: `prepare.rs`,
//! `name_service.rs`.

use super::model::HostConfig;
use crate::network::{dns, slirp};
use std::net::{IpAddr, Ipv4Addr};

/// What a container's names come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// It is in the host's network.
    Host,
    /// It has a loopback and no more.
    Loopback,
    /// It is on the default bridge.
    Bridge,
    /// It is in networks of the user's own.
    Named,
    /// A process of the user's speaks for it.
    UserMode,
}

/// What goes into `hosts`.
#[derive(Debug)]
pub struct Hosts<'a> {
    /// Where it is.
    pub reach: Reach,
    /// Its host name.
    pub hostname: &'a str,
    /// Its domain, or nothing.
    pub domainname: &'a str,
    /// `NAME:ADDRESS`, with addresses alone.
    pub extra: &'a [String],
    /// Its addresses, once they are known.
    pub addresses: &'a [IpAddr],
    /// Others: an address and the names for it.
    pub links: &'a [(IpAddr, String)],
    /// The host's own file, for its network.
    pub of_host: &'a str,
}

/// `hosts`.
pub fn hosts(it: &Hosts<'_>) -> String {
    let extra = it.extra.iter().filter_map(|entry| entry.split_once(':'));
    let extra: String = extra
        .map(|(name, address)| format!("{address}\t{name}\n"))
        .collect();
    if it.reach == Reach::Host {
        // In the host's network its names hold, its own among them.
        return it.of_host.to_string() + &extra;
    }
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\nff00::0\tip6-mcastprefix\nff02::1\tip6-allnodes\n\
         ff02::2\tip6-allrouters\n",
    );
    text += &extra;
    for (address, names) in it.links {
        text += &format!("{address}\t{names}\n");
    }
    let names = match it.domainname {
        "" => it.hostname.to_string(),
        domain => format!("{0}.{domain} {0}", it.hostname),
    };
    let own = match it.reach {
        Reach::UserMode => vec![slirp::ADDRESS.into()],
        Reach::Bridge | Reach::Named if !it.addresses.is_empty() => it.addresses.to_vec(),
        _ => vec![Ipv4Addr::LOCALHOST.into()],
    };
    for address in own {
        text += &format!("{address}\t{names}\n");
    }
    text
}

/// `resolv.conf`, out of the host's own; and what the user should know, if it can ask nobody.
pub fn resolv_conf(of_host: &str, reach: Reach, h: &HostConfig) -> (String, Option<String>) {
    let asked = !(h.dns.is_empty() && h.dns_search.is_empty() && h.dns_options.is_empty());
    if matches!(reach, Reach::Host | Reach::Loopback) && !asked {
        // One that listens on the host's loopback is kept too: in the host's network it answers,
        // and without a network nothing does.
        return (of_host.to_string(), None);
    }
    let (of_host_servers, search, mut options) = parts(of_host);
    let mut warning = None;
    let servers: Vec<IpAddr> = match reach {
        Reach::Named => vec![dns::ADDRESS.into()],
        _ if !h.dns.is_empty() => h.dns.iter().filter_map(|text| text.parse().ok()).collect(),
        Reach::UserMode => vec![slirp::RESOLVER.into()],
        Reach::Bridge => {
            let (near, far): (Vec<IpAddr>, Vec<IpAddr>) =
                of_host_servers.iter().partition(|a| a.is_loopback());
            if let (true, Some(first)) = (far.is_empty(), near.first()) {
                warning = Some(format!(
                    "names of the internet are unknown in the container: the host's resolver {first} \
                     listens on the host's loopback; --dns names another, and in a network of your \
                     own (`glassbox network create`) the host's is asked on its behalf"
                ));
            }
            far
        }
        Reach::Host | Reach::Loopback => of_host_servers,
    };
    let search = match h.dns_search.as_slice() {
        [] => search,
        [none] if none == "." => Vec::new(),
        own => own.to_vec(),
    };
    for option in &h.dns_options {
        let name = |o: &str| o.split(':').next().unwrap_or_default().to_string();
        options.retain(|other| name(other) != name(option));
        options.push(option.clone());
    }
    if reach == Reach::Named && !options.iter().any(|o| o.starts_with("ndots:")) {
        // A name without a dot is a container's first of all, and not one of a search domain.
        options.push("ndots:0".into());
    }
    let mut text = String::new();
    for server in servers {
        text += &format!("nameserver {server}\n");
    }
    for (word, list) in [("search", search), ("options", options)] {
        if !list.is_empty() {
            text += &format!("{word} {}\n", list.join(" "));
        }
    }
    (text, warning)
}

/// Whom the name server asks about names that it does not know: `--dns`, else the host's resolvers.
pub fn resolvers(of_host: &str, h: &HostConfig) -> Vec<IpAddr> {
    match h.dns.is_empty() {
        false => h.dns.iter().filter_map(|text| text.parse().ok()).collect(),
        true => parts(of_host).0,
    }
}

/// Resolvers, search domains and options of a resolv.conf.
fn parts(text: &str) -> (Vec<IpAddr>, Vec<String>, Vec<String>) {
    let (mut servers, mut search, mut options) = (Vec::new(), Vec::new(), Vec::new());
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => {
                servers.extend(words.next().and_then(|w| w.parse::<IpAddr>().ok()))
            }
            Some("search" | "domain") => search = words.map(String::from).collect(),
            Some("options") => options.extend(words.map(String::from)),
            _ => {}
        }
    }
    servers.truncate(3); // as the C library reads it
    (servers, search, options)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "# written by hand\nnameserver 127.0.0.53\nnameserver 192.0.2.1\n\
                        search lan example.net\noptions edns0 ndots:3\n";

    fn wish(dns: &[&str], search: &[&str], options: &[&str]) -> HostConfig {
        let all = |list: &[&str]| list.iter().map(|t| t.to_string()).collect();
        HostConfig {
            dns: all(dns),
            dns_search: all(search),
            dns_options: all(options),
            ..HostConfig::default()
        }
    }

    #[test]
    fn resolvers_are_those_that_can_be_reached_from_the_network() {
        let conf = |reach| resolv_conf(HOST, reach, &HostConfig::default()).0;
        assert_eq!(conf(Reach::Host), HOST);
        assert_eq!(conf(Reach::Loopback), HOST);
        assert_eq!(
            conf(Reach::Bridge),
            "nameserver 192.0.2.1\nsearch lan example.net\noptions edns0 ndots:3\n"
        );
        assert_eq!(
            conf(Reach::Named),
            "nameserver 127.0.0.11\nsearch lan example.net\noptions edns0 ndots:3\n"
        );
        assert!(conf(Reach::UserMode).starts_with("nameserver 10.0.2.3\nsearch"));
        let plain = resolv_conf(
            "nameserver 192.0.2.1\n",
            Reach::Named,
            &HostConfig::default(),
        );
        assert_eq!(plain.0, "nameserver 127.0.0.11\noptions ndots:0\n");
    }

    #[test]
    fn a_bridge_that_reaches_no_resolver_is_said() {
        let near = "nameserver 127.0.0.53\n";
        let (text, warning) = resolv_conf(near, Reach::Bridge, &HostConfig::default());
        assert_eq!(text, "");
        assert!(warning.is_some_and(|w| w.contains("127.0.0.53") && w.contains("--dns")));
        assert_eq!(
            resolv_conf(HOST, Reach::Bridge, &HostConfig::default()).1,
            None
        );
        let own = wish(&["192.0.2.9"], &[], &[]);
        assert_eq!(
            resolv_conf(near, Reach::Bridge, &own),
            ("nameserver 192.0.2.9\n".into(), None)
        );
    }

    #[test]
    fn flags_go_over_the_hosts_lines() {
        let own = wish(&["192.0.2.9"], &["corp"], &["ndots:1", "rotate"]);
        assert_eq!(
            resolv_conf(HOST, Reach::Loopback, &own).0,
            "nameserver 192.0.2.9\nsearch corp\noptions edns0 ndots:1 rotate\n"
        );
        // The name server asks them; the container asks it.
        assert_eq!(
            resolv_conf(HOST, Reach::Named, &own).0,
            "nameserver 127.0.0.11\nsearch corp\noptions edns0 ndots:1 rotate\n"
        );
        assert_eq!(
            resolvers(HOST, &own),
            ["192.0.2.9".parse::<IpAddr>().unwrap()]
        );
        assert_eq!(resolvers(HOST, &wish(&[], &[], &[])).len(), 2);
        let none = wish(&[], &["."], &[]);
        assert!(!resolv_conf(HOST, Reach::Bridge, &none).0.contains("search"));
    }

    #[test]
    fn hosts_has_its_own_name_at_its_own_address() {
        let base = Hosts {
            reach: Reach::Named,
            hostname: "box",
            domainname: "lan",
            extra: &["db:10.0.0.2".to_string()],
            addresses: &["172.18.0.2".parse().unwrap(), "fd00::2".parse().unwrap()],
            links: &[("172.17.0.3".parse().unwrap(), "cache redis".to_string())],
            of_host: "127.0.1.1 machine\n",
        };
        let text = hosts(&base);
        for line in [
            "127.0.0.1\tlocalhost\n",
            "10.0.0.2\tdb\n",
            "172.17.0.3\tcache redis\n",
            "172.18.0.2\tbox.lan box\n",
            "fd00::2\tbox.lan box\n",
        ] {
            assert!(text.contains(line), "{line:?} in {text}");
        }
        assert!(!text.contains("machine"));
        let of = |reach| hosts(&Hosts { reach, ..base });
        assert_eq!(of(Reach::Host), "127.0.1.1 machine\n10.0.0.2\tdb\n");
        assert!(of(Reach::Loopback).contains("127.0.0.1\tbox.lan box\n"));
        assert!(of(Reach::UserMode).contains("10.0.2.100\tbox.lan box\n"));
    }
}
