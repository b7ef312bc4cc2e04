//! Socket calls between the processes of one set-up: a pair, bytes, and descriptors over it.
//!
//! What it implements: socketpair(2), unix(7) (`SCM_RIGHTS`), cmsg(3).
//! Interface: [`socketpair`], [`send`], [`recv`], [`send_fd`], [`recv_fd`]; between processes that
//! find each other by a path: [`listen`], [`accept`], [`connect`], [`connect_stream`], and what has a
//! service there change something: [`request`]; [`set_interface_up`],
//! [`interface_is_up`].
//! Read next: [`crate::journal::execute`], which uses the pair as its barrier.

use super::{Errno, SysResult, check, reading};
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType,
    UnixAddr, recvmsg, sendmsg,
};
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// `int socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, int sv[2])`
///
/// Two connected ends that keep message boundaries, closed at execve. See socketpair(2).
pub fn socketpair() -> SysResult<(OwnedFd, OwnedFd)> {
    reading(
        "socketpair",
        || "AF_UNIX, SOCK_SEQPACKET|SOCK_CLOEXEC, 0".into(),
        || {
            nix::sys::socket::socketpair(
                AddressFamily::Unix,
                SockType::SeqPacket,
                None,
                SockFlag::SOCK_CLOEXEC,
            )
        },
    )
}

/// `ssize_t send(int fd, const void *buf, size_t len, MSG_NOSIGNAL)`: one message.
///
/// Errors: `EPIPE` (the other side has ended; no signal is raised), `EMSGSIZE`. See send(2).
pub fn send(fd: impl AsFd, message: &[u8]) -> SysResult<()> {
    let raw = fd.as_fd().as_raw_fd();
    reading(
        "send",
        || format!("{raw}, {} bytes", message.len()),
        || {
            // SAFETY: pointer and length describe `message`, live for the call.
            check(unsafe {
                libc::send(
                    raw,
                    message.as_ptr().cast(),
                    message.len(),
                    libc::MSG_NOSIGNAL,
                )
            } as i64)
            .map(drop)
        },
    )
}

/// `ssize_t recv(int fd, void *buf, size_t len, 0)`: waits for one message of at most 64 KiB;
/// `None` when the other side is gone. See recv(2).
pub fn recv(fd: impl AsFd) -> SysResult<Option<Vec<u8>>> {
    let raw = fd.as_fd().as_raw_fd();
    reading(
        "recv",
        || raw.to_string(),
        || {
            // Room for the longest message; memory is touched only where one is written.
            let mut buffer = Vec::<u8>::with_capacity(64 * 1024);
            let room = buffer.spare_capacity_mut();
            // SAFETY: pointer and length describe `room`, live for the call; the kernel reads
            // nothing of it.
            let n =
                check(unsafe { libc::recv(raw, room.as_mut_ptr().cast(), room.len(), 0) } as i64);
            match n {
                Ok(0) | Err(Errno::ECONNRESET) => Ok(None),
                Ok(n) => {
                    // SAFETY: the kernel has written that many, and no more than there is room for.
                    unsafe { buffer.set_len(n as usize) };
                    buffer.shrink_to_fit();
                    Ok(Some(buffer))
                }
                Err(e) => Err(e),
            }
        },
    )
}

/// Sends a descriptor with one byte of data, over any unix socket (`SCM_RIGHTS`).
/// Errors: `EPIPE`, `ETOOMANYREFS`. See unix(7).
pub fn send_fd(socket: impl AsFd, fd: impl AsFd) -> SysResult<()> {
    let (socket, fd) = (socket.as_fd().as_raw_fd(), fd.as_fd().as_raw_fd());
    reading(
        "sendmsg",
        || format!("{socket}, SCM_RIGHTS [{fd}]"),
        || {
            let data = [0u8];
            sendmsg::<()>(
                socket,
                &[IoSlice::new(&data)],
                &[ControlMessage::ScmRights(&[fd])],
                MsgFlags::MSG_NOSIGNAL,
                None,
            )
            .map(drop)
        },
    )
}

