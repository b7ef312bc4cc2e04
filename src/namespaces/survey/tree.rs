//! Two trees: user namespaces with what they own, and pid namespaces in each other.
//!
//! What it does: arranges a survey purely. A user namespace's parent is its owner; every other
//! namespace hangs below the user namespace that owns it, for capabilities are held there. Pid
//! namespaces have a second order: a process is seen in its own and in all above it.
//! What it implements: user_namespaces(7) ("Nested namespaces", "Interaction of user namespaces
//! and other types of namespaces"), pid_namespaces(7) ("Nesting PID namespaces").
//! Interface: [`Trees::of`], [`Node`]. Read next: [`crate::cli`]'s `ns tree`, which draws them.

use super::{Namespace, Survey};
use crate::namespaces::Kind;
use serde::Serialize;

/// A namespace and those below it.
#[derive(Debug, Serialize)]
pub struct Node<'a> {
    /// The namespace.
    #[serde(flatten)]
    pub namespace: &'a Namespace,
    /// Those that it owns (in the tree of owners) or that are nested in it (in that of pids).
    pub below: Vec<Node<'a>>,
}

/// Both trees. Each has several roots where the real root may not be seen.
#[derive(Debug, Serialize)]
pub struct Trees<'a> {
    /// User namespaces, each with the namespaces that it owns.
    pub owners: Vec<Node<'a>>,
    /// Pid namespaces.
    pub pids: Vec<Node<'a>>,
}

impl<'a> Trees<'a> {
    /// The trees of a survey.
    pub fn of(survey: &'a Survey) -> Trees<'a> {
        let all = &survey.namespaces;
        let above = |n: &Namespace| match n.kind {
            Kind::User => n.parent.or(n.owner),
            _ => n.owner,
        };
        let is_known = |kind, id: Option<u64>| id.is_some_and(|id| survey.get(kind, id).is_some());
        let owners = all
            .iter()
            .filter(|n| !is_known(Kind::User, above(n)))
            .map(|n| {
                grow(n, &|parent| {
                    all.iter()
                        .filter(|n| parent.kind == Kind::User && above(n) == Some(parent.id))
                        .collect()
                })
            })
            .collect();
        let pids = all
            .iter()
            .filter(|n| n.kind == Kind::Pid && !is_known(Kind::Pid, n.parent))
            .map(|n| {
                grow(n, &|parent| {
                    all.iter()
                        .filter(|n| n.kind == Kind::Pid && n.parent == Some(parent.id))
                        .collect()
                })
            })
            .collect();
        Trees { owners, pids }
    }
}

fn grow<'a>(
    namespace: &'a Namespace,
    below: &dyn Fn(&'a Namespace) -> Vec<&'a Namespace>,
) -> Node<'a> {
    let mut nodes: Vec<&Namespace> = below(namespace);
    // Its own things first, nested user namespaces after them.
    nodes.sort_by_key(|n| (n.kind == Kind::User, n.kind, n.id));
    Node {
        namespace,
        below: nodes.into_iter().map(|n| grow(n, below)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(kind: Kind, id: u64, owner: Option<u64>, parent: Option<u64>) -> Namespace {
        Namespace {
            kind,
            id,
            ours: false,
            processes: vec![],
            oldest: None,
            owner,
            owner_unread: None,
            parent,
            owner_uid: None,
            kept_by: vec![],
        }
    }

    #[test]
    fn what_is_owned_hangs_below_its_owner() {
        let survey = Survey {
            namespaces: vec![
                namespace(Kind::User, 1, None, None),
                namespace(Kind::User, 2, Some(1), Some(1)),
                namespace(Kind::Net, 3, Some(2), None),
                namespace(Kind::Pid, 4, Some(1), None),
                namespace(Kind::Pid, 5, Some(2), Some(4)),
                namespace(Kind::Mnt, 6, None, None), // whose owner may not be known
            ],
            unread: vec![],
        };
        let trees = Trees::of(&survey);
        let ids = |nodes: &[Node]| nodes.iter().map(|n| n.namespace.id).collect::<Vec<_>>();
        assert_eq!(ids(&trees.owners), [1, 6]);
        assert_eq!(ids(&trees.owners[0].below), [4, 2]);
        assert_eq!(ids(&trees.owners[0].below[1].below), [5, 3]);
        assert_eq!(ids(&trees.pids), [4]);
        assert_eq!(ids(&trees.pids[0].below), [5]);
    }
}
