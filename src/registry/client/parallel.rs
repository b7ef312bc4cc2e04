//! Several things at once, a bounded number of them.
//!
//! What it does: threads take one piece of work after the other; after the first failure none is
//! begun any more. All threads have ended when it returns.
//! Interface: [`for_each`]. Read next: `pull.rs`.

use crate::error::{Error, Result};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Set when something failed: whoever is at work stops soon.
#[derive(Debug, Default)]
pub struct Stop(AtomicBool);

impl Stop {
    /// Whether to stop.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Does `work` for every item, `at_once` at a time. Errors: the first that happened.
pub fn for_each<T: Sync>(
    items: &[T],
    at_once: usize,
    stop: &Stop,
    work: impl Fn(&T) -> Result<()> + Sync,
) -> Result<()> {
    let (next, failure) = (AtomicUsize::new(0), Mutex::new(None::<Error>));
    std::thread::scope(|scope| {
        for _ in 0..at_once.clamp(1, items.len().max(1)) {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if stop.is_set() {
                        return;
                    }
                    if let Err(e) = work(item) {
                        stop.0.store(true, Ordering::Relaxed);
                        failure
                            .lock()
                            .unwrap_or_else(|e| e.into_inner())
                            .get_or_insert(e);
                        return;
                    }
                }
            });
        }
    });
    failure
        .into_inner()
        .unwrap_or_else(|e| e.into_inner())
        .map_or(Ok(()), Err)
}
