//! Netfilter rules as the kernel takes them: a table of our own, replaced whole in one batch.
//!
//! A rule is a little program over registers: load a field, compare it, act.
//!
//! ```text
//!   fib daddr type local      fib → reg 1       cmp reg 1 = RTN_LOCAL
//!   tcp dport 8080            meta l4proto, cmp;  payload transport+2 → reg 1, cmp
//!   dnat to 172.17.0.2:80     immediate → reg 1, reg 2;  nat
//! ```
//!
//! What it does: writes such programs ([`Rule`]) and sends tables ([`make`], [`remove`]). A table
//! carries a mark of what is in it, so a table that is right already is left alone ([`mark`]).
//!
//! What it implements: linux/netfilter/nf_tables.h; what nft(8) calls family inet.
//! Interface: [`Rule`], [`Chain`], [`make`], [`remove`], [`mark`]. Read next: `rules.rs`.

use super::Prefix;
use super::wire::{self, Attributes};
use crate::sys::{Errno, SysResult, netlink};
use std::net::IpAddr;
use std::os::fd::OwnedFd;

const SUBSYSTEM: u16 = 10; // NFNL_SUBSYS_NFTABLES
const INET: u8 = 1; // NFPROTO_INET
const REG_1: u32 = 1;
const REG_2: u32 = 2;
/// struct nfgenmsg: family, version, resource.
const HEADER: [u8; 4] = [INET, 0, 0, 0];

/// Messages: `NFT_MSG_*`.
const NEW_TABLE: u16 = 0;
const GET_TABLE: u16 = 1;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;

/// What a rule does with a packet that fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Goes no further.
    Drop,
    /// Goes on; no later rule of this chain is asked.
    Accept,
}

/// A rule: its text as nft(8) writes it, and its program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// As `nft list ruleset` would print it.
    pub text: String,
    program: Attributes,
}

/// Which packets a chain sees, and what it may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: &'static str,
    /// `nat` or `filter`.
    pub kind: &'static str,
    /// `NF_INET_*`: 0 prerouting, 2 forward, 3 output, 4 postrouting.
    pub hook: u32,
    /// Lower ones are asked first.
    pub priority: i32,
    /// In order.
    pub rules: Vec<Rule>,
}

fn value(bytes: &[u8]) -> Attributes {
    Attributes::new().bytes(1, bytes) // NFTA_DATA_VALUE
}

/// A device's name as the register holds it.
fn device(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(name.bytes().take(15)) {
        *to = from;
    }
    bytes
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

/// `NFPROTO_IPV4`, `NFPROTO_IPV6`.
fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 2,
        IpAddr::V6(_) => 10,
    }
}

impl Rule {
    /// A rule that fits every packet and does nothing.
    pub fn new() -> Rule {
        Rule::default()
    }
    fn words(mut self, text: &str) -> Rule {
        if !self.text.is_empty() {
            self.text.push(' ');
        }
        self.text += text;
        self
    }
    fn expression(mut self, name: &str, data: Attributes) -> Rule {
        // NFTA_LIST_ELEM { NFTA_EXPR_NAME, NFTA_EXPR_DATA }
        let one = Attributes::new().text(1, name).nested(2, data);
        self.program = self.program.nested(1, one);
        self
    }
    fn meta(self, key: u32) -> Rule {
        let data = Attributes::new()
            .network_order(1, REG_1)
            .network_order(2, key);
        self.expression("meta", data)
    }
    fn compare(self, equal: bool, bytes: &[u8]) -> Rule {
        let data = Attributes::new()
            .network_order(1, REG_1)
            .network_order(2, u32::from(!equal)) // NFT_CMP_EQ, NFT_CMP_NEQ
            .nested(3, value(bytes));
        self.expression("cmp", data)
    }
    /// Loads a field: `base` 1 is the network header, 2 the transport's.
    fn payload(self, base: u32, offset: u32, length: u32) -> Rule {
        let data = Attributes::new()
            .network_order(1, REG_1)
            .network_order(2, base)
            .network_order(3, offset)
            .network_order(4, length);
        self.expression("payload", data)
    }
    fn and(self, mask: &[u8]) -> Rule {
        let data = Attributes::new()
            .network_order(1, REG_1)
            .network_order(2, REG_1)
            .network_order(3, mask.len() as u32)
            .nested(4, value(mask))
            .nested(5, value(&vec![0; mask.len()]));
        self.expression("bitwise", data)
    }
    fn nfproto(self, family: u8) -> Rule {
        self.meta(15).compare(true, &[family]) // NFT_META_NFPROTO
    }

