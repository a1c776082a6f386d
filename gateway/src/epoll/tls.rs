//! One TLS session over rustls' unbuffered API: the buffers are ours, so that a session at rest has none.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};

use crate::limits::{TLS_RECORD_BYTES, TLS_TAIL_BYTES_MAX};

/// What a record adds to its plaintext at most (header, type, tag), generously.
const RECORD_OVERHEAD: usize = 64;

/// Why a TLS session ends.
#[derive(Debug)]
pub(super) enum TlsError {
    /// The peer broke TLS; an alert may wait to be sent.
    Rustls(rustls::Error),
    /// A record or handshake message above [`TLS_TAIL_BYTES_MAX`].
    TooLarge,
    /// rustls cannot encrypt any more.
    Exhausted,
}

impl std::fmt::Display for TlsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Rustls(error) => error.fmt(f),
            Self::TooLarge => f.write_str("a TLS message is too large"),
            Self::Exhausted => f.write_str("the TLS keys are used up"),
        }
    }
}

/// What [`Tls::receive`] found beside plaintext.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Received {
    /// The peer said that it sends no more.
    pub(super) closed: bool,
}

pub(super) struct Tls {
    connection: UnbufferedServerConnection,
    /// Ciphertext of an incomplete message; empty and without memory at rest.
    incoming: Vec<u8>,
    /// Ciphertext to be sent; empty and without memory at rest.
    outgoing: Vec<u8>,
    /// How much of `outgoing` is out.
    sent: usize,
}

