//! (being written)

pub mod from_host;