    /// It comes in through this device, or (`is` false) any other.
    #[must_use]
    pub fn iifname(self, name: &str, is: bool) -> Rule {
        let sign = if is { "" } else { "!= " };
        self.words(&format!("iifname {sign}\"{name}\""))
            .meta(6)
            .compare(is, &device(name))
    }
    /// It goes out through this device, or (`is` false) any other.
    #[must_use]
    pub fn oifname(self, name: &str, is: bool) -> Rule {
        let sign = if is { "" } else { "!= " };
        self.words(&format!("oifname {sign}\"{name}\""))
            .meta(7)
            .compare(is, &device(name))
    }
    fn address(self, word: &str, is: bool, prefix: &Prefix, four: u32, six: u32) -> Rule {
        let network = prefix.network();
        let width = u32::from(prefix.width()) / 8;
        let (ip, offset) = match prefix.address {
            IpAddr::V4(_) => ("ip", four),
            IpAddr::V6(_) => ("ip6", six),
        };
        let mask = octets_of_mask(prefix);
        let sign = if is { "" } else { "!= " };
        self.words(&format!("{ip} {word} {sign}{network}"))
            .nfproto(family(prefix.address))
            .payload(1, offset, width)
            .and(&mask)
            .compare(is, &octets(network.address))
    }
    /// It comes from this network.
    #[must_use]
    pub fn from(self, prefix: &Prefix) -> Rule {
        self.address("saddr", true, prefix, 12, 8)
    }
    /// It goes to this network.
    #[must_use]
    pub fn to(self, prefix: &Prefix) -> Rule {
        self.address("daddr", true, prefix, 16, 24)
    }
    /// It goes anywhere of that family but to this network.
    #[must_use]
    pub fn not_to(self, prefix: &Prefix) -> Rule {
        self.address("daddr", false, prefix, 16, 24)
    }
    /// It goes to one of the host's own addresses of the family of `like`.
    #[must_use]
    pub fn at_the_host(self, like: IpAddr) -> Rule {
        // NFTA_FIB_RESULT: NFT_FIB_RESULT_ADDRTYPE; NFTA_FIB_FLAGS: NFTA_FIB_F_DADDR
        let data = Attributes::new()
            .network_order(1, REG_1)
            .network_order(2, 3)
            .network_order(3, 2);
        let proto = match like {
            IpAddr::V4(_) => "ipv4",
            IpAddr::V6(_) => "ipv6",
        };
        self.words(&format!("meta nfproto {proto} fib daddr type local"))
            .nfproto(family(like))
            .expression("fib", data)
            .compare(true, &u32::from(libc::RTN_LOCAL).to_ne_bytes())
    }
    /// Its protocol and the port that it goes to.
    #[must_use]
    pub fn at_port(self, protocol: u8, word: &str, port: u16) -> Rule {
        self.words(&format!("{word} dport {port}"))
            .meta(16) // NFT_META_L4PROTO
            .compare(true, &[protocol])
            .payload(2, 2, 2)
            .compare(true, &port.to_be_bytes())
    }
    fn conntrack(self, key: u32, mask: u32) -> Rule {
        let data = Attributes::new()
            .network_order(1, REG_1)
            .network_order(2, key);
        self.expression("ct", data)
            .and(&mask.to_ne_bytes())
            .compare(false, &[0; 4])
    }
    /// It belongs to a connection that was let through before.
    #[must_use]
    pub fn established(self) -> Rule {
        self.words("ct state established,related")
            .conntrack(0, 0b110)
    }
    /// Its destination was changed: it goes to a published port.
    #[must_use]
    pub fn translated(self) -> Rule {
        self.words("ct status dnat").conntrack(2, 0x20) // IPS_DST_NAT
    }
    /// The end of a filter's rule.
    #[must_use]
    pub fn verdict(self, verdict: Verdict) -> Rule {
        let (word, code) = match verdict {
            Verdict::Drop => ("drop", libc::NF_DROP),
            Verdict::Accept => ("accept", libc::NF_ACCEPT),
        };
        // NFTA_DATA_VERDICT { NFTA_VERDICT_CODE }
        let code = Attributes::new().network_order(1, code as u32);
        let data = Attributes::new()
            .network_order(1, 0)
            .nested(2, Attributes::new().nested(2, code));
        self.words(word).expression("immediate", data)
    }
    /// Its source becomes the host's own address on the way out.
    #[must_use]
    pub fn masquerade(self) -> Rule {
        self.words("masquerade")
            .expression("masq", Attributes::new())
    }
    /// Its destination becomes this address and port.
    #[must_use]
    pub fn destination(self, address: IpAddr, port: u16) -> Rule {
        let immediate = |register, bytes: &[u8]| {
            Attributes::new()
                .network_order(1, register)
                .nested(2, value(bytes))
        };
        let nat = Attributes::new()
            .network_order(1, 1) // NFT_NAT_DNAT
            .network_order(2, family(address).into())
            .network_order(3, REG_1)
            .network_order(5, REG_2);
        let words = match address {
            IpAddr::V4(a) => format!("dnat ip to {a}:{port}"),
            IpAddr::V6(a) => format!("dnat ip6 to [{a}]:{port}"),
        };
        self.words(&words)
            .expression("immediate", immediate(REG_1, &octets(address)))
            .expression("immediate", immediate(REG_2, &port.to_be_bytes()))
            .expression("nat", nat)
    }
}

