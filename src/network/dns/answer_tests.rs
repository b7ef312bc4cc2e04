//! Questions and answers, byte by byte, without a socket.

use super::super::Entry;
use super::*;
use simple_dns::Question;

fn zone() -> Zone {
    let entry = |names: &[&str], network: &str, addresses: &[&str]| Entry {
        network: network.into(),
        names: names.iter().map(|n| n.to_string()).collect(),
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
    };
    Zone {
        entries: vec![
            entry(
                &["db1", "aaaaaaaaaaaa", "db"],
                "back",
                &["172.18.0.3", "fd00::3"],
            ),
            entry(&["db2", "bbbbbbbbbbbb", "db"], "back", &["172.18.0.4"]),
            entry(&["web"], "front.net", &["172.19.0.2"]),
        ],
        upstreams: Vec::new(),
    }
}

fn query(name: &str, kind: TYPE) -> Vec<u8> {
    let mut packet = Packet::new_query(7);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let name = Name::new(name).unwrap();
    let question = Question::new(name, kind.into(), CLASS::IN.into(), false);
    packet.questions.push(question);
    packet.build_bytes_vec().unwrap()
}

/// What was answered: the code, and the records' data.
fn ask_turn(name: &str, kind: TYPE, turn: &mut usize) -> Option<(RCODE, Vec<String>)> {
    let Verdict::Reply(bytes) = answer(&query(name, kind), &zone(), true, turn) else {
        return None;
    };
    let packet = Packet::parse(&bytes).unwrap();
    assert_eq!(packet.id(), 7);
    assert!(packet.has_flags(PacketFlag::RESPONSE | PacketFlag::RECURSION_AVAILABLE));
    assert_eq!(packet.questions.len(), 1);
    let data = packet.answers.iter().map(|record| {
        assert_eq!(record.name, packet.questions[0].qname);
        match &record.rdata {
            RData::A(a) => Ipv4Addr::from(a.address).to_string(),
            RData::AAAA(a) => Ipv6Addr::from(a.address).to_string(),
            RData::PTR(p) => p.0.to_string(),
            other => panic!("{other:?}"),
        }
    });
    Some((packet.rcode(), data.collect()))
}

fn ask(name: &str, kind: TYPE) -> Option<(RCODE, Vec<String>)> {
    ask_turn(name, kind, &mut 0)
}

fn found(data: &[&str]) -> Option<(RCODE, Vec<String>)> {
    let data = data.iter().map(|d| d.to_string()).collect();
    Some((RCODE::NoError, data))
}

#[test]
fn names_ids_and_names_with_their_network_are_found_in_any_case() {
    assert_eq!(ask("db1", TYPE::A), found(&["172.18.0.3"]));
    assert_eq!(ask("DB1", TYPE::A), found(&["172.18.0.3"]));
    assert_eq!(ask("bbbbbbbbbbbb", TYPE::A), found(&["172.18.0.4"]));
    assert_eq!(ask("db2.back", TYPE::A), found(&["172.18.0.4"]));
    assert_eq!(ask("db1", TYPE::AAAA), found(&["fd00::3"]));
}

#[test]
fn a_name_without_such_a_record_is_there_all_the_same() {
    assert_eq!(ask("db2", TYPE::AAAA), found(&[]));
    assert_eq!(ask("db1", TYPE::MX), found(&[]));
}

#[test]
fn those_who_share_a_name_take_turns() {
    let mut turn = 0;
    let mut first = Vec::new();
    for _ in 0..4 {
        first.push(ask_turn("db", TYPE::A, &mut turn).unwrap().1[0].clone());
        // The other kind is asked for as well each time, and does not count: there is one alone.
        let other = ask_turn("db", TYPE::AAAA, &mut turn);
        assert_eq!(other, found(&["fd00::3"]));
    }
    assert_eq!(
        first,
        ["172.18.0.3", "172.18.0.4", "172.18.0.3", "172.18.0.4"]
    );
    let mut all = ask("db", TYPE::A).unwrap().1;
    all.sort();
    assert_eq!(all, ["172.18.0.3", "172.18.0.4"]);
}

