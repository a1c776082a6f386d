//! What a channel's shard sends to users' shards.

use throng_base::Key;
use throng_storage_core::state::StateRead;
use throng_wire::ids::{ChannelId, Seq, ShardId};
use throng_wire::peer::InboxRow;

use super::Machines;
use crate::fatal::Fatal;
use crate::limits::OUTBOX_BATCH_ROWS;
use crate::outbox::Row;

/// Inbox rows, and the channels they are about with the heads they tell.
pub type Unsent = (Vec<InboxRow>, Vec<(ChannelId, Seq)>);

/// Unsent rows for one shard, as of now.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    pub(crate) rows: Vec<InboxRow>,
    /// The channels they are about, each with the head that the rows tell.
    pub(crate) channels: Vec<(ChannelId, Seq)>,
}

impl<S: StateRead> Machines<S> {
    /// Collects unsent rows of `from` for `dest`, beginning behind `after`. A channel's rows are never split, so a
    /// batch exceeds [`OUTBOX_BATCH_ROWS`] by at most one channel.
    pub(crate) fn outgoing(
        &mut self,
        from: ShardId,
        dest: ShardId,
        after: ChannelId,
    ) -> Result<Outgoing, Fatal> {
        let unsent = self.shard(from).outbox.unsent(dest, after);
        let unsent: Vec<(ChannelId, Row)> =
            unsent.take(OUTBOX_BATCH_ROWS).map(|(channel, row)| (channel, row.clone())).collect();
        let mut outgoing = Outgoing::default();
        for (channel, row) in unsent {
            if outgoing.rows.len() >= OUTBOX_BATCH_ROWS {
                break;
            }
            let Some(key) = self.find_channel(&channel)? else {
                return Err(Fatal::corrupt_row("outbox: no such channel"));
            };
            self.add_rows(key, dest, &row, &mut outgoing);
        }
        Ok(outgoing)
    }

    /// What a shard would send to another one now, beginning with its lowest channel: rows, and the channels they are
    /// about with the heads they tell. `None` if nothing is unsent. For tests and tools.
    ///
    /// # Errors
    /// [`Fatal`] if the state store cannot be read.
    pub fn unsent(&mut self, from: ShardId, dest: ShardId) -> Result<Option<Unsent>, Fatal> {
        let Outgoing { rows, channels } = self.outgoing(from, dest, ChannelId::NIL)?;
        Ok((!channels.is_empty()).then_some((rows, channels)))
    }

    fn add_rows(&self, key: Key, dest: ShardId, unsent: &Row, outgoing: &mut Outgoing) {
        let channel = self.channels.get(key).expect("it was found");
        let row = |user, head, count| InboxRow { user, channel: channel.id, head, count };
        let present = channel.members.iter_present().filter(|_| unsent.all_from.is_some());
        let at_dest = present.filter(|(_, record)| channel.dest_of(&record.user) == dest);
        outgoing.rows.extend(at_dest.map(|(_, record)| row(record.user, channel.head, channel.messages)));
        for &(member, _) in &unsent.members {
            let record = channel.members.given(member);
            // A former member learns of its LEFT event and of nothing after it (contract C7).
            let (head, count) =
                record.left.map_or((channel.head, channel.messages), |left| (left.seq, left.messages));
            outgoing.rows.push(row(record.user, head, count));
        }
        outgoing.channels.push((channel.id, channel.head));
    }
}
