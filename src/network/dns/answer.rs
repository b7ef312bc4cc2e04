//! One question and its answer, purely.
//!
//! What it does: reads a message as it came over the wire and decides: an answer out of the zone,
//! somebody else's question, or nothing that deserves one.
//!
//! What it implements: RFC 1035 section 4 (messages), 3.5 (`in-addr.arpa`); RFC 3596 (AAAA,
//! `ip6.arpa`); RFC 6891 6.2.3 (sizes); RFC 2308 (a name that is there without such a record).
//! Interface: [`answer`], [`Verdict`], [`failure`]. Read next: `server.rs`.

use super::Zone;
use simple_dns::rdata::{A, AAAA, OPT, PTR, RData};
use simple_dns::{
    CLASS, Name, OPCODE, Packet, PacketFlag, QCLASS, QTYPE, RCODE, ResourceRecord, TYPE,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How long an answer may be kept, in seconds: docker's.
const TTL: u32 = 600;
/// What a UDP answer may have when the question does not say (RFC 1035 4.2.1).
const SMALL: usize = 512;
/// What we take over UDP.
const LARGE: u16 = 4096;
/// The fixed beginning of a message.
pub const HEADER: usize = 12;

/// What is done about a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// This is sent back.
    Reply(Vec<u8>),
    /// The resolvers of the host know, or nobody does.
    Forward,
    /// Not a question: nothing is sent back, or two servers could talk for ever.
    Drop,
}

/// Answers `query`. `over_udp` bounds the answer; `turn` counts what was found, so that those who
/// share a name take turns to be first.
pub fn answer(query: &[u8], zone: &Zone, over_udp: bool, turn: &mut usize) -> Verdict {
    if query.len() < HEADER || query[2] & 0x80 != 0 {
        return Verdict::Drop;
    }
    let Ok(packet) = Packet::parse(query) else {
        return Verdict::Reply(failure(query, RCODE::FormatError));
    };
    if packet.opcode() != OPCODE::StandardQuery {
        return Verdict::Reply(failure(query, RCODE::NotImplemented));
    }
    let [question] = &packet.questions[..] else {
        return Verdict::Reply(failure(query, RCODE::FormatError));
    };
    if !matches!(question.qclass, QCLASS::CLASS(CLASS::IN) | QCLASS::ANY) {
        return Verdict::Forward;
    }
    let name = question.qname.to_string();
    let wants = |kind: TYPE| question.qtype == QTYPE::TYPE(kind) || question.qtype == QTYPE::ANY;
    let pointer = reverse(&name).and_then(|address| zone.name_of(address));
    let mut answers = Vec::new();
    let record = |data| ResourceRecord::new(question.qname.clone(), CLASS::IN, TTL, data);
    if let Some(pointer) = &pointer {
        // RFC 2181: the case of the question is kept, so its own name is repeated.
        if wants(TYPE::PTR)
            && let Ok(target) = Name::new(pointer)
        {
            answers.push(record(RData::PTR(PTR(target))));
        }
    } else if let Some(mut addresses) = zone.addresses(&name) {
        addresses.retain(|address| match address {
            IpAddr::V4(_) => wants(TYPE::A),
            IpAddr::V6(_) => wants(TYPE::AAAA),
        });
        if addresses.len() > 1 {
            let first = *turn % addresses.len();
            addresses.rotate_left(first);
            *turn = turn.wrapping_add(1);
        }
        for address in addresses {
            match address {
                IpAddr::V4(v4) => answers.push(record(RData::A(A { address: v4.into() }))),
                IpAddr::V6(v6) => {
                    answers.push(record(RData::AAAA(AAAA { address: v6.into() })));
                }
            }
        }
    } else {
        return Verdict::Forward;
    }
    let limit = match (over_udp, packet.opt()) {
        (false, _) => usize::from(u16::MAX),
        (true, None) => SMALL,
        (true, Some(opt)) => usize::from(opt.udp_packet_size).clamp(SMALL, LARGE.into()),
    };
    reply(&packet, answers, limit).map_or_else(
        || Verdict::Reply(failure(query, RCODE::ServerFailure)),
        Verdict::Reply,
    )
}

