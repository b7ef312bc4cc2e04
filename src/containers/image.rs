//! The image behind a container: what the engine needs to know of it.
//!
//! What it does: asks the image store for an image by the name that a user wrote, and for its
//! unpacked layers. The image `lab` is made on first use, from programs of the host. A directory
//! can stand in for an image (`run --rootfs`): it is then the only layer, never written to.
//! Interface: [`Image`], [`find`], [`of_record`]. Read next: [`crate::images`].

use super::paths::Paths;
use super::state::Record;
use crate::error::{Context, Error, Kind, Result};
use crate::images::Store;
use crate::spec::image;
use std::path::{Path, PathBuf};

/// An image as a container sees it.
#[derive(Debug, Clone, Default)]
pub struct Image {
    /// `sha256:…` of its configuration; empty for a directory.
    pub id: String,
    /// How its containers start.
    pub config: Option<image::Config>,
    /// Its layers, lowest first.
    pub lowers: Vec<PathBuf>,
    /// `linux/amd64`
    pub platform: String,
}

/// Finds an image by name, and unpacks its layers if that has not been done yet. Errors: docker's
/// words for an image that is not there, with what brings it.
pub fn find(paths: &Paths, name: &str) -> Result<Image> {
    let store = Store::open(&paths.root)?;
    let image = store.find(name)?;
    let mut lowers = store.lowers(&image)?;
    lowers.reverse();
    let platform = image::Platform {
        architecture: image.config.architecture.clone(),
        os: image.config.os.clone(),
        variant: image.config.variant.clone(),
        ..image::Platform::default()
    };
    Ok(Image {
        id: image.id.to_string(),
        config: image.config.config,
        lowers,
        platform: platform.to_string(),
    })
}

/// A directory as the only layer.
pub fn of_directory(dir: &Path) -> Result<Image> {
    let dir = dir
        .canonicalize()
        .with_context(|| format!("cannot use {} as a root file system", dir.display()))?;
    if !dir.is_dir() {
        return Err(Error::kind(
            Kind::Usage,
            format!("{} is not a directory", dir.display()),
        ));
    }
    Ok(Image {
        lowers: vec![dir],
        platform: image::Platform::host().to_string(),
        ..Image::default()
    })
}

/// The image of a container that exists.
pub fn of_record(paths: &Paths, record: &Record) -> Result<Image> {
    match &record.rootfs {
        Some(dir) => of_directory(dir),
        None => find(paths, &record.image_id)
            .with_context(|| format!("the image of container {} is gone", record.name)),
    }
}
