//! `glassbox image ls` and `glassbox image history`.
//!
//! Read next: `show.rs`; the rows come from [`crate::images::describe`].

use super::Root;
use crate::cli::filters::key_value;
use crate::containers::time::{Time, human};
use crate::error::{Error, Kind, Result};
use crate::images::describe::{self, Row, Step};
use crate::images::{Image, Reference, Store};
use crate::ui::{self, Table, template};
use serde_json::{Value, json};

/// List images.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  glassbox image ls
  glassbox image ls debian                    one repository
  glassbox image ls --filter dangling=true -q
  glassbox image ls --format '{{.Repository}}:{{.Tag}} {{.Size}}'
  glassbox image ls --json | jq '.[].ID'")]
pub struct LsArgs {
    /// Also images that only others are made of; here there are none, so this changes nothing.
    #[arg(short, long)]
    all: bool,
    /// Print the ids alone.
    #[arg(short, long)]
    quiet: bool,
    /// Print JSON: an array with an object a row.
    #[arg(long, conflicts_with_all = ["quiet", "format"])]
    json: bool,
    /// Print each row by a Go template; `table …` with headings, `json` as JSON lines.
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// Only some: dangling=true|false, label=KEY[=VALUE], reference=PATTERN, before=IMAGE,
    /// since=IMAGE. Repeatable.
    #[arg(short, long = "filter", value_name = "KEY=VALUE", value_parser = key_value)]
    filters: Vec<String>,
    /// Do not shorten ids.
    #[arg(long)]
    no_trunc: bool,
    /// Show the manifests' digests.
    #[arg(long)]
    digests: bool,
    /// Only this repository, or REPOSITORY:TAG; `*` and `?` stand for any text and character of one
    /// part of a name.
    repository: Option<String>,
    #[command(flatten)]
    root: Root,
}

fn ago(created: Option<&str>) -> String {
    match created.and_then(|c| Time::parse_flag(c).ok()) {
        Some(time) => format!("{} ago", human(time.age())),
        None => "N/A".into(),
    }
}

/// When an image was made; one that does not say so is older than all that do.
fn created(image: &Image) -> Option<Time> {
    Time::parse_flag(image.config.created.as_deref()?).ok()
}

fn matches(store: &Store, row: &Row, key: &str, value: &str) -> Result<bool> {
    let full = format!("{}:{}", row.repository, row.tag);
    Ok(match key {
        "dangling" => match value {
            "true" | "1" => row.image.names.is_empty(),
            "false" | "0" => !row.image.names.is_empty(),
            _ => return Err(bad_filter(key, value)),
        },
        "label" => {
            let labels = row.image.config.config.as_ref().map(|c| &c.labels);
            let (key, wanted) = match value.split_once('=') {
                Some((key, wanted)) => (key, Some(wanted)),
                None => (value, None),
            };
            labels.and_then(|l| l.get(key)).is_some_and(|v| wanted.is_none_or(|w| w == v))
        }
        "reference" => glob(value, &full) || glob(value, &row.repository),
        "before" => created(&row.image) < created(&store.resolve(value)?),
        "since" => created(&row.image) > created(&store.resolve(value)?),
        _ => return Err(bad_filter(key, value)),
    })
}

fn bad_filter(key: &str, value: &str) -> Error {
    Error::kind(Kind::Usage, format!("invalid filter '{key}={value}'"))
        .hint("dangling=true|false, label=KEY[=VALUE], reference=PATTERN, before=IMAGE, since=IMAGE")
}

/// `*` stands for any text, `?` for one character, but not for a slash: as in docker, `*` is an
/// official image and `user/*` one of a user's.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    fn fits(p: &[char], t: &[char]) -> bool {
        match (p.first(), t.first()) {
            (None, None) => true,
            (Some('*'), first) => {
                fits(&p[1..], t) || (first.is_some_and(|c| *c != '/') && fits(p, &t[1..]))
            }
            (Some('?'), Some(c)) if *c != '/' => fits(&p[1..], &t[1..]),
            (Some(a), Some(b)) => a == b && fits(&p[1..], &t[1..]),
            _ => false,
        }
    }
    fits(&pattern, &text)
}

