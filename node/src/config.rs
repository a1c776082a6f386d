//! Configuration: file and flags in two stages, first as written, then resolved and checked.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use throng_router_core::limits::META_NAME_MAX;
use throng_router_core::machines::Retention;
use throng_runtime::tls::PeerTlsFiles;
use throng_wire::{NodeId, SLOTS, limits};

use crate::cli::{Role, ServeArgs};
use crate::error::Failure;
use crate::keep::{RetentionSection, ScrubPlan, ScrubSection};

/// The file as written; every field optional, unknown ones refused.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    data_dir: Option<PathBuf>,
    listen: Option<SocketAddr>,
    peer_listen: Option<SocketAddr>,
    ops_listen: Option<SocketAddr>,
    roles: Option<Vec<String>>,
    join: Option<Vec<SocketAddr>>,
    zone: Option<String>,
    keys: Option<PathBuf>,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    peer_cert: Option<PathBuf>,
    peer_key: Option<PathBuf>,
    peer_ca: Option<PathBuf>,
    loops: Option<usize>,
    cluster: ClusterSection,
    limits: LimitsSection,
    retention: RetentionSection,
    scrub: ScrubSection,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ClusterSection {
    node_id: Option<u64>,
    cluster_id: Option<String>,
    shards: Option<u32>,
    peers: Option<BTreeMap<String, SocketAddr>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LimitsSection {
    body_max: Option<usize>,
    sessions_max: Option<u32>,
    heartbeat_ms: Option<u32>,
    background_mb_per_second: Option<u64>,
}

/// What `throng config` prints: every setting with its default.
pub(crate) const DEFAULT_FILE: &str = r#"# Throng's settings with their defaults. Flags of `throng serve` win over this file.

#data_dir = "throng-data"          # everything the node keeps
#listen = "127.0.0.1:4400"         # clients: WebSocket on TCP, QUIC on UDP
#peer_listen = "127.0.0.1:4401"    # other nodes; off loopback only with the three peer_… files below
#ops_listen = "127.0.0.1:4402"     # health and status
#roles = ["gateway", "router", "storage"]
#join = []                         # peer addresses of a running cluster that this node, or gateway, joins
#zone = ""                         # what the node shares a fate with (rack, room): replicas avoid the same one
#keys = "throng-data/keys"         # token key and development certificate
#tls_cert = "cert.pem"             # certificate chain for wss and QUIC
#tls_key = "key.pem"
#peer_cert = "node-1.pem"          # mutual TLS between nodes and gateways: certificate, its key and the
#peer_key = "node-1-key.pem"       # authority, looked at again every few seconds (docs/security.md)
#peer_ca = "peer-ca.pem"
#loops = 2                         # gateway loops; one per core by default

[cluster]
#node_id = 1
#cluster_id = "…"                  # 32 hexadecimal digits; a new single node draws its own
#shards = 64                       # fixed when the data directory is formatted
#peers = { 1 = "127.0.0.1:4401", 2 = "127.0.0.1:4411", 3 = "127.0.0.1:4421" }

[limits]
#body_max = 65536                  # bytes of a message body, at most 1048576
#sessions_max = 1000000            # sessions per gateway loop
#heartbeat_ms = 5000               # a client says something at least this often
#background_mb_per_second = 80     # megabytes that flushes and compactions write; 40 per gateway loop by default,
                                   # 0 = no limit

# What goes by itself, by the class of a channel (direct, group, open): events older than the age ("30d", "12h", "5m",
# "90s"; "0" = no limit) and those above the count (0 = no limit) are deleted for good, on all replicas. The same on all
# nodes: what the leader of a shard is told counts. Clients that ask for less are told where the history begins
# (RESET). A channel that is held (`throng hold`) keeps everything.
[retention]
#direct_age = "0"
#direct_events = 0
#group_age = "0"
#group_events = 0
#open_age = "0"
#open_events = 0

# Everything that rests on disk is read now and then and its checksums compared, to find damage while other replicas
# are whole. What it finds: metrics throng_scrub_…, the log, and `throng verify`.
[scrub]
#every_hours = 168                 # between two full scrubs; 0 = only when `throng verify` asks
#mb_per_second = 20                # megabytes read per second
"#;

/// What flushes and compactions may write, bytes a second for each gateway loop, that is for each core of the node: three
/// times what a core's share of messages of 128 bytes takes in the state (decision 0030).
const BACKGROUND_BYTES_PER_LOOP: u64 = 40_000_000;

/// With less, one flush of 32 MiB takes more than eight seconds.
const BACKGROUND_BYTES_MIN: u64 = 4_000_000;

/// The resolved configuration.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Everything the node keeps.
    pub(crate) data_dir: PathBuf,
    /// Client address.
    pub(crate) listen: SocketAddr,
    /// Peer address.
    pub(crate) peer_listen: SocketAddr,
    /// Operations address.
    pub(crate) ops_listen: SocketAddr,
    /// Whether the gateway role runs here.
    pub(crate) gateway: bool,
    /// Whether router and storage run here.
    pub(crate) router: bool,
    /// Peer addresses of a running cluster: the routers of a gateway of its own, or what a new node joins.
    pub(crate) join: Vec<SocketAddr>,
    /// What the node shares a fate with; empty = nothing that is known.
    pub(crate) zone: String,
    /// Token key and development certificate.
    pub(crate) keys: PathBuf,
    /// Certificate chain and key.
    pub(crate) tls: Option<(PathBuf, PathBuf)>,
    /// Certificate, key and authority for links between processes.
    pub(crate) peer_tls: Option<PeerTlsFiles>,
    /// Gateway loops.
    pub(crate) loops: usize,
    /// What flushes and compactions of the state may write, bytes a second; `None` for no limit.
    pub(crate) background_bytes_per_second: Option<u64>,
    /// This node.
    pub(crate) node: NodeId,
    /// Whether its number was given; otherwise a node that joins takes the one it gets.
    pub(crate) is_numbered: bool,
    /// All voters and their peer addresses; this node included.
    pub(crate) peers: BTreeMap<NodeId, SocketAddr>,
    /// Cluster id, if given.
    pub(crate) cluster: Option<[u8; 16]>,
    /// Shards, if given.
    pub(crate) shards: Option<u32>,
    /// Body limit, bytes.
    pub(crate) body_max: usize,
    /// Sessions per gateway loop.
    pub(crate) sessions_max: u32,
    /// Heartbeat interval, milliseconds.
    pub(crate) heartbeat_ms: u32,
    /// What channels keep, by class.
    pub(crate) retention: Retention,
    /// When everything on disk is checked.
    pub(crate) scrub: ScrubPlan,
    /// Where to write the bound addresses.
    pub(crate) ready_file: Option<PathBuf>,
    /// Echo listener.
    pub(crate) ws_echo: Option<SocketAddr>,
}

