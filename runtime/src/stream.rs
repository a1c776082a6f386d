//! A non-blocking TCP stream.

use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

/// What a read came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// This many bytes, at least one.
    Bytes(usize),
    /// Nothing at the moment.
    Blocked,
    /// The peer sends no more.
    Closed,
}

/// What a write came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// This many bytes were taken (0 only if none were given).
    Bytes(usize),
    /// No room at the moment.
    Blocked,
}

/// A connected (or connecting) non-blocking socket. Dropping it closes the connection.
#[derive(Debug)]
pub struct Stream {
    socket: TcpStream,
}

impl Stream {
    /// Wraps a socket that is non-blocking already.
    pub(crate) fn new(socket: TcpStream) -> Self {
        Self { socket }
    }

    /// Reads into `buffer`, which must not be empty.
    ///
    /// # Errors
    /// The connection failed.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<Read> {
        assert!(!buffer.is_empty(), "reading into nothing would look like the end of the stream");
        loop {
            match self.socket.read(buffer) {
                Ok(0) => return Ok(Read::Closed),
                Ok(bytes) => return Ok(Read::Bytes(bytes)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Read::Blocked),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes what the kernel takes of `bytes`.
    ///
    /// # Errors
    /// The connection failed.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<Write> {
        self.writev(&[IoSlice::new(bytes)])
    }

    /// Writes what the kernel takes of the slices, in one system call.
    ///
    /// # Errors
    /// The connection failed.
    pub fn writev(&mut self, slices: &[IoSlice<'_>]) -> io::Result<Write> {
        loop {
            match self.socket.write_vectored(slices) {
                Ok(bytes) => return Ok(Write::Bytes(bytes)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Write::Blocked),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends the end of the stream after everything written; reading goes on. A connection that is gone is no error.
    pub fn shutdown_write(&self) {
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// The outcome of a non-blocking connect, once the socket is writable.
    ///
    /// # Errors
    /// Why the connect failed.
    pub fn connected(&self) -> io::Result<()> {
        self.socket.take_error()?.map_or(Ok(()), Err)
    }

    /// Our address.
    ///
    /// # Errors
    /// The socket is broken.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// The peer's address.
    ///
    /// # Errors
    /// Not connected.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.socket.peer_addr()
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
