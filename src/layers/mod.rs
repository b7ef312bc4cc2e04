//! Stage 3: layers. A root file system is a stack of directories, each a set of changes.
//!
//! What it does: turns a directory into a layer (a tar archive of changes) and back, computes the
//! layer between two trees, mounts a stack of layers as one tree, and tells which layer a path
//! comes from.
//!
//! What it implements: the "Image Layer Filesystem Changeset" of the OCI image specification, the
//! POSIX pax format, and the kernel's overlayfs document (filesystems/overlayfs).
//!
//! Interface, in reading order:
//! - [`overlay`]: the mount, as a step of a plan ([`overlay::MountOverlay`]);
//! - [`whiteout`]: how "deleted" is written down, in an archive and on disk;
//! - [`compression`]: gzip, zstd and plain, found out by looking;
//! - [`archive`]: reading a layer's tar, entry by entry; [`apply`]: making the entries real,
//!   inside one directory and nowhere else;
//! - [`tree`], [`create`] and [`diff`]: reading trees, writing layers;
//! - [`whence`]: which layer provides, hides or copied up a path.
//!
//! Read next: [`crate::images`], which knows where layers come from.

pub mod apply;
pub mod archive;
pub mod compression;
pub mod create;
pub mod diff;
pub mod overlay;
pub mod tree;
pub mod whence;
pub mod whiteout;
