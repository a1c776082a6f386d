//! The guest: a Debian kernel and a memory file system with our program, two disks, no network.
//!
//! ```text
//!  /dev/vda (base image) ─┐
//!                         ├─ dm-log-writes "power" ─ ext4 ─ /disk/data
//!  /dev/vdb (recording)  ─┘
//! ```
//!
//! Emulated (TCG): KVM is not to be had everywhere. It is slow, which does not matter here, and takes seconds to start.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Result;
use crate::process::{output_of, run};

use super::kernel_root;

/// The disk: large enough for a minute of load with its log and state.
const DISK_BYTES: u64 = 256 << 20;
/// The recording, a file with holes.
const RECORDING_BYTES: u64 = 4 << 30;
/// A guest that has not ended by then hangs. Starting takes 5 s, the load below a minute.
const SECONDS_MAX: &str = "240";
/// In the order in which they must be loaded.
const MODULES: [&str; 8] = [
    "drivers/virtio/virtio_ring.ko",
    "drivers/virtio/virtio.ko",
    "drivers/virtio/virtio_pci_modern_dev.ko",
    "drivers/virtio/virtio_pci_legacy_dev.ko",
    "drivers/virtio/virtio_pci.ko",
    "drivers/block/virtio_blk.ko",
    "drivers/md/dm-mod.ko",
    "drivers/md/dm-log-writes.ko",
];
/// What the guest prints last if everything went well.
const DONE: &str = "guest: recorded";

/// What the workload does.
pub(super) struct Load {
    /// Each of its five runs sends for so long.
    pub(super) millis: u64,
    /// Whether it acknowledges when the log is synced; otherwise before, which is the planted bug.
    pub(super) syncs: bool,
}

/// A guest that is ready to start.
pub(super) struct Guest {
    folder: PathBuf,
    kernel: PathBuf,
}

impl Guest {
    /// Packs the memory file system and formats the disk.
    pub(super) fn new(folder: &Path, program: &Path) -> Result<Self> {
        let root = kernel_root()?;
        let kernel = entry_of(&root.join("boot"), "vmlinuz-")?;
        let modules = entry_of(&root.join("lib/modules"), "")?.join("kernel");
        let guest = Self { folder: folder.to_owned(), kernel };
        guest.pack(program, &modules)?;
        guest.format()?;
        Ok(guest)
    }

    /// The disk before anything was recorded.
    pub(super) fn base(&self) -> PathBuf {
        self.folder.join("base.img")
    }

    /// What dm-log-writes wrote.
    pub(super) fn recording(&self) -> PathBuf {
        self.folder.join("recording.img")
    }

