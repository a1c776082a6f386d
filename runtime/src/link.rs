//! Frames between nodes over TCP.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use bytes::{Buf, BytesMut};
use throng_base::Full;
use throng_wire::error::DecodeError;
use throng_wire::frame::{Split, split};

use crate::limits::{LINK_KEEP_BYTES, LINK_READ_BYTES, LINK_SEAL_BYTES};
use crate::tls::{PeerName, Session, TlsError};
use crate::{Interest, Read, Stream, Wishes, Write};

/// Why a link is over.
#[derive(Debug)]
pub enum LinkError {
    /// The peer ended the stream.
    Closed,
    /// The connection failed.
    Io(io::Error),
    /// The peer sent something that is no frame, or one above the limit.
    Frame(DecodeError),
    /// TLS failed, or one of the two certificates was refused.
    Tls(TlsError),
    /// The peer speaks TLS and this link does not.
    UnexpectedTls,
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "the peer closed the link",
            Self::Io(_) => "the link failed",
            Self::Frame(_) => "the peer sent a malformed frame",
            Self::Tls(_) => "TLS failed",
            Self::UnexpectedTls => {
                "the peer speaks TLS and we do not; give us a certificate (peer_cert, peer_key, peer_ca)"
            }
        })
    }
}

impl std::error::Error for LinkError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Closed | Self::UnexpectedTls => None,
            Self::Io(error) => Some(error),
            Self::Frame(error) => Some(error),
            Self::Tls(error) => Some(error),
        }
    }
}

impl LinkError {
    /// The error and its cause in one line, for logs.
    pub fn chain(&self) -> String {
        match std::error::Error::source(self) {
            Some(cause) => format!("{self}: {cause}"),
            None => self.to_string(),
        }
    }
}

/// Limits of one link.
#[derive(Clone, Copy, Debug)]
pub struct LinkLimits {
    /// Longest frame payload that is accepted; checked before room is made for it.
    pub frame_max: usize,
    /// Bytes that may wait to be sent. A frame finds room while fewer wait, so a frame larger than the limit can be
    /// sent too, and at most `outgoing_max` + one frame are ever held.
    pub outgoing_max: usize,
}

/// A non-blocking stream of frames with a bounded queue of outgoing bytes, in the clear or under TLS. A buffer that a
/// burst made large is given back when it is empty.
///
/// Under TLS frames may be queued at once; they wait until the handshake is done, which [`FrameLink::read`] and
/// [`FrameLink::flush`] carry on. Beside the queue at most [`LINK_SEAL_BYTES`] of ciphertext wait.
#[derive(Debug)]
pub struct FrameLink {
    stream: Stream,
    tls: Option<Box<Session>>,
    /// Plaintext.
    incoming: BytesMut,
    /// Plaintext.
    outgoing: BytesMut,
    limits: LinkLimits,
    /// The kernel takes no more at the moment; wait for the socket to become writable.
    blocked: bool,
}

impl FrameLink {
    /// A link over a connected socket, or one that connects (then wait for it to become writable and ask
    /// [`Stream::connected`]). With a session it is encrypted and both sides prove who they are; without one the peer
    /// may be anybody.
    pub fn new(stream: Stream, tls: Option<Session>, limits: LinkLimits) -> Self {
        let (incoming, outgoing) = (BytesMut::new(), BytesMut::new());
        Self { stream, tls: tls.map(Box::new), incoming, outgoing, limits, blocked: false }
    }

    /// Whom the peer's certificate names; `None` until the handshake is done, and on a link without TLS.
    pub fn peer_name(&self) -> Option<PeerName> {
        self.tls.as_ref()?.peer_name()
    }

    /// Whether the link is encrypted (or will be).
    pub fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    /// The socket.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Reads once and hands every whole frame's payload (type, flags, fields) to `on_frame`. Level-triggered: what is
    /// left in the socket is reported again.
    ///
    /// # Errors
    /// The link is over; drop it.
    pub fn read(&mut self, mut on_frame: impl FnMut(&[u8])) -> Result<(), LinkError> {
        let is_open = match self.tls {
            None => self.receive()?,
            Some(_) => self.receive_sealed()?,
        };
        let mut at = 0;
        while let Split::Frame { consumed, payload } =
            split(&self.incoming[at..], self.limits.frame_max).map_err(LinkError::Frame)?
        {
            on_frame(&self.incoming[at..][payload]);
            at += consumed;
        }
        self.incoming.advance(at);
        release(&mut self.incoming);
        if is_open { Ok(()) } else { Err(LinkError::Closed) }
    }

