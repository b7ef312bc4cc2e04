//! Stand-in until the real one lands.
#![allow(missing_docs)]
use super::compression::{self, Decoded};
use crate::error::{Context, Result};
use std::path::Path;
pub enum Target {
    Overlay,
}
pub fn apply_layer(
    input: impl std::io::Read + Send,
    limit: u64,
    directory: &Path,
    _: Target,
) -> Result<Decoded> {
    let ((), d) = compression::decode(input, limit, |r| {
        let mut a = tar::Archive::new(r);
        a.set_preserve_permissions(true);
        a.set_preserve_ownerships(nix::unistd::geteuid().is_root());
        a.unpack(directory).context("cannot unpack")
    })?;
    Ok(d)
}
