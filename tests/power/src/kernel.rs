//! The one call into the kernel that no library wraps: a message to a device-mapper target.

use std::fs::File;

use rustix::io::Errno;
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};

/// `struct dm_ioctl`: version at 0, data_size at 12, data_start at 16, name at 48, 312 bytes in all.
const HEADER: usize = 312;
const NAME_AT: usize = 48;
const NAME_MAX: usize = 127;
/// `struct dm_target_msg`: the sector, then the text.
const SECTOR: usize = 8;
/// Header, message and its closing zero.
const BYTES: usize = 1024;

/// Longest text.
pub(crate) const TEXT_MAX: usize = BYTES - HEADER - SECTOR - 1;

/// `_IOWR(0xfd, 14, struct dm_ioctl)`.
const DM_TARGET_MSG: Opcode = opcode::read_write::<[u8; HEADER]>(0xfd, 14);

/// Sends `text` to the target at sector 0 of the device `name`; `control` is `/dev/mapper/control`.
#[expect(unsafe_code, reason = "an ioctl that rustix does not wrap; test code only")]
pub(crate) fn send_message(control: &File, name: &str, text: &str) -> Result<(), Errno> {
    assert!(name.len() <= NAME_MAX && text.len() <= TEXT_MAX && !text.contains('\0'));
    let mut bytes = [0u8; BYTES];
    for (at, word) in [(0, 4u32), (12, BYTES as u32), (16, HEADER as u32)] {
        bytes[at..at + 4].copy_from_slice(&word.to_ne_bytes());
    }
    bytes[NAME_AT..NAME_AT + name.len()].copy_from_slice(name.as_bytes());
    bytes[HEADER + SECTOR..HEADER + SECTOR + text.len()].copy_from_slice(text.as_bytes());
    // SAFETY: DM_TARGET_MSG reads and writes no more than `data_size` bytes behind the pointer, and that is the length
    // of the array, which lives through the call.
    unsafe { ioctl(control, Updater::<DM_TARGET_MSG, [u8; BYTES]>::new(&mut bytes)) }
}
