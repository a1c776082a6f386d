//! The command line, defined once.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Chat and realtime messaging backbone.
#[derive(Debug, Parser)]
#[command(name = "throng", version, about, max_term_width = 100)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve: all roles in one process on embedded defaults, unless told otherwise.
    Serve(Box<ServeArgs>),
    /// Run a local cluster of real processes.
    Cluster {
        /// What to do with it.
        #[command(subcommand)]
        command: ClusterCommand,
    },
    /// Issue a signed token for a user, from the key in the data directory.
    Token(TokenArgs),
    /// Talk with somebody from the terminal.
    Chat(ChatArgs),
    /// Send one message and print its number.
    Send(SendArgs),
    /// Print messages as they arrive.
    Tail(TailArgs),
    /// Print the messages of a conversation.
    History(HistoryArgs),
    /// Write a backup of everything a node has applied, into a new directory on that node's machine.
    Backup(BackupArgs),
    /// Make the data directory of a new node from a backup.
    Restore(RestoreArgs),
    /// Compare all replicas of every shard, and check every checksum on the nodes' disks.
    Verify(VerifyArgs),
    /// Legal hold: keep everything in a channel, whatever retention says, or no longer.
    Hold(HoldArgs),
    /// Say that suspect replicas forgot nothing, where the nodes that could clear them never come back.
    Acquit(AcquitArgs),
    /// Show how a node is doing.
    Status(StatusArgs),
    /// Show what this machine allows: descriptors, and the time a sync takes.
    Doctor(DoctorArgs),
    /// Deliver one message from a WebSocket to a QUIC user through a fresh node, print it and exit.
    Demo,
    /// Write the default configuration, with every setting explained.
    Config,
}

/// Roles of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Client sessions.
    Gateway,
    /// Shards: sequence, members, fan-out. Always together with storage.
    Router,
    /// Raft log and state. Always together with router.
    Storage,
}

/// Arguments of `throng serve`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ServeArgs {
    /// Configuration file (TOML); flags win over it.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Where the node keeps its data.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Client address: WebSocket on TCP, QUIC on UDP, the same port number.
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
    /// Address for other nodes and gateways; off loopback only with `--peer-cert`, `--peer-key` and `--peer-ca`.
    #[arg(long, value_name = "ADDR")]
    pub(crate) peer_listen: Option<SocketAddr>,
    /// Address for health and status.
    #[arg(long, value_name = "ADDR")]
    pub(crate) ops_listen: Option<SocketAddr>,
    /// Roles of this process.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "ROLE,…")]
    pub(crate) role: Option<Vec<Role>>,
    /// Peer addresses of a running cluster that this node joins; with `--role gateway`, of all its routers.
    #[arg(long, value_delimiter = ',', value_name = "ADDR,…")]
    pub(crate) join: Option<Vec<SocketAddr>>,
    /// What the node shares a fate with (rack, room): replicas of a shard avoid the same one.
    #[arg(long, value_name = "NAME")]
    pub(crate) zone: Option<String>,
    /// This node's number; a node that joins gets one.
    #[arg(long, value_name = "N")]
    pub(crate) node_id: Option<u64>,
    /// The nodes that a cluster begins with and their peer addresses, for instance `1=127.0.0.1:4401,2=127.0.0.1:4411`.
    #[arg(long, value_delimiter = ',', value_name = "N=ADDR,…")]
    pub(crate) peers: Option<Vec<String>>,
    /// Cluster id (32 hexadecimal digits); a new single node draws its own.
    #[arg(long, value_name = "HEX")]
    pub(crate) cluster_id: Option<String>,
    /// Number of shards; fixed when the data directory is formatted.
    #[arg(long, value_name = "N")]
    pub(crate) shards: Option<u32>,
    /// Directory of the token key and the development certificate; by default `keys` in the data directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) keys: Option<PathBuf>,
    /// TLS certificate chain (PEM) for wss and QUIC; without it a development certificate is made.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// TLS private key (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// This process's certificate (PEM) for mutual TLS with other nodes: names it `node-N.CLUSTER.throng`, or
    /// `gateway.CLUSTER.throng` for a gateway of its own. Looked at again every few seconds.
    #[arg(long, value_name = "FILE", requires_all = ["peer_key", "peer_ca"])]
    pub(crate) peer_cert: Option<PathBuf>,
    /// Private key of `--peer-cert` (PEM).
    #[arg(long, value_name = "FILE", requires_all = ["peer_cert", "peer_ca"])]
    pub(crate) peer_key: Option<PathBuf>,
    /// Certificates of the private authorities that sign peer certificates (PEM).
    #[arg(long, value_name = "FILE", requires_all = ["peer_cert", "peer_key"])]
    pub(crate) peer_ca: Option<PathBuf>,
    /// Write the bound addresses as JSON to this file once the node takes traffic.
    #[arg(long, value_name = "FILE")]
    pub(crate) ready_file: Option<PathBuf>,
    /// Also echo WebSocket messages on this address, for conformance suites.
    #[arg(long, value_name = "ADDR")]
    pub(crate) ws_echo: Option<SocketAddr>,
    /// Gateway loops; by default one per core.
    #[arg(long, value_name = "N")]
    pub(crate) loops: Option<usize>,
    /// Stop when the parent process ends (for supervisors).
    #[arg(long)]
    pub(crate) exit_with_parent: bool,
}

