//! What can go wrong, by whose fault.

use core::fmt;
use std::io;

use throng_client_core::{EndpointError, Reason, RequestError};
use throng_wire::Code;

/// Why there is no client.
#[derive(Debug)]
pub enum ConnectError {
    /// No endpoint was given.
    NoEndpoint,
    /// A URL is no endpoint.
    Endpoint(EndpointError),
    /// Trusted certificates could not be read.
    Roots(io::Error),
    /// The operating system refused a socket or its randomness.
    System(io::Error),
    /// The token was refused.
    Token(Code),
    /// No session came about in time; the last attempt failed like this.
    Failed(Option<Reason>),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoEndpoint => f.write_str("no endpoint to connect to"),
            Self::Endpoint(error) => error.fmt(f),
            Self::Roots(error) => write!(f, "cannot read trusted certificates: {error}"),
            Self::System(error) => write!(f, "the system refused: {error}"),
            Self::Token(code) => write!(f, "token refused: {code}"),
            Self::Failed(Some(reason)) => write!(f, "cannot connect: {reason}"),
            Self::Failed(None) => f.write_str("cannot connect in time"),
        }
    }
}

impl core::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Roots(error) | Self::System(error) => error.source(),
            Self::NoEndpoint | Self::Endpoint(_) | Self::Token(_) | Self::Failed(_) => None,
        }
    }
}

/// Why an operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The server refused it for good. A send refused with [`Code::UNKNOWN_OUTCOME`] may be in the history.
    Refused(Code),
    /// The cursor cannot be continued; history starts over (contract C5).
    Reset {
        /// Current epoch.
        epoch: throng_wire::Epoch,
        /// Oldest event that can be fetched.
        floor: throng_wire::Seq,
    },
    /// No final answer in time; asking again is safe.
    Timeout,
    /// Too much is unanswered.
    Full,
    /// The client is closed. A send may still be in its saved outbox.
    Closed,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(code) => write!(f, "refused: {code}"),
            Self::Reset { epoch, floor } => write!(f, "history starts at {floor} of epoch {epoch}"),
            Self::Timeout => f.write_str("no answer in time"),
            Self::Full => f.write_str("too much is unanswered"),
            Self::Closed => f.write_str("the client is closed"),
        }
    }
}

impl core::error::Error for Error {}

impl From<RequestError> for Error {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Refused(code) => Self::Refused(code),
            RequestError::Reset { epoch, floor } => Self::Reset { epoch, floor },
            RequestError::Timeout => Self::Timeout,
            RequestError::Closed => Self::Closed,
        }
    }
}
