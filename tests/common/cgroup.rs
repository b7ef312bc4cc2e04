//! A place in the cgroup tree for one test, on any layout.
//!
//! Interface: [`Place`], [`limit`], [`wait_for`]. Read next: `tests/cgroups.rs`.

use super::{LeakCheck, TempRoot, run};
use glassbox::cgroups::{CgroupPath, Group};
use glassbox::host::CgroupLayout;
use serde_json::Value;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A unique group that holds all of one test's, removed at the end whatever happens.
pub struct Place {
    /// Its path.
    pub path: String,
    /// The host's trees.
    pub layout: CgroupLayout,
    // Dropped in this order: the check sees what the group's removal left.
    _leaks: LeakCheck,
    _root: TempRoot,
}

impl Place {
    /// `None` when this caller may make no groups here (the reason was printed).
    pub fn new(name: &str) -> Option<Place> {
        let layout = CgroupLayout::detect().expect("the layout");
        let root = TempRoot::new(name);
        // An ordinary user's tests work inside the group that is delegated to them, if one is.
        let base = glassbox::cgroups::group::base(&layout).expect("a base");
        let place = Place {
            path: base.join(&root.tag()).expect("a path").to_string(),
            _leaks: LeakCheck::new(&root),
            layout,
            _root: root,
        };
        let group = CgroupPath::parse(&place.path)
            .and_then(|p| Group::locate(&place.layout, &p))
            .and_then(|g| g.require_usable());
        if let Err(e) = group {
            super::skip(format!("needs root, or a delegated cgroup: {e:#}"));
            return None;
        }
        Some(place)
    }
    /// The path of a group below it.
    pub fn at(&self, name: &str) -> String {
        format!("{}/{name}", self.path)
    }
    /// The directories of a group, in all trees that have it.
    pub fn dirs(&self, path: &str) -> Vec<PathBuf> {
        let path = CgroupPath::parse(path).expect("a path");
        Group::existing(&self.layout, &path)
            .map(|g| g.dirs.into_iter().map(|d| d.dir).collect())
            .unwrap_or_default()
    }
    /// A group that exists.
    pub fn group(&self, path: &str) -> Group {
        let path = CgroupPath::parse(path).expect("a path");
        Group::existing(&self.layout, &path).expect("the group exists")
    }
    /// What `cgroup stat --json` says of a group.
    pub fn stat(&self, path: &str) -> Value {
        run(["cgroup", "stat", "--json", path]).success().json()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.dirs(&self.path).is_empty() {
            let out = run(["cgroup", "rm", "-rf", &self.path]);
            if !std::thread::panicking() {
                assert_eq!(out.code(), 0, "{out}");
            }
        }
    }
}

/// The limit named `what` in `stat --json`.
pub fn limit<'a>(stat: &'a Value, what: &str) -> &'a Value {
    let limits = stat["limits"].as_array().expect("limits");
    limits
        .iter()
        .find(|l| l["what"] == what)
        .unwrap_or_else(|| panic!("no {what} in {stat:#}"))
}

/// Waits up to a minute.
pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
