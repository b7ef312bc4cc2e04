//! The server: a registry of our own, on a directory.
//!
//! ```text
//!   serve.rs                               sockets, TLS, the end
//!     │
//!   handle.rs                              which endpoint, who asks, what is allowed
//!     │        route.rs  auth.rs  log.rs  metrics.rs
//!     ├───────────┬─────────────┬──────────────┐
//!   blobs.rs   uploads.rs   manifests.rs    tags.rs  referrers.rs
//!     └───────────┴──────┬──────┴──────────────┘
//!   storage.rs           │ the directory          answer.rs  answers and refusals as data
//!   gc.rs                │ what no manifest needs
//!   cache/               │ with --upstream, in front of blobs.rs and manifests.rs: what is not here
//!                        │ is fetched from another registry
//! ```
//!
//! What it does: one thread has all the sockets and does nothing that waits for a disk; handlers are
//! plain functions from a request to an answer or a refusal, which run beside it.
//!
//! What it implements: distribution-spec 1.1, the registry's side. Interface: [`serve`],
//! [`Config`], [`gc::collect`]. Read next: `storage.rs`, then `handle.rs`.

mod answer;
mod auth;
mod blobs;
mod cache;
pub mod gc;
mod handle;
pub mod limits;
pub mod log;
mod manifests;
mod metrics;
mod referrers;
mod route;
mod serve;
pub mod storage;
mod tags;
mod uploads;

pub use cache::Config as Upstream;
pub use serve::{Config, serve};
