//! The files of a container, whether it runs or not: in and out, what changed, as an image.
//!
//! What it does: [`view`] opens a container's root as the container sees it; [`copy`] is `cp`,
//! [`changes`] is `diff`, [`commit`] makes an image of what the container has written. All of it
//! treats what lies in a container as hostile: a path is resolved by the kernel with the
//! container's root as the root, so no link of the container's leads to the host.
//!
//! What it implements: docker's `cp`, `diff`, `export` and `commit`; openat2(2).
//! Interface: the four modules. Read next: `view.rs`.

pub mod changes;
pub mod commit;
pub mod copy;
pub mod view;