#[test]
fn an_address_has_the_name_of_its_container_and_network() {
    assert_eq!(
        ask("3.0.18.172.in-addr.arpa", TYPE::PTR),
        found(&["db1.back"])
    );
    let v6 = "3.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa";
    assert_eq!(ask(v6, TYPE::PTR), found(&["db1.back"]));
    assert_eq!(
        ask("9.9.9.9.in-addr.arpa", TYPE::PTR),
        None,
        "somebody else's"
    );
}

#[test]
fn other_names_are_for_the_resolvers() {
    assert_eq!(ask("example.com", TYPE::A), None);
    assert_eq!(ask("db1.example.com", TYPE::A), None);
    assert_eq!(ask("db1.front.net", TYPE::A), None);
}

#[test]
fn what_is_no_question_gets_no_answer_and_what_cannot_be_read_is_said() {
    let mut reply = query("db1", TYPE::A);
    reply[2] |= 0x80;
    assert_eq!(answer(&reply, &zone(), true, &mut 0), Verdict::Drop);
    assert_eq!(answer(b"short", &zone(), true, &mut 0), Verdict::Drop);
    let mut cut = query("db1", TYPE::A);
    cut.truncate(HEADER + 3);
    let Verdict::Reply(bytes) = answer(&cut, &zone(), true, &mut 0) else {
        panic!("no reply");
    };
    assert_eq!((bytes[..2].to_vec(), bytes[3] & 0xf), (vec![0, 7], 1));
    let mut status = query("db1", TYPE::A);
    status[2] |= 2 << 3;
    let Verdict::Reply(bytes) = answer(&status, &zone(), true, &mut 0) else {
        panic!("no reply");
    };
    assert_eq!(bytes[3] & 0xf, 4, "not implemented");
}

#[test]
fn an_answer_that_is_too_long_for_udp_is_cut_and_whole_over_tcp() {
    let many = Entry {
        network: "n".into(),
        names: vec!["many".into()],
        addresses: (1..=100)
            .map(|n| Ipv4Addr::new(10, 0, 0, n).into())
            .collect(),
    };
    let zone = Zone {
        entries: vec![many],
        ..Zone::default()
    };
    let ask = |over_udp, size: Option<u16>| {
        let bytes = query("many", TYPE::A);
        let mut packet = Packet::parse(&bytes).unwrap();
        *packet.opt_mut() = size.map(|udp_packet_size| OPT {
            opt_codes: Vec::new(),
            udp_packet_size,
            version: 0,
        });
        let bytes = packet.build_bytes_vec().unwrap();
        let Verdict::Reply(bytes) = answer(&bytes, &zone, over_udp, &mut 0) else {
            panic!("no reply");
        };
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!(packet.opt().is_some(), size.is_some());
        (
            packet.has_flags(PacketFlag::TRUNCATION),
            packet.answers.len(),
        )
    };
    assert_eq!(ask(true, None), (true, 0));
    assert_eq!(ask(true, Some(4096)), (false, 100));
    assert_eq!(ask(true, Some(600)), (true, 0));
    assert_eq!(ask(false, None), (false, 100));
}

#[test]
fn an_answer_belongs_to_a_question_by_its_number_and_its_name() {
    let asked = query("example.com", TYPE::A);
    let mut reply = failure(&asked, RCODE::ServerFailure);
    assert!(is_failure(&reply));
    assert!(answers(&reply, &asked, 7));
    assert!(!answers(&reply, &asked, 8));
    assert!(!answers(&asked, &asked, 7), "a question is no answer");
    let other = failure(&query("example.org", TYPE::A), RCODE::NoError);
    assert!(!answers(&other, &asked, 7));
    reply.truncate(5);
    assert!(!answers(&reply, &asked, 7));
}
