//! The image's documents: index, manifest, configuration, layout.
//!
//! What it implements: <https://github.com/opencontainers/image-spec> 1.1 (descriptor.md,
//! image-index.md, manifest.md, config.md, image-layout.md), and Docker's equivalents (schema 2).
//!
//! A document is named by the digest of its *bytes*: keep those, and never write a document again
//! that was only read.
//! Interface: [`Descriptor`], [`Index`], [`Manifest`], [`ImageConfig`], [`Layout`], the media types
//! in [`media_type`]. Read next: [`super::digest`], [`crate::images`].

use super::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Media types of the image specification, and Docker's for the same things.
pub mod media_type {
    /// An index: manifests by platform.
    pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// A manifest: one image.
    pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// An image's configuration.
    pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// A layer as a plain tar.
    pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// A layer compressed with gzip.
    pub const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// A layer compressed with zstd.
    pub const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// Deprecated: a layer that may not be distributed.
    pub const LAYER_NONDISTRIBUTABLE: &str =
        "application/vnd.oci.image.layer.nondistributable.v1.tar";
    /// Deprecated: the same with gzip.
    pub const LAYER_NONDISTRIBUTABLE_GZIP: &str =
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
    /// Deprecated: the same with zstd.
    pub const LAYER_NONDISTRIBUTABLE_ZSTD: &str =
        "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd";
    /// The empty object `{}`, for artifacts without a configuration.
    pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";
    /// The oci-layout file.
    pub const LAYOUT: &str = "application/vnd.oci.layout.header.v1+json";
    /// Docker's index.
    pub const DOCKER_MANIFEST_LIST: &str =
        "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker's manifest.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker's configuration.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// Docker's plain layer.
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
    /// Docker's gzip layer.
    pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// Docker's layer that may not be distributed.
    pub const DOCKER_LAYER_FOREIGN_GZIP: &str =
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";

    /// Whether it names an index of either kind.
    pub fn is_index(media_type: &str) -> bool {
        matches!(media_type, INDEX | DOCKER_MANIFEST_LIST)
    }
    /// Whether it names a manifest of either kind.
    pub fn is_manifest(media_type: &str) -> bool {
        matches!(media_type, MANIFEST | DOCKER_MANIFEST)
    }
    /// Whether it names a configuration of either kind.
    pub fn is_config(media_type: &str) -> bool {
        matches!(media_type, CONFIG | DOCKER_CONFIG)
    }
    /// Whether it names a layer of any kind.
    pub fn is_layer(media_type: &str) -> bool {
        compression(media_type).is_some()
    }
    /// How a layer is compressed: `""`, `"gzip"` or `"zstd"`; `None` when it names no layer.
    pub fn compression(media_type: &str) -> Option<&'static str> {
        match media_type {
            LAYER | LAYER_NONDISTRIBUTABLE | DOCKER_LAYER => Some(""),
            LAYER_GZIP
            | LAYER_NONDISTRIBUTABLE_GZIP
            | DOCKER_LAYER_GZIP
            | DOCKER_LAYER_FOREIGN_GZIP => Some("gzip"),
            LAYER_ZSTD | LAYER_NONDISTRIBUTABLE_ZSTD => Some("zstd"),
            _ => None,
        }
    }
}

/// The annotation that names an entry of a layout's index (`latest`, or a whole reference).
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

document! {
    /// A pointer to content: what it is, its digest, its size.
    #[serde(rename_all = "camelCase")]
    pub struct Descriptor {
        required:
        /// What the content is.
        media_type: String,
        /// Its name.
        digest: Digest,
        /// Its length in bytes. Check it before the digest.
        size: u64;
        optional:
        /// Other places to get it.
        urls: Vec<String>,
        /// Free-form notes.
        annotations: BTreeMap<String, String>,
        /// The content itself, in base64.
        data: Option<String>,
        /// What kind of artifact it points to.
        artifact_type: Option<String>,
        /// In an index: where it runs.
        platform: Option<Platform>;
    }
}

