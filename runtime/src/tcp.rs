//! Listening, accepting and connecting.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, acceptfrom_with, ipproto, socket_with, sockopt};

use crate::Stream;
use crate::limits::{LISTEN_BACKLOG, NOTSENT_LOWAT_BYTES, USER_TIMEOUT_MS};
use crate::option::{IntOption, set_int};

const SOCKET_FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

/// How to listen.
#[derive(Clone, Copy, Debug, Default)]
pub struct ListenOptions {
    /// Several listeners share the port and the kernel spreads connections over them (`SO_REUSEPORT`): one per loop.
    pub reuse_port: bool,
}

/// How to connect.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConnectOptions {
    /// The address to connect from; the port is chosen at connect, per destination (`IP_BIND_ADDRESS_NO_PORT`).
    pub source: Option<IpAddr>,
}

/// What [`accept`] came to.
#[derive(Debug)]
pub enum Accepted {
    /// A connection and the peer's address.
    Connection(Stream, SocketAddr),
    /// None waits.
    Blocked,
    /// One waits, but this process has no descriptor (or memory) for it; pause before the next try.
    Exhausted,
}

/// A non-blocking listener with a backlog of [`LISTEN_BACKLOG`].
///
/// # Errors
/// The address is in use or not ours, or there is no descriptor left.
pub fn listen(address: SocketAddr, options: ListenOptions) -> io::Result<TcpListener> {
    let socket = socket_with(family(address.ip()), SocketType::STREAM, SOCKET_FLAGS, Some(ipproto::TCP))?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if options.reuse_port {
        sockopt::set_socket_reuseport(&socket, true)?;
    }
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, LISTEN_BACKLOG)?;
    Ok(TcpListener::from(socket))
}

/// As many listeners on one port as a node has loops. Port 0 picks one for all.
///
/// # Errors
/// As [`listen`]; also if somebody else listens there with `SO_REUSEPORT`, which would otherwise share his port with
/// us in silence.
pub fn listen_shared(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    let probe = listen(address, ListenOptions::default())?;
    let address = probe.local_addr()?;
    drop(probe);
    (0..count).map(|_| listen(address, ListenOptions { reuse_port: true })).collect()
}

