//! Limits of the router's core, with their arithmetic. Those marked *replicated* decide what an entry does at apply:
//! every replica must agree on them, so changing one is a change of the machine version
//! ([`crate::entry::VERSION`]), never of a configuration.

use throng_wire::frame::ChannelClass;
use throng_wire::limits::{BODY_MAX_CAP, INFLIGHT_PER_CHANNEL_MAX};

// ---- replicated ----------------------------------------------------------------------------------------------------

/// Sends that a channel remembers per device (contract C3). *Replicated.*
pub const REMEMBERED_PER_DEVICE: usize = 16;

/// Present members up to which every event moves each member's inbox row. *Replicated.*
pub const INBOX_FANOUT_MEMBERS_MAX: usize = 500;

/// Present members of a group. A loaded channel keeps its members in memory: 10,000 × about 100 bytes = 1 MB.
/// *Replicated.*
pub const GROUP_MEMBERS_MAX: usize = 10_000;

/// Present members of an open channel; same arithmetic. *Replicated.*
pub const OPEN_MEMBERS_MAX: usize = 10_000;

/// Users that ever were members of one channel: numbers are never given to another user, so their rows stay.
/// *Replicated.*
pub const MEMBERS_EVER_MAX: usize = 40_000;

/// Devices of one member that a channel keeps records of; about 300 bytes each. *Replicated.*
pub const DEVICES_PER_MEMBER_MAX: u16 = 1_024;

/// Inbox rows of one user; above it the row that moved longest ago goes. *Replicated.*
pub const INBOX_ROWS_MAX: usize = 20_000;

/// Events by which one command raises a channel's floor at most: each replica reads them at apply, to carry the chain up
/// to the new floor. 512 rows are some 100 KiB at 200 bytes. *Replicated.*
pub const RETAIN_EVENTS_MAX: u64 = 512;

/// Nodes of a cluster that are not gone. *Replicated.*
pub const META_NODES_MAX: usize = 256;

/// Rows of gone nodes that the registry keeps, for whoever asks. *Replicated.*
pub const META_GONE_KEPT: usize = 64;

/// Replicas of a shard: a joint configuration of two such sets fits into the 15 members of a group. *Replicated.*
pub const META_REPLICAS_MAX: usize = 7;

/// The highest node number: a Raft id keeps 24 bits for it. *Replicated.*
pub const NODE_ID_MAX: u64 = throng_storage_core::entry::PeerId::NODE_MAX;

/// Bytes of a zone or of a certificate's name.
pub const META_NAME_MAX: usize = 128;

const _: () = assert!(2 * META_REPLICAS_MAX <= throng_storage_core::entry::MEMBERS_MAX);

/// Largest time stamp: 2⁴⁸ − 1 milliseconds, the year 10889. *Replicated.*
pub const TS_MAX: u64 = (1 << 48) - 1;

/// Present members that a channel of a class may have. *Replicated.*
pub fn members_max(class: ChannelClass) -> usize {
    match class {
        ChannelClass::Direct => 2,
        ChannelClass::Group => GROUP_MEMBERS_MAX,
        ChannelClass::Open => OPEN_MEMBERS_MAX,
    }
}

// ---- entries -------------------------------------------------------------------------------------------------------

/// Commands in one Raft entry.
pub const ENTRY_COMMANDS_MAX: usize = 4_096;

/// Bytes of commands after which an entry is sealed: one Raft message's worth.
pub const ENTRY_BYTES_SOFT: usize = 1024 * 1024;

/// Largest entry: sealed at the soft limit, so at most one largest command above it, which is a full inbox update (16 +
/// 16 + 10 + 10 bytes a row): 3.1 MiB.
pub const ENTRY_BYTES_MAX: usize = ENTRY_BYTES_SOFT + INBOX_UPDATE_ROWS_MAX * 52 + 64;

// ---- a shard's queues (on its leader) --------------------------------------------------------------------------------

/// Entries of one shard that are proposed and not yet applied. While they are under way, further commands gather into
/// one larger entry: batches grow with load, latency does not.
pub const PROPOSALS_INFLIGHT_MAX: usize = 4;

