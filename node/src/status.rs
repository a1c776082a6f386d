//! `throng status`: how a node is doing.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::cli::StatusArgs;
use crate::error::Failure;
use crate::ops::Status;

const TIMEOUT: Duration = Duration::from_secs(5);

/// Longest answer that is read: 65,536 shards at 64 bytes fit.
const ANSWER_MAX: u64 = 8 << 20;

/// Asks and prints.
///
/// # Errors
/// [`Failure::Runtime`] if the node does not answer.
pub(crate) fn run(args: &StatusArgs) -> Result<(), Failure> {
    if args.json {
        print!("{}", get(args.ops, "/status")?);
    } else {
        print!("{}", describe(&fetch(args.ops)?));
    }
    Ok(())
}

/// How a node is doing.
///
/// # Errors
/// [`Failure::Runtime`] if nobody answers, or with something else.
pub(crate) fn fetch(ops: SocketAddr) -> Result<Status, Failure> {
    serde_json::from_str(&get(ops, "/status")?)
        .map_err(|error| Failure::runtime(format!("{ops} answered something else than a status"), error))
}

/// One HTTP/1.1 request; the answer ends with the connection.
///
/// # Errors
/// [`Failure::Runtime`] if nobody answers or the answer is no success.
pub(crate) fn get(address: SocketAddr, path: &str) -> Result<String, Failure> {
    request(address, "GET", path, "", TIMEOUT)
}

/// The same with a body, for what changes something; it may take up to `timeout`.
///
/// # Errors
/// [`Failure::Runtime`] if nobody answers or the answer is no success.
pub(crate) fn post(
    address: SocketAddr,
    path: &str,
    body: &str,
    timeout: Duration,
) -> Result<String, Failure> {
    request(address, "POST", path, body, timeout)
}

fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
    timeout: Duration,
) -> Result<String, Failure> {
    let failed = |e: std::io::Error| Failure::runtime(format!("no node answers at {address}"), e);
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT).map_err(failed)?;
    stream.set_read_timeout(Some(timeout)).map_err(failed)?;
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close");
    write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).map_err(failed)?;
    let mut answer = String::new();
    stream.take(ANSWER_MAX).read_to_string(&mut answer).map_err(failed)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| {
        Failure::Runtime(format!("{address} does not speak HTTP; is it the operations port?"))
    })?;
    if head.split_whitespace().nth(1) != Some("200") {
        let first = head.lines().next().unwrap_or_default();
        return Err(Failure::Runtime(format!("{address}{path}: {first}: {}", body.trim())));
    }
    Ok(body.to_owned())
}

fn describe(status: &Status) -> String {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let mut text = format!(
        "node {} (pid {}), cluster {}, {}\n",
        status.ready.node,
        status.ready.pid,
        status.cluster,
        if status.is_ready() { "ready" } else { "NOT READY: some shards have no leader" }
    );
    text += &format!("  memory    {:.1} MiB resident\n", mib(status.resident_bytes));
    text += &format!("  gateway   {} sessions\n", status.gateway_sessions);
    text += &match &status.peer_certificate {
        None => "  peer TLS  none: links to other processes are in the clear, on loopback\n".to_owned(),
        Some(certificate) => format!(
            "  peer TLS  {}, {:.1} days left{}\n",
            certificate.name,
            certificate.seconds_left as f64 / 86_400.0,
            if certificate.is_ending {
                ": RENEW IT (throng cluster certs, or new files in place)"
            } else {
                ""
            }
        ),
    };
    if let Some(router) = &status.router {
        text += &format!(
            "  shards    {} of {} led here, {} replicas here, {} without a leader, up to {} replicas each\n",
            router.serving, router.shards, router.replicas, router.leaderless, status.voters
        );
        text +=
            &format!("  links     up to nodes {:?}, {} gateway loops\n", router.links_up, router.gateways);
        if !router.store.suspects.is_empty() {
            text += &format!(
                "  SUSPECT   the replicas of shards {:?} here may have lost what they had acknowledged, and count \
                 for nothing until a leader has cleared them\n",
                router.store.suspects
            );
        }
        if let Some(log) = status.log.filter(|log| log.over_budget_bytes > 0) {
            text += &format!(
                "  LOG       {:.0} MiB, {:.0} MiB beyond its budget: entries are still needed\n",
                mib(log.bytes),
                mib(log.over_budget_bytes)
            );
        }
        for reason in &router.busy {
            text += match reason.as_str() {
                "disk" => "  BUSY      the disk is nearly full: clients cannot write\n",
                _ => "  BUSY      the state store does not keep up: clients cannot write\n",
            };
        }
        text += &format!(
            "  registry  {} sessions in {} bytes; {} entries applied\n",
            router.registered_sessions, router.registry_bytes, router.applied_entries
        );
    }
    text
}
