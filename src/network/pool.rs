//! Which addresses are free: subnets for new networks, addresses in them for containers.
//!
//! What it does: chooses, purely, out of what the caller says is taken.
//!
//! What it implements: docker's default address pools, in docker's order; RFC 4193 (unique local
//! IPv6 networks). Interface: [`next_subnet`], [`unique_local`], [`free_address`].
//! Read next: `link.rs`.

use super::Prefix;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The first subnet of docker's pools that overlaps none of `taken`: 172.17.0.0/16 to
/// 172.31.0.0/16, then the parts of 192.168.0.0/16 of 20 bits. `None`: all are taken.
pub fn next_subnet(taken: &[Prefix]) -> Option<Prefix> {
    let large = (17..=31).map(|n| (Ipv4Addr::new(172, n, 0, 0), 16));
    let small = (0..16).map(|n| (Ipv4Addr::new(192, 168, n * 16, 0), 20));
    large
        .chain(small)
        .map(|(address, length)| Prefix {
            address: address.into(),
            length,
        })
        .find(|candidate| !taken.iter().any(|t| t.overlaps(candidate)))
}

/// The IPv6 subnet of a network with this id (hex digits), below fd00::/8: as good as random, and
/// the same each time.
pub fn unique_local(id: &str) -> Prefix {
    let digits = id.get(..14).unwrap_or("0");
    let number = u128::from_str_radix(digits, 16).unwrap_or(0);
    Prefix {
        address: Ipv6Addr::from((0xfd << 120) | (number << 64)).into(),
        length: 64,
    }
}

/// The lowest free address of a subnet, or of the part of it that containers get (`range`). The
/// network's own address and the broadcast address are nobody's. `None`: no address is free.
pub fn free_address(
    subnet: &Prefix,
    range: Option<&Prefix>,
    is_taken: impl Fn(IpAddr) -> bool,
) -> Option<IpAddr> {
    let range = range.unwrap_or(subnet);
    let reserved = [
        (subnet.length + 1 < subnet.width()).then(|| subnet.network().address),
        subnet.broadcast(),
    ];
    // A /64 has more addresses than anybody takes: the search ends with the first free one.
    (0..=range.last())
        .filter_map(|n| range.nth(n))
        .find(|a| !reserved.contains(&Some(*a)) && !is_taken(*a))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn pools_go_around_what_the_host_has() {
        assert_eq!(next_subnet(&[]).unwrap(), p("172.17.0.0/16"));
        let taken = [p("172.17.0.0/16"), p("172.18.5.0/24")];
        assert_eq!(next_subnet(&taken).unwrap(), p("172.19.0.0/16"));
        assert_eq!(
            next_subnet(&[p("172.16.0.0/12")]).unwrap(),
            p("192.168.0.0/20")
        );
        let both = [p("172.16.0.0/12"), p("192.168.0.0/19")];
        assert_eq!(next_subnet(&both).unwrap(), p("192.168.32.0/20"));
        assert_eq!(
            next_subnet(&[p("172.16.0.0/12"), p("192.168.0.0/16")]),
            None
        );
    }

    #[test]
    fn addresses_from_the_lowest_until_there_is_none() {
        let net = p("10.0.0.0/30");
        let mut taken = vec!["10.0.0.1".parse::<IpAddr>().unwrap()];
        let next = free_address(&net, None, |a| taken.contains(&a)).unwrap();
        assert_eq!(next.to_string(), "10.0.0.2");
        taken.push(next);
        assert_eq!(free_address(&net, None, |a| taken.contains(&a)), None);
        let range = p("10.0.1.128/25");
        let next = free_address(&p("10.0.0.0/16"), Some(&range), |_| false).unwrap();
        assert_eq!(next.to_string(), "10.0.1.128");
        let six = free_address(&p("fd00::/64"), None, |_| false).unwrap();
        assert_eq!(six.to_string(), "fd00::1");
    }

    #[test]
    fn an_ipv6_network_of_its_own() {
        let subnet = unique_local("0123456789abcdef");
        assert_eq!(subnet.to_string(), "fd01:2345:6789:abcd::/64");
    }
}