/// How long commands gather at most while an entry of their shard is under way: a little more than a commit takes on a
/// local disk under load, and little beside a commit between sites. A large entry does not wait.
pub const GATHER_MAX: core::time::Duration = core::time::Duration::from_millis(5);

/// Commands of one shard that wait to be proposed; above it BUSY.
pub const QUEUE_COMMANDS_MAX: usize = 65_536;

/// Bytes of commands of one shard that wait to be proposed; above it BUSY.
pub const QUEUE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Unanswered commands of one channel; above it BUSY, so that a hot channel leaves room for the others.
pub const CHANNEL_COMMANDS_MAX: u32 = 8_192;

/// Reads of one shard that wait for their read index; above it BUSY.
pub const READS_MAX: usize = 65_536;

/// Read-index rounds of one shard under way; further reads gather into the next.
pub const READ_ROUNDS_MAX: usize = 2;

/// Suggested wait after BUSY, milliseconds.
pub const BUSY_RETRY_MS: u32 = 50;

/// Suggested wait after UNAVAILABLE when no other leader is known, milliseconds: about an election.
pub const UNAVAILABLE_RETRY_MS: u32 = 100;

// ---- soft state ------------------------------------------------------------------------------------------------------

/// Gateway links of one node.
pub const GATEWAYS_MAX: usize = 4_096;

/// Sessions registered at one node. 2²¹ × at most 300 bytes = 600 MB.
pub const SESSIONS_MAX: usize = 1 << 21;

/// Sessions of one user that hints go to; above it LIMIT.
pub const SESSIONS_PER_USER_MAX: usize = 64;

/// (gateway, channel) subscriptions at one node.
pub const SUBSCRIPTIONS_MAX: usize = 1 << 21;

// ---- memory and write-behind -----------------------------------------------------------------------------------------

/// Bytes of recent events kept in memory, all channels together.
pub const EVENT_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Bytes of decoded objects kept in memory, by estimate.
pub const OBJECT_BYTES_MAX: usize = 512 * 1024 * 1024;

/// Bytes applied but not flushed above which sends are BUSY: the state store does not keep up.
pub const UNFLUSHED_BYTES_MAX: usize = 192 * 1024 * 1024;

/// Flush batches cut and not yet flushed. With [`FLUSH_BYTES`] each that is 64 MiB; beyond it changes gather in memory
/// up to [`UNFLUSHED_BYTES_MAX`].
pub const FLUSHES_UNDER_WAY_MAX: usize = 16;

/// A flush batch is cut at this many bytes,
pub const FLUSH_BYTES: usize = 4 * 1024 * 1024;
/// or at this many dirty rows,
pub const FLUSH_ROWS: usize = 20_000;
/// or when the oldest change is this old, milliseconds.
pub const FLUSH_AGE_MS: u64 = 1_000;

// ---- outbox between shards -------------------------------------------------------------------------------------------

/// User rows in one inbox update: 1,024 × 48 bytes = 48 KiB.
pub const OUTBOX_BATCH_ROWS: usize = 1_024;

/// User rows in an update that is accepted: a full batch and one more channel, all of whose members joined or left.
pub const INBOX_UPDATE_ROWS_MAX: usize = OUTBOX_BATCH_ROWS + MEMBERS_EVER_MAX;

/// How long moved rows gather before they are sent, milliseconds. Online delivery does not wait for them.
pub const OUTBOX_LINGER_MS: u64 = 20;

/// A shard's outbox is drained at most this often, milliseconds: under load each drain serves more events, because a
/// channel costs one row per member however often it moved. A lone event waits for the linger only.
pub const OUTBOX_PAUSE_MS: u64 = 100;

/// An update that nobody answered is sent again after this, milliseconds.
pub const OUTBOX_RESEND_MS: u64 = 1_000;

/// Outbox pairs (from, to) drained per turn.
pub const OUTBOX_DRAINS_PER_TURN: usize = 256;

// ---- checks and retention --------------------------------------------------------------------------------------------

