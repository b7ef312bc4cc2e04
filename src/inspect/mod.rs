//! Inspect.
pub mod fact;
