//! What this host can limit, asked of the cgroup trees before a plan is made.
//!
//! What it does: docker takes some flags on hosts that cannot do what they ask, and says that they
//! have no effect; so it must be known beforehand. Disks are named by device file and limited by
//! number. Interface: [`of`]. Read next: `config/resources.rs`, which uses it.

use super::config::Abilities;
use super::model::HostConfig;
use crate::error::{Context, Error, Kind, Result};
use crate::host::Host;
use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// What this host can limit. Errors: a flag names a disk that is none.
pub fn of(h: &HostConfig, host: &Host) -> Result<Abilities> {
    let swap = host
        .cgroups
        .of("memory")
        .is_none_or(|h| h.v2 || h.mount.join("memory.memsw.limit_in_bytes").exists());
    let throttled = [
        &h.blkio_device_read_bps,
        &h.blkio_device_write_bps,
        &h.blkio_device_read_iops,
        &h.blkio_device_write_iops,
    ];
    let paths = throttled.into_iter().flatten().map(|d| &d.path);
    let mut disks = BTreeMap::new();
    for path in paths.chain(h.blkio_weight_device.iter().map(|d| &d.path)) {
        let meta =
            std::fs::metadata(path).with_context(|| format!("cannot look at the device {path}"))?;
        if !meta.file_type().is_block_device() {
            return Err(Error::kind(
                Kind::Usage,
                format!("{path} is not a block device"),
            ));
        }
        let numbers = (
            libc::major(meta.rdev()).into(),
            libc::minor(meta.rdev()).into(),
        );
        disks.insert(path.clone(), numbers);
    }
    Ok(Abilities {
        swap,
        io_weight: has_io_weight(host),
        disks,
    })
}

/// Whether groups have weights of disks; the root has none itself, so another group is asked.
fn has_io_weight(host: &Host) -> bool {
    let Some(tree) = host.cgroups.of("io").or_else(|| host.cgroups.of("blkio")) else {
        return true; // a controller that is not there is an error of its own
    };
    const FILES: &[&str] = &[
        "io.weight",
        "io.bfq.weight",
        "blkio.bfq.weight",
        "blkio.weight",
    ];
    let has = |dir: &Path| FILES.iter().any(|f| dir.join(f).exists());
    let groups = || {
        std::fs::read_dir(&tree.mount)
            .into_iter()
            .flatten()
            .flatten()
    };
    let enabled = |dir: &Path| !tree.v2 || dir.join("io.stat").exists();
    let mut asked = groups()
        .map(|e| e.path())
        .filter(|p| p.is_dir() && enabled(p))
        .peekable();
    has(&tree.mount) || asked.peek().is_none() || asked.any(|dir| has(&dir))
}