/// `throng cluster …`.
#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Start a cluster of real processes on this machine and stay in the foreground until interrupted.
    Start(ClusterStartArgs),
    /// Add a node to a local cluster: lays it out, joins and stays in the foreground until interrupted.
    Join(ClusterJoinArgs),
    /// Show the nodes of a cluster and where its shards are.
    Nodes(ClusterOpsArgs),
    /// Take a node, dead or alive, out of a cluster: moves its shards to others and waits until they are there.
    Leave(ClusterLeaveArgs),
    /// Keep a node that was to leave: it takes shards again.
    Stay(ClusterLeaveArgs),
    /// Move one replica of a shard to another node.
    Move(ClusterMoveArgs),
    /// Lay all shards out over the active nodes, with as few moves as possible.
    Balance(ClusterBalanceArgs),
    /// Make new certificates for the links between nodes; a running cluster takes them over within seconds.
    Certs(ClusterCertsArgs),
}

/// Arguments of `throng cluster join`.
#[derive(Debug, Args)]
pub(crate) struct ClusterJoinArgs {
    /// Directory of the local cluster that `throng cluster start` laid out and runs.
    #[arg(long, value_name = "DIR", default_value = "throng-cluster")]
    pub(crate) data_dir: PathBuf,
    /// First port of the node: clients, other nodes and operations on three in a row. 0 = any free ports.
    #[arg(long, default_value_t = 0)]
    pub(crate) port: u16,
    /// What the node shares a fate with.
    #[arg(long, value_name = "NAME")]
    pub(crate) zone: Option<String>,
    /// Start a node again that joined before.
    #[arg(long, value_name = "N")]
    pub(crate) node: Option<u64>,
}

/// A node that is asked, for all that any node can answer.
#[derive(Clone, Debug, Args)]
pub(crate) struct ClusterOpsArgs {
    /// Operations address of any living node of the cluster.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:4402")]
    pub(crate) ops: SocketAddr,
}

/// How long a change is waited for.
#[derive(Clone, Debug, Args)]
pub(crate) struct ClusterWaitArgs {
    /// Give up waiting after so many seconds; what was asked for goes on.
    #[arg(long, default_value_t = 600)]
    pub(crate) timeout: u64,
}

/// Arguments of `throng cluster leave` and `throng cluster stay`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ClusterLeaveArgs {
    /// The node's number.
    pub(crate) node: u64,
    /// Whom to ask: for `leave` another node than the one that leaves.
    #[command(flatten)]
    pub(crate) ops: ClusterOpsArgs,
    /// How long.
    #[command(flatten)]
    pub(crate) wait: ClusterWaitArgs,
}

/// Arguments of `throng cluster move`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ClusterMoveArgs {
    /// The shard.
    pub(crate) shard: u32,
    /// The node that holds the replica.
    pub(crate) from: u64,
    /// The node that should.
    pub(crate) to: u64,
    /// Whom to ask.
    #[command(flatten)]
    pub(crate) ops: ClusterOpsArgs,
    /// How long.
    #[command(flatten)]
    pub(crate) wait: ClusterWaitArgs,
}

/// Arguments of `throng cluster balance`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ClusterBalanceArgs {
    /// Replicas of each shard from now on, as far as there are nodes; as before without.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=7))]
    pub(crate) replicas: Option<u8>,
    /// Whom to ask.
    #[command(flatten)]
    pub(crate) ops: ClusterOpsArgs,
    /// How long.
    #[command(flatten)]
    pub(crate) wait: ClusterWaitArgs,
}

