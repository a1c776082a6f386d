//! A small ext4 file system for each node, on a loop device, so that it can be filled and frozen. Only inside
//! [`super::space::enter`]: the mounts are seen by this run alone and end with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::cluster::{Cluster, NODES};
use crate::Result;
use crate::process::run;

/// Room for the log's segments, the state and the reserve that a node keeps.
const IMAGE_BYTES: &str = "1536M";

/// File that takes the free space.
const BALLAST: &str = "ballast";

pub(super) struct Disks {
    mounts: Vec<PathBuf>,
}

impl Disks {
    /// Makes and mounts them, and lets the nodes (which do not run yet) keep their data there.
    pub(super) fn make(cluster: &mut Cluster) -> Result<Self> {
        run(Command::new("ip").args(["link", "set", "lo", "up"]))?;
        let mut disks = Self { mounts: Vec::new() };
        for node in 0..NODES {
            let (image, mount) = (
                cluster.folder.join(format!("disk-{}.img", node + 1)),
                cluster.folder.join(format!("disk-{}", node + 1)),
            );
            fs::create_dir_all(&mount).map_err(|error| format!("{}: {error}", mount.display()))?;
            run(Command::new("truncate").args(["-s", IMAGE_BYTES]).arg(&image))?;
            run(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&image))?;
            run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&mount))?;
            cluster.nodes[node].data = mount.join("data");
            disks.mounts.push(mount);
        }
        Ok(disks)
    }

    /// Takes all free space of a disk.
    pub(super) fn fill(&self, node: usize) -> Result<()> {
        // Blocks that others free meanwhile are taken too; the last write fails, which is the point.
        let script = "for i in 1 2 3; do f=$1.$i; a=$(df --output=avail -B1 \"$2\" | tail -1); \
                      [ \"$a\" -gt 4096 ] && fallocate -l \"$a\" \"$f\" 2>/dev/null; \
                      dd if=/dev/zero bs=64k of=\"$f.rest\" 2>/dev/null; done; true";
        let mount = &self.mounts[node];
        run(Command::new("sh").args(["-c", script, "sh"]).arg(mount.join(BALLAST)).arg(mount))
    }

    /// Gives the space back.
    pub(super) fn free(&self, node: usize) -> Result<()> {
        run(Command::new("sh").args(["-c", "rm -f \"$1\".*", "sh"]).arg(self.mounts[node].join(BALLAST)))
    }

    /// From here on every write and sync on the disk hangs, as on a disk that does not answer.
    pub(super) fn freeze(&self, node: usize) -> Result<()> {
        run(Command::new("fsfreeze").arg("-f").arg(&self.mounts[node]))
    }

    /// The disk answers again.
    pub(super) fn thaw(&self, node: usize) -> Result<()> {
        run(Command::new("fsfreeze").arg("-u").arg(&self.mounts[node]))
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        for mount in &self.mounts {
            // A process that hangs on a frozen disk could not even be killed; fails if it is not frozen.
            let _ = quietly("fsfreeze", &["-u"], mount);
            // Gone once the last process that uses it is.
            let _ = quietly("umount", &["-l"], mount);
        }
    }
}

fn quietly(program: &str, words: &[&str], path: &Path) -> bool {
    let output = Command::new(program).args(words).arg(path).output();
    output.is_ok_and(|output| output.status.success())
}
