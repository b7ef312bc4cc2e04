//! Stage 5, registries: images on their way between machines.
//!
//! What it does: a registry keeps manifests and blobs by digest, below repositories, and answers
//! over HTTP. Both halves are here: the client that pulls, pushes and copies, and a registry of our
//! own. They share the words of the protocol, and a cache asks with our client; so each can be read, and is
//! tested against others' other half, alone.
//!
//! What it implements: OCI distribution-spec 1.1. Interface: [`protocol`], [`client`],
//! [`server`].
//! Read next: `protocol.rs`.

pub mod client;
pub mod protocol;
pub mod server;