impl Config {
    /// Reads the file, lays the flags over it and checks the whole.
    ///
    /// # Errors
    /// [`Failure::Config`] naming the setting and what to do.
    pub(crate) fn resolve(args: &ServeArgs) -> Result<Self, Failure> {
        let file = match &args.config {
            Some(path) => read(path)?,
            None => File::default(),
        };
        let data_dir = args.data_dir.clone().or(file.data_dir).unwrap_or_else(|| "throng-data".into());
        let (gateway, router) = roles(args.role.as_deref(), file.roles.as_deref())?;
        let number = args.node_id.or(file.cluster.node_id);
        let node = NodeId(number.unwrap_or(1));
        let loops = args.loops.or(file.loops).unwrap_or_else(cores);
        let config = Self {
            listen: args.listen.or(file.listen).unwrap_or_else(|| loopback(4400)),
            peer_listen: args.peer_listen.or(file.peer_listen).unwrap_or_else(|| loopback(4401)),
            ops_listen: args.ops_listen.or(file.ops_listen).unwrap_or_else(|| loopback(4402)),
            gateway,
            router,
            join: args.join.clone().or(file.join).unwrap_or_default(),
            keys: args.keys.clone().or(file.keys).unwrap_or_else(|| data_dir.join("keys")),
            tls: tls(args.tls_cert.clone().or(file.tls_cert), args.tls_key.clone().or(file.tls_key))?,
            peer_tls: peer_tls([
                args.peer_cert.clone().or(file.peer_cert),
                args.peer_key.clone().or(file.peer_key),
                args.peer_ca.clone().or(file.peer_ca),
            ])?,
            loops,
            node,
            is_numbered: number.is_some(),
            zone: args.zone.clone().or(file.zone).unwrap_or_default(),
            peers: peers(args.peers.as_deref(), file.cluster.peers)?,
            cluster: args
                .cluster_id
                .clone()
                .or(file.cluster.cluster_id)
                .map(|id| cluster_id(&id))
                .transpose()?,
            shards: args.shards.or(file.cluster.shards),
            body_max: file.limits.body_max.unwrap_or(limits::BODY_MAX_DEFAULT),
            sessions_max: file.limits.sessions_max.unwrap_or(1_000_000),
            heartbeat_ms: file.limits.heartbeat_ms.unwrap_or(5_000),
            background_bytes_per_second: match file.limits.background_mb_per_second {
                None => Some(loops as u64 * BACKGROUND_BYTES_PER_LOOP),
                Some(0) => None,
                Some(megabytes) => Some(megabytes.saturating_mul(1_000_000)),
            },
            retention: file.retention.resolve()?,
            scrub: file.scrub.resolve()?,
            ready_file: args.ready_file.clone(),
            ws_echo: args.ws_echo,
            data_dir,
        };
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), Failure> {
        let refuse = |text: String| Err(Failure::Config(text));
        if self.node.0 == 0 {
            return refuse("node_id is 0; nodes are numbered from 1".into());
        }
        if let Some((setting, address)) = self.peer_address_in_the_clear() {
            return refuse(format!(
                "{setting} {address} is no loopback address, so links need mutual TLS: set peer_cert, peer_key and \
                 peer_ca (docs/security.md)"
            ));
        }
        if !self.peers.is_empty() && !self.peers.contains_key(&self.node) {
            return refuse(format!(
                "peers does not list this node ({}); add it with its peer address",
                self.node
            ));
        }
        if !self.gateway && !self.router {
            return refuse("roles is empty; name gateway, or router and storage, or all three".into());
        }
        if self.router && !self.join.is_empty() && !self.peers.is_empty() {
            return refuse(
                "join and peers exclude each other: a node joins a running cluster, or is one of its first"
                    .into(),
            );
        }
        if self.router
            && !self.join.is_empty()
            && (self.peer_listen.port() == 0 || self.peer_listen.ip().is_unspecified())
        {
            return refuse("join needs a peer_listen address that the other nodes can dial".into());
        }
        if self.zone.len() > META_NAME_MAX {
            return refuse(format!("zone is longer than {META_NAME_MAX} bytes"));
        }
        if self.gateway && !self.router && self.join.is_empty() {
            return refuse("a gateway of its own needs --join with the routers' peer addresses".into());
        }
        if self.shards.is_some_and(|shards| shards == 0 || shards >= SLOTS) {
            return refuse(format!("shards must lie between 1 and {}", SLOTS - 1));
        }
        if self.body_max == 0 || self.body_max > limits::BODY_MAX_CAP {
            return refuse(format!("limits.body_max must lie between 1 and {}", limits::BODY_MAX_CAP));
        }
        if self.loops == 0 || self.loops > 256 {
            return refuse("loops must lie between 1 and 256".into());
        }
        if self.background_bytes_per_second.is_some_and(|bytes| bytes < BACKGROUND_BYTES_MIN) {
            return refuse("limits.background_mb_per_second must be 0 or at least 4".into());
        }
        if self.heartbeat_ms < 100 {
            return refuse("limits.heartbeat_ms must be at least 100".into());
        }
        Ok(())
    }
}

