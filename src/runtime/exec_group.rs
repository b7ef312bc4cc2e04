//! In which of the container's groups a further program runs.
//!
//! What it does: usually in the container's own. Two things change that. On v2 a group that hands
//! controllers to the groups below it may hold no processes itself, or who is born there meets EBUSY;
//! a container whose init manages groups (systemd, an engine in a container) has made its own one
//! such, and moved below it. Then a further program goes to where init is. And the caller may name a
//! group below the container's, in all trees or in those of some controllers.
//!
//! ```text
//!   /glassbox/web                cgroup.subtree_control: memory pids   ✗ EBUSY
//!   /glassbox/web/init.scope     init                                  ← exec
//!   /glassbox/web/jobs                                                 ← exec --cgroup jobs
//! ```
//!
//! What it implements: the kernel's admin-guide/cgroup-v2.rst ("No Internal Process Constraint");
//! runc-exec(8) `--cgroup`.
//! Interface: [`SubGroup`], [`place`]. Read next: `exec.rs`.

use crate::cgroups::{CgroupPath, Group, group::read_file};
use crate::error::{Error, Kind, Result};
use crate::host::CgroupLayout;
use std::path::Path;
use std::str::FromStr;

/// A group below the container's: `[CONTROLLER[,CONTROLLER]:]PATH`; without a controller, in every
/// tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubGroup {
    controllers: Vec<String>,
    path: CgroupPath,
}

impl FromStr for SubGroup {
    type Err = Error;
    fn from_str(text: &str) -> Result<SubGroup> {
        // A path may hold colons, the names before the first one no slash.
        let named = text.split_once(':').filter(|(c, _)| !c.contains('/'));
        let (controllers, path) = named.unwrap_or(("", text));
        Ok(SubGroup {
            controllers: controllers
                .split(',')
                .filter(|c| !c.is_empty())
                .map(String::from)
                .collect(),
            path: CgroupPath::parse(path)?,
        })
    }
}

/// The groups for a further program: `group` is the container's, `init` its first process, `wished`
/// what the caller names. Errors (kinds `NotFound`, `Unsupported`): a group that is not there, a
/// controller that has no tree.
pub(super) fn place(
    mut group: Group,
    init: i32,
    layout: &CgroupLayout,
    wished: &[SubGroup],
) -> Result<Group> {
    if wished.is_empty() {
        follow_init(&mut group, init, layout);
    }
    for sub in wished {
        let mut found = false;
        for dir in &mut group.dirs {
            let has = |c: &String| dir.hierarchy.split(',').any(|name| name == c);
            if !sub.controllers.is_empty() && !sub.controllers.iter().any(has) {
                continue;
            }
            found = true;
            let below = sub.path.as_str().trim_start_matches('/');
            if below.is_empty() {
                continue;
            }
            let path = Path::new(&dir.path).join(below);
            dir.dir.push(below);
            dir.path = path.display().to_string();
            // A tree that the caller may not use is left out, as it is for the container.
            if dir.denied.is_none() && !dir.dir.is_dir() {
                let what = format!("the container has no cgroup {below:?}");
                return Err(Error::kind(Kind::NotFound, what)
                    .hint(format!("there is no {}", dir.dir.display()))
                    .topic("cgroups"));
            }
        }
        if !found {
            let names = sub.controllers.join(",");
            let what = format!("no tree of this host's cgroups is called {names}");
            return Err(Error::kind(Kind::Unsupported, what)
                .hint("cgroup v2 has one tree for all controllers: name the path alone")
                .topic("cgroups"));
        }
    }
    Ok(group)
}

/// In the v2 tree, where the container's group may hold no processes: to where its init is below.
fn follow_init(group: &mut Group, init: i32, layout: &CgroupLayout) {
    let Some(own) = group.dirs.iter_mut().find(|d| d.v2) else {
        return;
    };
    let handed_on = read_file(&own.dir, "cgroup.subtree_control");
    if handed_on.is_ok_and(|names| !names.is_empty())
        && let Ok(inits) = Group::of_pid(layout, init)
        && let Some(dir) = inits.unified()
        && Path::new(&dir.path).starts_with(&own.path)
    {
        *own = dir.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Host;

    #[test]
    fn what_the_caller_names_is_below_the_containers_group() {
        let host = Host::example_hybrid();
        let own = CgroupPath::parse("/glassbox/web").unwrap();
        let placed = |wished: &str| {
            let mut group = Group::imagine(&host, &own);
            for dir in &mut group.dirs {
                dir.denied = Some("none of these is looked for".into());
            }
            let group = place(group, 1, &host.cgroups, &[wished.parse()?])?;
            let moved = group.dirs.iter().filter(|d| d.path == "/glassbox/web/a/b");
            Ok::<_, Error>((
                moved.clone().count(),
                group.dirs.len(),
                moved.map(|d| d.hierarchy.clone()).collect::<Vec<_>>(),
            ))
        };
        let (moved, all, _) = placed("a/b").unwrap();
        assert!(moved == all && all > 1);
        assert_eq!(placed("memory,pids:/a/b").unwrap().2, ["memory", "pids"]);
        assert_eq!(placed("/").unwrap().0, 0);
        assert!(format!("{:#}", placed("nothing:a/b").unwrap_err()).contains("called nothing"));
        assert!(placed("../other").is_err());
        let with_colon: SubGroup = "/a:b".parse().unwrap();
        assert_eq!(with_colon.path.as_str(), "/a:b");
    }
}