    /// Reads plaintext; `false` at the end of the stream.
    fn receive(&mut self) -> Result<bool, LinkError> {
        let before = self.incoming.len();
        let room = LINK_READ_BYTES.max(self.wanted()?.saturating_sub(before));
        self.incoming.resize(before + room, 0);
        let outcome = self.stream.read(&mut self.incoming[before..]);
        self.incoming.truncate(before + if let Ok(Read::Bytes(bytes)) = outcome { bytes } else { 0 });
        if self.incoming.starts_with(&TLS_HANDSHAKE) {
            return Err(LinkError::UnexpectedTls);
        }
        Ok(outcome.map_err(LinkError::Io)? != Read::Closed)
    }

    /// Reads ciphertext and carries the session on; `false` at the end of the stream. When the session fails, the other
    /// side is told why as far as the socket takes it at once.
    fn receive_sealed(&mut self) -> Result<bool, LinkError> {
        let session = self.tls.as_mut().expect("called for links with a session");
        let received = session.received();
        let before = received.len();
        received.resize(before + LINK_READ_BYTES, 0);
        let outcome = self.stream.read(&mut received[before..]);
        received.truncate(before + if let Ok(Read::Bytes(bytes)) = outcome { bytes } else { 0 });
        match outcome.map_err(LinkError::Io)? {
            Read::Bytes(_) => {}
            Read::Blocked => return Ok(true),
            Read::Closed => return Ok(false),
        }
        session.open(&mut self.incoming).map_err(|error| {
            if let Ok(Write::Bytes(written)) = self.stream.write(session.sealed()) {
                session.advance(written);
            }
            LinkError::Tls(error)
        })
    }

    /// Bytes that the incomplete frame at the front needs in all, as far as that is known: at most 1 MiB at a time, so
    /// that a peer which only announces a large frame makes us hold no more than that ahead of its bytes.
    fn wanted(&self) -> Result<usize, LinkError> {
        if self.incoming.is_empty() {
            return Ok(0);
        }
        match split(&self.incoming, self.limits.frame_max).map_err(LinkError::Frame)? {
            Split::NeedMore { at_least } => Ok(at_least.min(self.incoming.len() + AHEAD_MAX)),
            Split::Frame { .. } => Ok(0),
        }
    }

    /// Queues the frames that `encode` appends. Nothing is sent before [`FrameLink::flush`], so that everything due in
    /// a turn shares one system call.
    ///
    /// # Errors
    /// [`Full`] if too much waits already; `encode` was not called.
    pub fn queue(&mut self, encode: impl FnOnce(&mut BytesMut)) -> Result<(), Full<()>> {
        if self.outgoing.len() >= self.limits.outgoing_max {
            return Err(Full(()));
        }
        encode(&mut self.outgoing);
        Ok(())
    }

    /// Sends what the kernel takes.
    ///
    /// # Errors
    /// The link is over; drop it.
    pub fn flush(&mut self) -> Result<(), LinkError> {
        self.blocked = false;
        loop {
            self.seal()?;
            let bytes = self.tls.as_ref().map_or(&self.outgoing[..], |session| session.sealed());
            if bytes.is_empty() {
                break;
            }
            match (self.stream.write(bytes).map_err(LinkError::Io)?, &mut self.tls) {
                (Write::Bytes(written), None) => self.outgoing.advance(written),
                (Write::Bytes(written), Some(session)) => session.advance(written),
                (Write::Blocked, _) => {
                    self.blocked = true;
                    return Ok(());
                }
            }
        }
        self.release();
        Ok(())
    }

    /// Encrypts the next piece of the queue, once everything sealed before is out.
    fn seal(&mut self) -> Result<(), LinkError> {
        let Some(session) = &mut self.tls else { return Ok(()) };
        if session.sealed().is_empty() && session.is_established() && !self.outgoing.is_empty() {
            let length = self.outgoing.len().min(LINK_SEAL_BYTES);
            session.seal(&self.outgoing[..length]).map_err(LinkError::Tls)?;
            self.outgoing.advance(length);
        }
        Ok(())
    }

    fn release(&mut self) {
        release(&mut self.outgoing);
        if let Some(session) = &mut self.tls {
            session.release();
        }
    }

