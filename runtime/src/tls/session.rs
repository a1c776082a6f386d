//! One TLS session over rustls's unbuffered API, without I/O: ciphertext in, plaintext out, and the other way round.

use std::fmt;
use std::sync::Arc;

use bytes::BytesMut;
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::ServerName;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{ClientConfig, ServerConfig};

use super::PeerName;
use crate::limits::TLS_TAIL_BYTES_MAX;

/// Why a session is over.
#[derive(Debug)]
pub enum TlsError {
    /// TLS was broken, or a certificate refused, by either side.
    Rustls(rustls::Error),
    /// A record or handshake message above [`TLS_TAIL_BYTES_MAX`].
    TooLarge,
    /// Nothing can be encrypted (any more).
    Exhausted,
    /// The other side does not speak TLS.
    Plaintext,
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use rustls::{AlertDescription as Alert, Error};
        match self {
            Self::Rustls(Error::AlertReceived(
                alert @ (Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::CertificateRequired
                | Alert::UnknownCA
                | Alert::DecryptError
                | Alert::AccessDenied),
            )) => write!(f, "the other side refused our certificate: {alert:?}"),
            Self::Rustls(error) => f.write_str(&reason(error)),
            Self::TooLarge => f.write_str("a TLS message is too large"),
            Self::Exhausted => f.write_str("the TLS session cannot send"),
            Self::Plaintext => f.write_str(
                "the other side does not speak TLS; give it a certificate (peer_cert, peer_key, peer_ca)",
            ),
        }
    }
}

impl std::error::Error for TlsError {}

/// What was wrong, in words for whoever has to put it right.
pub(super) fn reason(error: &rustls::Error) -> String {
    use rustls::{CertificateError, Error};
    match error {
        // Only our own verifiers make this one.
        Error::InvalidCertificate(CertificateError::Other(error)) => error.0.to_string(),
        // The second when two authorities have one name.
        Error::InvalidCertificate(
            error @ (CertificateError::UnknownIssuer | CertificateError::BadSignature),
        ) => {
            format!("the certificate is not signed by our authority ({error:?})")
        }
        error => error.to_string(),
    }
}

enum Side {
    Dialled(UnbufferedClientConnection),
    Accepted(UnbufferedServerConnection),
}

/// A TLS session of a link.
pub struct Session {
    side: Side,
    /// Received and not yet done with: at most an incomplete record or handshake message.
    received: Vec<u8>,
    /// Ciphertext for the other side; taken by [`Session::sealed`] and [`Session::advance`].
    sealed: Vec<u8>,
    sent: usize,
    heard: bool,
    /// Driven no more after a failure: rustls does not expect it.
    failed: bool,
}

