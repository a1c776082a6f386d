//! The tokio thread: QUIC connections, TLS, and Ctrl-C. It moves bytes and knows nothing else.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc as std_mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use throng_client::Dialer;
use throng_client_core::Endpoint;
use throng_runtime::Waker;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::SessionNo;
use crate::limits::PUMP_REPORTS_MAX;

/// How long a dial may take; the client machine gives up at the same time.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// How long goodbyes may take at the end.
const LINGER: Duration = Duration::from_secs(1);

/// Bytes read from a connection at a time.
const READ_BYTES: usize = 8 * 1024;

/// What happened to a connection.
pub(super) struct Report {
    pub(super) number: SessionNo,
    pub(super) generation: u32,
    pub(super) what: What,
}

pub(super) enum What {
    Connected,
    Bytes(Vec<u8>),
    /// This many bytes handed over before have been written.
    Wrote(usize),
    Gone(String),
}

/// What the loop wants.
enum Order {
    Dial { number: SessionNo, generation: u32, endpoint: Arc<Endpoint> },
    Write { number: SessionNo, generation: u32, bytes: Bytes },
    Close { number: SessionNo, generation: u32, bytes: Bytes },
    Stop,
}

/// The loop's end.
pub(super) struct Pump {
    /// Bounded by the sessions: each has at most `PUMP_QUEUED_MAX` bytes on the way.
    orders: mpsc::UnboundedSender<Order>,
    reports: std_mpsc::Receiver<Report>,
    interrupted: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Pump {
    pub(super) fn start(dialer: Dialer, waker: Waker) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (orders, orders_in) = mpsc::unbounded_channel();
        let (reports, reports_out) = std_mpsc::sync_channel(PUMP_REPORTS_MAX);
        let interrupted = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&interrupted);
        let reporter = Reporter { reports, waker };
        let thread = std::thread::Builder::new()
            .name("pump".into())
            .spawn(move || runtime.block_on(run(orders_in, reporter, dialer, flag)))?;
        Ok(Self { orders, reports: reports_out, interrupted, thread: Some(thread) })
    }

    pub(super) fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    pub(super) fn next_report(&mut self) -> Option<Report> {
        self.reports.try_recv().ok()
    }

    // The thread ends only after Stop, so a send fails only then, and then it does not matter.

    pub(super) fn dial(&mut self, number: SessionNo, generation: u32, endpoint: Arc<Endpoint>) {
        let _ = self.orders.send(Order::Dial { number, generation, endpoint });
    }

    pub(super) fn write(&mut self, number: SessionNo, generation: u32, bytes: Bytes) {
        let _ = self.orders.send(Order::Write { number, generation, bytes });
    }

    pub(super) fn close(&mut self, number: SessionNo, generation: u32, bytes: Bytes) {
        let _ = self.orders.send(Order::Close { number, generation, bytes });
    }

    pub(super) fn stop(&mut self) {
        let _ = self.orders.send(Order::Stop);
        if let Some(thread) = self.thread.take() {
            // The thread may wait for room among the reports.
            while !thread.is_finished() {
                while self.reports.try_recv().is_ok() {}
                std::thread::sleep(Duration::from_millis(1));
            }
            let _ = thread.join();
        }
    }
}

#[derive(Clone)]
struct Reporter {
    reports: std_mpsc::SyncSender<Report>,
    waker: Waker,
}

impl Reporter {
    fn report(&self, number: SessionNo, generation: u32, what: What) {
        // Blocks this thread while the loop is behind: its sockets then push back by themselves.
        let _ = self.reports.send(Report { number, generation, what });
        self.waker.wake();
    }
}

/// Bytes for one connection; the last ones end it.
struct Outgoing {
    bytes: Bytes,
    is_last: bool,
}

async fn run(
    mut orders: mpsc::UnboundedReceiver<Order>,
    reporter: Reporter,
    dialer: Dialer,
    interrupted: Arc<AtomicBool>,
) {
    let mut connections: HashMap<SessionNo, (u32, mpsc::UnboundedSender<Outgoing>)> = HashMap::new();
    let mut tasks = tokio::task::JoinSet::new();
    let waker = reporter.waker.clone();
    tasks.spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            interrupted.store(true, Ordering::Relaxed);
            waker.wake();
        }
    });
    while let Some(order) = orders.recv().await {
        match order {
            Order::Dial { number, generation, endpoint } => {
                let (outgoing, outgoing_in) = mpsc::unbounded_channel();
                connections.insert(number, (generation, outgoing));
                let (dialer, reporter) = (dialer.clone(), reporter.clone());
                tasks.spawn(async move {
                    let why = match connection(&dialer, &endpoint, number, generation, outgoing_in, &reporter)
                        .await
                    {
                        Ok(()) => "closed by the server".to_string(),
                        Err(error) => error.to_string(),
                    };
                    reporter.report(number, generation, What::Gone(why));
                });
            }
            Order::Write { number, generation, bytes } => {
                hand(&connections, number, generation, Outgoing { bytes, is_last: false });
            }
            Order::Close { number, generation, bytes } => {
                hand(&connections, number, generation, Outgoing { bytes, is_last: true });
            }
            Order::Stop => break,
        }
        while tasks.try_join_next().is_some() {}
    }
    connections.clear();
    tokio::time::sleep(if tasks.len() > 1 { LINGER } else { Duration::ZERO }).await;
}

fn hand(
    connections: &HashMap<SessionNo, (u32, mpsc::UnboundedSender<Outgoing>)>,
    number: SessionNo,
    generation: u32,
    outgoing: Outgoing,
) {
    if let Some((current, sender)) = connections.get(&number)
        && *current == generation
    {
        let _ = sender.send(outgoing); // fails if the connection just ended, which is reported
    }
}

async fn connection(
    dialer: &Dialer,
    endpoint: &Endpoint,
    number: SessionNo,
    generation: u32,
    outgoing: mpsc::UnboundedReceiver<Outgoing>,
    reporter: &Reporter,
) -> io::Result<()> {
    let dialed = tokio::time::timeout(DIAL_TIMEOUT, dialer.dial(endpoint)).await;
    let transport = dialed.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    reporter.report(number, generation, What::Connected);
    let (reader, writer) = transport.into_halves();
    let report = |what| reporter.report(number, generation, what);
    tokio::select! {
        read = read_all(reader, report) => read,
        written = write_all(writer, outgoing, report) => written,
    }
}

async fn read_all(mut reader: impl AsyncRead + Unpin, report: impl Fn(What)) -> io::Result<()> {
    let mut buffer = vec![0u8; READ_BYTES];
    loop {
        match reader.read(&mut buffer).await? {
            0 => return Ok(()),
            bytes => report(What::Bytes(buffer[..bytes].to_vec())),
        }
    }
}

async fn write_all(
    mut writer: impl AsyncWrite + Unpin,
    mut outgoing: mpsc::UnboundedReceiver<Outgoing>,
    report: impl Fn(What),
) -> io::Result<()> {
    while let Some(Outgoing { bytes, is_last }) = outgoing.recv().await {
        writer.write_all(&bytes).await?;
        if is_last {
            break;
        }
        writer.flush().await?;
        report(What::Wrote(bytes.len()));
    }
    writer.shutdown().await?;
    // QUIC drops undelivered bytes with the connection; give the goodbye a moment.
    tokio::time::sleep(Duration::from_millis(50)).await;
    Ok(())
}