/// Runs `ls`.
pub fn ls(args: LsArgs) -> Result<u8> {
    let store = args.root.store()?;
    let mut rows = describe::rows(&store)?;
    if let Some(pattern) = args.repository.as_ref().filter(|r| r.contains(['*', '?'])) {
        let keep = |row: &Row| matches(&store, row, "reference", pattern).unwrap_or(false);
        rows.retain(keep);
    } else if let Some(wanted) = &args.repository {
        let familiar = wanted.parse::<Reference>()?;
        let tagged = wanted.rsplit('/').next().is_some_and(|last| last.contains(':'));
        rows.retain(|r| {
            r.repository == familiar.familiar_repository()
                && (!tagged || Some(&r.tag) == familiar.tag.as_ref())
        });
    }
    for filter in &args.filters {
        let (key, value) = filter.split_once('=').ok_or_else(|| bad_filter(filter, ""))?;
        let keep: Result<Vec<bool>> = rows.iter().map(|r| matches(&store, r, key, value)).collect();
        let mut keep = keep?.into_iter();
        rows.retain(|_| keep.next().unwrap_or(true));
    }
    let id = |row: &Row| match args.no_trunc {
        true => row.image.id.to_string(),
        false => row.image.short_id().to_string(),
    };
    if args.quiet {
        let mut ids: Vec<String> = rows.iter().map(id).collect();
        let mut seen = std::collections::BTreeSet::new();
        ids.retain(|i| seen.insert(i.clone()));
        ids.iter().for_each(ui::out);
        return Ok(0);
    }
    let value = |row: &Row| {
        let created = row.image.config.created.as_deref();
        json!({
            "Repository": row.repository, "Tag": row.tag, "ID": id(row),
            "Digest": row.digest,
            "CreatedSince": ago(created), "CreatedAt": created.unwrap_or("N/A"),
            "Size": ui::size(row.size),
        })
    };
    if args.json {
        let list: Vec<Value> = rows
            .iter()
            .map(|row| {
                let mut v = value(row);
                v["ID"] = row.image.id.to_string().into();
                v["Size"] = row.size.into();
                v
            })
            .collect();
        ui::print_json(&list);
        return Ok(0);
    }
    let format = args.format.as_deref().unwrap_or("table");
    if format == "table" {
        let mut headings = vec!["repository", "tag", "image id", "created", "size"];
        if args.digests {
            headings.insert(2, "digest");
        }
        let mut table = Table::new(&headings);
        for row in &rows {
            let mut cells = vec![
                row.repository.clone(),
                row.tag.clone(),
                id(row),
                ago(row.image.config.created.as_deref()),
                ui::size(row.size),
            ];
            if args.digests {
                cells.insert(2, row.digest.clone());
            }
            table.row(cells);
        }
        ui::out(table);
        return Ok(0);
    }
    let headings = [
        ("ID", "IMAGE ID"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
    ];
    let values: Vec<Value> = rows.iter().map(value).collect();
    print_rows(format, &values, &headings)
}

fn print_rows(format: &str, values: &[Value], headings: &[(&str, &str)]) -> Result<u8> {
    let text = template::rows(format, values, headings)?;
    if !text.is_empty() {
        ui::out(text);
    }
    Ok(0)
}

/// Show how an image was made, newest step first.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  glassbox image history lab")]
pub struct HistoryArgs {
    /// Print the ids alone.
    #[arg(short, long)]
    quiet: bool,
    /// Print JSON: an array with an object a step.
    #[arg(long, conflicts_with_all = ["quiet", "format"])]
    json: bool,
    /// Print each step by a Go template.
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// Do not shorten ids and commands.
    #[arg(long)]
    no_trunc: bool,
    /// The image.
    image: String,
    #[command(flatten)]
    root: Root,
}

/// Runs `history`.
pub fn history(args: HistoryArgs) -> Result<u8> {
    let store = args.root.store()?;
    let image = store.find(&args.image)?;
    let steps = describe::history(&store, &image);
    let short = |id: &str| match id.strip_prefix("sha256:") {
        Some(hex) if !args.no_trunc => hex[..12].to_string(),
        _ => id.to_string(),
    };
    let command = |step: &Step| {
        let one_line = step.created_by.replace(['\n', '\t'], " ");
        match args.no_trunc || one_line.chars().count() <= 45 {
            true => one_line,
            false => one_line.chars().take(44).chain(['…']).collect(),
        }
    };
    if args.quiet {
        steps.iter().for_each(|s| ui::out(short(&s.id)));
        return Ok(0);
    }
    let value = |s: &Step| {
        json!({
            "ID": short(&s.id), "CreatedSince": ago(s.created.as_deref()),
            "CreatedAt": s.created.as_deref().unwrap_or("N/A"), "CreatedBy": command(s),
            "Size": ui::size(s.size), "Comment": s.comment, "Layer": s.layer,
        })
    };
    if args.json {
        let list: Vec<Value> = steps
            .iter()
            .map(|s| {
                let mut v = value(s);
                v["ID"] = s.id.clone().into();
                v["CreatedBy"] = s.created_by.clone().into();
                v["Size"] = s.size.into();
                v
            })
            .collect();
        ui::print_json(&list);
        return Ok(0);
    }
    if let Some(format) = &args.format {
        let values: Vec<Value> = steps.iter().map(value).collect();
        return print_rows(format, &values, &[("ID", "IMAGE"), ("CreatedBy", "CREATED BY")]);
    }
    let mut table = Table::new(&["image", "created", "created by", "size", "comment"]);
    for s in &steps {
        table.row([
            short(&s.id),
            ago(s.created.as_deref()),
            command(s),
            ui::size(s.size),
            s.comment.clone(),
        ]);
    }
    ui::out(table);
    Ok(0)
}
