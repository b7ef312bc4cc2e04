//! The OCI documents as Rust types: config.json of the runtime, the JSON of images.
//!
//! What it does: gives every document of the Open Container Initiative's specifications a struct
//! with serde. A document that was read and written again loses nothing: fields that we do not
//! know (newer versions, other vendors) are kept in `extra`. It decides nothing and touches
//! nothing.
//!
//! What it implements: runtime-spec 1.3 for Linux ([`runtime`]), image-spec 1.1 ([`image`]),
//! digests ([`digest`]), times ([`time`]).
//!
//! How the structs behave: a field that stands in the first group of a `document!` must be there
//! and is always written; every other field may be absent or `null` and is left out while it has
//! its default value, as Go's `omitempty` does.
//!
//! Interface: the modules. Read next: [`runtime`].

use serde::{Deserialize, Deserializer};

/// Fields of a document that this version does not know, kept as they were.
pub type Extra = std::collections::BTreeMap<String, serde_json::Value>;

/// Declares the struct of a JSON document: see the module's documentation.
macro_rules! document {
    ($(#[$meta:meta])* pub struct $name:ident {
        $(required: $($(#[$rm:meta])* $rf:ident: $rt:ty),+ $(,)?;)?
        $(optional: $($(#[$om:meta])* $of:ident: $ot:ty),+ $(,)?;)?
    }) => {
        #[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        $(#[$meta])*
        pub struct $name {
            $($($(#[$rm])* pub $rf: $rt,)+)?
            $($(
                $(#[$om])*
                #[serde(
                    default,
                    deserialize_with = "crate::spec::null_is_default",
                    skip_serializing_if = "crate::spec::is_default"
                )]
                pub $of: $ot,
            )+)?
            /// Fields that this version does not know, kept as they were.
            #[serde(flatten)]
            pub extra: crate::spec::Extra,
        }
    };
}

pub mod digest;
pub mod image;
pub mod runtime;
pub mod time;

pub use digest::Digest;

/// Go writes an empty list or map as `null`; both mean the default.
pub(crate) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