    /// Whether the link waits for the kernel to take more.
    pub fn wants_write(&self) -> bool {
        self.blocked
    }

    /// What to register with a poller.
    pub fn interest(&self) -> Interest {
        Interest::of(Wishes { read: true, write: self.blocked })
    }

    /// Bytes that wait to be sent.
    pub fn outgoing_len(&self) -> usize {
        self.outgoing.len() + self.tls.as_ref().map_or(0, |session| session.sealed().len())
    }
}

impl AsFd for FrameLink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// Room made ahead of a large frame's bytes in one read.
const AHEAD_MAX: usize = 1 << 20;

/// How a TLS handshake begins: a handshake record of version 3.x. No link of ours begins so: the first frame is a hello,
/// whose type is above these (and so are all types of peer frames).
const TLS_HANDSHAKE: [u8; 2] = [0x16, 0x03];

/// An empty buffer that a large frame left behind is given back.
fn release(buffer: &mut BytesMut) {
    if buffer.is_empty() && buffer.capacity() > LINK_KEEP_BYTES {
        *buffer = BytesMut::new();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::BufMut;

    use super::*;
    use crate::{Accepted, ConnectOptions, ListenOptions, Poller, accept, connect, listen};

    const LIMITS: LinkLimits = LinkLimits { frame_max: 4 << 20, outgoing_max: 1 << 20 };

    fn wait(source: impl AsFd, interest: Interest) {
        let (mut poller, mut events) = (Poller::new().expect("epoll"), Vec::new());
        poller.register(source, 0, interest).expect("registered");
        poller.wait(&mut events, Some(Duration::from_secs(10))).expect("waited");
        assert!(!events.is_empty(), "not ready in time");
    }

    fn pair() -> (FrameLink, FrameLink) {
        let address = "127.0.0.1:0".parse().expect("an address");
        let listener = listen(address, ListenOptions::default()).expect("listening");
        let near =
            connect(listener.local_addr().expect("bound"), ConnectOptions::default()).expect("started");
        wait(&listener, Interest::Read);
        let Ok(Accepted::Connection(far, _)) = accept(&listener) else { panic!("no connection") };
        (FrameLink::new(near, None, LIMITS), FrameLink::new(far, None, LIMITS))
    }

    /// A frame in the four-byte length form.
    fn frame(payload: &[u8]) -> impl FnOnce(&mut BytesMut) {
        move |out| {
            out.put_u32(0x8000_0000 | payload.len() as u32);
            out.put_slice(payload);
        }
    }

    #[test]
    fn frames_of_all_sizes_cross_in_order() {
        let (mut near, mut far) = pair();
        let sizes = [20_000usize, 3 << 20, 16_384, 100_000];
        let (mut queued, mut seen) = (0, Vec::new());
        for _ in 0..100_000 {
            if queued < sizes.len() && near.queue(frame(&vec![queued as u8; sizes[queued]])).is_ok() {
                queued += 1;
            }
            near.flush().expect("open");
            far.read(|payload| seen.push((payload[0], payload.len()))).expect("open");
            if seen.len() == sizes.len() {
                break;
            }
        }
        assert_eq!(seen, (0u8..).zip(sizes).collect::<Vec<_>>());
        assert!(!near.wants_write() && near.outgoing_len() == 0);
        assert!(near.outgoing.capacity() <= LINK_KEEP_BYTES && far.incoming.capacity() <= LINK_KEEP_BYTES);
    }

    #[test]
    fn a_peer_that_does_not_read_fills_the_queue_and_no_more() {
        let (mut near, _far) = pair();
        let payload = vec![0u8; 64 << 10];
        let full = (0..10_000).any(|_| {
            let refused = near.queue(frame(&payload)) == Err(Full(()));
            near.flush().expect("open");
            refused
        });
        assert!(full && near.wants_write());
        assert!(near.outgoing_len() <= LIMITS.outgoing_max + payload.len() + 4);
    }

    #[test]
    fn the_end_and_a_malformed_frame_end_the_link() {
        let (near, mut far) = pair();
        drop(near);
        wait(&far, Interest::Read);
        assert!(matches!(far.read(|_| {}), Err(LinkError::Closed)));

        let (mut near, mut far) = pair();
        near.queue(|out| out.put_u64(u64::MAX)).expect("room");
        near.flush().expect("open");
        wait(&far, Interest::Read);
        assert!(matches!(far.read(|_| {}), Err(LinkError::Frame(_))));
    }
}
