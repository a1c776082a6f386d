//! `throng demo`: one message from a WebSocket to a QUIC user through a fresh node.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use throng_client::{Client, Cursor, Start, SubscriptionEvent};
use throng_wire::EventKind;

use crate::cli::Transport;
use crate::connect::{self, chain};
use crate::error::Failure;
use crate::ready::Ready;
use crate::token;

const TIMEOUT: Duration = Duration::from_secs(30);

/// A node that ends with the demo.
struct Node(Child);

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a node in a temporary directory, sends, receives, prints.
///
/// # Errors
/// [`Failure::Runtime`] if any step fails or takes longer than 30 s.
pub(crate) fn run() -> Result<(), Failure> {
    let id = crate::serve::random_id()?;
    let dir = std::env::temp_dir().join(format!("throng-demo-{}", throng_wire::ChannelId(id)));
    let outcome = deliver(&dir);
    if let Err(error) = std::fs::remove_dir_all(&dir) {
        eprintln!("throng: cannot remove {}: {error}", dir.display());
    }
    outcome
}

fn deliver(dir: &std::path::Path) -> Result<(), Failure> {
    std::fs::create_dir_all(dir)
        .map_err(|e| Failure::runtime(format!("cannot make {}", dir.display()), e))?;
    let ready_file = dir.join("ready.json");
    let program = std::env::current_exe().map_err(|e| Failure::runtime("cannot find this program", e))?;
    let child = Command::new(program)
        .args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--peer-listen",
            "127.0.0.1:0",
            "--ops-listen",
            "127.0.0.1:0",
        ])
        .arg("--exit-with-parent")
        .arg("--data-dir")
        .arg(dir.join("data"))
        .arg("--ready-file")
        .arg(&ready_file)
        .env("THRONG_LOG", "warn")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|e| Failure::runtime("cannot start a node", e))?;
    let mut node = Node(child);
    let ready = Ready::wait(&ready_file, TIMEOUT, || matches!(node.0.try_wait(), Ok(None)))?;
    println!(
        "node serves: WebSocket and QUIC on {}",
        ready.websocket.map(|a| a.to_string()).unwrap_or_default()
    );
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::runtime("cannot start the async runtime", e))?
        .block_on(async {
            tokio::time::timeout(TIMEOUT, talk(&ready, &dir.join("data/keys")))
                .await
                .unwrap_or_else(|_| Err(Failure::Runtime(format!("no message arrived within {TIMEOUT:?}"))))
        })
}

async fn talk(ready: &Ready, keys: &std::path::Path) -> Result<(), Failure> {
    let failed = |what: &str, e: &dyn std::error::Error| Failure::runtime(what, chain(e));
    let alice = client(ready, keys, "alice", Transport::Ws).await?;
    let bob = client(ready, keys, "bob", Transport::Quic).await?;
    let room = bob.open(connect::user("alice")).await.map_err(|e| failed("OPEN", &e))?;
    let mut events = bob
        .subscribe(room.channel, Start::After(Cursor::default()))
        .await
        .map_err(|e| failed("SUBSCRIBE", &e))?;
    let begin = Instant::now();
    let ack =
        alice.publish(room.channel, "hello from a WebSocket").await.map_err(|e| failed("PUBLISH", &e))?;
    println!("alice (WebSocket): stored as #{} after {:?}, fsynced and applied", ack.seq, begin.elapsed());
    while let Some(event) = events.next().await {
        if let SubscriptionEvent::Event(event) = event
            && event.kind == EventKind::MESSAGE
        {
            println!("bob (QUIC): #{} {:?}", event.seq, String::from_utf8_lossy(&event.body));
            alice.close().await.map_err(|e| failed("CLOSE", &e))?;
            bob.close().await.map_err(|e| failed("CLOSE", &e))?;
            return Ok(());
        }
    }
    Err(Failure::Runtime("the connection ended before the message came".into()))
}

async fn client(
    ready: &Ready,
    keys: &std::path::Path,
    user: &str,
    transport: Transport,
) -> Result<Client, Failure> {
    let address = if transport == Transport::Quic { ready.quic } else { ready.websocket };
    let address = address.ok_or_else(|| Failure::Runtime("the node has no gateway".into()))?;
    let token = token::mint(keys, user, token::random_device()?, 60)?;
    let endpoint = connect::endpoint(transport, &address.to_string());
    Client::connect(connect::options(&endpoint, &token, keys))
        .await
        .map_err(|e| Failure::runtime(format!("cannot connect to {endpoint}"), chain(&e)))
}
