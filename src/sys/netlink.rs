//! Netlink: one request, its answers; and for netfilter a batch, which happens whole or not at all.
//!
//! What it does: carries whole messages, made by whoever knows what they mean, to the kernel's
//! network configuration and back. The socket belongs to the network namespace that it was made
//! in, and stays there whatever its owner does.
//!
//! What it implements: netlink(7), rtnetlink(7), linux/netfilter/nfnetlink.h.
//! Interface: [`route_socket`], [`request`], [`get`], [`dump`]; [`netfilter_socket`], [`batch`].
//! Read next: `network/link.rs`.

use super::{Errno, SysResult, check, reading, state_changing};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// `int socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE)`
///
/// Errors: `EPROTONOSUPPORT` (a kernel without it). See netlink(7).
pub fn route_socket() -> SysResult<OwnedFd> {
    reading(
        "socket",
        || "AF_NETLINK, SOCK_RAW|SOCK_CLOEXEC, NETLINK_ROUTE".into(),
        || {
            let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
            // SAFETY: takes integers.
            let fd = check(unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE) })?;
            // SAFETY: a descriptor that the kernel has just made for us.
            Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
        },
    )
}

/// `int socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER)`, with room for one message
/// of many rules (`SO_SNDBUFFORCE`, for which an owner without CAP_NET_ADMIN gets none).
///
/// Errors: `EPROTONOSUPPORT` (a kernel without netfilter). See netlink(7), socket(7).
pub fn netfilter_socket() -> SysResult<OwnedFd> {
    let room: i32 = 16 << 20;
    reading(
        "socket",
        || "AF_NETLINK, SOCK_RAW|SOCK_CLOEXEC, NETLINK_NETFILTER".into(),
        || {
            let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
            // SAFETY: takes integers.
            let fd =
                check(unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_NETFILTER) })?;
            // SAFETY: a descriptor that the kernel has just made for us.
            let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
            // SAFETY: pointer and length describe `room`, live for the call.
            unsafe {
                libc::setsockopt(
                    fd.as_raw_fd(),
                    libc::SOL_SOCKET,
                    libc::SO_SNDBUFFORCE,
                    (&raw const room).cast(),
                    size_of::<i32>() as u32,
                );
            }
            Ok(fd)
        },
    )
}

const NLMSG_HEADER: usize = 16;

/// A message: header and body. The kernel numbers requests for us to tell answers apart; there is
/// only ever one of ours on its way.
fn message(kind: u16, flags: i32, body: &[u8]) -> Vec<u8> {
    let mut all = Vec::with_capacity(NLMSG_HEADER + body.len());
    all.extend(((NLMSG_HEADER + body.len()) as u32).to_ne_bytes());
    all.extend(kind.to_ne_bytes());
    all.extend(((flags | libc::NLM_F_REQUEST) as u16).to_ne_bytes());
    all.extend([1, 0, 0, 0, 0, 0, 0, 0]); // sequence number, port of the sender
    all.extend(body);
    all
}

fn send(fd: i32, message: &[u8]) -> Result<(), Errno> {
    // SAFETY: pointer and length describe `message`, live for the call.
    check(unsafe { libc::send(fd, message.as_ptr().cast(), message.len(), 0) } as i64).map(drop)
}