document! {
    /// Where an image runs.
    pub struct Platform {
        required:
        /// In Go's words: `amd64`, `arm64`, …
        architecture: String,
        /// `linux`, …
        os: String;
        optional:
        /// The system's version.
        #[serde(rename = "os.version")]
        os_version: Option<String>,
        /// What it needs of the system.
        #[serde(rename = "os.features")]
        os_features: Vec<String>,
        /// The CPU's: `v7`, `v8`, …
        variant: Option<String>,
        /// Reserved.
        features: Vec<String>;
    }
}

impl Platform {
    /// The platform of this program.
    pub fn host() -> Platform {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "x86" => ("386", None),
            "aarch64" => ("arm64", Some("v8")),
            "arm" => ("arm", Some("v7")),
            "powerpc64" => ("ppc64le", None),
            "loongarch64" => ("loong64", None),
            other => (other, None),
        };
        Platform {
            architecture: architecture.into(),
            os: "linux".into(),
            variant: variant.map(Into::into),
            ..Platform::default()
        }
    }

    /// Whether an image for `self` runs on `host`: system and architecture are equal; an absent
    /// variant fits, and 32-bit ARM runs what older variants run.
    pub fn runs_on(&self, host: &Platform) -> bool {
        if self.os != host.os || self.architecture != host.architecture {
            return false;
        }
        let number =
            |p: &Platform| -> Option<u32> { p.variant.as_deref()?.strip_prefix('v')?.parse().ok() };
        match (number(self), number(host)) {
            (Some(image), Some(host)) => image <= host,
            _ => self.variant.is_none() || host.variant.is_none() || self.variant == host.variant,
        }
    }
}

