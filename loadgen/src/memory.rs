//! Resident memory of server processes.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// Where to read a process's memory.
#[derive(Clone, Debug)]
pub(crate) enum Process {
    /// `/proc/PID/statm`.
    Pid(u32),
    /// The field `resident_bytes` of a status page.
    Status(String),
    /// The field `router.registry_bytes` of a status page: what the registry of sessions takes by itself. The router's
    /// resident memory says little about it, because the store's caches grow and shrink beside it.
    Registry(String),
}

impl Process {
    /// From the two ways to name a process.
    pub(crate) fn of(pid: Option<u32>, status: Option<&str>) -> Option<Self> {
        pid.map(Self::Pid).or_else(|| status.map(|url| Self::Status(url.into())))
    }

    /// Bytes it takes.
    pub(crate) fn resident(&self) -> io::Result<u64> {
        match self {
            Self::Pid(pid) => resident_of(*pid),
            Self::Status(url) => field(url, "/resident_bytes"),
            Self::Registry(url) => field(url, "/router/registry_bytes"),
        }
    }
}

fn field(url: &str, pointer: &str) -> io::Result<u64> {
    let page: serde_json::Value = serde_json::from_str(&http_get(url)?).map_err(io::Error::other)?;
    let number = page.pointer(pointer).and_then(serde_json::Value::as_u64);
    number.ok_or_else(|| io::Error::other(format!("{url} has no number at {pointer}")))
}

fn resident_of(pid: u32) -> io::Result<u64> {
    // `smaps_rollup` counts exactly; `statm` may lag by the kernel's per-CPU batches (up to 64 pages each).
    let exact = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("Rss:"))?;
        line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()
    });
    if let Some(kib) = exact {
        return Ok(kib * 1024);
    }
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm"))?;
    let pages: Option<u64> = statm.split_ascii_whitespace().nth(1).and_then(|field| field.parse().ok());
    Ok(pages.ok_or_else(|| io::Error::other("statm has no second field"))? * 4096)
}

/// A GET over HTTP/1.0 by hand: one number from one page is no reason for an HTTP client.
fn http_get(url: &str) -> io::Result<String> {
    let limit = Some(Duration::from_secs(5));
    let rest = url.strip_prefix("http://").ok_or_else(|| io::Error::other(format!("{url}: only http://")))?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let address = authority.to_socket_addrs()?.next().ok_or_else(|| io::Error::other("no address"))?;
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(limit)?;
    stream.set_write_timeout(limit)?;
    write!(stream, "GET /{path} HTTP/1.0\r\nHost: {authority}\r\nAccept: application/json\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(1 << 20).read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| io::Error::other("no HTTP answer"))?;
    let is_ok = head.split(' ').nth(1) == Some("200");
    if is_ok {
        Ok(body.into())
    } else {
        Err(io::Error::other(format!("{url}: {}", head.lines().next().unwrap_or(""))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_memory_is_plausible() {
        let resident = Process::Pid(std::process::id()).resident().expect("our own");
        assert!((1 << 16..1 << 40).contains(&resident), "{resident}");
        assert!(Process::Pid(u32::MAX).resident().is_err());
    }
}
