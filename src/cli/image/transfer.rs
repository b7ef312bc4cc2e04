//! `glassbox image load`, `save`, `import`, `from-host`: images into the store and out of it.
//!
//! Read next: `list.rs`; the work is done by [`crate::images::load`] and its neighbours.

use super::Root;
use crate::containers::time::Time;
use crate::error::{Context, Error, Kind, Result};
use crate::files::output::Output;
use crate::images::from_host::Collection;
use crate::images::{self, Format, Image, Reference, apply_change, remote};
use crate::spec::image::{Config, History, ImageConfig, Platform};
use crate::ui::{self, Progress};
use std::fs::File;
use std::io::{BufWriter, IsTerminal, Read};
use std::path::{Path, PathBuf};

/// Load images from an OCI image layout (directory or tar) or a docker save tar.
///
/// Every digest, size and diff id is checked while it streams; the image appears when all of it is
/// right and unpacked, or not at all.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  docker save alpine | glassbox image load
  glassbox image load -i alpine.tar.zst
  skopeo copy docker-daemon:app:1 oci:layout && glassbox image load -i layout --name app:1")]
pub struct LoadArgs {
    /// Read this file or directory [default: stdin].
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Name the image so, whatever the archive calls it.
    #[arg(long, value_name = "NAME")]
    name: Option<Reference>,
    /// Print nothing but the names or ids.
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    root: Root,
}

/// A file, or stdin unless that is a terminal.
fn open_input(path: Option<&Path>, what: &str) -> Result<(Box<dyn Read + Send>, Option<u64>)> {
    if let Some(path) = path.filter(|p| p.as_os_str() != "-") {
        let file = File::open(path)
            .with_context(|| format!("cannot open {}", path.display()))
            .map_err(|e| e.with_kind(Kind::NotFound))?;
        let length = file.metadata().ok().filter(|m| m.is_file()).map(|m| m.len());
        return Ok((Box::new(file), length));
    }
    if std::io::stdin().is_terminal() {
        return Err(Error::kind(
            Kind::Usage,
            format!("{what} is to be read from stdin, but that is a terminal"),
        )
        .hint("name a file, or pipe it in"));
    }
    Ok((Box::new(std::io::stdin()), None))
}

/// Runs `load`.
pub fn load(args: LoadArgs) -> Result<u8> {
    let from = args.input.as_deref().unwrap_or(Path::new("-"));
    let what = || match from == Path::new("-") {
        true => "cannot load images from stdin".to_string(),
        false => format!("cannot load images from {}", from.display()),
    };
    let store = args.root.store()?;
    let progress;
    let loaded = if from.is_dir() {
        progress = Progress::new(None);
        images::load(&store, Err(from), args.name.as_ref(), &mut |s| progress.say(s))
    } else {
        let (input, length) = open_input(Some(from), "the archive").with_context(what)?;
        progress = Progress::new(length);
        progress.say("reading");
        let input = Box::new(progress.wrap(input));
        images::load(&store, Ok(input), args.name.as_ref(), &mut |s| progress.say(s))
    };
    progress.finish();
    for loaded in loaded.with_context(what)? {
        if loaded.names.is_empty() {
            let label = if args.quiet { "" } else { "Loaded image ID: " };
            ui::out(format_args!("{label}{}", loaded.image.id));
        }
        for name in &loaded.names {
            let label = if args.quiet { "" } else { "Loaded image: " };
            ui::out(format_args!("{label}{}", name.familiar()));
        }
    }
    Ok(0)
}

/// How `save` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum SaveFormat {
    /// An OCI image layout with docker's manifest.json beside it: every tool reads it.
    Docker,
    /// An OCI image layout alone.
    Oci,
}

/// Save images as a tar, or as an OCI image layout in a directory.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  glassbox image save lab | docker load
  glassbox image save -o both.tar alpine debian:12
  glassbox image save -o layout/ --format oci lab     a directory, since the name ends in a slash")]
pub struct SaveArgs {
    /// Write to this file, or into this directory if it exists or ends in a slash [default:
    /// stdout].
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Which documents to write.
    #[arg(long, value_enum, default_value = "docker")]
    format: SaveFormat,
    /// The images.
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    #[command(flatten)]
    root: Root,
}

