//! What ended containers leave of a network, and how that goes: later, or when somebody looks.
//!
//! Taking a device away costs the kernel tens of milliseconds: it waits until no packet can be under
//! way in it any more. Nobody who waits for a container's end needs that. So the end of a lease only
//! writes down what the host may still have ([`Traces`]), and [`settle`] takes it away: the monitor
//! after its last word, and every command that clears up. Whoever comes first finds the bridge as it
//! was and goes on with it.
//!
//! ```text
//!   start      lease, traces.bridge          in one write, before there is a bridge
//!   end        traces.links ← its link       in one write with the lease's end; its ports lead nowhere now
//!   settle     rules, links, bridge          and then the traces are forgotten
//! ```
//!
//! What it implements: netdevice(7)'s removal, which is why it is slow: `netdev_run_todo` of the
//! kernel's net/core/dev.c. Interface: [`Traces`], [`settle`]. Read next: `lease.rs`.

use super::super::store::Store;
use super::record::{self, Network};
use super::walls;
use crate::error::Result;
use crate::network::{Driver, actions};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What the host may have of a network beside what its leases say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Traces {
    /// Its bridge, from the first lease on.
    pub bridge: bool,
    /// The outer ends of the links of containers that have ended.
    pub links: BTreeSet<String>,
}

impl Network {
    /// Ends one lease: its links become traces. Nothing is done to the host.
    pub fn end_lease(&mut self, container: &str) {
        if let Some(lease) = self.leases.remove(container)
            && lease.endpoint.driver == Driver::Bridge
        {
            self.traces.bridge = true;
            self.traces.links.insert(lease.endpoint.link);
        }
    }

    /// Ends all of them.
    pub fn end_leases(&mut self) {
        let all: Vec<String> = self.leases.keys().cloned().collect();
        all.iter().for_each(|id| self.end_lease(id));
    }

    /// Whether [`settle`] has something to do.
    fn is_settled(&self) -> bool {
        self.traces.links.is_empty() && (!self.traces.bridge || !self.leases.is_empty())
    }

    /// Takes away what is not used: links, and the bridge where nobody has a lease. What is gone
    /// already is no error.
    pub fn take_traces_away(&mut self) -> Result<()> {
        actions::remove_links(&self.traces.links)?;
        self.traces.links.clear();
        if self.traces.bridge && self.leases.is_empty() {
            actions::remove_bridge(&self.device, &self.own_addresses())?;
            self.traces.bridge = false;
        }
        Ok(())
    }
}

/// Takes away what ended containers have left of this root's networks. Errors: the first thing that
/// cannot be removed (the rest is tried all the same, and the next look tries again).
pub fn settle(store: &Store) -> Result<()> {
    // Mostly there is nothing, and then nobody waits.
    if record::stored(store)?.iter().all(Network::is_settled) {
        return Ok(());
    }
    let _lock = record::lock(store)?;
    let mut all = record::stored(store)?;
    // The rules first: while the kernel lets go of them, the devices go.
    let mut without = all.clone();
    for network in without.iter_mut().filter(|n| n.leases.is_empty()) {
        network.traces = Traces::default();
    }
    let rules = walls::write(store, &without);
    let mut failure = None;
    for network in all.iter_mut().filter(|n| !n.is_settled()) {
        let gone = network.take_traces_away();
        if let Err(e) = gone.and(record::save(store, network)) {
            failure.get_or_insert(e);
        }
    }
    rules.map(drop).and(failure.map_or(Ok(()), Err))
}
