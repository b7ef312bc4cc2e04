//! ipvlan: a device that shares another's wire and its hardware address too.
//!
//! Where a switch takes one hardware address a port (many a cloud's, most wireless ones), macvlan
//! fails and this works: what tells the devices apart is their IP addresses.
//!
//! | Mode | What comes in is | Its default route |
//! |---|---|---|
//! | l2 | taken apart as by a switch; ARP and broadcasts work | the wire's gateway |
//! | l3 | routed; there is no ARP, and the wire must know the way here | the device itself |
//! | l3s | the same, through the host's connection tracking and packet filter | the device itself |
//!
//! What it does: docker's words of it, and the one request that makes such a link.
//! What it implements: the kernel's networking/ipvlan document; linux/if_link.h (`IFLA_IPVLAN_*`).
//! Interface: [`Ipvlan`], [`make`]. Read next: `actions.rs`.

use super::link::Inside;
use super::wire::Attributes;
use crate::error::{Error, Kind, Result};
use crate::sys::SysResult;
use serde::{Deserialize, Serialize};
use std::os::fd::AsFd;

const IFLA_IPVLAN_MODE: u16 = 1;
const IFLA_IPVLAN_FLAGS: u16 = 2;

/// On which layer it decides whose a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// By the address behind the frame's header.
    #[default]
    L2,
    /// By routes.
    L3,
    /// By routes, and past the packet filter.
    L3s,
}

/// Who reaches whom among those of one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Flag {
    /// Everybody.
    #[default]
    Bridge,
    /// Nobody.
    Private,
    /// Everybody, by way of the switch outside.
    Vepa,
}

/// What an ipvlan network is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ipvlan {
    /// `ipvlan_mode`
    pub mode: Mode,
    /// `ipvlan_flag`
    pub flag: Flag,
}

impl Ipvlan {
    /// Out of docker's options; `None` for one that was not given. Errors: [`Kind::Usage`].
    pub fn parse(mode: Option<&str>, flag: Option<&str>) -> Result<Ipvlan> {
        let wrong = |what: &str, text: &str, words: &str| {
            Err(
                Error::kind(Kind::Usage, format!("unknown ipvlan {what}: {text:?}"))
                    .hint(format!("ipvlan_{what} is {words}")),
            )
        };
        let mode = match mode.unwrap_or("l2") {
            "l2" => Mode::L2,
            "l3" => Mode::L3,
            "l3s" => Mode::L3s,
            other => return wrong("mode", other, "l2, l3 or l3s"),
        };
        let flag = match flag.unwrap_or("bridge") {
            "bridge" => Flag::Bridge,
            "private" => Flag::Private,
            "vepa" => Flag::Vepa,
            other => return wrong("flag", other, "bridge, private or vepa"),
        };
        Ok(Ipvlan { mode, flag })
    }

    /// Packets find their way by routes alone, so there is no gateway to ask.
    pub fn is_routed(self) -> bool {
        self.mode != Mode::L2
    }

    /// `l2, bridge`
    pub fn words(self) -> String {
        format!("{:?}, {:?}", self.mode, self.flag).to_lowercase()
    }
}

/// Makes a link that shares the wire and the hardware address of the device with number `parent`, in
/// the namespace of `inside`, up. Errors: also `EBUSY` (the device is a bridge's port, or has links of
/// macvlan), `EOPNOTSUPP` (a kernel without ipvlan).
pub fn make(socket: impl AsFd, parent: i32, inside: Inside<'_>, how: Ipvlan) -> SysResult<()> {
    let mode = how.mode as u16; // IPVLAN_MODE_L2, L3, L3S
    let flag = how.flag as u16; // 0, IPVLAN_F_PRIVATE, IPVLAN_F_VEPA
    let data = Attributes::new()
        .bytes(IFLA_IPVLAN_MODE, &mode.to_ne_bytes())
        .bytes(IFLA_IPVLAN_FLAGS, &flag.to_ne_bytes());
    let kind = Attributes::new()
        .text(libc::IFLA_INFO_KIND, "ipvlan")
        .nested(libc::IFLA_INFO_DATA, data);
    let Inside { pid, name, .. } = inside;
    let words = format!("{name} (ipvlan, {}), up, beside process {pid}", how.words());
    super::link::make_on(socket, parent, inside.attributes(), kind, &words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_words() {
        let default = Ipvlan::parse(None, None).unwrap();
        assert_eq!(
            (default.words().as_str(), default.is_routed()),
            ("l2, bridge", false)
        );
        let all = Ipvlan::parse(Some("l3s"), Some("vepa")).unwrap();
        assert_eq!((all.words().as_str(), all.is_routed()), ("l3s, vepa", true));
        assert_eq!((all.mode as u16, all.flag as u16), (2, 2));
        let wrong = format!("{:#}", Ipvlan::parse(Some("l4"), None).unwrap_err());
        assert!(wrong.contains("unknown ipvlan mode: \"l4\""), "{wrong}");
    }
}