/// Runs `save`.
pub fn save(args: SaveArgs) -> Result<u8> {
    let store = args.root.store()?;
    let mut chosen: Vec<(Image, Vec<Reference>)> = Vec::new();
    for name in &args.images {
        let image = store.find(name)?;
        // Saved under the name that was asked for; by its id, without one.
        let asked = name.parse::<Reference>().ok();
        let name = asked.filter(|n| image.names.contains(n));
        match chosen.iter_mut().find(|(i, _)| i.manifest.digest == image.manifest.digest) {
            Some((_, names)) => names.extend(name),
            None => chosen.push((image, name.into_iter().collect())),
        }
    }
    let format = match args.format {
        SaveFormat::Docker => Format::Docker,
        SaveFormat::Oci => Format::Oci,
    };
    let Some(output) = args.output.filter(|o| o.as_os_str() != "-") else {
        if std::io::stdout().is_terminal() {
            return Err(Error::kind(Kind::Usage, "will not write an archive to a terminal")
                .hint("name a file with -o, or redirect stdout"));
        }
        images::save(&store, &chosen, format, BufWriter::new(std::io::stdout().lock()))?;
        return Ok(0);
    };
    let what = || format!("cannot write {}", output.display());
    let slash = output.as_os_str().as_encoded_bytes().ends_with(b"/");
    // Written beside and renamed: nothing half-written ever has the name.
    if output.is_dir() || slash {
        if output.read_dir().is_ok_and(|mut d| d.next().is_some()) {
            return Err(Error::kind(Kind::Conflict, format!("{} is not empty", output.display())));
        }
        let name = output.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let temporary = output.with_file_name(format!(".{name}.dir-{}", std::process::id()));
        std::fs::create_dir(&temporary).with_context(what)?;
        let result = images::save_directory(&store, &chosen, format, &temporary)
            .and_then(|()| std::fs::rename(&temporary, &output).with_context(what));
        if result.is_err() {
            let _ = images::remove_tree(&temporary); // the first failure says more
        }
        result?;
    } else {
        let mut file = Output::create(&output, 0o666)?;
        images::save(&store, &chosen, format, BufWriter::new(&mut file))?;
        file.finish()?;
    }
    Ok(0)
}

/// Make an image out of a root file system's tar, compressed or not.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  debootstrap --variant=minbase bookworm root && tar -C root -c . | glassbox image import - debian
  glassbox image import -c 'CMD [\"bash\"]' -c 'ENV LANG=C.UTF-8' rootfs.tar.gz my/debian:12")]
pub struct ImportArgs {
    /// A Dockerfile instruction for the configuration: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL,
    /// ONBUILD, STOPSIGNAL, USER, VOLUME or WORKDIR. Repeatable.
    #[arg(short, long = "change", value_name = "INSTRUCTION")]
    changes: Vec<String>,
    /// A remark for the history.
    #[arg(short, long)]
    message: Option<String>,
    /// The tar, an http or https URL of one, or - for stdin.
    #[arg(value_name = "FILE|URL|-")]
    file: PathBuf,
    /// The image's name.
    name: Option<Reference>,
    #[command(flatten)]
    root: Root,
}

/// Runs `import`.
pub fn import(args: ImportArgs) -> Result<u8> {
    let mut config = Config::default();
    for change in &args.changes {
        apply_change(&mut config, change)?;
    }
    let what = || format!("cannot import {}", args.file.display());
    if args.file.is_dir() {
        let directory = args.file.display();
        return Err(Error::kind(Kind::Usage, format!("{directory} is a directory, not a tar"))
            .hint(format!("make one on the way: `tar -C {directory} -c . | glassbox image import -`")));
    }
    let (input, length) = match args.file.to_str().filter(|f| remote::is_url(f)) {
        Some(url) => remote::open(url),
        None => open_input(Some(&args.file), "the tar"),
    }
    .with_context(what)?;
    let store = args.root.store()?;
    let platform = Platform::host();
    let now = Time::now().to_string();
    let document = ImageConfig {
        architecture: platform.architecture,
        os: platform.os,
        variant: platform.variant,
        created: Some(now.clone()),
        config: Some(config),
        history: vec![History {
            created: Some(now),
            created_by: Some(format!("glassbox image import {}", args.file.display())),
            comment: args.message.clone(),
            ..History::default()
        }],
        ..ImageConfig::default()
    };
    let progress = Progress::new(length);
    progress.say("importing");
    let names: Vec<Reference> = args.name.clone().into_iter().collect();
    let result = store
        .stage()
        .and_then(|s| s.commit_single(progress.wrap(input), document, &names));
    progress.finish();
    ui::out(result.with_context(what)?.id);
    Ok(0)
}

/// Make an image of this host's programs, with the shared libraries that they need.
///
/// The image `lab`, a shell with the usual tools, is made so on first use.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  glassbox image from-host bash ls cat -t tools
  glassbox run --rm tools bash -c 'ls /'")]
pub struct FromHostArgs {
    /// Programs, by name or path.
    #[arg(required = true, value_name = "PROGRAM")]
    programs: Vec<String>,
    /// The image's name [default: none].
    #[arg(short = 't', long = "tag", value_name = "NAME")]
    names: Vec<Reference>,
    #[command(flatten)]
    root: Root,
}

/// Runs `from-host`.
pub fn from_host(args: FromHostArgs) -> Result<u8> {
    let store = args.root.store()?;
    let name = args.names.first().map_or("tools".into(), Reference::familiar);
    let mut collection = Collection::new(&name);
    for program in &args.programs {
        collection.add_program(program)?;
    }
    let created_by = format!("glassbox image from-host {}", args.programs.join(" "));
    let image = store.from_host(&collection, &args.names, &created_by)?;
    ui::out(image.id);
    Ok(0)
}
