//! What worker threads say.

use core::fmt;

/// From the log thread and the flush thread, called on their threads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report<T> {
    /// Everything through this token survives a crash.
    Durable(T),
    /// A write, sync or flush failed, or the thread broke; nothing more becomes durable. Nothing is ever retried: stop
    /// acknowledging, hand leadership over, exit.
    Fatal(String),
}

/// A thread did not take work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubmitError {
    /// Its queue is full; more was submitted than the limits allow.
    Full,
    /// It has stopped.
    Stopped,
}

impl fmt::Display for SubmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "its queue is full",
            Self::Stopped => "it has stopped",
        })
    }
}

impl std::error::Error for SubmitError {}

/// Runs a worker's body, which owns its queue: by the time that a failure is reported, nothing more can be submitted. A
/// panic is a Fatal report too, instead of a node that waits for ever.
pub(crate) fn guarded<T, R: FnMut(Report<T>)>(
    name: &str,
    mut report: R,
    body: impl FnOnce(&mut R) -> Result<(), String>,
) {
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body(&mut report)));
    if let Err(why) = outcome.unwrap_or_else(|_| Err("the thread broke".to_owned())) {
        tracing::error!(%why, "the {name} thread has failed");
        report(Report::Fatal(format!("{name}: {why}")));
    }
}
