//! One way of `sd_notify(3)`: a datagram to the socket of the service manager. It never waits.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The socket of the service manager.
#[derive(Debug)]
pub(crate) struct Socket {
    socket: UnixDatagram,
    to: SocketAddr,
}

impl Socket {
    /// `name` is a path, or `@` and the name of an abstract socket.
    pub(crate) fn open(name: &OsStr) -> io::Result<Self> {
        let to = match name.as_bytes().split_first() {
            Some((b'@', abstract_name)) => SocketAddr::from_abstract_name(abstract_name)?,
            Some((b'/', _)) => SocketAddr::from_pathname(name)?,
            Some(_) | None => return Err(io::Error::other("expected an absolute path or @name")),
        };
        let socket = UnixDatagram::unbound()?;
        // A service manager whose queue is full has other worries; we have work to do.
        socket.set_nonblocking(true)?;
        Ok(Self { socket, to })
    }

    pub(crate) fn send(&self, message: &str) -> io::Result<()> {
        self.socket.send_to_addr(message.as_bytes(), &self.to).map(drop)
    }
}
