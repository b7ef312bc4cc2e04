//! `glassbox explain`: a concept with this host's live values, or a container's story.

use crate::containers::store::Store;
use crate::error::{Context, Error, Kind, Result};
use crate::explain::{Depth, render_journal, topics};
use crate::journal::{self, Record};
use crate::ui::{self, Style, styled};
use std::path::{Path, PathBuf};

/// Explain a concept with this host's live values, or tell how a container was made.
///
/// Without a name it lists the topics. A name is a topic first, then a container; --container and
/// --topic say which is meant. A container's story is replayed from its journal, which holds every
/// step and system call of its set-up, so it can also be told of one that has ended.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glassbox explain                       the topics
  glassbox explain user-namespaces       one of them, with this host's values
  glassbox explain web                   how the container `web` was made
  glassbox explain --depth all web       the same with every call
  glassbox explain --json memory         a topic as data")]
pub struct Args {
    /// A topic, or a container's name or id.
    name: Option<String>,
    /// NAME is a container, whatever topics there are.
    #[arg(long, conflicts_with = "topic")]
    container: bool,
    /// NAME is a topic.
    #[arg(long)]
    topic: bool,
    /// How much to tell of a container.
    #[arg(long, value_enum, default_value = "story")]
    depth: Depth,
    /// Print JSON: the list of topics, a topic with its live values, or a journal's records.
    #[arg(long)]
    json: bool,
    /// Where the state is kept.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

/// Runs it.
pub fn run(args: Args) -> Result<u8> {
    let Some(name) = &args.name else {
        list(args.json);
        return Ok(0);
    };
    if !args.container {
        if let Some(topic) = topics::find(name) {
            match args.json {
                true => ui::print_json(topic),
                false => ui::out(topics::render(topic, ui::colour_stdout())),
            }
            return Ok(0);
        }
        if args.topic {
            return Err(no_such(name, "topic"));
        }
    }
    let Some((id, journal)) = journal_of(args.root.as_deref(), name)? else {
        let what = if args.container { "container" } else { "topic or container" };
        return Err(no_such(name, what));
    };
    tell(&args, &id, &journal)
}

fn tell(args: &Args, id: &str, path: &Path) -> Result<u8> {
    let records = journal::read(path)
        .with_context(|| format!("cannot tell the story of container {id}"))
        .map_err(|e| e.hint("a container that was created and never started has no journal yet"))?;
    if args.json {
        #[derive(serde::Serialize)]
        struct Story<'a> {
            container: &'a str,
            journal: &'a Path,
            records: &'a [Record],
        }
        ui::print_json(&Story {
            container: id,
            journal: path,
            records: &records,
        });
    } else {
        ui::out(render_journal(&records, args.depth, ui::colour_stdout()));
    }
    Ok(0)
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
        [] => error.hint("`glassbox explain` lists the topics, `glassbox ps -a` the containers"),
        near => error.hint(format!("did you mean {}?", near.join(" or "))),
    }
}

/// A container's id and its journal's path, when there is such a container. An ambiguous prefix of
/// an id is an error.
fn journal_of(root: Option<&Path>, name: &str) -> Result<Option<(String, PathBuf)>> {
    match Store::open(root).and_then(|store| store.find(name)) {
        Ok(container) => Ok(Some((container.id().to_string(), container.journal()))),
        Err(e) if e.get_kind() == Kind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}