    /// Removes what nobody will look into.
    pub(super) fn remove_images(&self) -> Result<()> {
        for path in [self.base(), self.recording(), self.disk(), self.packed()] {
            fs::remove_file(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(())
    }

    fn disk(&self) -> PathBuf {
        self.folder.join("disk.img")
    }

    fn packed(&self) -> PathBuf {
        self.folder.join("guest.cpio")
    }

    /// Runs the workload to its end.
    pub(super) fn record(&self, load: &Load, seed: u64) -> Result<()> {
        let said = self.folder.join("guest.txt");
        let output = File::create(&said).map_err(|error| format!("{}: {error}", said.display()))?;
        let sync = if load.syncs { "keep" } else { "early" };
        let mut qemu = Command::new("timeout");
        qemu.args(["-s", "KILL", SECONDS_MAX, "qemu-system-x86_64"]);
        qemu.args([
            "-accel",
            "tcg,thread=multi",
            "-smp",
            "2",
            "-m",
            "768",
            "-nodefaults",
            "-display",
            "none",
        ]);
        qemu.args(["-no-reboot", "-serial", "stdio", "-kernel"]).arg(&self.kernel);
        qemu.arg("-initrd").arg(self.packed()).arg("-append");
        qemu.arg(format!("console=ttyS0 quiet panic=-1 seed={seed} millis={} sync={sync}", load.millis));
        for disk in [self.disk(), self.recording()] {
            // What the guest's disks promise is in the recording; how the host keeps the files does not matter.
            qemu.arg("-drive").arg(format!("file={},format=raw,if=virtio,cache=unsafe", disk.display()));
        }
        let status = qemu.stdin(Stdio::null()).stdout(output).status();
        let status = status.map_err(|error| format!("cannot start the guest: {error}"))?;
        let text = fs::read(&said).map_err(|error| format!("{}: {error}", said.display()))?;
        let text = String::from_utf8_lossy(&text);
        if !status.success() || !text.contains(DONE) {
            return Err(format!("the guest failed ({status}):\n{text}"));
        }
        for line in text.lines().filter(|line| line.contains("acknowledged")) {
            println!("power: guest: {line}");
        }
        Ok(())
    }

    fn format(&self) -> Result<()> {
        let base = self.base();
        make_sparse(&base, DISK_BYTES)?;
        make_sparse(&self.recording(), RECORDING_BYTES)?;
        // Everything that ext4 would write later on its own is written before the recording begins.
        let options = "lazy_itable_init=0,lazy_journal_init=0,nodiscard";
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-E", options]).arg(&base))?;
        run(Command::new("cp").args(["--sparse=always"]).arg(&base).arg(self.disk()))
    }

    /// Makes the memory file system: busybox, dmsetup, modules, our program and its libraries.
    fn pack(&self, program: &Path, modules: &Path) -> Result<()> {
        let root = self.folder.join("guest");
        let _fresh = fs::remove_dir_all(&root);
        let io = |error: std::io::Error| format!("guest: {error}");
        for name in ["bin", "lib", "dev", "proc", "sys", "disk"] {
            fs::create_dir_all(root.join(name)).map_err(io)?;
        }
        for module in MODULES {
            let name = Path::new(module).file_name().expect("a file");
            fs::copy(modules.join(module), root.join("lib").join(name)).map_err(io)?;
        }
        let stripped = root.join("bin/throng-power");
        run(Command::new("strip").arg("-o").arg(&stripped).arg(program))?;
        let dmsetup = PathBuf::from(output_of(Command::new("which").arg("dmsetup"))?.trim());
        fs::copy("/bin/busybox", root.join("bin/busybox")).map_err(io)?;
        symlink("busybox", root.join("bin/sh")).map_err(io)?;
        fs::copy(&dmsetup, root.join("bin/dmsetup")).map_err(io)?;
        for library in libraries(program)?.into_iter().chain(libraries(&dmsetup)?) {
            let target = root.join(library.strip_prefix("/").expect("an absolute path"));
            fs::create_dir_all(target.parent().expect("it lies in a folder")).map_err(io)?;
            fs::copy(&library, target).map_err(io)?;
        }
        fs::write(root.join("init"), INIT).map_err(io)?;
        fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755)).map_err(io)?;
        let pack = "find . | cpio --create --format=newc --quiet >../guest.cpio";
        run(Command::new("sh").args(["-c", pack]).current_dir(&root))
    }
}

/// The first process of the guest. Of the workload's five runs the third is killed; the file system lives on. What
/// was written through it and not synced may be read back by the fourth, and must not be taken for durable.
const INIT: &str = r#"#!/bin/sh
export PATH=/bin
mount() { busybox mount "$@"; }
fail() { echo "guest: failed: $1"; busybox poweroff -f; }
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
for module in virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk dm-mod dm-log-writes
do busybox insmod /lib/$module.ko || fail "module $module"; done
for word in $(busybox cat /proc/cmdline); do
    case $word in seed=*|millis=*|sync=*) eval "$word" ;; esac
done
echo "0 $(busybox blockdev --getsz /dev/vda) log-writes /dev/vda /dev/vdb" | dmsetup create power || fail "the device"
dmsetup mknodes
mount -t ext4 /dev/mapper/power /disk || fail "mount"
throng-power write /disk/data dm:power $seed 2 $millis close $sync || fail "the first runs"
throng-power write /disk/data dm:power $seed 1 $millis abort $sync
[ $? = 134 ] || fail "the run that is killed"
throng-power write /disk/data dm:power $seed 2 $millis close $sync || fail "the last runs"
busybox umount /disk && dmsetup remove power || fail "the end"
echo "guest: recorded"
busybox poweroff -f
"#;

/// What a program loads, by `ldd`.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let printed = output_of(Command::new("ldd").arg(program))?;
    let paths = printed.split_whitespace().filter(|word| word.starts_with('/'));
    Ok(paths.map(|path| PathBuf::from(path.trim_end_matches(':'))).collect())
}

/// The one entry of a folder whose name begins so.
fn entry_of(folder: &Path, begin: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let found =
        paths.find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(begin)));
    found.ok_or_else(|| format!("no {begin}* in {}", folder.display()))
}

fn make_sparse(path: &Path, bytes: u64) -> Result<()> {
    let made = File::create(path).and_then(|file| file.set_len(bytes));
    made.map_err(|error| format!("{}: {error}", path.display()))
}
