//! One accepted connection: its socket and how its bytes travel.

use std::io::{self, IoSlice};
use std::sync::Arc;

use rustls::ServerConfig;
use throng_base::{Instant, Key};
use throng_gateway_core::Gateway;
use throng_runtime::limits::WRITE_SLICES_MAX;
use throng_runtime::{Interest, Read, Stream, Wishes, Write};

use super::tls::Tls;
use crate::limits::TLS_RECORD_BYTES;

/// First byte of a TLS connection: a handshake record (RFC 8446 §5.1). No HTTP method begins with it.
const TLS_HANDSHAKE: u8 = 0x16;

/// How bytes travel.
enum Channel {
    /// Nothing has come yet.
    Unknown,
    /// As they are.
    Plain,
    /// In TLS.
    Tls(Box<Tls>),
}

pub(super) struct Connection {
    stream: Stream,
    /// Second half of the session's key: tells an event for this connection from one for its predecessor.
    generation: u32,
    /// The socket takes nothing more at the moment.
    blocked: bool,
    /// The session is over: when the outbox is empty, we end our direction.
    closing: bool,
    /// Our direction has ended.
    ended: bool,
    /// It is one of the handshakes that the loop counts.
    pub(super) is_counted: bool,
    channel: Channel,
}

const _: () = assert!(size_of::<Connection>() <= 32, "every session holds one");

/// What the loop allows.
pub(super) struct Rules {
    /// For connections that begin with a TLS handshake.
    pub(super) tls: Option<Arc<ServerConfig>>,
    /// Whether others are served.
    pub(super) plaintext: bool,
}

/// What reading came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// The connection goes on.
    Open,
    /// A TLS handshake has begun.
    HandshakeBegun,
    /// It is over: drop it.
    Over,
}

impl Connection {
    pub(super) fn new(stream: Stream, key: Key) -> Self {
        Self {
            stream,
            generation: key.generation,
            blocked: false,
            closing: false,
            ended: false,
            is_counted: false,
            channel: Channel::Unknown,
        }
    }

    pub(super) fn stream(&self) -> &Stream {
        &self.stream
    }

    pub(super) fn generation(&self) -> u32 {
        self.generation
    }

    pub(super) fn interest(&self) -> Interest {
        Interest::of(Wishes { read: true, write: self.blocked })
    }

    pub(super) fn is_handshaking(&self) -> bool {
        matches!(&self.channel, Channel::Tls(tls) if tls.is_handshaking())
    }

    /// The session is over; what the outbox holds still goes out.
    pub(super) fn close(&mut self) {
        self.closing = true;
    }

    /// Reads once and feeds the session.
    pub(super) fn read(
        &mut self,
        now: Instant,
        key: Key,
        machine: &mut Gateway,
        buffers: &mut Buffers,
        rules: &Rules,
    ) -> Progress {
        let bytes = match self.stream.read(&mut buffers.incoming) {
            Ok(Read::Bytes(bytes)) => bytes,
            Ok(Read::Blocked) => return Progress::Open,
            Ok(Read::Closed) | Err(_) => return Progress::Over,
        };
        if self.closing {
            return Progress::Open; // thrown away; its end is what we wait for
        }
        let mut progress = Progress::Open;
        if matches!(self.channel, Channel::Unknown) {
            let Some(channel) = choose(buffers.incoming[0], rules) else { return Progress::Over };
            if matches!(channel, Channel::Tls(_)) {
                progress = Progress::HandshakeBegun;
            }
            self.channel = channel;
        }
        let Buffers { incoming, plaintext } = buffers;
        match &mut self.channel {
            Channel::Unknown => unreachable!("chosen above"),
            Channel::Plain => machine.handle_bytes(now, key, &mut incoming[..bytes]),
            Channel::Tls(tls) => {
                let received = tls.receive(&mut incoming[..bytes], |record| {
                    plaintext.clear();
                    plaintext.extend_from_slice(record);
                    machine.handle_bytes(now, key, plaintext);
                });
                match received {
                    Ok(received) if received.closed => return Progress::Over,
                    Ok(_) => {}
                    Err(error) => {
                        tracing::debug!(%error, "TLS failed");
                        let _ = self.write_ciphertext(); // the alert; who does not take it at once goes without
                        return Progress::Over;
                    }
                }
            }
        }
        progress
    }

    /// Sends what the outbox holds and the socket takes.
    ///
    /// # Errors
    /// The connection is over: drop it.
    pub(super) fn flush(
        &mut self,
        now: Instant,
        key: Key,
        machine: &mut Gateway,
        buffers: &mut Buffers,
    ) -> io::Result<()> {
        self.blocked = false;
        match self.channel {
            Channel::Unknown | Channel::Plain => self.flush_plain(now, key, machine)?,
            Channel::Tls(_) => self.flush_tls(now, key, machine, buffers)?,
        }
        if self.closing && !self.blocked && !self.ended {
            self.ended = true;
            self.stream.shutdown_write();
        }
        Ok(())
    }

    fn flush_plain(&mut self, now: Instant, key: Key, machine: &mut Gateway) -> io::Result<()> {
        loop {
            let mut slices = [IoSlice::new(&[]); WRITE_SLICES_MAX];
            let mut count = 0;
            for (slice, chunk) in slices.iter_mut().zip(machine.chunks(key)) {
                *slice = IoSlice::new(chunk);
                count += 1;
            }
            if count == 0 {
                return Ok(());
            }
            match self.stream.writev(&slices[..count])? {
                Write::Bytes(bytes) => machine.handle_written(now, key, bytes),
                Write::Blocked => {
                    self.blocked = true;
                    return Ok(());
                }
            }
        }
    }

    fn flush_tls(
        &mut self,
        now: Instant,
        key: Key,
        machine: &mut Gateway,
        buffers: &mut Buffers,
    ) -> io::Result<()> {
        loop {
            self.write_ciphertext()?;
            let Channel::Tls(tls) = &mut self.channel else { return Ok(()) };
            if self.blocked || tls.is_handshaking() {
                return Ok(());
            }
            buffers.plaintext.clear();
            if machine.pull(now, key, &mut buffers.plaintext, TLS_RECORD_BYTES) == 0 {
                break;
            }
            tls.encrypt(&buffers.plaintext).map_err(|error| io::Error::other(error.to_string()))?;
        }
        if self.closing && !self.ended {
            let Channel::Tls(tls) = &mut self.channel else { return Ok(()) };
            // A peer that is gone already needs no farewell.
            let _ = tls.close_notify();
            self.write_ciphertext()?;
        }
        Ok(())
    }

    fn write_ciphertext(&mut self) -> io::Result<()> {
        let Channel::Tls(tls) = &mut self.channel else { return Ok(()) };
        while !tls.unsent().is_empty() {
            match self.stream.write(tls.unsent())? {
                Write::Bytes(bytes) => tls.advance(bytes),
                Write::Blocked => {
                    self.blocked = true;
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// Buffers that all connections of a loop share.
pub(super) struct Buffers {
    /// What is read.
    pub(super) incoming: Box<[u8]>,
    /// Plaintext of a TLS record, on its way in or out.
    pub(super) plaintext: Vec<u8>,
}

/// By the first byte: TLS or plaintext; `None` if it is not served.
fn choose(first: u8, rules: &Rules) -> Option<Channel> {
    match &rules.tls {
        Some(config) if first == TLS_HANDSHAKE => {
            Tls::new(config.clone()).ok().map(Box::new).map(Channel::Tls)
        }
        _ if rules.plaintext => Some(Channel::Plain),
        _ => None,
    }
}