/// What driving rustls is after.
enum Task<'a> {
    /// Take in what was received.
    Open(&'a mut BytesMut),
    /// Encrypt this.
    Seal(&'a [u8]),
}

impl Session {
    pub(super) fn dial(config: Arc<ClientConfig>, name: &str) -> Result<Self, rustls::Error> {
        let name = ServerName::try_from(name.to_owned()).expect("our names are DNS names");
        let mut session = Self::new(Side::Dialled(UnbufferedClientConnection::new(config, name)?));
        // The first flight; nothing was received that could be wrong.
        let _ = session.drive(Task::Open(&mut BytesMut::new()));
        Ok(session)
    }

    pub(super) fn accept(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        Ok(Self::new(Side::Accepted(UnbufferedServerConnection::new(config)?)))
    }

    fn new(side: Side) -> Self {
        Self { side, received: Vec::new(), sealed: Vec::new(), sent: 0, heard: false, failed: false }
    }

    /// Whether the handshake is done and data may be sent.
    pub fn is_established(&self) -> bool {
        match &self.side {
            Side::Dialled(connection) => !connection.is_handshaking(),
            Side::Accepted(connection) => !connection.is_handshaking(),
        }
    }

    /// Whom the other side's certificate names, once the handshake is done.
    pub fn peer_name(&self) -> Option<PeerName> {
        let certificates = match &self.side {
            Side::Dialled(connection) => connection.peer_certificates(),
            Side::Accepted(connection) => connection.peer_certificates(),
        };
        let own = certificates.filter(|_| self.is_established())?.first()?;
        PeerName::of_certificate(own).ok() // the verifiers let no other in
    }

    /// Ciphertext is appended here, then [`Session::open`] is called.
    pub(crate) fn received(&mut self) -> &mut Vec<u8> {
        &mut self.received
    }

    /// Decrypts what was received and appends it to `plaintext`. May make ciphertext to send, also on failure: the
    /// alert that tells the other side why. `false` if the other side said that it sends no more.
    ///
    /// # Errors
    /// [`TlsError`]; send what [`Session::sealed`] has and drop the link.
    pub(crate) fn open(&mut self, plaintext: &mut BytesMut) -> Result<bool, TlsError> {
        if !self.heard && !self.received.is_empty() {
            self.heard = true;
            // The first record is a handshake message or an alert (RFC 8446 §5.1); anything else is no TLS at all.
            if !matches!(self.received[0], 0x15 | 0x16) {
                return Err(TlsError::Plaintext);
            }
        }
        let is_open = self.drive(Task::Open(plaintext))?;
        if self.received.len() > TLS_TAIL_BYTES_MAX { Err(TlsError::TooLarge) } else { Ok(is_open) }
    }

    /// Encrypts for the other side; only when the session is established and [`Session::sealed`] is empty.
    ///
    /// # Errors
    /// [`TlsError`].
    pub(crate) fn seal(&mut self, plaintext: &[u8]) -> Result<(), TlsError> {
        assert!(self.sealed.is_empty(), "sealed one after the other, so that what waits is bounded");
        self.drive(Task::Seal(plaintext)).map(drop)
    }

    /// Ciphertext that waits for the socket.
    pub(crate) fn sealed(&self) -> &[u8] {
        &self.sealed[self.sent..]
    }

    /// The socket took this much of it.
    pub(crate) fn advance(&mut self, written: usize) {
        self.sent += written;
        assert!(self.sent <= self.sealed.len(), "nobody writes more than there is");
        if self.sent == self.sealed.len() {
            self.sent = 0;
            self.sealed.clear();
        }
    }

    /// Gives the buffers of a session at rest back.
    pub(crate) fn release(&mut self) {
        if self.sealed.is_empty() {
            self.sealed = Vec::new();
        }
        if self.received.is_empty() {
            self.received = Vec::new();
        }
    }

    fn drive(&mut self, task: Task<'_>) -> Result<bool, TlsError> {
        if self.failed {
            return Err(TlsError::Exhausted);
        }
        let mut received = std::mem::take(&mut self.received);
        let (used, outcome) = match &mut self.side {
            Side::Dialled(connection) => drive(connection, &mut received, task, &mut self.sealed),
            Side::Accepted(connection) => drive(connection, &mut received, task, &mut self.sealed),
        };
        received.drain(..used);
        self.received = received;
        self.failed = outcome.is_err();
        outcome
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("is_established", &self.is_established()).finish_non_exhaustive()
    }
}

/// Both kinds of rustls's connections have this method, but no trait.
trait Records {
    type Data;
    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
}

impl Records for UnbufferedClientConnection {
    type Data = ClientConnectionData;
    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(input)
    }
}

impl Records for UnbufferedServerConnection {
    type Data = ServerConnectionData;
    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(input)
    }
}

/// Runs rustls until it needs more input or the task is done. Returns the bytes of `input` it is done with.
fn drive<R: Records>(
    records: &mut R,
    input: &mut [u8],
    mut task: Task<'_>,
    sealed: &mut Vec<u8>,
) -> (usize, Result<bool, TlsError>) {
    let (mut used, mut is_open) = (0, true);
    loop {
        let UnbufferedStatus { mut discard, state } = records.process(&mut input[used..]);
        let done = match (state, &mut task) {
            (Ok(ConnectionState::ReadTraffic(mut traffic)), Task::Open(plaintext)) => {
                while let Some(Ok(record)) = traffic.next_record() {
                    discard += record.discard;
                    plaintext.extend_from_slice(record.payload);
                }
                None
            }
            (Ok(ConnectionState::EncodeTlsData(mut data)), _) => {
                append(sealed, |out| data.encode(out)).err().map(Err)
            }
            (Ok(ConnectionState::TransmitTlsData(data)), _) => {
                data.done(); // it lies in `sealed`, whose order is kept
                None
            }
            (Ok(ConnectionState::WriteTraffic(mut traffic)), Task::Seal(plaintext)) => {
                Some(append(sealed, |out| traffic.encrypt(plaintext, out)).map(|()| is_open))
            }
            (Ok(ConnectionState::PeerClosed), _) => {
                is_open = false;
                None
            }
            (Ok(ConnectionState::Closed), _) => Some(Ok(false)),
            (Ok(ConnectionState::WriteTraffic(_) | ConnectionState::BlockedHandshake), Task::Open(_)) => {
                Some(Ok(is_open))
            }
            // Not established, or data that `open` should have taken out; early data is never accepted.
            (Ok(_), _) => Some(Err(TlsError::Exhausted)),
            (Err(error), _) => {
                alert(records, &mut input[used + discard..], sealed);
                Some(Err(TlsError::Rustls(error)))
            }
        };
        used += discard;
        if let Some(outcome) = done {
            return (used, outcome);
        }
    }
}

/// After a failure: the alert that tells the other side why, if there is one. One call and no more: rustls hands out
/// what it has to send before it looks at the input, and another call would read the bad input a second time.
fn alert<R: Records>(records: &mut R, rest: &mut [u8], sealed: &mut Vec<u8>) {
    if let Ok(ConnectionState::EncodeTlsData(mut data)) = records.process(rest).state {
        let _ = append(sealed, |out| data.encode(out)); // without it the other side sees the end alone
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
    let mut room = 0;
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