/// Arguments of `throng cluster certs`.
#[derive(Debug, Args)]
pub(crate) struct ClusterCertsArgs {
    /// Directory of the cluster; certificates go into `keys` below it. The authority is made at first use.
    #[arg(long, value_name = "DIR", default_value = "throng-cluster")]
    pub(crate) data_dir: PathBuf,
    /// Days that the certificates are good for, 1 to 30.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=30))]
    pub(crate) days: u64,
    /// For nodes that `throng cluster start` did not lay out: the cluster id (32 hexadecimal digits).
    #[arg(long, value_name = "HEX", requires = "nodes")]
    pub(crate) cluster_id: Option<String>,
    /// For nodes that `throng cluster start` did not lay out: how many, numbered from 1.
    #[arg(long, value_name = "N", requires = "cluster_id", value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub(crate) nodes: Option<u64>,
}

/// Arguments of `throng cluster start`.
#[derive(Debug, Args)]
pub(crate) struct ClusterStartArgs {
    /// Number of nodes: 1, 3 or 5.
    #[arg(long, default_value_t = 3)]
    pub(crate) nodes: u64,
    /// Where the nodes keep their data: one directory each, keys beside them.
    #[arg(long, value_name = "DIR", default_value = "throng-cluster")]
    pub(crate) data_dir: PathBuf,
    /// First client port; node n listens on it plus 10·(n − 1). 0 = any free ports.
    #[arg(long, default_value_t = 4400)]
    pub(crate) port: u16,
    /// Number of shards when formatting.
    #[arg(long)]
    pub(crate) shards: Option<u32>,
    /// Start again a node that died.
    #[arg(long)]
    pub(crate) restart: bool,
}

/// Arguments of `throng token`.
#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    /// User name (the token's subject).
    #[arg(long)]
    pub(crate) user: String,
    /// Device number; a random one by default.
    #[arg(long)]
    pub(crate) device: Option<u64>,
    /// Seconds until it expires; negative = so long ago (to try out what a client does then).
    #[arg(long, default_value_t = 86_400, allow_negative_numbers = true)]
    pub(crate) ttl: i64,
    /// Data directory of the node or cluster.
    #[arg(long, value_name = "DIR", default_value = "throng-data")]
    pub(crate) data_dir: PathBuf,
}

/// How commands reach a cluster.
#[derive(Clone, Debug, Args)]
pub(crate) struct ConnectArgs {
    /// User name to act as; its token comes from the key in the data directory unless `--token` is given.
    #[arg(long = "as", value_name = "NAME")]
    pub(crate) user: String,
    /// Device number; kept per user and terminal by default.
    #[arg(long)]
    pub(crate) device: Option<u64>,
    /// Token to use instead.
    #[arg(long, env = "THRONG_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// Host and port of a gateway.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:4400")]
    pub(crate) server: String,
    /// Transport.
    #[arg(long, value_enum, default_value_t = Transport::Ws)]
    pub(crate) transport: Transport,
    /// Data directory of the node or cluster (for its key and development certificate).
    #[arg(long, value_name = "DIR", default_value = "throng-data")]
    pub(crate) data_dir: PathBuf,
}

/// Transports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    /// WebSocket, plaintext (loopback).
    Ws,
    /// WebSocket over TLS.
    Wss,
    /// QUIC.
    Quic,
}

/// Whom to talk with.
#[derive(Clone, Debug, Args)]
pub(crate) struct PeerArgs {
    /// The other user's name.
    #[arg(long = "with", value_name = "NAME")]
    pub(crate) with: String,
}

/// Arguments of `throng chat`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ChatArgs {
    /// Connection.
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
    /// The other side.
    #[command(flatten)]
    pub(crate) peer: PeerArgs,
}

/// Arguments of `throng send`.
#[derive(Clone, Debug, Args)]
pub(crate) struct SendArgs {
    /// Connection.
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
    /// The other side.
    #[command(flatten)]
    pub(crate) peer: PeerArgs,
    /// The text.
    pub(crate) text: String,
}

/// Arguments of `throng tail`.
#[derive(Clone, Debug, Args)]
pub(crate) struct TailArgs {
    /// Connection.
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
    /// The other side.
    #[command(flatten)]
    pub(crate) peer: PeerArgs,
    /// Begin after this number.
    #[arg(long, default_value_t = 0)]
    pub(crate) after: u64,
    /// Stop after this many messages; 0 = go on.
    #[arg(long, default_value_t = 0)]
    pub(crate) count: u64,
}

