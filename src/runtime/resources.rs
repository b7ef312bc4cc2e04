//! `linux.resources` in the words of the cgroups stage.
//!
//! What it does: names the two halves of the translation, which `cgroups::oci` does.
//! What it implements: runtime-spec "Control groups", with its conversions for v2.
//! Interface: [`limits`], [`device_rules`]. Read next: [`crate::cgroups::oci`].

use crate::cgroups::devices::DeviceRule;
use crate::cgroups::{Limits, oci};
use crate::error::Result;
use crate::security::paths;
use crate::spec::runtime::Resources;

/// The limits. Errors: what this version cannot limit (rdma, network classes).
pub fn limits(resources: Option<&Resources>) -> Result<Limits> {
    resources.map_or_else(|| Ok(Limits::default()), Limits::from_oci)
}

/// The device rules, in order; `None` when the document has none. Errors: a rule that is none.
///
/// Where something is denied, the default devices are allowed after it: the specification has every
/// container get them, and documents begin with a rule that denies everything.
pub fn device_rules(resources: Option<&Resources>) -> Result<Option<Vec<DeviceRule>>> {
    let Some(r) = resources.filter(|r| !r.devices.is_empty()) else {
        return Ok(None);
    };
    let mut rules = oci::device_rules(r)?;
    if rules.iter().any(|rule| !rule.allow) {
        let defaults = oci::device_rules(&Resources {
            devices: paths::device_rules(),
            ..Resources::default()
        })?;
        for rule in defaults.into_iter().filter(|d| d.allow) {
            if !rules.contains(&rule) {
                rules.push(rule);
            }
        }
    }
    Ok(Some(rules))
}
