//! What a gateway loop wants done.

use throng_base::Key;
use throng_wire::link::ToRouter;
use throng_wire::{Code, NodeId};

/// An effect for the driver to carry out. Match it without a `_` arm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// The outbox has bytes: take them with [`crate::Gateway::chunks`] and [`crate::Gateway::handle_written`] (or
    /// [`crate::Gateway::pull`]) until it is empty or the transport takes no more, then again when it is writable.
    /// Named once until it has been polled, however much is queued meanwhile.
    Write {
        /// Whose.
        session: Key,
    },
    /// The session is over: send what its outbox holds, then close the transport (TCP: shut down writing and read to
    /// the end; QUIC: close with the code as application error), then call [`crate::Gateway::handle_disconnect`].
    Close {
        /// Whose.
        session: Key,
        /// Why.
        code: Code,
    },
    /// It took too long to do so: drop the transport, then call [`crate::Gateway::handle_disconnect`].
    Abort {
        /// Whose.
        session: Key,
    },
    /// Verify the token and call [`crate::Gateway::handle_authenticated`], at once or later.
    Authenticate {
        /// Whose.
        session: Key,
        /// The token, as it came.
        token: Vec<u8>,
    },
    /// Send this on the link to a node that is up; messages to one node keep their order.
    ToRouter {
        /// The node.
        node: NodeId,
        /// The message.
        message: ToRouter,
    },
}
