//! `linux.resources` in the words of the cgroups stage.
//!
//! What it does: names the two halves of the translation, which `cgroups::oci` does.
//! What it implements: runtime-spec "Control groups", with its conversions for v2.
//! Interface: [`limits`], [`device_rules`]. Read next: [`crate::cgroups::oci`].

use crate::cgroups::devices::DeviceRule;
use crate::cgroups::{Limits, oci};
use crate::error::Result;
use crate::spec::runtime::Resources;

/// The limits. Errors: what this version cannot limit (rdma, network classes).
pub fn limits(resources: Option<&Resources>) -> Result<Limits> {
    resources.map_or_else(|| Ok(Limits::default()), Limits::from_oci)
}

/// The device rules, in order; `None` when the document has none. Errors: a rule that is none.
pub fn device_rules(resources: Option<&Resources>) -> Result<Option<Vec<DeviceRule>>> {
    match resources.filter(|r| !r.devices.is_empty()) {
        Some(r) => oci::device_rules(r).map(Some),
        None => Ok(None),
    }
}