/// Sends `message` with the descriptor number `fd` of the caller's table, over a unix socket
/// (`SCM_RIGHTS`). Errors: `EBADF` (no such descriptor), `EPIPE`. See unix(7).
pub fn send_with_fd(socket: impl AsFd, message: &[u8], fd: i32) -> SysResult<()> {
    let socket = socket.as_fd().as_raw_fd();
    reading(
        "sendmsg",
        || format!("{socket}, {} bytes, SCM_RIGHTS [{fd}]", message.len()),
        || {
            let fds = [fd];
            let rights = [ControlMessage::ScmRights(&fds)];
            let iov = [IoSlice::new(message)];
            let sent = sendmsg::<()>(socket, &iov, &rights, MsgFlags::MSG_NOSIGNAL, None)?;
            // A stream takes as much as it has room for; the descriptor went with the first byte.
            let mut rest = &message[sent..];
            while !rest.is_empty() {
                let iov = [IoSlice::new(rest)];
                let sent = sendmsg::<()>(socket, &iov, &[], MsgFlags::MSG_NOSIGNAL, None)?;
                rest = &rest[sent..];
            }
            Ok(())
        },
    )
}

/// `int shutdown(int sockfd, SHUT_WR)`: the other side reads the end, although descriptors of this
/// one are still open. Errors: `ENOTCONN`. See shutdown(2).
pub fn shutdown_write(fd: impl AsFd) -> SysResult<()> {
    let raw = fd.as_fd().as_raw_fd();
    reading(
        "shutdown",
        || format!("{raw}, SHUT_WR"),
        || nix::sys::socket::shutdown(raw, nix::sys::socket::Shutdown::Write),
    )
}

/// `ssize_t write(int fd, const void *buf, size_t count)` to a socket: as [`send`], for a process
/// whose seccomp filter lets this call pass at least. See write(2).
pub fn write(fd: impl AsFd, message: &[u8]) -> SysResult<()> {
    let raw = fd.as_fd().as_raw_fd();
    reading(
        "write",
        || format!("{raw}, {} bytes", message.len()),
        || nix::unistd::write(fd.as_fd(), message).map(drop),
    )
}

/// `ssize_t read(int fd, void *buf, size_t count)` from a socket: one message of at most 4 KiB.
/// See read(2).
pub fn read(fd: impl AsFd) -> SysResult<Vec<u8>> {
    let raw = fd.as_fd().as_raw_fd();
    reading(
        "read",
        || raw.to_string(),
        || {
            let mut buffer = vec![0u8; 4096];
            let n = nix::unistd::read(fd.as_fd(), &mut buffer)?;
            buffer.truncate(n);
            Ok(buffer)
        },
    )
}

/// Receives a descriptor sent by [`send_fd`] (close-on-exec). `None` when the other side is gone.
/// Errors: `EBADMSG` (a message without a descriptor). See unix(7).
pub fn recv_fd(socket: impl AsFd) -> SysResult<Option<OwnedFd>> {
    let socket = socket.as_fd().as_raw_fd();
    reading(
        "recvmsg",
        || socket.to_string(),
        || {
            let mut data = [0u8];
            let mut space = nix::cmsg_space!([i32; 1]);
            let mut iov = [IoSliceMut::new(&mut data)];
            let message = recvmsg::<()>(
                socket,
                &mut iov,
                Some(&mut space),
                MsgFlags::MSG_CMSG_CLOEXEC,
            )?;
            if message.bytes == 0 {
                return Ok(None);
            }
            for control in message.cmsgs()? {
                if let ControlMessageOwned::ScmRights(fds) = control
                    && let Some(fd) = fds.first()
                {
                    // SAFETY: the kernel has just installed this descriptor for us.
                    return Ok(Some(unsafe { OwnedFd::from_raw_fd(*fd) }));
                }
            }
            Err(Errno::EBADMSG)
        },
    )
}

/// `socket(AF_UNIX, SOCK_SEQPACKET)`, `bind(path)`, `listen`: a socket in the file system that
/// keeps message boundaries. The path may be long: pass `/proc/self/fd/N/name` for a directory
/// descriptor, since `sun_path` holds 108 bytes. Errors: `EADDRINUSE` (it exists), `EACCES`.
/// See unix(7).
pub fn listen(path: &std::path::Path) -> SysResult<OwnedFd> {
    super::state_changing(
        "bind",
        |a| write!(a, "AF_UNIX, {path:?}; listen"),
        || {
            let fd = seqpacket()?;
            nix::sys::socket::bind(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
            nix::sys::socket::listen(&fd, Backlog::new(64).unwrap_or(Backlog::MAXCONN))?;
            Ok(fd)
        },
    )
}

/// `int accept4(int fd, …, SOCK_CLOEXEC | SOCK_NONBLOCK)`: `None` when nobody waits (on a
/// non-blocking socket). See accept(2).
pub fn accept(listener: impl AsFd) -> SysResult<Option<OwnedFd>> {
    let raw = listener.as_fd().as_raw_fd();
    reading(
        "accept4",
        || raw.to_string(),
        || match nix::sys::socket::accept4(raw, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK) {
            // SAFETY: the kernel has just made this descriptor for us.
            Ok(fd) => Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) })),
            Err(Errno::EAGAIN | Errno::ECONNABORTED) => Ok(None),
            Err(e) => Err(e),
        },
    )
}