impl Config {
    /// A link that would cross a network without TLS: the setting and its address.
    fn peer_address_in_the_clear(&self) -> Option<(&'static str, SocketAddr)> {
        if self.peer_tls.is_some() {
            return None;
        }
        let listen = self.router.then_some(("peer_listen", self.peer_listen));
        let peers = self.peers.values().map(|address| ("peers:", *address));
        let join = self.join.iter().map(|address| ("join:", *address));
        listen.into_iter().chain(peers).chain(join).find(|(_, address)| !address.ip().is_loopback())
    }
}

fn peer_tls(files: [Option<PathBuf>; 3]) -> Result<Option<PeerTlsFiles>, Failure> {
    match files {
        [Some(certificate), Some(key), Some(authorities)] => {
            Ok(Some(PeerTlsFiles { certificate, key, authorities }))
        }
        [None, None, None] => Ok(None),
        _ => Err(Failure::Config("peer_cert, peer_key and peer_ca go together; name all three".into())),
    }
}

fn read(path: &Path) -> Result<File, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::Config(format!("cannot read {}: {error}", path.display())))?;
    toml::from_str(&text).map_err(|error| {
        let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        // One sentence: the message of the parser may have several lines.
        let message = error.message().lines().map(str::trim).collect::<Vec<_>>().join(", ");
        Failure::Config(format!("{}, line {line}: {message}", path.display()))
    })
}