/// The message with these answers; without them, and marked as cut, when they are too long.
fn reply(query: &Packet<'_>, answers: Vec<ResourceRecord<'_>>, limit: usize) -> Option<Vec<u8>> {
    let mut reply = Packet::new_reply(query.id());
    reply.set_flags(PacketFlag::RECURSION_AVAILABLE);
    if query.has_flags(PacketFlag::RECURSION_DESIRED) {
        reply.set_flags(PacketFlag::RECURSION_DESIRED);
    }
    reply.questions = query.questions.clone();
    reply.answers = answers;
    if query.opt().is_some() {
        *reply.opt_mut() = Some(OPT {
            opt_codes: Vec::new(),
            udp_packet_size: LARGE,
            version: 0,
        });
    }
    let bytes = reply.build_bytes_vec_compressed().ok()?;
    if bytes.len() <= limit {
        return Some(bytes);
    }
    reply.answers.clear();
    reply.set_flags(PacketFlag::TRUNCATION);
    reply.build_bytes_vec_compressed().ok()
}

/// An answer that says why there is none. The question is repeated where it can be read.
pub fn failure(query: &[u8], code: RCODE) -> Vec<u8> {
    let id = u16::from_be_bytes([query[0], query[1]]);
    let mut reply = Packet::new_reply(id);
    reply.set_flags(PacketFlag::RECURSION_AVAILABLE);
    *reply.rcode_mut() = code;
    if let Ok(packet) = Packet::parse(query) {
        if packet.has_flags(PacketFlag::RECURSION_DESIRED) {
            reply.set_flags(PacketFlag::RECURSION_DESIRED);
        }
        reply.questions = packet
            .questions
            .into_iter()
            .map(|q| q.into_owned())
            .collect();
    }
    reply.build_bytes_vec_compressed().unwrap_or_default()
}

/// Whether `reply` answers `query`: the same number, and the same question where it has one.
pub fn answers(reply: &[u8], query: &[u8], number: u16) -> bool {
    if reply.len() < HEADER || reply[..2] != number.to_be_bytes() || reply[2] & 0x80 == 0 {
        return false;
    }
    let (Ok(reply), Ok(query)) = (Packet::parse(reply), Packet::parse(query)) else {
        // What we cannot read may still make sense to who asked; the number is right.
        return true;
    };
    let same = |a: &simple_dns::Question<'_>, b: &simple_dns::Question<'_>| {
        a.qtype == b.qtype
            && a.qname
                .to_string()
                .eq_ignore_ascii_case(&b.qname.to_string())
    };
    match (reply.questions.first(), query.questions.first()) {
        (Some(a), Some(b)) => same(a, b),
        (None, _) => true,
        (Some(_), None) => false,
    }
}

/// Whether a resolver could not answer (and another may): its own failure, or a refusal.
pub fn is_failure(reply: &[u8]) -> bool {
    let code = reply.get(3).map_or(0, |byte| byte & 0x0f);
    code == 2 || code == 5
}

/// The address in a name below `in-addr.arpa` or `ip6.arpa`.
fn reverse(name: &str) -> Option<IpAddr> {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    if let Some(labels) = name.strip_suffix(".in-addr.arpa") {
        let octets: Option<Vec<u8>> = labels.split('.').rev().map(|l| l.parse().ok()).collect();
        let octets: [u8; 4] = octets?.try_into().ok()?;
        return Some(Ipv4Addr::from(octets).into());
    }
    let digits: Option<Vec<u8>> = name
        .strip_suffix(".ip6.arpa")?
        .split('.')
        .rev()
        .map(|label| match label.len() {
            1 => u8::from_str_radix(label, 16).ok(),
            _ => None,
        })
        .collect();
    let digits: [u8; 32] = digits?.try_into().ok()?;
    let mut octets = [0u8; 16];
    for (octet, pair) in octets.iter_mut().zip(digits.chunks(2)) {
        *octet = pair[0] << 4 | pair[1];
    }
    Some(Ipv6Addr::from(octets).into())
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