impl Tls {
    pub(super) fn new(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        let connection = UnbufferedServerConnection::new(config)?;
        Ok(Self { connection, incoming: Vec::new(), outgoing: Vec::new(), sent: 0 })
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Takes ciphertext and hands its plaintext to `on_plaintext`, record by record. It may make ciphertext to send.
    pub(super) fn receive(
        &mut self,
        bytes: &mut [u8],
        on_plaintext: impl FnMut(&[u8]),
    ) -> Result<Received, TlsError> {
        let mut joined = std::mem::take(&mut self.incoming);
        if joined.is_empty() {
            // The usual case: whole records, decrypted where they lie.
            let (used, received) = self.process(bytes, on_plaintext)?;
            self.incoming = bytes[used..].to_vec();
            self.check_tail(received)
        } else {
            joined.extend_from_slice(bytes);
            let (used, received) = self.process(&mut joined, on_plaintext)?;
            joined.drain(..used);
            if !joined.is_empty() {
                self.incoming = joined;
            }
            self.check_tail(received)
        }
    }

    fn check_tail(&self, received: Received) -> Result<Received, TlsError> {
        if self.incoming.len() > TLS_TAIL_BYTES_MAX { Err(TlsError::TooLarge) } else { Ok(received) }
    }

    /// Runs rustls until it needs more input; returns the bytes it is done with.
    fn process(
        &mut self,
        input: &mut [u8],
        mut on_plaintext: impl FnMut(&[u8]),
    ) -> Result<(usize, Received), TlsError> {
        let (mut used, mut received) = (0, Received { closed: false });
        loop {
            let UnbufferedStatus { mut discard, state } =
                self.connection.process_tls_records(&mut input[used..]);
            let is_done = match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(TlsError::Rustls)?;
                        discard += record.discard;
                        on_plaintext(record.payload);
                    }
                    false
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    append(&mut self.outgoing, |out| data.encode(out))?;
                    false
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done(); // it lies in `outgoing`, whose order is kept
                    false
                }
                Ok(ConnectionState::PeerClosed) => {
                    received.closed = true;
                    false
                }
                Ok(ConnectionState::Closed) => {
                    received.closed = true;
                    true
                }
                Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_)) => true,
                // No early data is accepted, so none comes; nor does a state of a later version.
                Ok(_) => true,
                Err(error) => {
                    self.collect_alert(&mut input[used + discard..]);
                    return Err(TlsError::Rustls(error));
                }
            };
            used += discard;
            if is_done {
                return Ok((used, received));
            }
        }
    }

    /// After a failure: the alert that tells the peer why, if there is one. rustls hands out what it has to send before
    /// it looks at the input, but wants to see the input all the same: its places are remembered. One call and no
    /// more: another would read the bad input a second time, which it does not expect.
    fn collect_alert(&mut self, rest: &mut [u8]) {
        if let Ok(ConnectionState::EncodeTlsData(mut data)) = self.connection.process_tls_records(rest).state
        {
            // Without an alert the peer sees the end alone.
            let _ = append(&mut self.outgoing, |out| data.encode(out));
        }
    }

    /// Encrypts plaintext for sending; at most one record, and only when [`Tls::unsent`] is empty.
    pub(super) fn encrypt(&mut self, plaintext: &[u8]) -> Result<(), TlsError> {
        assert!(plaintext.len() <= TLS_RECORD_BYTES && self.outgoing.is_empty());
        self.outgoing.reserve_exact(plaintext.len() + RECORD_OVERHEAD);
        self.write_traffic(|traffic, out| traffic.encrypt(plaintext, out))
    }

    /// Says that we send no more (RFC 8446 §6.1).
    pub(super) fn close_notify(&mut self) -> Result<(), TlsError> {
        self.write_traffic(|traffic, out| traffic.queue_close_notify(out))
    }

    fn write_traffic(
        &mut self,
        mut write: impl FnMut(
            &mut rustls::unbuffered::WriteTraffic<'_, rustls::server::ServerConnectionData>,
            &mut [u8],
        ) -> Result<usize, EncryptError>,
    ) -> Result<(), TlsError> {
        let mut incoming = std::mem::take(&mut self.incoming);
        let UnbufferedStatus { discard, state } = self.connection.process_tls_records(&mut incoming);
        let result = match state {
            Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                append(&mut self.outgoing, |out| write(&mut traffic, out))
            }
            Ok(_) => Err(TlsError::Exhausted), // not in a state to send data: the peer is gone or never came
            Err(error) => Err(TlsError::Rustls(error)),
        };
        incoming.drain(..discard);
        self.incoming = incoming;
        result
    }

    /// Ciphertext that waits for the socket.
    pub(super) fn unsent(&self) -> &[u8] {
        &self.outgoing[self.sent..]
    }

    /// The socket took this much of [`Tls::unsent`].
    pub(super) fn advance(&mut self, written: usize) {
        self.sent += written;
        assert!(self.sent <= self.outgoing.len(), "nobody writes more than there is");
        if self.sent == self.outgoing.len() {
            (self.outgoing, self.sent) = (Vec::new(), 0);
        }
    }
}

/// Errors that say how much room is needed.
trait NeedsRoom {
    fn required(&self) -> Option<usize>;
}

impl NeedsRoom for EncodeError {
    fn required(&self) -> Option<usize> {
        match self {
            Self::InsufficientSize(size) => Some(size.required_size),
            Self::AlreadyEncoded => None,
        }
    }
}

impl NeedsRoom for EncryptError {
    fn required(&self) -> Option<usize> {
        match self {
            Self::InsufficientSize(size) => Some(size.required_size),
            Self::EncryptExhausted => None,
        }
    }
}

/// Lets `write` append to `out`, making the room it asks for.
fn append<E: NeedsRoom>(
    out: &mut Vec<u8>,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, E>,
) -> Result<(), TlsError> {
    let start = out.len();
    let mut room = (out.capacity() - start).max(1024);
    for _ in 0..2 {
        out.resize(start + room, 0);
        match write(&mut out[start..]) {
            Ok(written) => {
                out.truncate(start + written);
                return Ok(());
            }
            Err(error) => {
                out.truncate(start);
                room = error.required().ok_or(TlsError::Exhausted)?;
            }
        }
    }
    Err(TlsError::Exhausted)
}
