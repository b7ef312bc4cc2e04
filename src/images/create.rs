//! New images: out of layers that were just written, and the embedded image `lab`.
//!
//! What it does: puts layers, a configuration and a manifest into the store, in that order, and
//! names the result last, so an image is visible only when all of it is there.
//! What it implements: image-spec "Image Configuration", "Image Manifest". Interface:
//! [`Store::create`], [`Store::from_host`], [`Store::lab`]. Read next: `from_host.rs`.

use super::from_host::{self, Collection};
use super::reference::Reference;
use super::store::{Image, Store, descriptor};
use crate::error::{Context, Result};
use crate::layers::compression::{Compression, Encoder};
use crate::spec::digest::Digest;
use crate::spec::image::{Config, History, ImageConfig, Manifest, Platform, RootFs, media_type};
use crate::sys::{self, fs::CWD};
use std::io::BufWriter;

/// The name of the embedded image.
pub const LAB: &str = "lab";

impl Store {
    /// Makes an image of one layer that `write` writes (an uncompressed tar).
    pub fn create(
        &self,
        names: &[Reference],
        config: Config,
        created_by: &str,
        write: impl FnOnce(&mut dyn std::io::Write) -> Result<()>,
    ) -> Result<Image> {
        let lock = self.lock()?;
        let temporary = self.tmp().join(format!("new-{}", std::process::id()));
        let file = std::fs::File::create(&temporary)
            .with_context(|| format!("cannot write {}", temporary.display()))?;
        // Plain: the layer is used here, where compressing it would only cost time.
        let mut encoder = Encoder::new(BufWriter::new(file), Compression::Plain)?;
        write(&mut encoder)?;
        let (_, written) = encoder.finish()?;
        let digest: Digest = written.digest.parse()?;
        sys::fs::renameat2(CWD, &temporary, CWD, self.blob_path(&digest), 0)
            .context("cannot put the layer into the store")?;
        let layer = descriptor(media_type::LAYER, digest, written.size);
        let platform = Platform::host();
        let document = ImageConfig {
            architecture: platform.architecture,
            os: platform.os,
            variant: platform.variant,
            // A time would make two images of the same files two images.
            created: Some("1970-01-01T00:00:00Z".into()),
            rootfs: RootFs {
                typ: "layers".into(),
                diff_ids: vec![written.diff_id.parse()?],
                ..Default::default()
            },
            config: Some(config),
            history: vec![History {
                created_by: Some(created_by.into()),
                ..History::default()
            }],
            ..ImageConfig::default()
        };
        let config = self.put_json(&lock, media_type::CONFIG, &document)?;
        let manifest = Manifest::new(config, vec![layer]);
        let manifest = self.put_json(&lock, media_type::MANIFEST, &manifest)?;
        self.add(&lock, &manifest, names)?;
        drop(lock);
        self.resolve(&manifest.digest.to_string())
    }

    /// Makes an image of host programs.
    pub fn from_host(
        &self,
        collection: &Collection,
        names: &[Reference],
        created_by: &str,
    ) -> Result<Image> {
        let config = Config {
            env: vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()],
            cmd: vec!["sh".into()],
            ..Config::default()
        };
        self.create(names, config, created_by, |out| collection.write_layer(out))
    }

    /// The embedded image `lab`, made on first use.
    pub fn lab(&self) -> Result<Image> {
        if let Ok(image) = self.resolve(LAB) {
            return Ok(image);
        }
        let (from, collection) = from_host::lab().context("cannot make the image lab")?;
        let created_by = format!("glassbox image from-host: {from}");
        self.from_host(&collection, &[LAB.parse()?], &created_by)
    }

    /// [`Store::resolve`], making the image `lab` when that is asked for and not there.
    pub fn find(&self, name: &str) -> Result<Image> {
        let lab: Reference = LAB.parse()?;
        match self.resolve(name) {
            Err(_) if name.parse::<Reference>().is_ok_and(|r| r == lab) => self.lab(),
            other => other,
        }
    }
}
