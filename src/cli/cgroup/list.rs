//! `glassbox cgroup ls` and `tree`: all groups, with their processes and limits.
//!
//! Read next: [`crate::cgroups::survey`], the model behind both.

use super::{human, human_limit};
use crate::cgroups::CgroupPath;
use crate::cgroups::survey::{self, Node};
use crate::error::{Error, Kind, Result};
use crate::host::Host;
use crate::ui::{self, Style, Table, styled};

/// List the groups of this host, all trees joined.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glassbox cgroup ls /system.slice
  glassbox cgroup ls --format '{{.path}} {{.memory}}'")]
pub struct LsArgs {
    /// Only this group and those below it
    target: Option<String>,
    /// Only those that have processes, in them or below them
    #[arg(short, long)]
    populated: bool,
    /// Paths only
    #[arg(short, long)]
    quiet: bool,
    /// Print the list as JSON
    #[arg(long, conflicts_with_all = ["quiet", "format"])]
    json: bool,
    /// A template for each line, in docker's language
    #[arg(long, value_name = "TEMPLATE", conflicts_with = "quiet")]
    format: Option<String>,
}

/// Show the groups as a tree, with their limits and processes.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glassbox cgroup tree
  glassbox cgroup tree --no-processes /glassbox")]
pub struct TreeArgs {
    /// Only this group and those below it
    target: Option<String>,
    /// Groups only, without their processes
    #[arg(long)]
    no_processes: bool,
    /// Print the groups as JSON, as `ls` does
    #[arg(long)]
    json: bool,
}

fn nodes(target: Option<&str>) -> Result<Vec<Node>> {
    let host = Host::detect()?;
    let below = match target {
        Some(word) => super::target(&host, word)?.path,
        None => CgroupPath::root(),
    };
    let nodes = survey::survey(&host.cgroups, &below);
    if nodes.is_empty() {
        return Err(Error::kind(
            Kind::Unsupported,
            "no cgroup file system is mounted here",
        )
        .topic("cgroups"));
    }
    Ok(nodes)
}

fn is_below(path: &str, above: &str) -> bool {
    above == "/" || path == above || path.strip_prefix(above).is_some_and(|r| r.starts_with('/'))
}

pub(super) fn ls(args: LsArgs) -> Result<u8> {
    let mut nodes = nodes(args.target.as_deref())?;
    if args.populated {
        let busy: Vec<String> = nodes
            .iter()
            .filter(|n| !n.processes.is_empty())
            .map(|n| n.path.clone())
            .collect();
        nodes.retain(|n| busy.iter().any(|b| is_below(b, &n.path)));
    }
    if args.json {
        ui::print_json(&nodes);
    } else if args.quiet {
        for node in &nodes {
            ui::out(&node.path);
        }
    } else if let Some(template) = &args.format {
        let rows: Vec<serde_json::Value> = nodes
            .iter()
            .map(serde_json::to_value)
            .collect::<std::result::Result<_, _>>()
            .map_err(|e| Error::new("cannot write JSON").caused_by(e))?;
        ui::out(ui::template::rows(template, &rows, &[])?);
    } else {
        let mut table = Table::new(&["group", "processes", "memory", "pids", "trees", "limits"]);
        for n in &nodes {
            table.row([
                n.path.clone(),
                n.processes.len().to_string(),
                n.memory.map_or("-".into(), human),
                n.pids.map_or("-".into(), |p| p.to_string()),
                n.hierarchies.len().to_string(),
                limits(n),
            ]);
        }
        ui::out(table);
    }
    Ok(0)
}

fn limits(n: &Node) -> String {
    let mut parts: Vec<String> = n
        .limits
        .iter()
        .map(|(what, value)| format!("{what}={}", human_limit(what, value)))
        .collect();
    if n.frozen {
        parts.push("frozen".into());
    }
    parts.join(", ")
}

pub(super) fn tree(args: TreeArgs) -> Result<u8> {
    let nodes = nodes(args.target.as_deref())?;
    if args.json {
        ui::print_json(&nodes);
        return Ok(0);
    }
    let mut lines = Vec::new();
    draw(&nodes, 0, "", &args, ui::colour_stdout(), &mut lines);
    ui::out(lines.join("\n"));
    Ok(0)
}

/// Draws the node at `at` and all below it; nodes stand before those below them.
fn draw(
    nodes: &[Node],
    at: usize,
    indent: &str,
    args: &TreeArgs,
    colour: bool,
    lines: &mut Vec<String>,
) {
    let node = &nodes[at];
    if indent.is_empty() {
        lines.push(label(node, &node.path, colour));
    }
    let children: Vec<usize> = (at + 1..nodes.len())
        .take_while(|i| is_below(&nodes[*i].path, &node.path))
        .filter(|i| parent_of(&nodes[*i].path) == node.path)
        .collect();
    let processes = match args.no_processes {
        true => &[][..],
        false => &node.processes[..],
    };
    let mut left = processes.len() + children.len();
    let mut branch = || {
        left -= 1;
        if left == 0 { ("└─ ", "   ") } else { ("├─ ", "│  ") }
    };
    for p in processes {
        let (mark, _) = branch();
        lines.push(format!("{indent}{mark}{} {}", p.pid, p.name));
    }
    for child in children {
        let (mark, deeper) = branch();
        let name = nodes[child].path.rsplit('/').next().unwrap_or_default();
        lines.push(format!("{indent}{mark}{}", label(&nodes[child], name, colour)));
        let deeper = format!("{indent}{deeper}");
        draw(nodes, child, &deeper, args, colour, lines);
    }
}

fn parent_of(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some(("", _)) | None => "/",
        Some((above, _)) => above,
    }
}

fn label(node: &Node, name: &str, colour: bool) -> String {
    let mut text = styled(name, Style::Name, colour);
    let limits = limits(node);
    if !limits.is_empty() {
        text += &format!("  [{limits}]");
    }
    if let Some(memory) = node.memory.filter(|m| *m > 0) {
        text += &styled(format!("  {}", human(memory)), Style::Dim, colour);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_drawn() {
        let node = |path: &str, pids: &[i32]| Node {
            path: path.into(),
            processes: pids
                .iter()
                .map(|p| survey::Process {
                    pid: *p,
                    name: "sh".into(),
                })
                .collect(),
            ..Node::default()
        };
        let mut nodes = vec![node("/", &[1]), node("/a", &[]), node("/a/b", &[7, 8]), node("/c", &[])];
        nodes[2].limits.insert("memory.max".into(), "67108864".into());
        let args = TreeArgs {
            target: None,
            no_processes: false,
            json: false,
        };
        let mut lines = Vec::new();
        draw(&nodes, 0, "", &args, false, &mut lines);
        assert_eq!(
            lines.join("\n"),
            "/\n├─ 1 sh\n├─ a\n│  └─ b  [memory.max=64 MiB]\n│     ├─ 7 sh\n│     └─ 8 sh\n└─ c"
        );
    }
}
