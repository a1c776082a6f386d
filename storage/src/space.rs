//! Watches how much space is left, so that clients stop writing before the log or RocksDB meets a full disk: what a
//! full disk refuses is final for a node, while a client that was told BUSY tries again.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;

use crate::limits::{SPACE_POLL, SPACE_RESERVE_MAX, SPACE_RESERVE_MIN};
use crate::reserve::Reserve;

/// What a file system has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Its size in bytes.
    pub total: u64,
    /// What an unprivileged process may still use of it.
    pub free: u64,
}

impl Space {
    /// Asks the file system that holds `dir`.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn of(dir: &Path) -> io::Result<Self> {
        let found = rustix::fs::statvfs(dir)?;
        Ok(Self { total: found.f_blocks * found.f_frsize, free: found.f_bavail * found.f_frsize })
    }

    /// What is kept for whatever must go on when clients may not write: 5 %, within limits.
    pub fn reserve(&self) -> u64 {
        (self.total / 20).clamp(SPACE_RESERVE_MIN, SPACE_RESERVE_MAX)
    }

    /// Whether clients may not write, given whether they might so far: they may again when a quarter more than the
    /// reserve is free, so that the answer does not flicker.
    pub fn is_low(&self, was_low: bool) -> bool {
        let reserve = self.reserve();
        self.free < if was_low { reserve + reserve / 4 } else { reserve }
    }
}

/// The thread that looks.
pub struct SpaceWatch {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl SpaceWatch {
    /// Starts to look at the file system of `dir` a few times a second; `report` is called on the thread when space
    /// becomes low (true), also at the start, and when it no longer is (false).
    ///
    /// # Errors
    /// No thread can be had, or the file system cannot be asked.
    pub fn start(dir: PathBuf, mut report: impl FnMut(bool) + Send + 'static) -> io::Result<Self> {
        Space::of(&dir)?;
        let (stop, stopped) = channel::<()>();
        let body = move || {
            let (mut was_low, reserve) = (false, Reserve::of(&dir));
            while stopped.recv_timeout(SPACE_POLL) == Err(RecvTimeoutError::Timeout) {
                // A file system that does not answer is the business of whoever writes to it.
                let Ok(space) = Space::of(&dir) else { continue };
                let is_low = space.is_low(was_low);
                if !is_low {
                    reserve.restore(space);
                }
                if is_low != was_low {
                    was_low = is_low;
                    tracing::warn!(free = space.free, reserve = space.reserve(), is_low, "disk space");
                    report(is_low);
                }
            }
        };
        let thread = std::thread::Builder::new().name("throng-space".to_owned()).spawn(body)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for SpaceWatch {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // It does not panic; a report that waits belongs to whoever drops this.
            let _ended = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_reserve_is_a_twentieth_within_limits() {
        let reserve = |total| Space { total, free: 0 }.reserve();
        assert_eq!(reserve(1000 * MIB), 50 * MIB);
        assert_eq!(reserve(100 * MIB), SPACE_RESERVE_MIN);
        assert_eq!(reserve(1 << 50), SPACE_RESERVE_MAX);
    }

    #[test]
    fn low_and_no_longer_low_are_apart() {
        let low = |free, was_low| Space { total: 1000 * MIB, free }.is_low(was_low);
        assert!(low(49 * MIB, false) && !low(51 * MIB, false));
        assert!(low(51 * MIB, true) && !low(63 * MIB, true));
    }

    #[test]
    fn a_watch_starts_and_stops() {
        let dir = tempfile::tempdir().expect("a directory");
        let watch = SpaceWatch::start(dir.path().to_owned(), |_| {}).expect("a thread");
        drop(watch);
        assert!(SpaceWatch::start(dir.path().join("nowhere"), |_| {}).is_err());
    }
}
