//! Configuration: file and flags in two stages, first as written, then resolved and checked.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use throng_wire::{NodeId, SLOTS, limits};

use crate::cli::{Role, ServeArgs};
use crate::error::Failure;

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
    keys: Option<PathBuf>,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    loops: Option<usize>,
    cluster: ClusterSection,
    limits: LimitsSection,
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
}

/// What `throng config` prints: every setting with its default.
pub(crate) const DEFAULT_FILE: &str = r#"# Throng's settings with their defaults. Flags of `throng serve` win over this file.

#data_dir = "throng-data"          # everything the node keeps
#listen = "127.0.0.1:4400"         # clients: WebSocket on TCP, QUIC on UDP
#peer_listen = "127.0.0.1:4401"    # other nodes; loopback only until mutual TLS stands
#ops_listen = "127.0.0.1:4402"     # health and status
#roles = ["gateway", "router", "storage"]
#join = []                         # with roles = ["gateway"]: peer addresses of the routers
#keys = "throng-data/keys"         # token key and development certificate
#tls_cert = "cert.pem"             # certificate chain for wss and QUIC
#tls_key = "key.pem"
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
"#;

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
    /// Peer addresses of remote routers, for a gateway of its own.
    pub(crate) join: Vec<SocketAddr>,
    /// Token key and development certificate.
    pub(crate) keys: PathBuf,
    /// Certificate chain and key.
    pub(crate) tls: Option<(PathBuf, PathBuf)>,
    /// Gateway loops.
    pub(crate) loops: usize,
    /// This node.
    pub(crate) node: NodeId,
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
        let node = NodeId(args.node_id.or(file.cluster.node_id).unwrap_or(1));
        let config = Self {
            listen: args.listen.or(file.listen).unwrap_or_else(|| loopback(4400)),
            peer_listen: args.peer_listen.or(file.peer_listen).unwrap_or_else(|| loopback(4401)),
            ops_listen: args.ops_listen.or(file.ops_listen).unwrap_or_else(|| loopback(4402)),
            gateway,
            router,
            join: args.join.clone().or(file.join).unwrap_or_default(),
            keys: args.keys.clone().or(file.keys).unwrap_or_else(|| data_dir.join("keys")),
            tls: args.tls_cert.clone().or(file.tls_cert).zip(args.tls_key.clone().or(file.tls_key)),
            loops: args.loops.or(file.loops).unwrap_or_else(cores),
            node,
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
        if self.router && !self.peer_listen.ip().is_loopback() {
            return refuse(format!(
                "peer_listen is {}; until nodes speak mutual TLS it must be a loopback address",
                self.peer_listen
            ));
        }
        if !self.peers.is_empty() && !self.peers.contains_key(&self.node) {
            return refuse(format!(
                "peers does not list this node ({}); add it with its peer address",
                self.node
            ));
        }
        if self.gateway && !self.router && self.join.is_empty() {
            return refuse("a gateway of its own needs --join with the routers' peer addresses".into());
        }
        if self.shards.is_some_and(|shards| shards == 0 || shards > SLOTS) {
            return refuse(format!("shards must lie between 1 and {SLOTS}"));
        }
        if self.body_max == 0 || self.body_max > limits::BODY_MAX_CAP {
            return refuse(format!("limits.body_max must lie between 1 and {}", limits::BODY_MAX_CAP));
        }
        if self.loops == 0 || self.loops > 256 {
            return refuse("loops must lie between 1 and 256".into());
        }
        if self.heartbeat_ms < 100 {
            return refuse("limits.heartbeat_ms must be at least 100".into());
        }
        Ok(())
    }
}

fn read(path: &Path) -> Result<File, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::Config(format!("cannot read {}: {error}", path.display())))?;
    toml::from_str(&text)
        .map_err(|error| Failure::Config(format!("{}: {}", path.display(), error.to_string().trim())))
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn cores() -> usize {
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
    pairs
        .into_iter()
        .map(|(node, addr)| match node.trim().parse() {
            Ok(number) if number > 0 => Ok((NodeId(number), addr)),
            _ => Err(bad(&node)),
        })
        .collect()
}

fn cluster_id(hex: &str) -> Result<[u8; 16], Failure> {
    throng_wire::ChannelId::from_hex(hex)
        .map(|id| id.0)
        .ok_or_else(|| Failure::Config(format!("cluster_id {hex:?} is not 32 hexadecimal digits")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_printed_default_file_parses_commented_and_uncommented() {
        toml::from_str::<File>(DEFAULT_FILE).expect("as printed");
        let uncommented =
            DEFAULT_FILE.replace("\n#", "\n").replace("\"…\"", "\"00112233445566778899aabbccddeeff\"");
        let file: File = toml::from_str(&uncommented).expect("with every setting on");
        assert_eq!(file.cluster.peers.expect("listed").len(), 3);
    }

    #[test]
    fn unknown_settings_are_refused() {
        assert!(toml::from_str::<File>("lissten = \"127.0.0.1:1\"").is_err());
    }
}
