//! Reading every entry of the log while it is in use, to find damage before a follower or the next start needs it.

use throng_storage_core::store::{LogRead, LogReadError};
use throng_wire::ids::ShardId;

use super::files;
use super::reader::LogReader;

/// A scrub of the log under way. It sees the entries that are needed when it comes to them: what is truncated meanwhile
/// is none of its business, and what is appended behind it is not either.
pub struct LogScrub {
    reader: LogReader,
    shards: u32,
    shard: u32,
    /// The next index of the shard; 0 before its first.
    next: u64,
    bytes: u64,
    entries: u64,
}

impl LogReader {
    /// Begins a scrub of the groups `0..shards`.
    pub fn scrub(&self, shards: u32) -> LogScrub {
        LogScrub { reader: self.clone(), shards, shard: 0, next: 0, bytes: 0, entries: 0 }
    }
}

impl LogScrub {
    /// Reads about `bytes` bytes of entries; true when everything was read. After an error it goes on behind the
    /// damaged entry, so that one call after the other finds all damage.
    ///
    /// # Errors
    /// [`LogReadError`] names the file, the byte and the entry that is damaged.
    pub fn step(&mut self, bytes: u64) -> Result<bool, LogReadError> {
        let until = self.bytes.saturating_add(bytes);
        while self.shard < self.shards {
            let shard = ShardId(self.shard);
            let (first, end) = self.reader.with_contents(|contents| contents.bounds(shard));
            self.next = self.next.max(first);
            if self.next >= end {
                (self.shard, self.next) = (self.shard + 1, 0);
                continue;
            }
            if self.bytes >= until {
                return Ok(false);
            }
            let index = self.next;
            let place = self.reader.with_contents(|contents| contents.places(shard)?.get(index));
            self.next += 1;
            let Some(place) = place else { continue };
            self.bytes += u64::from(place.len);
            self.entries += 1;
            if let Err(error) = self.reader.entries(shard, index, index + 1, usize::MAX) {
                // Cut or overwritten since it was looked up: nobody needs it any more.
                let now = self.reader.with_contents(|contents| contents.places(shard)?.get(index));
                if now.is_none_or(|now| (now.generation(), now.offset) != (place.generation(), place.offset))
                {
                    continue;
                }
                return Err(LogReadError(format!("{}: {}", files::name_of(place.generation()), error.0)));
            }
        }
        Ok(true)
    }

    /// Bytes of entries read so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Entries read so far.
    pub fn entries(&self) -> u64 {
        self.entries
    }
}
