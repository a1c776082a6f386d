//! Dedup records of a channel's devices, loaded one by one as their devices send.

use std::collections::BTreeMap;

use throng_storage_core::state::{StateRead, Table};
use throng_wire::ids::{ChannelId, DeviceId, MemberNo};

use super::dedup::Record;
use crate::codec::Corrupt;
use crate::fatal::Fatal;
use crate::state::keys::{self, Replica};

/// A device of a member. Device ids are the clients' draws, so a device is one only together with its member.
pub(crate) type DeviceKey = (MemberNo, DeviceId);

/// The records that are in memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Devices {
    records: BTreeMap<DeviceKey, Slot>,
    /// Rows of this channel may rest in the state store. False from CREATE until the object is loaded again.
    pub(crate) may_rest: bool,
    /// Invariant: each changed record once.
    dirty: Vec<DeviceKey>,
}

#[derive(Clone, Debug, Default)]
struct Slot {
    record: Record,
    is_dirty: bool,
}

impl Devices {
    /// The record of a device, from memory or from its row; `None` if the device never sent here.
    pub(crate) fn load(
        &mut self,
        state: &impl StateRead,
        replica: Replica,
        channel: &ChannelId,
        key: DeviceKey,
    ) -> Result<Option<&Record>, Fatal> {
        if self.may_rest && !self.records.contains_key(&key) {
            let row = state.get(Table::Objects, &keys::device(replica, channel, key.0, key.1))?;
            if let Some(row) = row {
                let record = Record::decode(&row).map_err(|Corrupt(field)| Fatal::corrupt_row(field))?;
                self.records.insert(key, Slot { record, is_dirty: false });
            }
        }
        Ok(self.records.get(&key).map(|slot| &slot.record))
    }

    /// The record of a device, made if need be; it counts as changed.
    pub(crate) fn change(&mut self, key: DeviceKey) -> &mut Record {
        let slot = self.records.entry(key).or_default();
        if !slot.is_dirty {
            slot.is_dirty = true;
            self.dirty.push(key);
        }
        &mut slot.record
    }

    /// Whether a record is in memory.
    pub(crate) fn has(&self, key: DeviceKey) -> bool {
        self.records.contains_key(&key)
    }

    /// Hands every changed record to `write`; they count as unchanged.
    pub(crate) fn cut(&mut self, mut write: impl FnMut(DeviceKey, &Record)) {
        for key in core::mem::take(&mut self.dirty) {
            let slot = self.records.get_mut(&key).expect("a changed record is in memory");
            slot.is_dirty = false;
            write(key, &slot.record);
        }
    }

    /// About how much memory the records take.
    pub(crate) fn bytes(&self) -> usize {
        self.records.len() * Record::BYTES
    }
}
