//! The words of the protocol: what a client and a registry must agree on, as data.
//!
//! ```text
//!   /v2/NAME/manifests/TAG-or-DIGEST     a manifest or an index, its exact bytes
//!   /v2/NAME/blobs/DIGEST                a configuration, a layer
//!   /v2/NAME/blobs/uploads/              where a blob begins to come in
//!   /v2/NAME/tags/list                   the names
//!   /v2/NAME/referrers/DIGEST            what points at a manifest
//! ```
//!
//! What it implements: distribution-spec 1.1, "Error Codes", "Pulling manifests", "Pushing
//! Manifests" (the size that every registry takes). Interface: [`ErrorCode`], [`ErrorBody`],
//! [`header`], [`MAX_MANIFEST`]. Read next: `client/mod.rs`, `server/mod.rs`.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The largest manifest that is taken, in bytes. The specification asks registries for at least
/// 4 megabytes ("SHOULD enforce some limit"); docker's has the same bound.
pub const MAX_MANIFEST: u64 = 4 << 20;

/// The protocol's own headers, in the lower case of HTTP/2.
pub mod header {
    /// The digest of what was sent or stored.
    pub const CONTENT_DIGEST: &str = "docker-content-digest";
    /// `registry/2.0`, by which older clients know a registry.
    pub const API_VERSION: &str = "docker-distribution-api-version";
    /// An upload's name, for its owner's eyes.
    pub const UPLOAD_UUID: &str = "docker-upload-uuid";
    /// The registry has understood a manifest's `subject`.
    pub const SUBJECT: &str = "oci-subject";
    /// Which filters a list of referrers went through.
    pub const FILTERS_APPLIED: &str = "oci-filters-applied";
    /// The size that a chunk of an upload must at least have.
    pub const CHUNK_MIN_LENGTH: &str = "oci-chunk-min-length";
}

macro_rules! error_codes {
    ($($(#[$doc:meta])* $name:ident $code:literal $status:literal $message:literal;)+) => {
        /// The reasons that a registry gives. A code that is not known is `Unknown`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ErrorCode { $($(#[$doc])* $name),+ }

        impl ErrorCode {
            /// All of them, in the specification's order.
            pub const ALL: &[ErrorCode] = &[$(ErrorCode::$name),+];
            /// As it stands in the answer: `BLOB_UNKNOWN`.
            pub fn code(self) -> &'static str {
                match self { $(ErrorCode::$name => $code),+ }
            }
            /// The HTTP status that goes with it.
            pub fn status(self) -> u16 {
                match self { $(ErrorCode::$name => $status),+ }
            }
            /// What it means, where the registry has nothing better to say.
            pub fn message(self) -> &'static str {
                match self { $(ErrorCode::$name => $message),+ }
            }
        }

        impl From<&str> for ErrorCode {
            fn from(code: &str) -> ErrorCode {
                match code { $($code => ErrorCode::$name,)+ _ => ErrorCode::Unknown }
            }
        }
    };
}

error_codes! {
    /// code-1.
    BlobUnknown "BLOB_UNKNOWN" 404 "the registry has no such blob in this repository";
    /// code-2.
    BlobUploadInvalid "BLOB_UPLOAD_INVALID" 416 "this part does not continue the upload";
    /// code-3.
    BlobUploadUnknown "BLOB_UPLOAD_UNKNOWN" 404 "the registry knows no such upload";
    /// code-4.
    DigestInvalid "DIGEST_INVALID" 400 "the digest is not that of the content";
    /// code-5.
    ManifestBlobUnknown "MANIFEST_BLOB_UNKNOWN" 404 "the manifest names a blob that the repository lacks";
    /// code-6.
    ManifestInvalid "MANIFEST_INVALID" 400 "this is no manifest";
    /// code-7.
    ManifestUnknown "MANIFEST_UNKNOWN" 404 "the registry has no such manifest in this repository";
    /// code-8.
    NameInvalid "NAME_INVALID" 400 "this cannot be the name of a repository";
    /// code-9.
    NameUnknown "NAME_UNKNOWN" 404 "the registry has no such repository";
    /// code-10.
    SizeInvalid "SIZE_INVALID" 400 "the length is not that of the content";
    /// code-11.
    Unauthorized "UNAUTHORIZED" 401 "the registry wants to know who asks";
    /// code-12.
    Denied "DENIED" 403 "this is not allowed to you";
    /// code-13.
    Unsupported "UNSUPPORTED" 405 "the registry does not do this";
    /// code-14.
    TooManyRequests "TOOMANYREQUESTS" 429 "too many requests";
    /// Not of the specification: what a client takes an unknown code for.
    Unknown "UNKNOWN" 500 "an error that the registry does not name";
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// One reason of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ErrorEntry {
    /// A code, known or not.
    pub code: String,
    /// For a person.
    #[serde(default, deserialize_with = "crate::spec::null_is_default")]
    pub message: String,
    /// Whatever the registry adds.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub detail: serde_json::Value,
}

/// The body of an answer that is a failure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// Why; at least one.
    pub errors: Vec<ErrorEntry>,
}

impl ErrorBody {
    /// One reason with its own words, or with none the code's.
    pub fn one(code: ErrorCode, message: Option<String>, detail: serde_json::Value) -> ErrorBody {
        ErrorBody {
            errors: vec![ErrorEntry {
                code: code.code().to_string(),
                message: message.unwrap_or_else(|| code.message().to_string()),
                detail,
            }],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_read_back_and_a_new_one_is_unknown() {
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from(code.code()), *code);
        }
        assert_eq!(ErrorCode::from("TEAPOT"), ErrorCode::Unknown);
    }

    #[test]
    fn a_body_without_detail_or_with_null_is_read() {
        let body: ErrorBody =
            serde_json::from_str(r#"{"errors":[{"code":"DENIED","message":null}]}"#).unwrap();
        assert_eq!(body.errors[0].code, "DENIED");
        let text = serde_json::to_string(&ErrorBody::one(
            ErrorCode::Denied,
            None,
            serde_json::Value::Null,
        ));
        assert_eq!(
            text.unwrap(),
            r#"{"errors":[{"code":"DENIED","message":"this is not allowed to you"}]}"#
        );
    }
}