fn octets_of_mask(prefix: &Prefix) -> Vec<u8> {
    let mut bits = usize::from(prefix.length);
    let mut mask = Vec::new();
    for _ in 0..prefix.width() / 8 {
        let here = bits.min(8);
        mask.push(0xffu8.checked_shl(8 - here as u32).unwrap_or(0));
        bits -= here;
    }
    mask
}

fn part(kind: u16, flags: i32, attributes: Attributes) -> netlink::Part {
    let kind = (SUBSYSTEM << 8) | kind;
    (kind, flags, attributes.after(&HEADER))
}

/// A table's comment as nft(8) stores it (`NFTNL_UDATA_TABLE_COMMENT`).
fn comment(text: &str) -> Vec<u8> {
    let mut bytes = vec![0, text.len() as u8 + 1];
    bytes.extend(wire::c_string(text));
    bytes
}

/// The mark of a table of ours. `None`: there is no table of this name.
/// Errors: `EPERM`; `EPROTONOSUPPORT`, `EOPNOTSUPP` (a kernel without nftables).
pub fn mark(table: &str) -> SysResult<Option<String>> {
    let socket = netlink::netfilter_socket()?;
    let kind = (SUBSYSTEM << 8) | GET_TABLE;
    let all = netlink::dump(&socket, kind, &HEADER, "NFT_MSG_GETTABLE")?;
    for (_, body) in all {
        let attributes = wire::read(body.get(HEADER.len()..).unwrap_or_default());
        let of = |kind: u16| attributes.iter().find(|(k, _)| *k == kind).map(|(_, v)| v);
        if of(1).is_some_and(|name| *name == wire::c_string(table)) {
            let text = of(6).and_then(|data| data.get(2..)).unwrap_or_default();
            let text = text.strip_suffix(&[0]).unwrap_or(text);
            return Ok(Some(String::from_utf8_lossy(text).into_owned()));
        }
    }
    Ok(None)
}

/// Makes the table, in one go; with `instead` in place of the one that is there: there is no moment
/// without rules. `mark` (at most 126 bytes) is its comment. Errors: also `ENOENT` (the kernel lacks
/// a module that a rule needs), `EEXIST` (somebody else has made it meanwhile).
///
/// The socket is returned because closing it waits until no packet is under way any more in what
/// the batch has removed: some milliseconds, and next to nothing for whoever has other work first.
pub fn make(table: &str, mark: &str, chains: &[Chain], instead: bool) -> SysResult<OwnedFd> {
    let name = || Attributes::new().text(1, table);
    let new = libc::NLM_F_CREATE;
    let mut parts = Vec::new();
    if instead {
        parts.push(part(DELETE_TABLE, 0, name()));
    }
    let exclusive = new | libc::NLM_F_EXCL;
    parts.push(part(NEW_TABLE, exclusive, name().bytes(6, &comment(mark))));
    for chain in chains {
        let hook = Attributes::new()
            .network_order(1, chain.hook)
            .network_order(2, chain.priority as u32);
        let attributes = name()
            .text(3, chain.name)
            .nested(4, hook)
            .network_order(5, libc::NF_ACCEPT as u32)
            .text(7, chain.kind);
        parts.push(part(NEW_CHAIN, new, attributes));
    }
    let mut count = 0;
    for chain in chains {
        for rule in &chain.rules {
            let attributes = name().text(2, chain.name).nested(4, rule.program.clone());
            parts.push(part(NEW_RULE, new | libc::NLM_F_APPEND, attributes));
            count += 1;
        }
    }
    let words = format!("table inet {table} ← {count} rules");
    let socket = netlink::netfilter_socket()?;
    netlink::batch(&socket, SUBSYSTEM, &parts, &words)?;
    Ok(socket)
}

/// Removes the table, and returns the socket as [`make`] does. One that is not there is no error.
pub fn remove(table: &str) -> SysResult<OwnedFd> {
    let parts = [part(DELETE_TABLE, 0, Attributes::new().text(1, table))];
    let words = format!("delete table inet {table}");
    let socket = netlink::netfilter_socket()?;
    match netlink::batch(&socket, SUBSYSTEM, &parts, &words) {
        Err(e) if e.errno != Errno::ENOENT => Err(e),
        _ => Ok(socket),
    }
}
