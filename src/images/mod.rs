//! Stage 4, images: what a container is made from, as content-addressed documents on disk.
//!
//! What it does: an image is a manifest that names a configuration (what to run) and layers (tars
//! that stack to a root file system), each by the digest of its content. This module keeps images
//! in a valid OCI image layout, unpacks their layers once, and makes new ones.
//!
//! What it implements: OCI image-spec 1.1; docker's reference grammar.
//! Interface: [`Store`], [`Image`], [`Reference`], [`load`], [`save`](save()), [`fsck`](fsck()),
//! [`describe`]. Read next: `reference.rs`, then `store.rs`, `staging.rs`, `load.rs`.

mod change;
mod collect;
mod create;
pub mod describe;
pub mod from_host;
mod fsck;
mod load;
mod receive;
mod reference;
pub mod remote;
mod save;
mod staging;
mod store;
mod unpack;

pub use change::apply_change;
pub use collect::{Reachable, reachable};
pub use create::LAB;
pub use fsck::{Problem, fsck};
pub use load::{Loaded, load};
pub use receive::Received;
pub use reference::Reference;
pub use save::{Format, save, save_directory};
pub use staging::Staging;
pub use store::{Image, Layer, Lock, Store, descriptor, name_of, repo_digest};
pub use unpack::{layers, remove_tree};

/// The annotation of the store's index with what an image's name stands for in its registry:
/// `docker.io/library/debian@sha256:…`, of an index where it came through one.
pub const REPO_DIGEST: &str = "io.glassbox.repo-digest";
