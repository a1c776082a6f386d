//! Bytes of an incomplete unit, kept until the rest arrives.

/// What a session keeps between two reads when one ended in the middle of something. Freed as soon as both are empty.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    /// Undecoded bytes of the transport: an HTTP head, or a WebSocket header or control frame that is not whole.
    pub(crate) raw: Vec<u8>,
    /// The beginning of a frame whose rest is still to come, in the clear.
    pub(crate) frame: Vec<u8>,
}

impl Tail {
    pub(crate) fn len(&self) -> usize {
        self.raw.len() + self.frame.len()
    }
}
