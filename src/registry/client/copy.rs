//! Copy: from registry to registry, without unpacking and without the store.
//!
//! What it does: takes a manifest, or an index with all that it leads to, and what points at them;
//! each document's bytes as they are, so that digests stay. A blob goes through this machine in one
//! stream, which the other registry hashes, unless the other repository has it or can mount it.
//!
//! What it implements: distribution-spec "Pull", "Push", "Listing Referrers" with the tag that
//! stands in for it. Interface: [`copy`]. Read next: `listing.rs`.

use super::manifest::{Document, name};
use super::parallel::{self, Stop};
use super::pull::descend;
use super::push::{Put, blobs_of};
use super::{Client, Event, Watch};
use crate::error::{Context, Result};
use crate::images::Reference;
use crate::spec::digest::Digest;
use crate::spec::image::{Descriptor, Platform, media_type};
use std::io::Read;

/// How to copy.
#[derive(Debug, Clone, Default)]
pub struct CopyOptions {
    /// All platforms of an index in place of one.
    pub all: bool,
    /// The one.
    pub platform: Option<Platform>,
    /// Also what points at it: signatures, bills of materials.
    pub referrers: bool,
    /// How many blobs at once.
    pub at_once: usize,
}

/// Copies an image or an artifact. Returns the digest of what the new name stands for.
pub fn copy(
    from: (&Client, &Reference),
    to: (&Client, &Reference),
    options: &CopyOptions,
    watch: &dyn Watch,
) -> Result<Digest> {
    let run = Run {
        from: from.0,
        source: &from.1.repository,
        to: to.0,
        target: &to.1.repository,
        options,
        watch,
    };
    let mut top = from.0.manifest(run.source, &name(from.1))?;
    if !options.all {
        top = descend(from.0, run.source, top, options.platform.as_ref())?.0;
    }
    run.document(&top, &name(to.1), 0)?;
    Ok(top.descriptor.digest)
}

struct Run<'a> {
    from: &'a Client,
    source: &'a str,
    to: &'a Client,
    target: &'a str,
    options: &'a CopyOptions,
    watch: &'a dyn Watch,
}

impl Run<'_> {
    /// Copies what a document leads to, and then the document.
    fn document(&self, document: &Document, name: &str, depth: u32) -> Result<()> {
        if depth > 4 {
            return Err(crate::error::Error::new(
                "manifests lead to manifests more than four deep",
            ));
        }
        match document.index()? {
            Some(index) => {
                for entry in &index.manifests {
                    let known = media_type::is_index(&entry.media_type)
                        || media_type::is_manifest(&entry.media_type);
                    if !known {
                        self.blobs(std::slice::from_ref(entry))?;
                        continue;
                    }
                    let child = self.from.child(self.source, entry)?;
                    self.document(&child, &entry.digest.to_string(), depth + 1)?;
                }
            }
            None => self.blobs(&blobs_of(&document.manifest()?))?,
        }
        self.to.put_manifest(self.target, name, document)?;
        self.watch
            .line(&format!("{}: copied", document.descriptor.digest));
        if self.options.referrers {
            for entry in self
                .from
                .referrers(self.source, &document.descriptor.digest)?
            {
                let referrer = self.from.child(self.source, &entry)?;
                self.document(&referrer, &entry.digest.to_string(), depth + 1)?;
            }
        }
        Ok(())
    }

    fn blobs(&self, blobs: &[Descriptor]) -> Result<()> {
        let mountable: &[&str] =
            match self.from.registry() == self.to.registry() && self.source != self.target {
                true => &[self.source],
                false => &[],
            };
        parallel::for_each(
            blobs,
            self.options.at_once.max(1),
            &Stop::default(),
            |blob| {
                let short = blob.digest.short();
                self.watch.layer(short, Event::Waiting(blob.size));
                let open = |from: u64| -> Result<Box<dyn Read + '_>> {
                    self.watch.layer(short, Event::Begins(blob.size));
                    let count = |n| self.watch.layer(short, Event::Bytes(n));
                    // The receiving registry hashes what comes, and refuses what is not its digest.
                    Ok(Box::new(
                        self.from
                            .blob(self.source, blob)
                            .starting_at(from)
                            .counted(count),
                    ))
                };
                let done = self
                    .to
                    .put_blob(self.target, blob, mountable, &open)
                    .with_context(|| format!("cannot copy the blob {short}"))?;
                self.watch.layer(
                    short,
                    Event::Done(match done {
                        Put::WasThere => "Already exists".into(),
                        Put::Mounted(from) => format!("Mounted from {from}"),
                        Put::Sent => "Copied".into(),
                    }),
                );
                Ok(())
            },
        )
    }
}