/// `int connect(int fd, AF_UNIX path)`. Errors: `ENOENT`, `ECONNREFUSED` (nobody listens any
/// more), `EACCES`. See connect(2).
pub fn connect(path: &std::path::Path) -> SysResult<OwnedFd> {
    reading(
        "connect",
        || format!("AF_UNIX, {path:?}"),
        || {
            let fd = seqpacket()?;
            nix::sys::socket::connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
            Ok(fd)
        },
    )
}

/// [`connect`] to a `SOCK_STREAM` socket, as agents of other projects have. Errors: also
/// `EPROTOTYPE` (it is of another type), `ENAMETOOLONG` (over 107 bytes). See unix(7).
pub fn connect_stream(path: &std::path::Path) -> SysResult<OwnedFd> {
    reading(
        "connect",
        || format!("AF_UNIX, {path:?}"),
        || {
            let (family, kind) = (AddressFamily::Unix, SockType::Stream);
            let fd = nix::sys::socket::socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
            nix::sys::socket::connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
            Ok(fd)
        },
    )
}

/// `ssize_t sendto(int fd, …, MSG_NOSIGNAL)` of all of `message` over a stream socket, to a service
/// that is to change something for us; `words` say in the record what. Errors: `EPIPE` (the service
/// has ended). See send(2).
pub fn request(fd: impl AsFd, message: &[u8], words: &str) -> SysResult<()> {
    let raw = fd.as_fd().as_raw_fd();
    super::state_changing(
        "sendto",
        |a| write!(a, "AF_UNIX, {words}"),
        || {
            let mut rest = message;
            while !rest.is_empty() {
                let iov = [IoSlice::new(rest)];
                match sendmsg::<()>(raw, &iov, &[], MsgFlags::MSG_NOSIGNAL, None) {
                    Ok(sent) => rest = &rest[sent..],
                    // Begun is begun: the call as a whole must not be made once more.
                    Err(Errno::EINTR) => {}
                    Err(e) => return Err(e),
                }
            }
            Ok(())
        },
    )
}

fn seqpacket() -> Result<OwnedFd, Errno> {
    nix::sys::socket::socket(
        AddressFamily::Unix,
        SockType::SeqPacket,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
}

/// `int ioctl(int sock, SIOCSIFFLAGS, struct ifreq *)`: brings the network interface `name` of the
/// caller's network namespace up.
///
/// Errors: `ENODEV` (no such interface), `EPERM` (no CAP_NET_ADMIN over the network namespace).
/// See netdevice(7).
pub fn set_interface_up(name: &str) -> SysResult<()> {
    super::state_changing(
        "ioctl",
        |a| write!(a, "SIOCSIFFLAGS, {{{name:?}, IFF_UP|IFF_RUNNING}}"),
        || {
            let (socket, mut request) = interface_request(name)?;
            request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
            // SAFETY: `request` is live and of the type that the request reads.
            check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &request) })
                .map(drop)
        },
    )
}

/// `int ioctl(int sock, SIOCGIFFLAGS, struct ifreq *)`: whether the interface `name` of the
/// caller's network namespace is up. Errors: `ENODEV`. See netdevice(7).
pub fn interface_is_up(name: &str) -> SysResult<bool> {
    reading(
        "ioctl",
        || format!("SIOCGIFFLAGS, {name:?}"),
        || {
            let (socket, mut request) = interface_request(name)?;
            // SAFETY: `request` is live and of the type that the request fills.
            check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &mut request) })?;
            // SAFETY: SIOCGIFFLAGS fills this member of the union.
            let flags = unsafe { request.ifr_ifru.ifru_flags };
            Ok(i32::from(flags) & libc::IFF_UP != 0)
        },
    )
}

/// A socket to ask through, and a request that names the interface.
fn interface_request(name: &str) -> Result<(OwnedFd, libc::ifreq), Errno> {
    // SAFETY: takes integers.
    let raw =
        check(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: a descriptor that the kernel has just made for us.
    let socket = unsafe { OwnedFd::from_raw_fd(raw as i32) };
    // SAFETY: ifreq is plain data for which all zeroes is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes().take(15)) {
        *to = from as libc::c_char;
    }
    Ok((socket, request))
}
