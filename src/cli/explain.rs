//! `glassbox explain`: a concept with this host's live values, a container's story, or an image.

use crate::containers::inspect::current_status;
use crate::containers::{Container, JOURNAL_AFTER, Paths, Phase, Store};
use crate::error::{Context, Error, Kind, Result};
use crate::host::Host;
use crate::explain::{Depth, Picture, render_journal, topics};
use crate::images;
use crate::journal::{self, Record};
use crate::runtime::store as runtime;
use crate::ui::{self, Style, styled};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Explain a concept with this host's live values, tell how a container was made, or draw an image.
///
/// Without a name it lists the topics. A name is a topic first, then a container, then an image;
/// --topic, --container and --image say which is meant. A container's story is replayed from its journal, which holds every
/// step and system call of its set-up, so it can also be told of one that has ended. Containers
/// that podman, containerd or dockerd made on glassbox-runtime are found by id, too.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glassbox explain                       the topics
  glassbox explain user-namespaces       one of them, with this host's values
  glassbox explain web                   how the container `web` was made
  glassbox explain --depth all web       the same with every call
  glassbox explain debian:12             index, manifest, configuration, layers: the image
  glassbox explain $(podman ps -ql)      one that podman made on glassbox-runtime
  glassbox explain --json memory         a topic as data")]
pub struct Args {
    /// A topic, or a name or id of a container or image.
    name: Option<String>,
    /// NAME is a container, whatever topics there are.
    #[arg(long, conflicts_with = "topic")]
    container: bool,
    /// NAME is a topic.
    #[arg(long)]
    topic: bool,
    /// NAME is an image.
    #[arg(long, conflicts_with_all = ["container", "topic"])]
    image: bool,
    /// How much to tell of a container.
    #[arg(long, value_enum, default_value = "story")]
    depth: Depth,
    /// Print JSON: the list of topics, a topic with its live values, a journal's records, or an
    /// image's documents.
    #[arg(long)]
    json: bool,
    /// Where the state is kept.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Where an engine lets glassbox-runtime keep its state, when it is no usual place: NAME is the
    /// id of a container there.
    #[arg(long, value_name = "DIR", conflicts_with = "topic")]
    runtime_root: Option<PathBuf>,
}

/// A container whose story is told.
struct Told {
    id: String,
    journal: PathBuf,
    /// What became of it.
    status: String,
    exit_code: Option<i32>,
    /// The signal that ended it and whence it came, as far as its cgroup told.
    ended_by: String,
    error: String,
}

/// Runs it.
pub fn run(args: Args) -> Result<u8> {
    let Some(name) = &args.name else {
        list(args.json);
        return Ok(0);
    };
    if !args.container && !args.image && args.runtime_root.is_none() {
        if let Some(topic) = topics::find(name) {
            let state = Paths::new(args.root.as_deref())?.root;
            match args.json {
                true => ui::print_json(&topic.to_json(&state)),
                false => ui::out(topics::render(topic, &state, ui::colour_stdout())),
            }
            return Ok(0);
        }
        if args.topic {
            return Err(no_such(name, "topic"));
        }
    }
    let container = if args.image { None } else { container_of(&args, name)? };
    if let Some(container) = container {
        return tell(&args, &container);
    }
    if !args.container && args.runtime_root.is_none() && draw(&args, name)? {
        return Ok(0);
    }
    let what = match (args.container, args.image) {
        (true, _) => "container",
        (_, true) => "image",
        _ => "topic, container or image",
    };
    Err(no_such(name, what))
}

/// Draws an image of this name; false when there is none. Nothing is made: neither a store nor `lab`.
fn draw(args: &Args, name: &str) -> Result<bool> {
    let root = Paths::new(args.root.as_deref())?.root;
    if !root.join("oci/oci-layout").exists() {
        return Ok(false);
    }
    let store = images::Store::open(&root)?;
    let image = match store.resolve(name) {
        Ok(image) => image,
        Err(e) if matches!(e.get_kind(), Kind::NotFound) => return Ok(false),
        // What cannot be the name of an image is not the name of one.
        Err(_) if !args.image && name.parse::<images::Reference>().is_err() => return Ok(false),
        Err(e) => return Err(e),
    };
    let picture = Picture::read(&store, &image)?;
    match args.json {
        true => ui::print_json(&picture),
        false => ui::out(picture.render(ui::colour_stdout())),
    }
    Ok(true)
}