/// Arguments of `throng history`.
#[derive(Clone, Debug, Args)]
pub(crate) struct HistoryArgs {
    /// Connection.
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
    /// The other side.
    #[command(flatten)]
    pub(crate) peer: PeerArgs,
    /// Begin after this number.
    #[arg(long, default_value_t = 0)]
    pub(crate) after: u64,
    /// At most this many.
    #[arg(long, default_value_t = 1000)]
    pub(crate) limit: u64,
}

/// Arguments of `throng status`.
#[derive(Clone, Debug, Args)]
pub(crate) struct StatusArgs {
    /// Operations address of the node.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:4402")]
    pub(crate) ops: SocketAddr,
    /// Print the JSON as the node sent it.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `throng backup`.
#[derive(Clone, Debug, Args)]
pub(crate) struct BackupArgs {
    /// Operations address of the node.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:4402")]
    pub(crate) ops: SocketAddr,
    /// Where to write it: a directory that is empty or not there yet.
    #[arg(value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Give up after so many seconds.
    #[arg(long, default_value_t = 3600)]
    pub(crate) timeout: u64,
}

impl BackupArgs {
    pub(crate) fn timeout(&self) -> std::time::Duration {
        std::time::Duration::from_secs(self.timeout)
    }
}

/// Which nodes a command asks.
#[derive(Clone, Debug, Args)]
pub(crate) struct NodesArgs {
    /// Operations addresses of the nodes.
    #[arg(long, value_name = "ADDR,…", value_delimiter = ',', default_value = "127.0.0.1:4402")]
    pub(crate) ops: Vec<SocketAddr>,
    /// All nodes of the cluster that `throng cluster start` keeps in this directory.
    #[arg(long, value_name = "DIR", conflicts_with = "ops")]
    pub(crate) cluster: Option<PathBuf>,
}

/// Arguments of `throng verify`.
#[derive(Clone, Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The nodes.
    #[command(flatten)]
    pub(crate) nodes: NodesArgs,
    /// Only compare replicas, do not read everything on disk.
    #[arg(long)]
    pub(crate) no_scrub: bool,
    /// Megabytes a second that each node reads for it.
    #[arg(long, value_name = "MB", default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(crate) scrub_rate: u64,
    /// Give a node's scrub up after so many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400)]
    pub(crate) timeout: u64,
}

/// Arguments of `throng hold`.
#[derive(Clone, Debug, Args)]
pub(crate) struct HoldArgs {
    /// The channel: its id (32 hexadecimal digits), or two users' names with a comma between for their conversation.
    pub(crate) channel: String,
    /// Whether it is held from here on.
    #[arg(value_enum)]
    pub(crate) state: Switch,
    /// The nodes; one of them leads the channel's shard.
    #[command(flatten)]
    pub(crate) nodes: NodesArgs,
}

/// Arguments of `throng acquit`.
#[derive(Clone, Debug, Args)]
pub(crate) struct AcquitArgs {
    /// The node whose suspect replicas are meant.
    #[command(flatten)]
    pub(crate) ops: ClusterOpsArgs,
    /// Do it. What the replicas may have forgotten can be lost for good.
    #[arg(long)]
    pub(crate) yes: bool,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    /// On.
    On,
    /// Off.
    Off,
}

/// Arguments of `throng restore`.
#[derive(Clone, Debug, Args)]
pub(crate) struct RestoreArgs {
    /// The backup.
    #[arg(value_name = "DIR")]
    pub(crate) from: PathBuf,
    /// The data directory to make; it must be empty or not there yet.
    #[arg(long, value_name = "DIR", default_value = "throng-data")]
    pub(crate) data_dir: PathBuf,
    /// Number of the node that will use it.
    #[arg(long, default_value_t = 1)]
    pub(crate) node_id: u64,
    /// All nodes of the new cluster, as for `throng serve`: the same backup is restored for each of them.
    #[arg(long, value_name = "N=ADDR,…", value_delimiter = ',')]
    pub(crate) peers: Option<Vec<String>>,
    /// Id of the new cluster, 32 hexadecimal digits; needed if it has several nodes.
    #[arg(long, value_name = "HEX")]
    pub(crate) cluster_id: Option<String>,
}

/// Arguments of `throng doctor`.
#[derive(Clone, Debug, Args)]
pub(crate) struct DoctorArgs {
    /// A directory on the disk in question.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) dir: PathBuf,
}