/// Reads answers until the last: `(type, body)` each. Errors: the kernel's own, out of its answer.
fn answers(fd: i32) -> Result<Vec<(u16, Vec<u8>)>, Errno> {
    let mut all = Vec::new();
    let mut buffer = vec![0u8; 64 * 1024];
    loop {
        // SAFETY: pointer and length describe `buffer`, live for the call.
        let n =
            check(unsafe { libc::recv(fd, buffer.as_mut_ptr().cast(), buffer.len(), 0) } as i64)?;
        let mut rest = &buffer[..n as usize];
        while let Some((header, _)) = rest.split_at_checked(NLMSG_HEADER) {
            let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
            let kind = u16::from_ne_bytes([header[4], header[5]]);
            let body = rest.get(NLMSG_HEADER..length).ok_or(Errno::EBADMSG)?;
            match i32::from(kind) {
                libc::NLMSG_DONE => return Ok(all),
                libc::NLMSG_ERROR => {
                    let code = body.first_chunk().map_or(0, |b| i32::from_ne_bytes(*b));
                    return match code {
                        0 => Ok(all), // an acknowledgement
                        code => Err(Errno::from_raw(-code)),
                    };
                }
                _ => all.push((kind, body.to_vec())),
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

/// `sendto` of a request that changes something, and its acknowledgement.
///
/// `name` and `words` say what it is, in the record: `RTM_NEWLINK`, `eth0 up`. Errors: those of
/// the request; mostly `EPERM` (no CAP_NET_ADMIN over the namespace), `ENODEV`, `EEXIST`,
/// `EBUSY`. See rtnetlink(7).
pub fn request(
    socket: impl AsFd,
    kind: u16,
    flags: i32,
    body: &[u8],
    name: &str,
    words: &str,
) -> SysResult<()> {
    let fd = socket.as_fd().as_raw_fd();
    let message = message(kind, flags | libc::NLM_F_ACK, body);
    state_changing(
        "sendto",
        |a| write!(a, "NETLINK_ROUTE, {name}, {words}"),
        || {
            send(fd, &message)?;
            answers(fd).map(drop)
        },
    )
}

/// `sendto` of a request for a list (`NLM_F_DUMP`), and the list: `(type, body)` each.
/// Errors: those of the request. See rtnetlink(7).
pub fn dump(
    socket: impl AsFd,
    kind: u16,
    body: &[u8],
    name: &str,
) -> SysResult<Vec<(u16, Vec<u8>)>> {
    let fd = socket.as_fd().as_raw_fd();
    let message = message(kind, libc::NLM_F_DUMP, body);
    reading(
        "sendto",
        || format!("{name}, NLM_F_DUMP"),
        || {
            send(fd, &message)?;
            answers(fd)
        },
    )
}

/// `sendto` of a request for one thing, and its answer: `(type, body)`.
/// Errors: those of the request; mostly `ENODEV`. See rtnetlink(7).
pub fn get(
    socket: impl AsFd,
    kind: u16,
    body: &[u8],
    name: &str,
) -> SysResult<Option<(u16, Vec<u8>)>> {
    let fd = socket.as_fd().as_raw_fd();
    let message = message(kind, libc::NLM_F_ACK, body);
    reading(
        "sendto",
        || name.to_string(),
        || {
            send(fd, &message)?;
            Ok(answers(fd)?.into_iter().next())
        },
    )
}

/// One message of a [`batch`]: its type, its flags, its body behind `struct nfgenmsg`.
pub type Part = (u16, i32, Vec<u8>);

/// `sendto` of a batch to netfilter, between `NFNL_MSG_BATCH_BEGIN` and `NFNL_MSG_BATCH_END`: all
/// its messages take effect together, or none does. `subsystem` is who it is for
/// (`NFNL_SUBSYS_NFTABLES`), `words` say in the record what it is.
///
/// Errors: that of the first message that was refused; mostly `EPERM`, `EOPNOTSUPP` or `ENOENT` (a
/// module that is not there). See linux/netfilter/nfnetlink.h.
pub fn batch(socket: impl AsFd, subsystem: u16, parts: &[Part], words: &str) -> SysResult<()> {
    const BEGIN: u16 = 0x10; // NFNL_MSG_BATCH_BEGIN
    const END: u16 = 0x11; // NFNL_MSG_BATCH_END
    let fd = socket.as_fd().as_raw_fd();
    // struct nfgenmsg: AF_UNSPEC, NFNETLINK_V0, the subsystem in network order.
    let mut whose = vec![0, 0];
    whose.extend(subsystem.to_be_bytes());
    let mut all = message(BEGIN, 0, &whose);
    for (number, (kind, flags, body)) in parts.iter().enumerate() {
        // The last one's acknowledgement comes after the errors of those before it.
        let ack = match number + 1 == parts.len() {
            true => libc::NLM_F_ACK,
            false => 0,
        };
        all.extend(message(*kind, flags | ack, body));
        all.resize(all.len().next_multiple_of(4), 0);
    }
    all.extend(message(END, 0, &whose));
    state_changing(
        "sendto",
        |a| write!(a, "NETLINK_NETFILTER, {words}"),
        || {
            send(fd, &all)?;
            answers(fd).map(drop)
        },
    )
}
