//! Nodes in network namespaces of their own, and directed cuts between them. Everything lies in namespaces that belong
//! to this run (network, mounts, processes): when its first process ends, however it ends, the kernel takes down links,
//! mounts and processes with it, and the machine's own network never sees them.
//!
//! ```text
//!   unshare ─┬─ campaign, load generator     10.77.0.254 on a bridge
//!            ├─ n1: node 1                   10.77.0.1 ─┐
//!            ├─ n2: node 2                   10.77.0.2 ─┼─ the bridge
//!            └─ n3: node 3                   10.77.0.3 ─┘
//! ```
//!
//! A cut from i to j drops what comes from i's address where it enters j. Clients are never cut off.

use std::env;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::Extent;
use super::cluster::{NODES, Node};
use crate::Result;
use crate::process::{counted, read_plain_line, run, succeeds};
use crate::server::temporary_folder;
use crate::tally::Tally;

/// Set for the process inside.
const INSIDE: &str = "THRONG_CHAOS_INSIDE";

/// The six directed links; bit n of a pattern cuts the n-th.
pub(super) const LINKS: [(usize, usize); 6] = [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)];

/// Runs the same campaign again in namespaces of its own; `None` if this process is already inside.
pub(super) fn enter(name: &str, options: &Extent) -> Option<Result<Tally>> {
    if env::var_os(INSIDE).is_some() {
        return None;
    }
    Some(enter_again(name, options))
}

fn enter_again(name: &str, options: &Extent) -> Result<Tally> {
    let program = env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    let words = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let is_root = succeeds(Command::new("sh").args(["-c", "test \"$(id -u)\" = 0"]))?;
    let mut command = Command::new(if is_root { "env" } else { "sudo" });
    if !is_root {
        command.args(["-n", "-E", "env"]);
    }
    command.args(["-u", "THRONG_TALLY_FILE"]).arg(format!("{INSIDE}=1")).args(words).arg(program);
    command.args([if options.keeps { "night" } else { "chaos" }, name]);
    command.args(["--count", &options.count.to_string(), "--seed", &options.seed.to_string()]);
    // Folders are named after process ids, and inside every run is process 1; this one is removed however it ends.
    let folder = temporary_folder()?;
    let outcome = counted(command.env("TMPDIR", &folder), read_plain_line);
    let _ = fs::remove_dir_all(&folder);
    outcome
}

/// The namespaces of the nodes.
pub(super) struct Spaces;

impl Spaces {
    /// Makes them. Only inside [`enter`].
    pub(super) fn make() -> Result<Self> {
        // Names of network namespaces are mounts: on a file system of our own they vanish with us.
        sh("mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns")?;
        sh("ip link set lo up && ip link add br0 type bridge && ip addr add 10.77.0.254/24 dev br0")?;
        sh("ip link set br0 up")?;
        for n in 1..=NODES {
            sh(&format!("ip netns add n{n} && ip link add v{n} type veth peer name eth0 netns n{n}"))?;
            sh(&format!("ip link set v{n} master br0 && ip link set v{n} up"))?;
            sh(&format!("ip -n n{n} link set lo up && ip -n n{n} addr add {}/24 dev eth0", host(n - 1)))?;
            sh(&format!("ip -n n{n} link set eth0 up"))?;
            nft(
                n - 1,
                "add table ip cut\nadd chain ip cut in { type filter hook prerouting priority -300 ; }\n",
            )?;
            // Plain WebSocket and the peer port are only on loopback; what comes for them from outside is led there.
            sh(&format!("ip netns exec n{n} sh -c 'echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet'"))?;
            nft(
                n - 1,
                "add table ip peer\nadd chain ip peer in { type nat hook prerouting priority -100 ; }\n\
                 add rule ip peer in tcp dport 4400-4402 dnat to 127.0.0.1\n",
            )?;
        }
        Ok(Self)
    }

    /// The node that lives in a namespace.
    pub(super) fn node(&self, number: usize, data: PathBuf) -> Node {
        let wrap = ["ip", "netns", "exec"].map(str::to_owned).into_iter().chain([format!("n{}", number + 1)]);
        Node::at(&host(number), data, wrap.collect())
    }

    /// Cuts the links whose bits are set, and no others, in all namespaces at about the same time.
    pub(super) fn cut(&self, pattern: u8) -> Result<()> {
        let script = |to: usize| {
            let mut script = "flush chain ip cut in\n".to_owned();
            for (bit, (from, _)) in LINKS.iter().enumerate().filter(|(_, link)| link.1 == to) {
                if pattern & (1 << bit) != 0 {
                    script += &format!("add rule ip cut in ip saddr {} drop\n", host(*from));
                }
            }
            script
        };
        let begun: Vec<_> = (0..NODES).map(|to| begin_nft(to, &script(to))).collect::<Result<_>>()?;
        begun.into_iter().enumerate().try_for_each(|(to, child)| end_nft(child, &script(to)))
    }
}

fn host(number: usize) -> String {
    format!("10.77.0.{}", number + 1)
}

fn sh(script: &str) -> Result<()> {
    run(Command::new("sh").args(["-ec", script]))
}

/// One transaction of rules in a node's namespace.
fn nft(node: usize, script: &str) -> Result<()> {
    end_nft(begin_nft(node, script)?, script)
}

fn begin_nft(node: usize, script: &str) -> Result<Child> {
    let failed = |error: std::io::Error| format!("cannot run nft: {error}");
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &format!("n{}", node + 1), "nft", "-f", "-"]);
    let mut child = command.stdin(Stdio::piped()).spawn().map_err(failed)?;
    let mut stdin = child.stdin.take().expect("stdin was asked to be a pipe");
    stdin.write_all(script.as_bytes()).map_err(failed)?;
    Ok(child)
}

fn end_nft(mut child: Child, script: &str) -> Result<()> {
    let status = child.wait().map_err(|error| format!("cannot run nft: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("nft refused:\n{script}")) }
}
