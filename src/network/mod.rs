//! Networks: links, addresses, routes and rules of the kernel's.
//!
//! What it does: builds what connects containers, through netlink alone: neither `ip` nor `nft`
//! need to be installed. It knows addresses and devices, and nothing of containers, names or files
//! on disk; whoever keeps those (`containers/networks`) says which address and which bridge.
//!
//! ```text
//!   the host                                   a container's network namespace
//!   glassbox0 (bridge, 172.17.0.1/16) ─┬─ veth ───────── eth0 172.17.0.2/16, default via .1
//!                                      └─ veth ───────── eth0 of the next one
//!   table inet glassbox: masquerading, published ports, walls between networks
//! ```
//!
//! What it implements: rtnetlink(7), veth(4), linux/if_link.h, linux/netfilter/nf_tables.h.
//! Interface: [`Prefix`], [`Mac`], [`pool`] (which addresses are free), [`link`] (one function a
//! change), [`actions`] (the steps of a container's set-up), [`rules`] (the packet filter), [`dns`]
//! (names), [`slirp`] and [`pasta`] (a network without root). Read in this order: `prefix.rs`, `pool.rs`, `wire.rs`,
//! `link.rs`, `ipvlan.rs`, `actions.rs`, `nft.rs`, `rules.rs`, `dns/mod.rs`.

pub mod actions;
pub mod dns;
pub mod ipvlan;
pub mod link;
pub mod nft;
pub mod pasta;
pub mod pool;
mod prefix;
pub mod rules;
pub mod slirp;
pub mod wire;

pub use actions::{Driver, Endpoint};
pub use prefix::{Mac, Prefix};