impl std::fmt::Display for Platform {
    /// `linux/amd64`, `linux/arm/v7`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

document! {
    /// Manifests by platform, or the entries of a layout.
    #[serde(rename_all = "camelCase")]
    pub struct Index {
        required:
        /// 2.
        schema_version: u32,
        /// The entries. One with an unknown media type is skipped, not an error.
        #[serde(default, deserialize_with = "crate::spec::null_is_default")]
        manifests: Vec<Descriptor>;
        optional:
        /// [`media_type::INDEX`].
        media_type: Option<String>,
        /// What kind of artifact this is.
        artifact_type: Option<String>,
        /// The manifest that this one is about; it may not exist.
        subject: Option<Descriptor>,
        /// Free-form notes.
        annotations: BTreeMap<String, String>;
    }
}

document! {
    /// One image: its configuration and its layers.
    #[serde(rename_all = "camelCase")]
    pub struct Manifest {
        required:
        /// 2.
        schema_version: u32,
        /// The configuration (the image's id is its digest).
        config: Descriptor,
        /// The layers, lowest first, as they are stored (compressed).
        #[serde(default, deserialize_with = "crate::spec::null_is_default")]
        layers: Vec<Descriptor>;
        optional:
        /// [`media_type::MANIFEST`].
        media_type: Option<String>,
        /// What kind of artifact this is; needed when the configuration is the empty object.
        artifact_type: Option<String>,
        /// The manifest that this one is about; it may not exist.
        subject: Option<Descriptor>,
        /// Free-form notes.
        annotations: BTreeMap<String, String>;
    }
}

impl Index {
    /// An index of these entries.
    pub fn new(manifests: Vec<Descriptor>) -> Index {
        Index {
            schema_version: 2,
            media_type: Some(media_type::INDEX.into()),
            manifests,
            ..Index::default()
        }
    }
}

impl Manifest {
    /// The manifest of an image with this configuration and these layers, lowest first.
    pub fn new(config: Descriptor, layers: Vec<Descriptor>) -> Manifest {
        Manifest {
            schema_version: 2,
            media_type: Some(media_type::MANIFEST.into()),
            config,
            layers,
            ..Manifest::default()
        }
    }
}

document! {
    /// An image's configuration: where it runs, how it starts, what it is made of.
    pub struct ImageConfig {
        required:
        /// In Go's words.
        #[serde(default)]
        architecture: String,
        /// `linux`, …
        #[serde(default)]
        os: String,
        /// The layers.
        #[serde(default)]
        rootfs: RootFs;
        optional:
        /// When it was made (RFC 3339).
        created: Option<String>,
        /// Who made it.
        author: Option<String>,
        /// The system's version.
        #[serde(rename = "os.version")]
        os_version: Option<String>,
        /// What it needs of the system.
        #[serde(rename = "os.features")]
        os_features: Vec<String>,
        /// The CPU's.
        variant: Option<String>,
        /// How a container of it starts.
        config: Option<Config>,
        /// How it was made, lowest layer first.
        history: Vec<History>;
    }
}

document! {
    /// The layers of an image.
    pub struct RootFs {
        required:
        /// `layers`.
        #[serde(rename = "type", default)]
        typ: String,
        /// The digest of each layer's uncompressed tar, lowest first.
        #[serde(default, deserialize_with = "crate::spec::null_is_default")]
        diff_ids: Vec<Digest>;
    }
}

/// The empty object `{}`: the value of Docker's sets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

document! {
    /// How a container of the image starts, unless its user says otherwise.
    #[serde(rename_all = "PascalCase")]
    pub struct Config {
        optional:
        /// `user`, `uid`, `user:group`, `uid:gid`, …; empty means root.
        user: String,
        /// `80/tcp`, …
        exposed_ports: BTreeMap<String, Empty>,
        /// `KEY=VALUE`.
        env: Vec<String>,
        /// What stands before [`cmd`](Config::cmd).
        entrypoint: Vec<String>,
        /// The program, or arguments for the entrypoint.
        cmd: Vec<String>,
        /// Directories that get an anonymous volume.
        volumes: BTreeMap<String, Empty>,
        /// The working directory; empty means `/`.
        working_dir: String,
        /// Labels.
        labels: BTreeMap<String, String>,
        /// The signal that asks it to end: `SIGTERM`, `15`.
        stop_signal: Option<String>,
        /// Deprecated, Windows: the command is one string already.
        args_escaped: bool,
        /// Docker: how to see that it is healthy.
        healthcheck: Option<Healthcheck>,
        /// Docker: the shell of the Dockerfile's shell form.
        shell: Vec<String>,
        /// Docker: instructions that run in a build on top of this image.
        on_build: Vec<String>,
        /// Docker: seconds until stop kills.
        stop_timeout: Option<i64>;
    }
}

document! {
    /// How to see that a container is healthy. Times are in nanoseconds; 0 means inherit.
    #[serde(rename_all = "PascalCase")]
    pub struct Healthcheck {
        optional:
        /// `["NONE"]`, `["CMD", ARG…]` or `["CMD-SHELL", LINE]`; empty means inherit.
        test: Vec<String>,
        /// Between two checks.
        interval: i64,
        /// Until a check counts as failed.
        timeout: i64,
        /// Failures before this time do not count.
        start_period: i64,
        /// Between two checks during the start period.
        start_interval: i64,
        /// Failures in a row until it is unhealthy.
        retries: i64;
    }
}

document! {
    /// One step of how an image was made.
    pub struct History {
        optional:
        /// When (RFC 3339).
        created: Option<String>,
        /// Who.
        author: Option<String>,
        /// The command.
        created_by: Option<String>,
        /// A remark.
        comment: Option<String>,
        /// It made no layer.
        empty_layer: bool;
    }
}

document! {
    /// The file `oci-layout` in the root of an image layout.
    #[serde(rename_all = "camelCase")]
    pub struct Layout {
        required:
        /// `1.0.0`.
        image_layout_version: String;
    }
}
