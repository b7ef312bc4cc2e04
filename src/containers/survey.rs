//! All containers of a state root, each with what became of it.
//!
//! What it does: `ps` of hundreds. Each container's record and status are read, and what the caller
//! makes of the two is all that stays in memory. Several threads share the work; meanwhile another
//! reads the kernel's list of locks, which says which monitors live. Only what seems to have lost
//! its monitor is looked at more closely, and put right, one after another.
//!
//! Interface: [`survey`]. Read next: `reconcile.rs`, for what is put right and how.

use super::reconcile;
use super::state::Status;
use super::store::{Container, Store, each};
use super::time::Time;
use crate::error::Result;
use crate::files::read_json_at;
use crate::host::locks::{Held, Identity};
use std::os::fd::AsFd;
use std::path::Path;

/// Of more containers than these the kernel's list of locks is read, instead of each lock.
const FEW: usize = 8;

/// A container, as the files say.
struct Seen<T> {
    id: String,
    created: Time,
    /// What the caller makes of it, if it is true.
    made: Option<T>,
    monitor: Monitor,
}

/// Whether what is written down needs a monitor that lives.
enum Monitor {
    NotNeeded,
    /// It holds this lock.
    Needed(Option<Identity>),
}

/// What `of` makes of each container, newest first, without those of which it makes nothing. It is
/// called by several threads, and may be called for one container twice. A container whose record
/// cannot be read is left out; `fsck` is for those. Errors: the root exists and cannot be read.
pub fn survey<T: Send>(
    store: &Store,
    of: impl Fn(&Container, &Status) -> Option<T> + Sync,
) -> Result<Vec<T>> {
    let Some((dir, ids)) = store.open_all()? else {
        return Ok(Vec::new());
    };
    let (mut all, held) = std::thread::scope(|scope| {
        // Of a few each lock is asked itself.
        let held = (ids.len() > FEW).then(|| scope.spawn(Held::read));
        let all = each(&ids, |id| see(store, &dir, id, &of).ok().flatten());
        let held = held.and_then(|reader| reader.join().ok());
        (all, held.unwrap_or_default())
    });
    all.sort_by_key(|seen| std::cmp::Reverse(seen.created));
    let settle = |seen: Seen<T>| match seen.monitor {
        Monitor::NotNeeded => seen.made,
        Monitor::Needed(Some(lock)) if held.has(lock) => seen.made,
        // It may live all the same: the list was read a moment before or after. One that vanishes
        // meanwhile is no error.
        Monitor::Needed(_) => {
            let container = store.load(&seen.id).ok().flatten()?;
            let status = reconcile::status(&container).ok()?;
            let exists = container.dir.join("container.json").exists();
            exists.then(|| of(&container, &status)).flatten()
        }
    };
    Ok(all.into_iter().filter_map(settle).collect())
}

/// Reads one. `None` when it does not exist.
fn see<T>(
    store: &Store,
    all: impl AsFd,
    id: &str,
    of: impl Fn(&Container, &Status) -> Option<T>,
) -> Result<Option<Seen<T>>> {
    let Some(container) = store.load_at(&all, id)? else {
        return Ok(None);
    };
    let beneath = |file: &str| Path::new(id).join(file);
    let status: Option<Status> = read_json_at(&all, &beneath("status.json"))?;
    let status = status.unwrap_or_default();
    let monitor = match status.phase.is_live() {
        true => Monitor::Needed(Identity::of(&all, &beneath("monitor.lock"))),
        false => Monitor::NotNeeded,
    };
    Ok(Some(Seen {
        id: id.into(),
        created: container.record.created,
        made: of(&container, &status),
        monitor,
    }))
}
