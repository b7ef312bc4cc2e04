//! The little languages of ports: `-p`, `--expose`.
//!
//! What it implements: the formats of docker's command line reference for `docker run`.
//! Interface: [`publish`], [`expose`], [`container_port`]. Read next: `containers/networks/ports.rs`.

use super::bad;
use crate::containers::model::PortBinding;
use crate::error::Result;
use crate::network::rules::Protocol;
use std::net::IpAddr;

/// First and last port of `80` or `80-89`.
fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first > 0 && first <= last).then_some((first, last))
}

fn protocol(text: &str) -> Result<Protocol> {
    match text.to_ascii_lowercase().as_str() {
        "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        "sctp" => Err(bad(
            "protocol sctp is not published: this version has tcp and udp",
        )),
        other => Err(bad(format!("invalid proto: {other}")).hint("tcp or udp")),
    }
}

/// `80/tcp` of a container's: port and protocol; tcp when it says none.
pub fn container_port(text: &str) -> Result<(u16, Protocol)> {
    let (port, proto) = text.split_once('/').unwrap_or((text, "tcp"));
    let number = port.parse::<u16>().ok().filter(|p| *p > 0);
    let number = number.ok_or_else(|| bad(format!("invalid containerPort: {text}")))?;
    Ok((number, protocol(proto)?))
}

/// `--expose PORT[-PORT][/PROTOCOL]`: `80/tcp` for each.
pub fn expose(text: &str) -> Result<Vec<String>> {
    let (ports, proto) = text.split_once('/').unwrap_or((text, "tcp"));
    let proto = protocol(proto)?.name();
    let (first, last) =
        range(ports).ok_or_else(|| bad(format!("invalid range format for --expose: {text}")))?;
    Ok((first..=last).map(|p| format!("{p}/{proto}")).collect())
}

/// `-p [[ADDRESS:][HOST[-HOST]]:]CONTAINER[-CONTAINER][/PROTOCOL]`: `80/tcp` and the port of the
/// host's for each.
pub fn publish(text: &str) -> Result<Vec<(String, PortBinding)>> {
    let wrong = |what: String| {
        bad(what).hint("[[ADDRESS:]HOST:]CONTAINER[/tcp|/udp], as 8080:80 or 127.0.0.1:53:53/udp")
    };
    let (ports, proto) = text.rsplit_once('/').unwrap_or((text, "tcp"));
    let proto = protocol(proto)?.name();
    let (rest, container) = match ports.rsplit_once(':') {
        Some((rest, container)) => (Some(rest), container),
        None => (None, ports),
    };
    let (first, last) =
        range(container).ok_or_else(|| wrong(format!("invalid containerPort: {container}")))?;
    let (address, host) = match rest {
        None => ("", ""),
        Some(rest) => rest.rsplit_once(':').unwrap_or(("", rest)),
    };
    let address = address.trim_start_matches('[').trim_end_matches(']');
    if !address.is_empty() && address.parse::<IpAddr>().is_err() {
        return Err(wrong(format!("invalid IP address: {address}")));
    }
    let host_range = match host {
        "" => None,
        text => Some(range(text).ok_or_else(|| wrong(format!("invalid hostPort: {text}")))?),
    };
    let count = u32::from(last - first) + 1;
    let mut all = Vec::new();
    for (number, port) in (first..=last).enumerate() {
        let host_port = match host_range {
            None => String::new(),
            Some((a, b)) if u32::from(b - a) + 1 == count => (a + number as u16).to_string(),
            // Any free one of them.
            Some(_) if count == 1 => host.to_string(),
            Some(_) => {
                return Err(wrong(format!(
                    "invalid ranges specified for container and host Ports: {container} and {host}"
                )));
            }
        };
        let binding = PortBinding {
            host_ip: address.to_string(),
            host_port,
        };
        all.push((format!("{port}/{proto}"), binding));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_as_docker_writes_them() {
        let of = |text: &str| {
            let all = publish(text).unwrap();
            let all = all
                .iter()
                .map(|(p, b)| format!("{}:{}:{p}", b.host_ip, b.host_port));
            all.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(of("80"), "::80/tcp");
        assert_eq!(of("8080:80"), ":8080:80/tcp");
        assert_eq!(of("127.0.0.1:53:53/udp"), "127.0.0.1:53:53/udp");
        assert_eq!(of("127.0.0.1::80"), "127.0.0.1::80/tcp");
        assert_eq!(of("[::1]:80:80"), "::1:80:80/tcp");
        assert_eq!(of("8000-8001:80-81"), ":8000:80/tcp :8001:81/tcp");
        assert_eq!(of("8000-8009:80"), ":8000-8009:80/tcp");
        for wrong in [
            "",
            "x",
            "0",
            "80:",
            "1-2:3-5",
            "80/icmp",
            "1.2.3:80:80",
            "70000",
            "9-8",
        ] {
            assert!(publish(wrong).is_err(), "{wrong}");
        }
        assert_eq!(expose("80-81/udp").unwrap(), ["80/udp", "81/udp"]);
        assert!(container_port("80/tcp").unwrap() == (80, Protocol::Tcp));
    }
}
