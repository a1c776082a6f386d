//! A line per acknowledged send, for whoever breaks the cluster meanwhile and wants to know since when each shard
//! takes writes again.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use throng_base::Instant;
use throng_wire::{ChannelId, SLOTS, ShardId};

use crate::exit::Failure;

/// The open file; the first error ends the writing and is told once.
pub(crate) struct Acks {
    out: Option<BufWriter<File>>,
    /// What the clock of the run calls zero, in milliseconds since 1970.
    zero_unix_ms: u64,
}

impl Acks {
    /// Opens the file. `now` is the present on the clock of the run.
    ///
    /// # Errors
    /// [`Failure`] if it cannot be opened for writing.
    pub(crate) fn open(path: &Path, now: Instant) -> Result<Self, Failure> {
        let file = File::options().write(true).create(true).truncate(true).open(path);
        let file = file.map_err(|error| Failure::usage(format!("--acks {}: {error}", path.display())))?;
        let zero_unix_ms = throng_runtime::unix_millis().saturating_sub(now.as_millis());
        Ok(Self { out: Some(BufWriter::new(file)), zero_unix_ms })
    }

    /// A send into `channel`, due at `intended`, was acknowledged at `acked`.
    pub(crate) fn record(&mut self, channel: &ChannelId, intended: Instant, acked: Instant) {
        let slot = ShardId::of_channel(channel, SLOTS).0;
        let unix_ms = |at: Instant| self.zero_unix_ms + at.as_millis();
        let (intended, acked) = (unix_ms(intended), unix_ms(acked));
        self.write(|out| writeln!(out, "{slot} {intended} {acked}"));
    }

    /// Hands over what was recorded.
    pub(crate) fn flush(&mut self) {
        self.write(BufWriter::flush);
    }

    fn write(&mut self, write: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>) {
        if let Some(out) = &mut self.out
            && let Err(error) = write(out)
        {
            eprintln!("--acks: {error}");
            self.out = None;
        }
    }
}
