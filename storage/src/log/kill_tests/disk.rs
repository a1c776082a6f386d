//! A directory in memory that stops at an operation and then shows what a crash may leave of it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use throng_base::Rng;
use throng_storage_core::log::Generation;

use crate::log::disk::{LogDisk, Segment};
use crate::log::files;
use crate::log::fs::{LogFile, LogFs};
use crate::log::make::Maker;

const PAGE: usize = 4096;

/// How it ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum Crash {
    /// The process is killed: the page cache stays, but for the rest of a write in flight.
    Kill,
    /// The machine loses power: of writes that were not synced any subset of units stays, of names a prefix.
    PowerCut { unit: usize },
}

impl Crash {
    pub(super) const ALL: [Self; 3] =
        [Self::Kill, Self::PowerCut { unit: 512 }, Self::PowerCut { unit: PAGE }];

    pub(super) fn draw(rng: &mut Rng) -> Self {
        Self::ALL[rng.below(3) as usize]
    }
}

/// The directory.
pub(super) struct SimFs(Arc<Mutex<State>>);

struct SimFile {
    state: Arc<Mutex<State>>,
    inode: u64,
}

#[derive(Clone)]
struct State {
    rng: Rng,
    /// Operations until it stops.
    left: u64,
    /// Whether syncs do nothing, but say that they did.
    lies: bool,
    files: BTreeMap<u64, Inode>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    /// Names after each change since they were synced.
    pending_names: Vec<BTreeMap<String, u64>>,
    next_inode: u64,
}

#[derive(Clone, Default)]
struct Inode {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// Writes that were not synced, in order.
    pending: Vec<(usize, Vec<u8>)>,
    /// How much of the last one a killed process wrote, if it was stopped in it.
    cut: Option<usize>,
}

fn stopped() -> io::Error {
    io::Error::other("the disk has stopped")
}

impl State {
    /// Counts an operation. Says whether it is the one at which everything stops.
    fn step(&mut self) -> io::Result<bool> {
        match self.left {
            0 => Err(stopped()),
            u64::MAX => Ok(false),
            _ => {
                self.left -= 1;
                Ok(self.left == 0)
            }
        }
    }

    /// Changes a name. If it is the last operation it happens or not.
    fn rename(&mut self, change: impl FnOnce(&mut BTreeMap<String, u64>)) -> io::Result<()> {
        let is_last = self.step()?;
        if is_last && self.rng.chance(500_000) {
            return Err(stopped());
        }
        change(&mut self.names);
        self.pending_names.push(self.names.clone());
        if is_last { Err(stopped()) } else { Ok(()) }
    }

    fn inode(&mut self, inode: u64) -> &mut Inode {
        self.files.get_mut(&inode).expect("an open file has its inode")
    }
}

impl Inode {
    /// What a power cut leaves.
    fn tear(&mut self, rng: &mut Rng, unit: usize) {
        let mut left = std::mem::take(&mut self.durable);
        if left.len() < self.now.len() && rng.chance(500_000) {
            left.resize(self.now.len(), 0);
        }
        for (offset, bytes) in std::mem::take(&mut self.pending) {
            let keep_all = rng.chance(300_000);
            for (n, part) in bytes.chunks(unit).enumerate() {
                let at = offset + n * unit;
                if (keep_all || rng.chance(500_000)) && at + part.len() <= left.len() {
                    left[at..at + part.len()].copy_from_slice(part);
                }
            }
        }
        self.now.clone_from(&left);
        (self.durable, self.cut) = (left, None);
    }
}

impl SimFs {
    pub(super) fn new(seed: u64) -> Self {
        let (files, names) = (BTreeMap::new(), BTreeMap::new());
        Self(Arc::new(Mutex::new(State {
            rng: Rng::new(seed),
            left: u64::MAX,
            lies: false,
            files,
            durable_names: names.clone(),
            names,
            pending_names: Vec::new(),
            next_inode: 1,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics inside")
    }

    /// Stops after so many operations: at the one after them.
    pub(super) fn stop_after(&self, operations: u64) {
        self.state().left = operations + 1;
    }

    /// From here on syncs do nothing.
    pub(super) fn lie(&self) {
        self.state().lies = true;
    }

    /// What the machine finds after the crash.
    pub(super) fn crash(&self, crash: Crash) {
        let state = &mut *self.state();
        state.left = u64::MAX;
        let Crash::PowerCut { unit } = crash else {
            state.files.values_mut().for_each(|inode| inode.cut = None);
            return;
        };
        let kept = state.rng.below(state.pending_names.len() as u64 + 1) as usize;
        if let Some(last) = kept.checked_sub(1) {
            state.durable_names = state.pending_names.swap_remove(last);
        }
        state.pending_names.clear();
        state.names = state.durable_names.clone();
        for inode in state.files.values_mut() {
            inode.tear(&mut state.rng, unit);
        }
        let named: Vec<u64> = state.names.values().copied().collect();
        state.files.retain(|inode, _| named.contains(inode));
    }

    /// The same, to be looked at.
    pub(super) fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.state().clone())))
    }
}

