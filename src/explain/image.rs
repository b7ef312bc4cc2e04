//! An image, drawn: index → manifest → configuration → layers.
//!
//! ```text
//!   name ─▶ index ─▶ manifest ─▶ configuration      what runs, and how it was made
//!                       └──────▶ layers             each by three digests
//! ```
//!
//! What it does: reads the documents of an image from the store and says of each what it is called,
//! how large it is and what it is for; of each layer also the instruction that made it. Instructions
//! that made no layer stand where they were given.
//!
//! What it implements: image-spec "Image Index", "Image Manifest", "Image Configuration" (history,
//! rootfs). Interface: [`Picture`]. Read next: [`crate::images`].

use crate::error::Result;
use crate::images::{Image, Store, repo_digest};
use crate::spec::digest::Digest;
use crate::spec::image::{Descriptor, Index, Manifest, media_type};
use crate::ui::{self, Style, styled};
use serde::Serialize;

/// All documents of an image.
#[derive(Debug, Clone, Serialize)]
pub struct Picture {
    /// Its names, in full.
    pub names: Vec<String>,
    /// What the name stands for, when it is an index.
    pub index: Option<Branch>,
    /// The manifest.
    pub manifest: Part,
    /// The configuration; its digest is docker's image id.
    pub config: Part,
    /// What a container of it runs, as a line.
    pub runs: String,
    /// How it was made, first step first.
    pub steps: Vec<Made>,
}

/// A document or a blob.
#[derive(Debug, Clone, Serialize)]
pub struct Part {
    /// What it is.
    pub media_type: String,
    /// Its name.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// An index and its entries.
#[derive(Debug, Clone, Serialize)]
pub struct Branch {
    /// The index itself.
    #[serde(flatten)]
    pub part: Part,
    /// What it leads to.
    pub entries: Vec<Entry>,
}

/// What an index leads to.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    /// The document.
    #[serde(flatten)]
    pub part: Part,
    /// For which machines.
    pub platform: Option<String>,
    /// Whether the store has it.
    pub here: bool,
    /// Whether it is this image.
    pub this: bool,
    /// What it leads to, when it is an index that is here.
    pub below: Vec<Entry>,
}

/// One instruction.
#[derive(Debug, Clone, Serialize)]
pub struct Made {
    /// The instruction; nothing when the history does not tell.
    pub by: Option<String>,
    /// When.
    pub created: Option<String>,
    /// The layer that it made.
    pub layer: Option<Unpacked>,
}

/// A layer by all its names.
#[derive(Debug, Clone, Serialize)]
pub struct Unpacked {
    /// The blob.
    #[serde(flatten)]
    pub part: Part,
    /// The digest of the tar inside.
    pub diff_id: Digest,
    /// The name of it and all below it.
    pub chain_id: Digest,
    /// The size of its files; nothing when it is not unpacked.
    pub unpacked: Option<u64>,
    /// Where.
    pub directory: String,
}

impl From<&Descriptor> for Part {
    fn from(d: &Descriptor) -> Part {
        Part {
            media_type: d.media_type.clone(),
            digest: d.digest.clone(),
            size: d.size,
        }
    }
}

impl Picture {
    /// Reads it. Errors: a document is damaged.
    pub fn read(store: &Store, image: &Image) -> Result<Picture> {
        let manifest: Manifest = store.read_json(&image.manifest.digest)?;
        let index = top(store, image)?.map(|digest| branch(store, &digest, &image.manifest.digest));
        let mut layers = image.layers.iter().map(|l| Unpacked {
            part: Part {
                media_type: l.media_type.clone(),
                digest: l.digest.clone(),
                size: l.size,
            },
            diff_id: l.diff_id.clone(),
            chain_id: l.chain_id.clone(),
            unpacked: store.unpacked_size(l),
            directory: store.layer_dir(l).display().to_string(),
        });
        let told = image.config.history.iter();
        let mut steps: Vec<Made> = told
            .map(|h| Made {
                by: h.created_by.clone(),
                created: h.created.clone(),
                layer: (!h.empty_layer).then(|| layers.next()).flatten(),
            })
            .collect();
        steps.extend(layers.map(|layer| Made {
            by: None,
            created: None,
            layer: Some(layer),
        }));
        Ok(Picture {
            names: image.names.iter().map(ToString::to_string).collect(),
            index: index.transpose()?,
            manifest: (&image.manifest).into(),
            config: (&manifest.config).into(),
            runs: runs(image),
            steps,
        })
    }

