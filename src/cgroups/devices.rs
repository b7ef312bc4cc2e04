//! Device rules (being written).
use super::group::Group;
use crate::error::Result;
use crate::journal::{Action, Planned, Scene};

/// Which devices.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DeviceRule {
    /// Allow or deny.
    pub allow: bool,
    /// `a`, `b` or `c`.
    pub kind: char,
    /// Major number; absent: any.
    pub major: Option<u32>,
    /// Minor number; absent: any.
    pub minor: Option<u32>,
    /// A set of `r`, `w`, `m`.
    pub access: String,
}
/// Applies rules.
#[derive(Debug, Clone)]
pub struct DeviceRules {}
impl DeviceRules {
    /// For a group.
    pub fn new(_group: &Group, _rules: &[DeviceRule]) -> DeviceRules {
        DeviceRules {}
    }
    /// Whether the host can.
    pub fn is_possible(&self) -> bool {
        false
    }
}
impl Action for DeviceRules {
    fn calls(&self) -> Vec<Planned> {
        Vec::new()
    }
    fn apply(&self, _: &mut Scene) -> Result<()> {
        Ok(())
    }
}
