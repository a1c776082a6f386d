//! What a command came to at apply.

use throng_wire::code::Code;
use throng_wire::frame::ChannelClass;
use throng_wire::ids::{MemberNo, Seq, ServerTs};

/// The result of one command, the same on every replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A send has its number.
    Published {
        /// Its number.
        seq: Seq,
        /// Its stamp.
        ts: ServerTs,
        /// Stored by an earlier try.
        duplicate: bool,
    },
    /// A channel was made or its members changed, or were as asked already.
    Channel {
        /// Its class.
        class: ChannelClass,
        /// Its head, as the member may see it.
        head: Seq,
        /// The member it was about.
        member: MemberNo,
    },
    /// The command changed nothing, for this reason.
    Refused(Code),
    /// A command between shards was carried out.
    Done,
}
