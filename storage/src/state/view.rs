//! Views of the state store that do not change while they are read: for snapshots, checks and backups.
//!
//! A view is a RocksDB snapshot: what was visible when it was opened, whole batches only. It keeps RocksDB from giving
//! back what it still sees, so only a few may be open, each for a limited time. A view lives on the stack of whoever
//! reads it; [`RocksState::stream`] gives it a thread of its own, for those who must never wait for a read.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use crossbeam_channel::{Receiver, bounded};
use rocksdb::{ReadOptions, SnapshotWithThreadMode};
use throng_storage_core::state::{StateError, StateRead, Table};

use super::{Db, RocksState, failed, scan_with};
use crate::limits::{VIEW_TIME_MAX, VIEWS_MAX};

/// A view. Reads fail once it has been open for [`VIEW_TIME_MAX`]: that ends its use, not the node.
pub struct View<'a> {
    state: &'a RocksState,
    snapshot: SnapshotWithThreadMode<'a, Db>,
    until: Instant,
}

impl View<'_> {
    fn check_time(&self) -> Result<(), StateError> {
        if Instant::now() < self.until {
            return Ok(());
        }
        Err(StateError("the view was open for too long".to_owned()))
    }
}

impl StateRead for View<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        self.check_time()?;
        self.snapshot
            .get_cf(&self.state.table(table)?, key)
            .map(|value| value.map(Bytes::from))
            .map_err(failed)
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StateError> {
        self.check_time()?;
        let mut options = ReadOptions::default();
        // Each row is read once: it must not push out what the loop reads again and again.
        options.fill_cache(false);
        let table = self.state.table(table)?;
        scan_with(from, to, limit, options, |options| self.snapshot.raw_iterator_cf_opt(&table, options))
    }
}

/// Counts a view while it is open.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(open: &Arc<AtomicUsize>) -> Result<Self, StateError> {
        let taken = open
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |open| (open < VIEWS_MAX).then_some(open + 1));
        match taken {
            Ok(_) => Ok(Self(Arc::clone(open))),
            Err(_) => Err(StateError(format!("{VIEWS_MAX} views are open already"))),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl RocksState {
    /// Reads a view on the caller's thread.
    ///
    /// # Errors
    /// [`StateError`] if [`VIEWS_MAX`] are open: try again later.
    pub fn with_view<R>(&self, read: impl FnOnce(&View<'_>) -> R) -> Result<R, StateError> {
        let _place = Place::take(&self.inner.views)?;
        Ok(self.viewed(read))
    }

    /// Reads a view on a thread of its own, which hands over what `next` makes of it until that returns `None`, the
    /// receiver is dropped, or the view has been open for [`VIEW_TIME_MAX`]. At most `credit` values wait to be taken; the
    /// thread waits when they are not. `wake` is called after each value and at the end.
    ///
    /// The view is open when this returns: it holds every batch that was written before.
    ///
    /// # Errors
    /// [`StateError`] if [`VIEWS_MAX`] are open or no thread can be had: try again later.
    pub fn stream<T: Send + 'static>(
        &self,
        credit: usize,
        mut wake: impl FnMut() + Send + 'static,
        mut next: impl FnMut(&View<'_>) -> Option<T> + Send + 'static,
    ) -> Result<Receiver<T>, StateError> {
        let place = Place::take(&self.inner.views)?;
        let (sender, values) = bounded(credit);
        let (opened, is_open) = bounded::<()>(1);
        let state = self.clone();
        let body = move || {
            let _place = place;
            state.viewed(|view| {
                drop(opened);
                while let Some(value) = next(view) {
                    if sender.send_deadline(value, view.until).is_err() {
                        break;
                    }
                    wake();
                }
            });
            drop((sender, state));
            wake();
        };
        std::thread::Builder::new()
            .name("throng-view".to_owned())
            .spawn(body)
            .map_err(|error| StateError(format!("no thread for a view: {error}")))?;
        let _opened = is_open.recv(); // nothing is ever sent: it is dropped when the view is open
        Ok(values)
    }

    fn viewed<R>(&self, read: impl FnOnce(&View<'_>) -> R) -> R {
        let view =
            View { state: self, snapshot: self.inner.db.snapshot(), until: Instant::now() + VIEW_TIME_MAX };
        read(&view)
    }
}