fn tell(args: &Args, told: &Told) -> Result<u8> {
    let records = journal::read(&told.journal)
        .with_context(|| format!("cannot tell the story of container {}", told.id))
        .map_err(|e| e.hint("a container that was created and never started has no journal yet"))?;
    if args.json {
        #[derive(serde::Serialize)]
        struct Story<'a> {
            container: &'a str,
            /// What became of it, as `ps` says it.
            status: &'a str,
            exit_code: Option<i32>,
            /// The signal that ended it and whence it came, as far as its cgroup told.
            #[serde(skip_serializing_if = "str::is_empty")]
            ended_by: &'a str,
            journal: &'a Path,
            records: &'a [Record],
        }
        ui::print_json(&Story {
            container: &told.id,
            status: &told.status,
            exit_code: told.exit_code,
            ended_by: &told.ended_by,
            journal: &told.journal,
            records: &records,
        });
    } else {
        ui::out(render_journal(&records, args.depth, ui::colour_stdout()));
        if args.depth != Depth::Json {
            ui::out(epilogue(told, &records));
        }
    }
    Ok(0)
}

/// What became of it, and what this journal does not hold.
fn epilogue(told: &Told, records: &[Record]) -> String {
    let colour = ui::colour_stdout();
    let mut text = format!("{} {}", styled("now", Style::Strong, colour), told.status);
    for more in [&told.ended_by, &told.error] {
        if !more.is_empty() {
            text += &format!("; {more}");
        }
    }
    let fact = |r: &Record| matches!(r, Record::Event(journal::Event::Fact { .. }));
    if !records.iter().any(fact) {
        text += &format!(
            "\n{}",
            styled(
                "(without --explain a run does not stop to read the kernel's state before and after)",
                Style::Dim,
                colour
            )
        );
    }
    text
}

fn list(json: bool) {
    if json {
        #[derive(serde::Serialize)]
        struct Row {
            name: &'static str,
            group: &'static str,
            title: &'static str,
            summary: String,
            aliases: &'static [&'static str],
        }
        let rows: Vec<Row> = topics::all()
            .iter()
            .map(|t| Row {
                name: t.name,
                group: t.group,
                title: t.title(),
                summary: t.summary(),
                aliases: t.aliases,
            })
            .collect();
        return ui::print_json(&rows);
    }
    let colour = ui::colour_stdout();
    let mut group = "";
    let mut text = String::new();
    for topic in topics::all() {
        if topic.group != group {
            if !group.is_empty() {
                text += "\n";
            }
            group = topic.group;
            text += &format!("{}\n", styled(group, Style::Strong, colour));
        }
        let name = styled(format!("{:<20}", topic.name), Style::Name, colour);
        text += &format!("  {name}{}\n", topic.summary());
    }
    text += "\n`glassbox explain NAME` teaches one with this host's values; of a container it tells\n\
             how it was made.";
    ui::out(text);
}

fn no_such(name: &str, what: &str) -> Error {
    let error = Error::kind(Kind::NotFound, format!("no {what} is called {name:?}"));
    match topics::near(name).as_slice() {
        [] => error.hint("`glassbox explain` lists the topics, `glassbox ps -a` the containers, `glassbox image ls` the images"),
        near => error.hint(format!("did you mean {}?", near.join(" or "))),
    }
}

/// The container of this name, when there is one: ours first, then one that another engine made on
/// our runtime. An ambiguous prefix of an id is an error.
fn container_of(args: &Args, name: &str) -> Result<Option<Told>> {
    if args.runtime_root.is_none() {
        match Store::open(args.root.as_deref()).and_then(|store| store.find(name)) {
            Ok(container) => return of_ours(&container).map(Some),
            Err(e) if e.get_kind() == Kind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    let Some(found) = runtime::search(args.runtime_root.as_deref(), name)? else {
        return Ok(None);
    };
    Ok(Some(Told {
        status: format!("{}; made by another engine, in {}", found.status(&Host::detect()?)?, found.dir.display()),
        journal: found.journal(),
        id: found.record.id,
        exit_code: None, // the engine that is its parent has it
        ended_by: String::new(),
        error: String::new(),
    }))
}

fn of_ours(container: &Container) -> Result<Told> {
    let status = current_status(container)?;
    // What began or ended a moment ago may get its journal, or the rest of it, in the next.
    let until = Instant::now() + 10 * JOURNAL_AFTER;
    let is_there = || journal::read(&container.journal()).is_ok_and(|records| !records.is_empty());
    let is_whole = || match status.phase.is_live() {
        true => is_there(),
        false => !container.monitor_lives().unwrap_or(false),
    };
    while !is_whole() && Instant::now() < until {
        std::thread::sleep(JOURNAL_AFTER / 20);
    }
    Ok(Told {
        id: container.id().into(),
        journal: container.journal(),
        status: status.describe(),
        exit_code: (status.phase == Phase::Exited).then_some(status.exit_code),
        ended_by: status.ended_by,
        error: status.error,
    })
}
