//! `glassbox inspect`.

use crate::containers;
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::inspect::model::Document;
use crate::inspect::text::{self, Look};
use crate::inspect::{Kind, Processes, Query, candidates, inspect};
use crate::ui;

/// Look at anything from the kernel's side: a process or container of any engine, an image, a
/// layer, a namespace, a cgroup, the host.
///
/// Nothing is written and nothing is started. What could not be read says why.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  glassbox inspect host                      what this kernel and you may do
  glassbox inspect 4211                      a process of any engine, or of none
  glassbox inspect --why 4211                the same with the source of each fact
  glassbox inspect --tree web                the container's processes, pids inside and outside
  glassbox inspect -f '{{.State.Pid}}' web   docker's keys and templates
  glassbox inspect --json 4211 | jq .process.capabilities.effective.names
  glassbox inspect /proc/4211/ns/net         a namespace; also net:[4026531840]
  glassbox inspect /sys/fs/cgroup/x          a cgroup
  glassbox inspect sha256:9f3c               a layer, by the beginning of an id or by its directory
  glassbox inspect --schema                  every key of the JSON with its meaning")]
pub struct Args {
    /// A pid, `self`, a container, an image, a layer, a namespace, a cgroup, or `host`
    #[arg(required_unless_present = "schema")]
    target: Vec<String>,
    /// Print JSON: plain values, and why others could not be read
    #[arg(long)]
    json: bool,
    /// Show the file, ioctl or system call behind each fact
    #[arg(long)]
    why: bool,
    /// Show the process tree only
    #[arg(long, conflicts_with_all = ["json", "format"])]
    tree: bool,
    /// What the target is, where its form leaves doubt
    #[arg(long = "type", value_name = "TYPE", value_parser = kind)]
    kind: Option<Kind>,
    /// Print with a template: docker's keys for containers and images, the JSON's for all
    #[arg(short, long, value_name = "TEMPLATE", conflicts_with = "json")]
    format: Option<String>,
    /// Count the sizes of layers
    #[arg(short, long)]
    size: bool,
    /// List every key of the JSON with its type and meaning
    #[arg(long)]
    schema: bool,
    /// The engine's state directory
    #[arg(long, value_name = "DIR")]
    root: Option<std::path::PathBuf>,
}

fn kind(word: &str) -> Result<Kind, String> {
    let found = Kind::ALL.iter().find(|(_, w)| *w == word);
    found.map(|(k, _)| *k).ok_or_else(|| {
        let words: Vec<&str> = Kind::ALL.iter().map(|(_, w)| *w).collect();
        format!("one of {}", words.join(", "))
    })
}

/// Runs it. As docker's inspect: what is found is printed, and what is not makes the status 1.
pub fn run(args: Args) -> Result<u8> {
    if args.schema {
        return schema(args.json);
    }
    let mut documents = Vec::new();
    let mut failures = Vec::new();
    let store = containers::store::Store::open(args.root.as_deref())?;
    let around = Around { finder: store.finder(args.target.len())?, processes: Processes::default(), store: &store };
    for target in &args.target {
        match look(target, &args, &around) {
            Ok(document) => documents.push(document),
            Err(e) => failures.push(e),
        }
    }
    print(&documents, &args)?;
    match failures.len() {
        0 => Ok(0),
        1 => Err(failures.remove(0)),
        n => Error::join(format!("{n} targets could not be inspected"), failures).map(|()| 1),
    }
}

/// What is read once for all targets.
struct Around<'a> {
    store: &'a containers::store::Store,
    finder: containers::store::Finder<'a>,
    processes: Processes,
}

/// Containers come first, as in docker; what could also be something else needs `--type`.
fn look(target: &str, args: &Args, around: &Around) -> Result<Document> {
    let query = Query {
        target: target.into(),
        kind: args.kind,
        root: Some(around.store.paths().root.clone()),
        size: args.size,
    };
    if !matches!(args.kind, None | Some(Kind::Container)) {
        return inspect(&query);
    }
    let container = match around.finder.find(target) {
        Ok(container) => container,
        Err(e) => {
            // One that another engine made on our runtime is known by its id.
            if e.get_kind() == ErrorKind::NotFound
                && !matches!(target, "self" | "host")
                && let Some(made) = crate::runtime::store::search(None, target)?
                && made.is_alive()
                && (args.kind.is_some() || candidates(&query)?.is_empty())
            {
                let mut document = Document::new("container", target);
                document.process = Some(crate::inspect::process(made.record.pid as u32)?);
                return Ok(document);
            }
            return if args.kind.is_none() { inspect(&query) } else { Err(e) };
        }
    };
    let exact = container.id() == target || container.name() == target.trim_start_matches('/');
    let others = candidates(&query)?;
    if args.kind.is_none() && !exact && !others.is_empty() {
        let words: Vec<&str> = others.iter().map(|k| k.word()).collect();
        return Err(Error::kind(
            ErrorKind::Usage,
            format!("{target:?} begins a container's id and is also a {}", words.join(" and a ")),
        )
        .hint("say which: --type container"));
    }
    of_container(target, &container, &around.processes)
}

/// What is written down, and while it runs what the kernel says of its first process.
fn of_container(
    target: &str,
    container: &containers::store::Container,
    processes: &Processes,
) -> Result<Document> {
    let mut document = Document::new("container", target);
    let status = containers::inspect::current_status(container)?;
    document.container = Some(containers::inspect::docker_keys(container)?);
    if let Ok(pid) = u32::try_from(status.pid)
        && pid > 0
    {
        // It may end at any moment; then what is written down is all there is.
        document.process = crate::inspect::process_among(pid, processes).ok();
    }
    Ok(document)
}

fn print(documents: &[Document], args: &Args) -> Result<()> {
    let look = Look {
        colour: ui::colour_stdout(),
        why: args.why,
    };
    if args.json {
        let all: Vec<_> = documents.iter().map(|d| d.to_json(args.why)).collect();
        // One target gives one object, several a list.
        match (args.target.len(), all.into_iter().next()) {
            (1, Some(one)) => ui::print_json(&one),
            (1, None) => {}
            _ => ui::print_json(
                &documents.iter().map(|d| d.to_json(args.why)).collect::<Vec<_>>(),
            ),
        }
        return Ok(());
    }
    for (i, document) in documents.iter().enumerate() {
        if let Some(template) = &args.format {
            ui::out(ui::template::render(template, &document.for_templates())?);
            continue;
        }
        if i > 0 {
            ui::out("");
        }
        if args.tree {
            let tree = text::tree(document, look).ok_or_else(|| {
                Error::kind(ErrorKind::Usage, format!("a {} has no processes", document.kind))
                    .hint("--tree is for processes, running containers and namespaces")
            })?;
            ui::out(tree);
        } else {
            ui::out(text::render(document, look));
        }
    }
    Ok(())
}

fn schema(json: bool) -> Result<u8> {
    let lines = Document::schema();
    if json {
        let list: Vec<_> = lines
            .iter()
            .map(|(path, kind, doc)| {
                serde_json::json!({"path": path, "type": kind, "meaning": doc})
            })
            .collect();
        ui::print_json(&list);
        return Ok(0);
    }
    let mut table = ui::Table::new(&["path", "type", "meaning"]);
    for (path, kind, doc) in lines {
        table.row([path, kind, doc]);
    }
    ui::out(table);
    Ok(0)
}
