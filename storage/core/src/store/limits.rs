//! Every limit of the store, with its arithmetic. The reference machine has 64 groups on 3 nodes.

use core::time::Duration;

/// The largest entry that may be proposed. One entry carries many commands; the peer frame limit is 64 MiB.
pub const ENTRY_BYTES_MAX: usize = 4 << 20;

/// Bytes of entries in one append message while a follower catches up (raft's `max_size_per_msg`).
pub const APPEND_BYTES_MAX: u64 = 256 << 10;

/// Append messages in flight to one follower of one group. 32 × 256 KiB = 8 MiB per group and follower.
pub const APPENDS_IN_FLIGHT_MAX: usize = 32;

/// Entries a leader may hold that are not committed, in payload bytes per group; beyond it proposals are `Busy`.
/// The messages of one turn are batched into one append, so this bounds an append too.
pub const UNCOMMITTED_BYTES_MAX: u64 = 8 << 20;

/// Committed entries handed out in one `Ready` of one group, in bytes.
pub const COMMITTED_BYTES_PER_READY_MAX: u64 = 4 << 20;

/// Proposals of one group whose outcome is open; beyond it proposals are `Busy`. One turn makes one entry per shard,
/// so this is far above what a group commit of a few milliseconds gathers.
pub const PROPOSALS_MAX: usize = 4096;

/// Linearizable reads of one group that wait; beyond it reads are `Busy`.
pub const READS_MAX: usize = 4096;

/// Read rounds of one group that wait for a quorum at the same time; reads of later turns wait for the next round.
pub const READ_ROUNDS_MAX: usize = 4;

/// Group commits handed to the log and not yet reported durable. The log merges what it finds queued into one write,
/// so a few suffice to keep it busy; the rest gathers in the open one.
pub const PERSISTS_IN_FLIGHT_MAX: usize = 8;

/// Entries that were handed out and not yet applied, per group. A follower above it accepts no more entries (raft
/// 0.7.0 reads all of them at once before it campaigns).
pub const UNAPPLIED_MAX: u64 = 65_536;

/// Bytes of entries kept in memory over all groups, so that followers that are a little behind never cause a read of
/// the log. Entries that are not applied stay beyond it: they are bounded per group by the limits above.
pub const TAIL_BYTES_MAX: usize = 64 << 20;

/// `Ready`s of one group handled in one turn; what is left waits for the next turn, so that no group starves others.
pub const READIES_PER_TURN_MAX: usize = 16;

/// Bytes at which a batch of messages to one node is closed. A batch is at most this plus one message.
pub const BATCH_BYTES: usize = throng_wire::limits::PEER_BATCH_TARGET;

/// Messages at which a batch to one node is closed, whatever their size.
pub const BATCH_MESSAGES_MAX: usize = 4096;

const _: () = assert!(BATCH_MESSAGES_MAX <= throng_wire::limits::PEER_BATCH_MESSAGES_MAX);

/// Bytes of context in a message: a read round's number, or the mark of a campaign (16 bytes).
pub const CONTEXT_BYTES_MAX: usize = 64;

/// Ticks made up at once after a pause of the thread. More would let a leader that was merely paused depose itself
/// before it has read the answers that wait in its sockets.
pub const TICKS_AT_ONCE_MAX: u32 = 4;

/// How often the range of election time-outs doubles after failed elections: from 0.36–0.72 s to 2.9–5.8 s, in which two syncs
/// fit of a disk that counts as working ([`PERSIST_STALL`]).
pub const ELECTION_DOUBLINGS_MAX: u32 = 3;

/// The highest term a message may carry: one election a millisecond for 8,900 years.
pub const TERM_MAX: u64 = 1 << 48;

/// The highest log index a message may carry: a billion entries a second for two years.
pub const INDEX_MAX: u64 = 1 << 56;

/// Voters of a group: votes and acknowledgements are counted in small maps.
pub const VOTERS_MAX: usize = 15;

/// How far behind, in entries, a learner may be to be given a vote: within it a group commit or two catches it up.
pub const PROMOTE_LAG_MAX: u64 = 4096;

/// Shortest election time-outs after which a learner that hears no leader asks whether it is still a member.
pub const LEARNER_PATIENCE: usize = 8;

/// How long a leader without a vote in the new configuration tries to hand over before it ends the joint change itself.
pub const LEAVE_PATIENCE: Duration = Duration::from_secs(5);

/// Bytes of entries per group that stay in the log for followers that are behind, beyond what a restart needs.
pub const LOG_KEEP_BYTES: u64 = 16 << 20;

/// Entries per group that stay for followers that are behind, however small they are.
pub const LOG_KEEP_ENTRIES: u64 = 100_000;

/// How long a view for a snapshot may take to be opened before raft is free to ask again.
pub const SNAPSHOT_PREPARE_MAX: Duration = Duration::from_secs(60);

/// How long a snapshot may be on its way: 1 GiB at 1 MiB/s, twice.
pub const SNAPSHOT_SEND_MAX: Duration = Duration::from_secs(2048);

/// How long a follower may take to answer once its snapshot was reported as taken; the log waits for it that long.
pub const SNAPSHOT_ANSWER_MAX: Duration = Duration::from_secs(10);

/// The copy of the state that nobody has: replicas that wait for their first snapshot, or that were removed.
pub const NO_REPLICA: u32 = u32::MAX;

/// Nodes that are remembered as alive or not; a cluster is far smaller.
pub const NODES_MAX: usize = 1024;

/// How long a leader and its group's preferred node must have been stable before leadership moves there.
pub const BALANCE_AFTER: Duration = Duration::from_secs(2);

/// One transfer of leadership for balance per node and interval: 20 groups move in 5 s.
pub const BALANCE_EVERY: Duration = Duration::from_millis(250);

/// How far behind, in entries, a node may be to be given leadership for balance.
pub const BALANCE_LAG_MAX: u64 = 1024;

/// How long a group refuses proposals while it waits for the open ones before it gives leadership away.
pub const DRAIN_MAX: Duration = Duration::from_millis(300);

/// A leadership that balance hands over has moved within this, or the other node did not want it,
pub const BALANCE_MOVED: Duration = Duration::from_secs(2);
/// and is offered none for this long.
pub const BALANCE_AVOID: Duration = Duration::from_secs(30);

/// How often a node that would rather not lead tries to give its leaderships away.
pub const RELUCTANT_EVERY: Duration = Duration::from_secs(2);

/// A group commit that takes longer means a hung disk: the node gives its leaderships away.
pub const PERSIST_STALL: Duration = Duration::from_secs(2);

const _: () = assert!(APPEND_BYTES_MAX <= UNCOMMITTED_BYTES_MAX, "raft refuses a configuration without this");
const _: () = assert!(ENTRY_BYTES_MAX as u64 <= UNCOMMITTED_BYTES_MAX, "the largest entry must fit");
const _: () = assert!(
    UNCOMMITTED_BYTES_MAX as usize * 2 + BATCH_BYTES <= throng_wire::limits::PEER_FRAME_MAX,
    "a batch with the largest append must fit into a peer frame"
);