/// Takes one waiting connection: non-blocking, without Nagle's delay, with a small kernel queue and a limit on how long
/// sent data may stay unacknowledged.
///
/// # Errors
/// The listener is broken. A connection that died in the queue is skipped, not an error (accept(2), "Error handling").
pub fn accept(listener: &TcpListener) -> io::Result<Accepted> {
    loop {
        match acceptfrom_with(listener, SOCKET_FLAGS) {
            Ok((socket, peer)) => {
                let stream = TcpStream::from(socket);
                let Some(peer) = peer.and_then(|peer| SocketAddr::try_from(peer).ok()) else { continue };
                if prepare(&stream).is_ok() {
                    return Ok(Accepted::Connection(Stream::new(stream), peer));
                }
            }
            Err(Errno::AGAIN) => return Ok(Accepted::Blocked),
            Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                return Ok(Accepted::Exhausted);
            }
            Err(
                Errno::INTR
                | Errno::CONNABORTED
                | Errno::PROTO
                | Errno::NETDOWN
                | Errno::NETUNREACH
                | Errno::HOSTDOWN
                | Errno::HOSTUNREACH
                | Errno::NONET
                | Errno::NOPROTOOPT
                | Errno::OPNOTSUPP
                | Errno::PERM
                | Errno::TIMEDOUT,
            ) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Starts a connect. When the socket becomes writable, [`Stream::connected`] tells the outcome.
///
/// # Errors
/// It failed at once: no descriptor, no route, or the source address is not ours.
pub fn connect(address: SocketAddr, options: ConnectOptions) -> io::Result<Stream> {
    let socket = socket_with(family(address.ip()), SocketType::STREAM, SOCKET_FLAGS, Some(ipproto::TCP))?;
    if let Some(source) = options.source {
        set_int(socket.as_fd(), IntOption::BindAddressNoPort, 1)?;
        rustix::net::bind(&socket, &SocketAddr::new(source, 0))?;
    }
    let stream = TcpStream::from(socket);
    prepare(&stream)?;
    match rustix::net::connect(&stream, &address) {
        Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => Ok(Stream::new(stream)),
        Err(errno) => Err(errno.into()),
    }
}

/// Options of every connection.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    sockopt::set_tcp_nodelay(stream, true)?;
    sockopt::set_tcp_user_timeout(stream, USER_TIMEOUT_MS)?;
    set_int(stream.as_fd(), IntOption::NotsentLowat, NOTSENT_LOWAT_BYTES)
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::time::Duration;

    use super::*;
    use crate::{Interest, Poller, Read, Write};

    const LOOPBACK: &str = "127.0.0.1:0";

    /// Waits until the socket is ready, at most ten seconds.
    fn ready(source: impl AsFd, interest: Interest) {
        let (mut poller, mut events) = (Poller::new().expect("epoll"), Vec::new());
        poller.register(source, 0, interest).expect("registered");
        poller.wait(&mut events, Some(Duration::from_secs(10))).expect("waited");
        assert!(!events.is_empty(), "not ready in time");
    }

    fn listener(options: ListenOptions) -> TcpListener {
        listen(LOOPBACK.parse().expect("an address"), options).expect("listening")
    }

    fn pair(listener: &TcpListener, options: ConnectOptions) -> (Stream, Stream, SocketAddr) {
        let client = connect(listener.local_addr().expect("bound"), options).expect("started");
        ready(listener, Interest::Read);
        let Ok(Accepted::Connection(server, peer)) = accept(listener) else { panic!("no connection") };
        ready(&client, Interest::Write);
        client.connected().expect("connected");
        (client, server, peer)
    }

    #[test]
    fn bytes_cross_and_the_end_is_seen() {
        let listener = listener(ListenOptions::default());
        assert!(matches!(accept(&listener), Ok(Accepted::Blocked)));
        let (mut client, mut server, _) = pair(&listener, ConnectOptions::default());
        let mut buffer = [0u8; 16];
        assert_eq!(server.read(&mut buffer).expect("open"), Read::Blocked);
        let slices = [IoSlice::new(b"ab"), IoSlice::new(b"cd")];
        assert_eq!(client.writev(&slices).expect("open"), Write::Bytes(4));
        ready(&server, Interest::Read);
        assert_eq!(server.read(&mut buffer).expect("open"), Read::Bytes(4));
        assert_eq!(&buffer[..4], b"abcd");
        client.shutdown_write();
        ready(&server, Interest::Read);
        assert_eq!(server.read(&mut buffer).expect("open"), Read::Closed);
        assert_eq!(server.write(b"late").expect("the other half is open"), Write::Bytes(4));
    }

    #[test]
    fn a_full_socket_blocks_instead_of_taking_everything() {
        let listener = listener(ListenOptions::default());
        let (mut client, _server, _) = pair(&listener, ConnectOptions::default());
        let chunk = vec![0u8; 1 << 20];
        let blocked = (0..256).any(|_| client.write(&chunk).expect("open") == Write::Blocked);
        assert!(blocked, "256 MiB were taken without a reader");
    }

    #[test]
    fn the_source_address_is_the_one_asked_for() {
        let listener = listener(ListenOptions::default());
        let source: IpAddr = "127.0.0.77".parse().expect("an address");
        let (_client, _server, peer) = pair(&listener, ConnectOptions { source: Some(source) });
        assert_eq!(peer.ip(), source);
    }

    #[test]
    fn a_port_is_shared_only_if_both_ask_for_it() {
        let first = listener(ListenOptions { reuse_port: true });
        let address = first.local_addr().expect("bound");
        assert!(listen(address, ListenOptions { reuse_port: true }).is_ok());
        let error = listen(address, ListenOptions::default()).expect_err("in use");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn loops_share_a_port_but_not_with_another_process() {
        let listeners = listen_shared(LOOPBACK.parse().expect("an address"), 3).expect("listening");
        let addresses: Vec<_> =
            listeners.iter().map(|listener| listener.local_addr().expect("bound")).collect();
        assert!(addresses.len() == 3 && addresses.iter().all(|address| *address == addresses[0]));
        let error = listen_shared(addresses[0], 1).expect_err("in use");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_refused_connect_is_told() {
        let address = listener(ListenOptions::default()).local_addr().expect("bound"); // closed again here
        match connect(address, ConnectOptions::default()) {
            Ok(client) => {
                ready(&client, Interest::Write);
                assert_eq!(client.connected().expect_err("refused").kind(), io::ErrorKind::ConnectionRefused);
            }
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused),
        }
    }
}