    /// For a person.
    pub fn render(&self, colour: bool) -> String {
        let mut lines = Lines {
            text: String::new(),
            colour,
        };
        let title = match self.names.as_slice() {
            [] => "an image without a name".to_string(),
            names => names.join(", "),
        };
        lines.text += &styled(title, Style::Strong, colour);
        lines.text += "\n";
        let mut at = String::new();
        if let Some(index) = &self.index {
            let what =
                "what the name stands for in its registry: an image for each kind of machine";
            lines.part("└─ ", "   │", "index", &index.part, what);
            lines.entries("   ", &index.entries);
            at = "   ".into();
        }
        let what = "one image: its configuration and its layers";
        lines.part(
            &format!("{at}└─ "),
            &format!("{at}   │"),
            "manifest",
            &self.manifest,
            what,
        );
        at += "   ";
        let bars = |last: bool| match last {
            true => (format!("{at}└─ "), format!("{at}   ")),
            false => (format!("{at}├─ "), format!("{at}│  ")),
        };
        let (branch, bar) = bars(self.steps.is_empty());
        lines.part(&branch, &bar, "config", &self.config, &self.runs);
        let mut number = 0;
        for (i, step) in self.steps.iter().enumerate() {
            let (branch, bar) = bars(i + 1 == self.steps.len());
            let by = step.by.as_deref().unwrap_or("(the history does not tell)");
            let Some(layer) = &step.layer else {
                let what = styled(format!("{:<NAME$}", "no layer"), Style::Dim, colour);
                lines.text += &format!("{branch}{what}{by}\n");
                continue;
            };
            number += 1;
            lines.part(&branch, &bar, &format!("layer {number}"), &layer.part, "");
            lines.text += &format!("{bar}{:NAME$}{by}\n", "");
            lines.note(&bar, &format!("diff id   {}", layer.diff_id));
            lines.note(&bar, &format!("chain id  {}", layer.chain_id));
            let unpacked = match layer.unpacked {
                Some(size) => format!("unpacked  {} in {}", ui::size(size), layer.directory),
                None => "not unpacked yet".into(),
            };
            lines.note(&bar, &unpacked);
        }
        lines.text.trim_end().to_string()
    }
}

/// The width of what a part is called.
const NAME: usize = 10;

struct Lines {
    text: String,
    colour: bool,
}

impl Lines {
    /// `bar` goes on below `branch`.
    fn part(&mut self, branch: &str, bar: &str, what: &str, part: &Part, remark: &str) {
        let name = styled(format!("{what:<NAME$}"), Style::Name, self.colour);
        self.text += &format!("{branch}{name}{} {}\n", part.digest, ui::size(part.size));
        let width = branch.chars().count();
        let bar = format!("{bar:<width$}");
        self.note(&bar, &part.media_type);
        if !remark.is_empty() {
            self.note(&bar, remark);
        }
    }
    fn note(&mut self, bar: &str, text: &str) {
        let text = styled(text, Style::Dim, self.colour);
        self.text += &format!("{bar}{:NAME$}{text}\n", "");
    }
    fn entries(&mut self, bar: &str, entries: &[Entry]) {
        for entry in entries {
            let platform = entry.platform.as_deref().unwrap_or("any machine");
            let remark = match (entry.this, entry.here) {
                (true, _) => "this image",
                (false, true) => "here",
                (false, false) => "not here",
            };
            let size = ui::size(entry.part.size);
            self.text += &format!(
                "{bar}├─ {platform:<14} {} {size}, {remark}\n",
                entry.part.digest
            );
            self.entries(&format!("{bar}│  "), &entry.below);
        }
    }
}

/// The index that the image's name led through, if there was one.
fn top(store: &Store, image: &Image) -> Result<Option<Digest>> {
    for entry in store.index()?.manifests {
        if media_type::is_index(&entry.media_type) {
            let leads = branch(store, &entry.digest, &image.manifest.digest)?;
            if leads.entries.iter().any(|e| e.this) {
                return Ok(Some(entry.digest));
            }
        } else if entry.digest == image.manifest.digest
            && let Some(digest) = repo_digest(&entry).and_then(|d| d.parse::<Digest>().ok())
            && digest != entry.digest
            && store.has_blob(&digest)
        {
            return Ok(Some(digest));
        }
    }
    Ok(None)
}

fn branch(store: &Store, digest: &Digest, this: &Digest) -> Result<Branch> {
    let size = store.blob_path(digest).metadata().map_or(0, |m| m.len());
    let index: Index = store.read_json(digest)?;
    Ok(Branch {
        part: Part {
            media_type: index.media_type.clone().unwrap_or(media_type::INDEX.into()),
            digest: digest.clone(),
            size,
        },
        entries: entries(store, &index, this, 0),
    })
}

fn entries(store: &Store, index: &Index, this: &Digest, depth: u32) -> Vec<Entry> {
    let one = |d: &Descriptor| {
        let here = store.has_blob(&d.digest);
        let below = (here && depth < 4 && media_type::is_index(&d.media_type))
            .then(|| store.read_json::<Index>(&d.digest).ok())
            .flatten();
        Entry {
            part: d.into(),
            platform: d.platform.as_ref().map(ToString::to_string),
            here,
            this: d.digest == *this,
            below: below.map_or(vec![], |index| entries(store, &index, this, depth + 1)),
        }
    };
    index.manifests.iter().map(one).collect()
}

/// `linux/amd64; runs sh -c "…" as root in /`
fn runs(image: &Image) -> String {
    let config = image.config.config.clone().unwrap_or_default();
    let words: Vec<&str> = config
        .entrypoint
        .iter()
        .chain(&config.cmd)
        .map(String::as_str)
        .collect();
    let words: Vec<String> = words
        .iter()
        .map(|w| match w.contains([' ', '"']) || w.is_empty() {
            true => format!("{w:?}"),
            false => (*w).to_string(),
        })
        .collect();
    let program = match words.is_empty() {
        true => "no program of its own".to_string(),
        false => format!("runs {}", words.join(" ")),
    };
    let mut text = format!(
        "{}/{}; {program}",
        image.config.os, image.config.architecture
    );
    if !config.user.is_empty() {
        text += &format!(" as {}", config.user);
    }
    if !config.working_dir.is_empty() {
        text += &format!(" in {}", config.working_dir);
    }
    text + "; the digest is the image's id"
}
