//! Sockets of the internet: made, bound and connected without waiting.
//!
//! What it does: each function makes one socket that is closed at execve and never blocks. What is
//! sent and received through it afterwards is bytes, which std moves.
//!
//! What it implements: socket(2), bind(2), listen(2), connect(2), ip(7), ipv6(7), tcp(7).
//! Interface: [`bind_udp`], [`listen_tcp`], [`connect_tcp`], [`take_error`]; a port of the host's that
//! is held and never read: [`bind_port`].
//! Read next: [`crate::network::dns`], which is made of these.

use super::{Errno, SysResult, check, reading, state_changing};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// `socket(SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK)`, `bind(address)`: a UDP socket that receives
/// what is sent to `address`. Errors: `EADDRINUSE`, `EADDRNOTAVAIL` (no interface has it),
/// `EACCES` (a port below `net.ipv4.ip_unprivileged_port_start`). See bind(2), udp(7).
pub fn bind_udp(address: SocketAddr) -> SysResult<OwnedFd> {
    state_changing(
        "bind",
        |a| write!(a, "SOCK_DGRAM, {address}"),
        || {
            let socket = socket(address, libc::SOCK_DGRAM)?;
            bind(&socket, address).map(|()| socket)
        },
    )
}

/// `socket(SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK)`, `SO_REUSEADDR` (connections of an earlier
/// listener may linger), `bind(address)`, `listen(64)`. Errors: as [`bind_udp`]. See tcp(7).
pub fn listen_tcp(address: SocketAddr) -> SysResult<OwnedFd> {
    state_changing(
        "bind",
        |a| write!(a, "SOCK_STREAM, {address}; listen"),
        || {
            let socket = socket(address, libc::SOCK_STREAM)?;
            nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::ReuseAddr, &true)?;
            bind(&socket, address)?;
            // SAFETY: takes integers; the descriptor is ours for the call.
            check(unsafe { libc::listen(socket.as_raw_fd(), 64) })?;
            Ok(socket)
        },
    )
}

/// `socket`, `bind`, and for a stream of IPv4 `listen`: a socket of the host's at an address; its port,
/// which the kernel has chosen where 0 was asked for. A port whose last connections are still timing
/// out is free (`SO_REUSEADDR`). Errors: `EADDRINUSE`, `EADDRNOTAVAIL` (not an address of this host's),
/// `EACCES` (a low port), `EAFNOSUPPORT` (a kernel without IPv6). See ip(7), ipv6(7), bind(2).
///
/// One of IPv6 is of IPv6 alone (`IPV6_V6ONLY`): the same port of IPv4 is somebody else's to take. And
/// it does not listen, so a connection that no rule leads elsewhere is refused at once; it has no
/// `SO_REUSEADDR` then, with which somebody else could listen there.
pub fn bind_port(stream: bool, address: SocketAddr) -> SysResult<(OwnedFd, u16)> {
    use std::net::{TcpListener, UdpSocket};
    let words = if stream { "tcp" } else { "udp" };
    let of_std = |e: std::io::Error| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO));
    let four = || -> std::io::Result<(OwnedFd, u16)> {
        if stream {
            let socket = TcpListener::bind(address)?;
            let port = socket.local_addr()?.port();
            return Ok((socket.into(), port));
        }
        let socket = UdpSocket::bind(address)?;
        let port = socket.local_addr()?.port();
        Ok((socket.into(), port))
    };
    let six = || {
        let kind = if stream {
            libc::SOCK_STREAM
        } else {
            libc::SOCK_DGRAM
        };
        let one: libc::c_int = 1;
        let made = socket(address, kind)?;
        // SAFETY: pointer and length describe `one`, live for the call, which copies it.
        check(unsafe {
            libc::setsockopt(
                made.as_raw_fd(),
                libc::IPPROTO_IPV6,
                libc::IPV6_V6ONLY,
                (&raw const one).cast(),
                size_of::<libc::c_int>() as u32,
            )
        })?;
        bind(&made, address)?;
        // std's type knows how to ask for an address, whatever the socket is.
        let made = UdpSocket::from(made);
        let port = made.local_addr().map_err(of_std)?.port();
        Ok((made.into(), port))
    };
    state_changing(
        "bind",
        |a| write!(a, "{words} {address}"),
        || match address {
            SocketAddr::V4(_) => four().map_err(of_std),
            SocketAddr::V6(_) => six(),
        },
    )
}

/// `socket(SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK)`, `connect(address)`, which goes on behind
/// the call: the socket can be written to when it has come to an end, and [`take_error`] says to
/// which. Errors: `ENETUNREACH`, `EADDRNOTAVAIL`. See connect(2).
pub fn connect_tcp(address: SocketAddr) -> SysResult<OwnedFd> {
    reading(
        "connect",
        || format!("SOCK_STREAM, {address}"),
        || {
            let socket = socket(address, libc::SOCK_STREAM)?;
            let (storage, length) = sockaddr(address);
            // SAFETY: pointer and length describe `storage`, live for the call, which copies it.
            let done = check(unsafe {
                libc::connect(socket.as_raw_fd(), (&raw const storage).cast(), length)
            });
            match done {
                Ok(_) | Err(Errno::EINPROGRESS) => Ok(socket),
                Err(e) => Err(e),
            }
        },
    )
}

/// `getsockopt(SO_ERROR)`: how a [`connect_tcp`] has ended. Errors: that of the connection
/// (`ECONNREFUSED`, `ETIMEDOUT`). See socket(7).
pub fn take_error(socket: impl AsFd) -> SysResult<()> {
    let socket = socket.as_fd();
    reading(
        "getsockopt",
        || format!("{}, SO_ERROR", socket.as_raw_fd()),
        || match nix::sys::socket::getsockopt(&socket, nix::sys::socket::sockopt::SocketError)? {
            0 => Ok(()),
            errno => Err(Errno::from_raw(errno)),
        },
    )
}

fn socket(address: SocketAddr, kind: libc::c_int) -> Result<OwnedFd, Errno> {
    let family = match address {
        SocketAddr::V4(_) => libc::AF_INET,
        SocketAddr::V6(_) => libc::AF_INET6,
    };
    // SAFETY: takes integers.
    let raw =
        check(unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0) })?;
    // SAFETY: a descriptor that the kernel has just made for us.
    Ok(unsafe { OwnedFd::from_raw_fd(raw as i32) })
}

fn bind(socket: &OwnedFd, address: SocketAddr) -> Result<(), Errno> {
    let (storage, length) = sockaddr(address);
    // SAFETY: pointer and length describe `storage`, live for the call, which copies it.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const storage).cast(), length) }).map(drop)
}

/// The kernel's form of an address: a `sockaddr_in` or `sockaddr_in6`, and how long it is.
fn sockaddr(address: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: sockaddr_storage is plain data for which all zeroes is a value.
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let length = match address {
        SocketAddr::V4(v4) => {
            let it = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr {
                    s_addr: u32::from_ne_bytes(v4.ip().octets()),
                },
                sin_zero: [0; 8],
            };
            // SAFETY: sockaddr_storage is made to hold any sockaddr, aligned for it.
            unsafe { (&raw mut storage).cast::<libc::sockaddr_in>().write(it) };
            size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(v6) => {
            let it = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr {
                    s6_addr: v6.ip().octets(),
                },
                sin6_scope_id: v6.scope_id(),
            };
            // SAFETY: sockaddr_storage is made to hold any sockaddr, aligned for it.
            unsafe { (&raw mut storage).cast::<libc::sockaddr_in6>().write(it) };
            size_of::<libc::sockaddr_in6>()
        }
    };
    (storage, length as libc::socklen_t)
}