impl LogFs for SimFs {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.state().names.keys().cloned().collect())
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn LogFile>> {
        let mut state = self.state();
        let inode = state.next_inode;
        state.next_inode += 1;
        state.files.insert(inode, Inode { now: vec![0; bytes as usize], ..Inode::default() });
        state.rename(|names| {
            names.insert(name.to_owned(), inode);
        })?;
        Ok(Arc::new(SimFile { state: Arc::clone(&self.0), inode }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn LogFile>> {
        let inode = self.state().names.get(name).copied().ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(SimFile { state: Arc::clone(&self.0), inode }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.state().rename(|names| {
            let inode = names.remove(from).expect("it is there");
            let replaced = names.insert(to.to_owned(), inode);
            assert!(replaced.is_none(), "nothing is renamed over a segment");
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.state().rename(|names| {
            names.remove(name);
        })
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut state = self.state();
        if state.step()? {
            return Err(stopped());
        }
        state.durable_names = state.names.clone();
        state.pending_names.clear();
        Ok(())
    }
}

impl LogFile for SimFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.lock().inode(self.inode).now.len() as u64)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let mut state = self.lock();
        let now = &state.inode(self.inode).now;
        bytes.copy_from_slice(&now[offset as usize..offset as usize + bytes.len()]);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.lock();
        let is_last = state.step()?;
        let written = if is_last {
            // A signal ends a write between pages; a power cut finds all of it under way.
            state.rng.below((bytes.len() / PAGE + 1) as u64) as usize * PAGE
        } else {
            bytes.len()
        };
        let inode = state.inode(self.inode);
        inode.now[offset as usize..offset as usize + written].copy_from_slice(&bytes[..written]);
        inode.pending.push((offset as usize, bytes.to_vec()));
        inode.cut = is_last.then_some(written);
        if is_last { Err(stopped()) } else { Ok(()) }
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.lock();
        if state.step()? {
            return Err(stopped());
        }
        if !state.lies {
            let inode = state.inode(self.inode);
            inode.durable.clone_from(&inode.now);
            inode.pending.clear();
        }
        Ok(())
    }

    fn std(&self) -> Option<&File> {
        None
    }
}

impl SimFile {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics inside")
    }
}

/// The plain driver without its second thread: the next segment is made ahead when a coin says so.
pub(super) struct InlineDisk {
    fs: Arc<dyn LogFs>,
    file: Arc<dyn LogFile>,
    maker: Maker,
    ready: Option<Segment>,
    rng: Rng,
}

impl InlineDisk {
    pub(super) fn new(fs: Arc<dyn LogFs>, present: Generation, maker: Maker, seed: u64) -> io::Result<Self> {
        let file = files::open(&*fs, present)?;
        Ok(Self { fs, file, maker, ready: None, rng: Rng::new(seed) })
    }
}

impl LogDisk for InlineDisk {
    fn next_segment(&mut self) -> io::Result<Segment> {
        let segment = match self.ready.take() {
            Some(segment) => segment,
            None => self.maker.make(&|_| false)?,
        };
        self.file = files::open(&*self.fs, segment.generation)?;
        Ok(segment)
    }

    fn write_and_sync(&mut self, offset: u64, commit: &mut Vec<u8>) -> io::Result<()> {
        if self.ready.is_none() && self.rng.chance(300_000) {
            self.ready = Some(self.maker.make(&|_| false)?);
        }
        self.file.write_at(commit, offset)?;
        self.file.sync()
    }

    fn release(&mut self, begin: Generation) {
        self.maker.release(begin);
    }
}