fn tls(chain: Option<PathBuf>, key: Option<PathBuf>) -> Result<Option<(PathBuf, PathBuf)>, Failure> {
    match (chain, key) {
        (Some(chain), Some(key)) => Ok(Some((chain, key))),
        (None, None) => Ok(None),
        (Some(_), None) => Err(Failure::Config("tls_cert is set without tls_key; name both".into())),
        (None, Some(_)) => Err(Failure::Config("tls_key is set without tls_cert; name both".into())),
    }
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Cores that this process may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn roles(flags: Option<&[Role]>, file: Option<&[String]>) -> Result<(bool, bool), Failure> {
    let roles = match (flags, file) {
        (Some(flags), _) => flags.to_vec(),
        (None, Some(names)) => names.iter().map(|name| role(name)).collect::<Result<_, _>>()?,
        (None, None) => vec![Role::Gateway, Role::Router, Role::Storage],
    };
    let (router, storage) = (roles.contains(&Role::Router), roles.contains(&Role::Storage));
    if router != storage {
        return Err(Failure::Config(
            "the roles router and storage run together: name both or neither".into(),
        ));
    }
    Ok((roles.contains(&Role::Gateway), router))
}

fn role(name: &str) -> Result<Role, Failure> {
    match name {
        "gateway" => Ok(Role::Gateway),
        "router" => Ok(Role::Router),
        "storage" => Ok(Role::Storage),
        other => {
            Err(Failure::Config(format!("unknown role {other:?}; known are gateway, router and storage")))
        }
    }
}

fn peers(
    flags: Option<&[String]>,
    file: Option<BTreeMap<String, SocketAddr>>,
) -> Result<BTreeMap<NodeId, SocketAddr>, Failure> {
    let bad =
        |text: &str| Failure::Config(format!("peers: {text:?} is not N=ADDR, for instance 2=127.0.0.1:4411"));
    let pairs: Vec<(String, SocketAddr)> = match (flags, file) {
        (Some(flags), _) => flags
            .iter()
            .map(|text| {
                let (node, addr) = text.split_once('=').ok_or_else(|| bad(text))?;
                Ok((node.to_owned(), addr.parse().map_err(|_| bad(text))?))
            })
            .collect::<Result<_, _>>()?,
        (None, Some(map)) => map.into_iter().collect(),
        (None, None) => Vec::new(),
    };
    let mut peers = BTreeMap::new();
    for (node, addr) in pairs {
        let number = node.trim().parse().ok().filter(|number| *number > 0).ok_or_else(|| bad(&node))?;
        if peers.insert(NodeId(number), addr).is_some() {
            return Err(Failure::Config(format!("peers lists node {number} twice")));
        }
    }
    Ok(peers)
}

/// The nodes that a list of `N=ADDR` names; this node alone without one.
pub(crate) fn node_list(flags: Option<&[String]>, node: u64) -> Result<Vec<NodeId>, Failure> {
    let named: Vec<NodeId> = peers(flags, None)?.into_keys().collect();
    if node == 0 || !(named.is_empty() || named.contains(&NodeId(node))) {
        return Err(Failure::Config(format!("peers does not list this node ({node})")));
    }
    Ok(if named.is_empty() { vec![NodeId(node)] } else { named })
}

pub(crate) fn cluster_id(hex: &str) -> Result<[u8; 16], Failure> {
    throng_wire::ChannelId::from_hex(hex)
        .map(|id| id.0)
        .ok_or_else(|| Failure::Config(format!("cluster_id {hex:?} is not 32 hexadecimal digits")))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    #[test]
    fn the_printed_default_file_parses_commented_and_uncommented() {
        toml::from_str::<File>(DEFAULT_FILE).expect("as printed");
        // Settings follow their # at once, prose after a space.
        let lines = DEFAULT_FILE.lines().map(|line| match line.strip_prefix('#') {
            Some(setting) if !setting.starts_with(' ') => setting,
            _ => line,
        });
        let uncommented = lines.collect::<Vec<_>>().join("\n");
        let uncommented = uncommented.replace("\"…\"", "\"00112233445566778899aabbccddeeff\"");
        let file: File = toml::from_str(&uncommented).expect("with every setting on");
        assert_eq!(file.cluster.peers.expect("listed").len(), 3);
        assert_eq!(
            file.scrub.resolve().map_err(|e| e.to_string()),
            ScrubSection::default().resolve().map_err(|e| e.to_string())
        );
    }

    /// Resolves flags (as typed after `throng serve`) over a file.
    fn resolve(flags: &str, file: &str) -> Result<Config, String> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("throng.toml");
        std::fs::write(&path, file).expect("written");
        let typed = format!("throng serve --config {} {flags}", path.display());
        let cli = Cli::try_parse_from(typed.split_whitespace()).expect("well-formed flags");
        let Command::Serve(args) = cli.command else { unreachable!("typed above") };
        Config::resolve(&args).map_err(|failure| {
            assert_eq!(failure.exit_code(), 2);
            failure.to_string()
        })
    }

    #[test]
    fn every_wrong_setting_is_named_in_one_line() {
        let cases = [
            ("", "listen = ", "line 1"),
            ("", "\nlissten = \"127.0.0.1:1\"", "line 2: unknown field `lissten`"),
            ("", "listen = \"here\"", "line 1: invalid socket address"),
            ("", "roles = [\"gatway\"]", "unknown role \"gatway\""),
            ("", "roles = []", "roles is empty"),
            ("", "tls_cert = \"a.pem\"", "tls_cert is set without tls_key"),
            ("", "tls_key = \"a.pem\"", "tls_key is set without tls_cert"),
            ("", "[cluster]\nshards = 0", "shards must lie between"),
            ("", "[cluster]\ncluster_id = \"xyz\"", "cluster_id \"xyz\" is not 32 hexadecimal digits"),
            ("", "[cluster]\npeers = { one = \"127.0.0.1:1\" }", "peers: \"one\" is not N=ADDR"),
            ("", "[limits]\nbody_max = 0", "limits.body_max must lie between"),
            ("", "[limits]\nheartbeat_ms = 1", "limits.heartbeat_ms must be at least"),
            ("", "[retention]\ngroup_age = \"30\"", "retention.group_age \"30\" is no age"),
            ("", "[scrub]\nmb_per_second = 0", "scrub.mb_per_second must lie between"),
            ("", "[scrub]\nevery_hours = 9999", "scrub.every_hours must lie between"),
            ("--role router", "", "router and storage run together"),
            ("--role gateway", "", "needs --join"),
            ("--join 127.0.0.1:1 --peers 1=127.0.0.1:1", "", "join and peers exclude each other"),
            ("--join 127.0.0.1:1 --peer-listen 127.0.0.1:0", "", "join needs a peer_listen address"),
            ("--node-id 0", "", "node_id is 0"),
            ("--node-id 3 --peers 1=127.0.0.1:1", "", "peers does not list this node (3)"),
            ("--peers 1=127.0.0.1:1,1=127.0.0.1:2", "", "peers lists node 1 twice"),
            ("--peers 0=127.0.0.1:1", "", "peers: \"0\" is not N=ADDR"),
            ("--peers 127.0.0.1:1", "", "peers: \"127.0.0.1:1\" is not N=ADDR"),
            (
                "--peer-listen 0.0.0.0:1",
                "",
                "peer_listen 0.0.0.0:1 is no loopback address, so links need mutual TLS",
            ),
            ("--peers 1=127.0.0.1:1,2=10.0.0.2:1", "", "peers: 10.0.0.2:1 is no loopback address"),
            ("--role gateway --join [::2]:1", "", "join: [::2]:1 is no loopback address"),
            (
                "",
                "peer_cert = \"a.pem\"\npeer_key = \"b.pem\"",
                "peer_cert, peer_key and peer_ca go together",
            ),
            ("--loops 0", "", "loops must lie between"),
            ("", "[limits]\nbackground_mb_per_second = 3", "limits.background_mb_per_second must be 0 or"),
        ];
        for (flags, file, expected) in cases {
            let said = resolve(flags, file).expect_err(expected);
            assert!(said.contains(expected) && !said.contains('\n'), "{flags} {file}: {said}");
        }
    }

    #[test]
    fn with_certificates_nodes_may_be_anywhere() {
        let files = "--peer-cert a.pem --peer-key b.pem --peer-ca c.pem";
        let nodes = "--peer-listen 10.0.0.1:1 --peers 1=10.0.0.1:1,2=10.0.0.2:1";
        let config = resolve(&format!("{files} {nodes}"), "").expect("sound");
        assert_eq!(config.peer_tls.expect("given").authorities, Path::new("c.pem"));
    }

    #[test]
    fn flags_win_over_the_file_and_the_rest_has_defaults() {
        let file = "listen = \"127.0.0.1:1\"\nops_listen = \"127.0.0.1:2\"\ndata_dir = \"there\"";
        let config = resolve("--listen 127.0.0.1:3", file).expect("sound");
        assert_eq!(
            (config.listen, config.ops_listen, config.peer_listen),
            (loopback(3), loopback(2), loopback(4401))
        );
        assert_eq!(config.keys, Path::new("there/keys"));
        assert!(config.gateway && config.router);
    }
}