/// Rows that one step of a check reads: some 100 KiB and about a millisecond.
pub const VERIFY_ROWS: usize = 512;

/// Channels that one turn of retention looks at: a seek and a row each, so about a millisecond of cold reads.
pub const RETENTION_CHANNELS: usize = 32;

/// Commands that one turn of retention proposes; applying one reads [`RETAIN_EVENTS_MAX`] events at most.
pub const RETENTION_COMMANDS: usize = 8;

/// Commands of retention that are queued or proposed on a node; above it a turn is left out.
pub const RETENTION_UNDER_WAY_MAX: usize = 4 * RETENTION_COMMANDS;

/// How often a turn of retention comes, milliseconds: 320 channels a second at a hundredth of the loop's time, a million
/// in an hour; and at most 80 commands a second, 40,000 events.
pub const RETENTION_PAUSE_MS: u64 = 100;

/// A checkpoint that is not reached within this is given up,
pub const CHECKPOINT_WAIT_MAX: core::time::Duration = core::time::Duration::from_secs(2);
/// and one that is reached keeps later batches back for this at most.
pub const CHECKPOINT_HOLD_MAX: core::time::Duration = core::time::Duration::from_secs(1);

// ---- snapshots -------------------------------------------------------------------------------------------------------

/// Snapshots that a node sends at the same time. Each holds a view of the state store open.
pub const SNAPSHOTS_OUT_MAX: usize = 2;

/// Snapshots that a node receives at the same time.
pub const SNAPSHOTS_IN_MAX: usize = 4;

/// Bytes of rows in one chunk: far below a peer frame, so that Raft messages never wait long behind one.
pub const SNAPSHOT_CHUNK_BYTES: usize = 256 * 1024;

/// Chunks of one snapshot that are sent and not yet written: 8 × 256 KiB = 2 MiB in memory at either end.
pub const SNAPSHOT_WINDOW: usize = 8;

/// A snapshot that does not move is offered again after this,
pub const SNAPSHOT_OFFER_AGAIN: core::time::Duration = core::time::Duration::from_secs(1);
/// and given up after this. A broken link is dialled again within a second.
pub const SNAPSHOT_IDLE_MAX: core::time::Duration = core::time::Duration::from_secs(10);

const _: () =
    assert!(BODY_MAX_CAP < INBOX_UPDATE_ROWS_MAX * 52, "a send is smaller than the largest command");
const _: () =
    assert!(REMEMBERED_PER_DEVICE >= INFLIGHT_PER_CHANNEL_MAX, "a retry of any send in flight is remembered");
const _: () =
    assert!(UNFLUSHED_BYTES_MAX < EVENT_BYTES_MAX, "unflushed events cannot be evicted, so they must fit");
const _: () = assert!(FLUSHES_UNDER_WAY_MAX * FLUSH_BYTES <= UNFLUSHED_BYTES_MAX);
const _: () = assert!(INBOX_FANOUT_MEMBERS_MAX <= OUTBOX_BATCH_ROWS, "one channel's rows fit one update");
const _: () = assert!(GROUP_MEMBERS_MAX <= MEMBERS_EVER_MAX && OPEN_MEMBERS_MAX <= MEMBERS_EVER_MAX);

/// How often a node compares the metadata with what is: its own row, the members of groups that it leads.
pub const META_EVERY: core::time::Duration = core::time::Duration::from_millis(200);

/// The same behind a change of members or of a leader.
pub const META_SOON: core::time::Duration = core::time::Duration::from_millis(20);

/// How long an answer of the metadata group's leader is waited for.
pub const META_ANSWER_MAX: core::time::Duration = core::time::Duration::from_secs(3);

/// Commands of the metadata group that a node waits for, as their leader and as who asks.
pub const META_WAITING_MAX: usize = 256;

/// Shards whose members are compared with the map at a time.
pub const RECONCILE_SHARDS: usize = 64;

/// Shards that this node gives a new replica at the same time: each costs a snapshot.
pub const RECONCILE_MOVES_MAX: usize = SNAPSHOTS_OUT_MAX;
