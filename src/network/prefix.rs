//! Subnets and hardware addresses, as text and as numbers.
//!
//! What it does: parses, prints, compares and counts, purely.
//! What it implements: RFC 4632 (CIDR notation), RFC 4291; IEEE 802 addresses.
//! Interface: [`Prefix`], [`Mac`]. Read next: `pool.rs`.

use crate::error::{Error, Kind, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An address and how many of its bits name the network: `172.17.0.0/16`, or `172.17.0.2/16` for
/// an address in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prefix {
    /// The address.
    pub address: IpAddr,
    /// Bits of the network: at most 32, or 128.
    pub length: u8,
}

impl Prefix {
    /// The bits of an address of this family.
    pub fn width(&self) -> u8 {
        match self.address {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        }
    }
    fn mask(&self) -> u128 {
        let host = u32::from(self.width() - self.length);
        match host {
            128 => 0,
            host => u128::MAX << host,
        }
    }
    /// The same network, with no host in it: `172.17.0.2/16` becomes `172.17.0.0/16`.
    pub fn network(&self) -> Prefix {
        Prefix {
            address: of(self.address, number(self.address) & self.mask()),
            length: self.length,
        }
    }
    /// Whether the address lies in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        let family = address.is_ipv4() == self.address.is_ipv4();
        family && number(address) & self.mask() == number(self.address) & self.mask()
    }
    /// Whether two networks share an address.
    pub fn overlaps(&self, other: &Prefix) -> bool {
        match self.length <= other.length {
            true => self.contains(other.address),
            false => other.contains(self.address),
        }
    }
    /// How many addresses it has, less one: the number of the last.
    pub fn last(&self) -> u128 {
        let width = match self.width() {
            32 => u128::from(u32::MAX),
            _ => u128::MAX,
        };
        !self.mask() & width
    }
    /// Its address number `n`, from 0; `None` behind the last.
    pub fn nth(&self, n: u128) -> Option<IpAddr> {
        let first = number(self.network().address);
        (n <= self.last()).then(|| of(self.address, first + n))
    }
    /// The broadcast address of an IPv4 network that has one.
    pub fn broadcast(&self) -> Option<IpAddr> {
        match self.address {
            IpAddr::V4(_) if self.length < 31 => self.nth(self.last()),
            _ => None,
        }
    }
}

/// The address as a number.
pub fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(a) => u32::from(a).into(),
        IpAddr::V6(a) => a.into(),
    }
}

fn of(family: IpAddr, number: u128) -> IpAddr {
    match family {
        IpAddr::V4(_) => Ipv4Addr::from(number as u32).into(),
        IpAddr::V6(_) => Ipv6Addr::from(number).into(),
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl FromStr for Prefix {
    type Err = Error;
    fn from_str(text: &str) -> Result<Prefix> {
        let parsed = text.split_once('/').and_then(|(address, length)| {
            let address = address.parse().ok()?;
            let length = length.parse().ok()?;
            let prefix = Prefix { address, length };
            (length <= prefix.width()).then_some(prefix)
        });
        parsed.ok_or_else(|| {
            Error::kind(Kind::Usage, format!("invalid subnet {text}"))
                .hint("ADDRESS/BITS, as 172.30.0.0/16 or fd00:1::/64")
        })
    }
}

impl TryFrom<String> for Prefix {
    type Error = Error;
    fn try_from(text: String) -> Result<Prefix> {
        text.parse()
    }
}

impl From<Prefix> for String {
    fn from(prefix: Prefix) -> String {
        prefix.to_string()
    }
}

/// A hardware address: `02:42:ac:11:00:02`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// One that goes with an address, as docker long made them: locally administered, and the same
    /// whenever the address is, so that no neighbour remembers a wrong one.
    pub fn of(address: IpAddr) -> Mac {
        let [.., a, b, c, d] = number(address).to_be_bytes();
        Mac([0x02, 0x42, a, b, c, d])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.0.map(|b| format!("{b:02x}"));
        f.write_str(&all.join(":"))
    }
}

impl FromStr for Mac {
    type Err = Error;
    fn from_str(text: &str) -> Result<Mac> {
        let bytes: Option<Vec<u8>> = text
            .split([':', '-'])
            .map(|b| u8::from_str_radix(b, 16).ok().filter(|_| b.len() == 2))
            .collect();
        let bytes = bytes.and_then(|b| <[u8; 6]>::try_from(b).ok());
        // The lowest bit of the first byte means a group of receivers.
        bytes
            .filter(|b| b[0] & 1 == 0)
            .map(Mac)
            .ok_or_else(|| Error::kind(Kind::Usage, format!("{text} is not a valid mac address")))
    }
}

impl TryFrom<String> for Mac {
    type Error = Error;
    fn try_from(text: String) -> Result<Mac> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> String {
        mac.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn subnets_count_and_compare() {
        let net = p("172.17.3.9/16");
        assert_eq!(net.network().to_string(), "172.17.0.0/16");
        assert_eq!(net.nth(1).unwrap().to_string(), "172.17.0.1");
        assert_eq!(net.broadcast().unwrap().to_string(), "172.17.255.255");
        assert_eq!(net.nth(1 << 16), None);
        assert!(p("10.0.0.0/8").overlaps(&p("10.1.0.0/16")));
        assert!(p("10.1.0.0/16").overlaps(&p("10.0.0.0/8")));
        assert!(p("0.0.0.0/0").overlaps(&p("10.1.0.0/16")));
        assert!(!p("10.2.0.0/16").overlaps(&p("10.1.0.0/16")));
        assert!(!p("::/0").overlaps(&p("10.1.0.0/16")));
        assert_eq!(p("fd00::/64").nth(2).unwrap().to_string(), "fd00::2");
        for wrong in ["", "10.0.0.0", "10.0.0.0/33", "fd00::/129", "x/8"] {
            assert!(wrong.parse::<Prefix>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn hardware_addresses() {
        let mac = Mac::of("172.17.0.2".parse().unwrap());
        assert_eq!(mac.to_string(), "02:42:ac:11:00:02");
        assert_eq!("02-42-AC-11-00-02".parse::<Mac>().unwrap(), mac);
        for wrong in [
            "",
            "02:42",
            "03:42:ac:11:00:02",
            "2:42:ac:11:0:2",
            "zz:42:ac:11:00:02",
        ] {
            assert!(wrong.parse::<Mac>().is_err(), "{wrong}");
        }
    }
}
