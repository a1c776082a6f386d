//! What a device keeps to survive its own restart.

use bytes::Bytes;
use throng_wire::{ChannelId, ClientMsgId, Epoch, EventKind, Seq, UserSeq};

/// A position in a channel's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Cursor {
    /// The last event handed to the user.
    pub after: Seq,
    /// History it belongs to; `None` = whichever is current when it is first used.
    pub epoch: Option<Epoch>,
}

impl Cursor {
    /// A position in whichever history is current.
    pub fn after(after: Seq) -> Self {
        Self { after, epoch: None }
    }
}

/// A send in the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedSend {
    /// Where to.
    pub channel: ChannelId,
    /// Its number.
    pub client_msg_id: ClientMsgId,
    /// What it is.
    pub kind: EventKind,
    /// The content.
    pub body: Bytes,
    /// It has its answer, and is kept without its content only because an earlier send of the channel has none: the
    /// window of unacknowledged sends is counted from that one.
    pub answered: bool,
}

/// The outbox and the cursors of a device. Save it together with what was handed to the user; a device that lost it
/// needs a new device id (contract C3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedState {
    /// The next send gets at least this number.
    pub next_client_msg_id: ClientMsgId,
    /// Inbox cursor.
    pub user_seq: UserSeq,
    /// History epoch of the inbox cursor.
    pub inbox_epoch: Option<Epoch>,
    /// Subscribed channels and where the user is in them.
    pub cursors: Vec<(ChannelId, Cursor)>,
    /// The outbox, by rising number within each channel.
    pub sends: Vec<SavedSend>,
}

impl Default for SavedState {
    /// A device that has never sent or read anything.
    fn default() -> Self {
        Self {
            next_client_msg_id: ClientMsgId(1),
            user_seq: UserSeq(0),
            inbox_epoch: None,
            cursors: Vec::new(),
            sends: Vec::new(),
        }
    }
}
