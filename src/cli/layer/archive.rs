//! `glassbox layer create`, `apply`, `diff`: between directories and layer tars.
//!
//! Read next: `mount.rs`; the work is done by [`crate::layers`].

use crate::error::{Context, Error, Kind, Result};
use crate::files::output::Output;
use crate::layers::apply::Target;
use crate::layers::compression::{Compression, Decoded, Encoder};
use crate::layers::{apply as applying, create as creating, diff as differing};
use crate::ui::{self, Progress};
use serde_json::json;
use std::fs::File;
use std::io::{BufWriter, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

/// Where a layer is written.
#[derive(clap::Args, Debug)]
struct Out {
    /// Write to this file, and print digest, diff id and size [default: the layer goes to stdout].
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// gzip, zstd or none.
    #[arg(long, value_name = "KIND", default_value = "none")]
    compression: Compression,
    /// With -o: print JSON.
    #[arg(long, requires = "output")]
    json: bool,
}

impl Out {
    /// Runs `write` with an encoder over the output; a file appears under its name when all of it
    /// is there.
    fn write<T>(&self, write: impl FnOnce(&mut dyn Write) -> Result<T>) -> Result<T> {
        let Some(output) = self.output.as_ref().filter(|o| o.as_os_str() != "-") else {
            if std::io::stdout().is_terminal() {
                return Err(Error::kind(Kind::Usage, "will not write a layer to a terminal")
                    .hint("name a file with -o, or redirect stdout"));
            }
            let out = BufWriter::with_capacity(256 * 1024, std::io::stdout().lock());
            return encode(out, self.compression, write).map(|(value, _)| value);
        };
        let mut file = Output::create(output, 0o666)?;
        let out = BufWriter::with_capacity(256 * 1024, &mut file);
        let (value, written) = encode(out, self.compression, write)?;
        file.finish()?;
        if self.json {
            ui::print_json(&json!({
                "digest": written.digest, "size": written.size, "diff_id": written.diff_id,
                "unpacked": written.unpacked, "media_type": self.compression.media_type(),
            }));
        } else {
            ui::out(format_args!("digest   {}", written.digest));
            ui::out(format_args!("diff id  {}", written.diff_id));
            ui::out(format_args!("size     {}", written.size));
        }
        Ok(value)
    }
}

fn encode<T>(
    out: impl Write,
    compression: Compression,
    write: impl FnOnce(&mut dyn Write) -> Result<T>,
) -> Result<(T, Decoded)> {
    // Buffered also in front: headers are 512 bytes, and each write is hashed and compressed.
    let mut buffered = BufWriter::with_capacity(128 * 1024, Encoder::new(out, compression)?);
    let value = write(&mut buffered)?;
    let encoder = buffered
        .into_inner()
        .map_err(|e| Error::new("cannot write the layer").caused_by(e.into_error()))?;
    Ok((value, encoder.finish()?.1))
}

/// Write a directory as a layer. The same files give the same bytes.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  glassbox layer create rootfs > layer.tar
  glassbox layer create --compression zstd -o layer.tar.zst rootfs
  glassbox layer create --overlay upper > changes.tar     what an overlay's upper directory says")]
pub struct CreateArgs {
    /// The directory is an overlay's upper directory: its whiteouts and opaque directories become
    /// the layer's.
    #[arg(long)]
    overlay: bool,
    /// The directory.
    directory: PathBuf,
    #[command(flatten)]
    out: Out,
}

fn form(overlay: bool) -> Target {
    if overlay { Target::Overlay } else { Target::Plain }
}

/// Runs `create`.
pub fn create(args: CreateArgs) -> Result<u8> {
    let sockets = args
        .out
        .write(|out| creating::create(&args.directory, form(args.overlay), out))?;
    for socket in sockets {
        ui::warn(format_args!("the socket {} was left out", socket.display()));
    }
    Ok(0)
}

/// Apply a layer to a directory, and to nothing outside it.
///
/// Whiteouts delete what is there; with --overlay they are kept in the form in which overlayfs
/// reads them. The compression is found by looking.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  glassbox layer apply layer.tar.gz rootfs
  docker save alpine | tar xO blobs/sha256/… | glassbox layer apply - rootfs")]
pub struct ApplyArgs {
    /// Keep deletions as whiteouts: DIR becomes one layer of an overlay.
    #[arg(long)]
    overlay: bool,
    /// Print digest, diff id and sizes as JSON.
    #[arg(long)]
    json: bool,
    /// The layer, or - for stdin.
    layer: PathBuf,
    /// The directory; made if it is missing, and then removed again if the layer is bad.
    directory: PathBuf,
}

/// Runs `apply`.
pub fn apply(args: ApplyArgs) -> Result<u8> {
    let what = || {
        format!("cannot apply {} to {}", args.layer.display(), args.directory.display())
    };
    let (input, length): (Box<dyn Read + Send>, Option<u64>) = match args.layer == Path::new("-") {
        true => (Box::new(std::io::stdin()), None),
        false => {
            let opened = File::open(&args.layer);
            let file = opened.with_context(|| format!("cannot open the layer {}", args.layer.display()))?;
            let length = file.metadata().ok().filter(|m| m.is_file()).map(|m| m.len());
            (Box::new(file), length)
        }
    };
    let made = !args.directory.exists();
    if made {
        std::fs::create_dir(&args.directory).with_context(what)?;
    }
    let progress = Progress::new(length);
    progress.say("applying");
    let input = progress.wrap(input);
    let result = applying::apply_counting(input, u64::MAX, &args.directory, form(args.overlay));
    progress.finish();
    let (left_out, decoded) = result.with_context(what).inspect_err(|_e| {
        if made {
            let _ = std::fs::remove_dir_all(&args.directory); // the first failure says more
        }
    })?;
    if left_out.devices > 0 {
        let why = match nix::unistd::geteuid().is_root() {
            true => "0/0 says \"deleted\" to an overlay",
            false => "they need root",
        };
        ui::warn(format_args!("{} device nodes were left out: {why}", left_out.devices));
    }
    if left_out.xattrs > 0 {
        ui::warn(format_args!(
            "{} extended attributes were left out: they need root, or a file system that has them",
            left_out.xattrs
        ));
    }
    if args.json {
        ui::print_json(&json!({
            "digest": decoded.digest, "size": decoded.size,
            "diff_id": decoded.diff_id, "unpacked": decoded.unpacked,
            "left_out": {"devices": left_out.devices, "xattrs": left_out.xattrs},
        }));
    }
    Ok(0)
}

/// Write the layer that makes NEW out of OLD.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  cp -a rootfs before; chroot rootfs apt-get install -y jq
  glassbox layer diff before rootfs > jq.tar
  glassbox layer diff --list before rootfs       what changed, as `docker diff` prints it")]
pub struct DiffArgs {
    /// Print the changed paths (A added, C changed, D deleted) in place of the layer.
    #[arg(long, conflicts_with_all = ["output", "json"])]
    list: bool,
    /// The tree as it was.
    old: PathBuf,
    /// The tree as it is.
    new: PathBuf,
    #[command(flatten)]
    out: Out,
}

/// Runs `diff`.
pub fn diff(args: DiffArgs) -> Result<u8> {
    if !args.list {
        args.out.write(|out| differing::diff(&args.old, &args.new, out))?;
        return Ok(0);
    }
    let found = differing::diff(&args.old, &args.new, std::io::sink())?;
    let mut lines: Vec<(PathBuf, char)> = Vec::new();
    for (letter, paths) in [('A', found.added), ('C', found.changed), ('D', found.deleted)] {
        lines.extend(paths.into_iter().map(|p| (p, letter)));
    }
    lines.sort();
    for (path, letter) in lines {
        ui::out(format_args!("{letter} {}", Path::new("/").join(path).display()));
    }
    Ok(0)
}
