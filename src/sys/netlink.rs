//! Routing netlink: one request, its answers.
//!
//! What it does: carries whole messages, made by whoever knows what they mean, to the kernel's
//! network configuration and back. The socket belongs to the network namespace that it was made
//! in, and stays there whatever its owner does.
//!
//! What it implements: netlink(7), rtnetlink(7).
//! Interface: [`route_socket`], [`request`], [`dump`]. Read next: `runtime/netdevice.rs`.

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
        || format!("NETLINK_ROUTE, {name}, {words}"),
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
        || format!("NETLINK_ROUTE, {name}, NLM_F_DUMP"),
        || {
            send(fd, &message)?;
            answers(fd)
        },
    )
}
