//! The plan's part about who init is: its ids, its protection, the namespaces that it joins, its
//! names.
//!
//! What it does: the first steps of init's, right after the split. Namespaces are joined by paths
//! of the caller's mounts, so the mount namespace comes last of them.
//!
//! What it implements: runtime-spec "Namespaces", "Hostname", "Domainname", "Offset for Time
//! Namespace". Interface: the methods that `plan.rs` calls. Read next: `filesystem.rs`.

use super::{Builder, flag_of, joining, kind_of};
use crate::journal::Stage;
use crate::namespaces::actions;
use crate::network::actions::Configure;
use crate::runtime::identity;
use crate::runtime::name_server::OpenSockets;
use crate::runtime::session::{NewCgroupNamespace, NewSession, NotDumpable, NotTheHosts};
use crate::security::actions::{NewKeyring, OomScoreAdj};
use crate::spec::runtime::NamespaceType;

impl Builder<'_> {
    pub(super) fn identity(&mut self) {
        if let Some(path) = self
            .joins(NamespaceType::User)
            .filter(|_| !self.host.rootless)
        {
            let join = joining(NamespaceType::User, path);
            self.init(
                Stage::Namespaces,
                "join-user",
                "The user namespace comes first: it owns the others.",
                join,
            );
        }
        if self.in_user_namespace() {
            self.init(
                Stage::Namespaces,
                "become-root",
                "Root inside the user namespace, and nobody in particular outside.",
                identity::BecomeRoot,
            );
        }
        if let Some(value) = self.process.oom_score_adj {
            // Before init is undumpable: then its files in /proc belong to the host's root.
            self.init(
                Stage::Runtime,
                "oom-score",
                "How readily the kernel picks this process when memory runs out.",
                OomScoreAdj { value },
            );
        }
        self.init(
            Stage::Runtime,
            "not-dumpable",
            "The container's processes cannot open or trace init.",
            NotDumpable,
        );
        for typ in [
            NamespaceType::Network,
            NamespaceType::Ipc,
            NamespaceType::Uts,
            NamespaceType::Cgroup,
            NamespaceType::Time,
        ] {
            if let Some(path) = self.joins(typ) {
                let name = kind_of(typ);
                let set = |key| self.namespace_of(key).is_ok_and(|f| f == flag_of(typ));
                if self.linux.sysctl.keys().any(|key| set(key)) {
                    self.init(
                        Stage::Namespaces,
                        format!("foreign-{name}"),
                        "Kernel parameters are going to be set in it, so it must not be the host's.",
                        NotTheHosts {
                            kind: name,
                            path: path.to_path_buf(),
                        },
                    );
                }
                let join = joining(typ, path);
                self.init(
                    Stage::Namespaces,
                    format!("join-{name}"),
                    "This namespace is shared with whoever made it.",
                    join,
                );
            }
        }
        if self.creates(NamespaceType::Time) {
            let clock = |name: &str| {
                self.linux
                    .time_offsets
                    .get(name)
                    .map(|o| actions::TimeOffset {
                        seconds: o.secs,
                        nanoseconds: o.nanosecs,
                    })
            };
            let (monotonic, boottime) = (clock("monotonic"), clock("boottime"));
            self.init(
                Stage::Namespaces,
                "clocks",
                "The clocks of a time namespace can only be set while nobody is in it.",
                actions::TimeOffsets {
                    monotonic,
                    boottime,
                },
            );
        }
        if self.creates(NamespaceType::Cgroup) {
            self.init(
                Stage::Namespaces,
                "unshare-cgroup",
                "Its own cgroup becomes the root of the hierarchy that it sees.",
                NewCgroupNamespace,
            );
        }
        if let Some(path) = self.joins(NamespaceType::Mount) {
            // After all that are named by a path of the caller's mounts.
            let join = joining(NamespaceType::Mount, path);
            self.init(
                Stage::Namespaces,
                "join-mnt",
                "It lives among the mounts of whoever made that namespace.",
                join,
            );
        }
        self.init(
            Stage::Runtime,
            "session",
            "A session of its own, out of reach of the caller's terminal.",
            NewSession,
        );
        if !self.request.wishes.no_new_keyring {
            self.init(
                Stage::Runtime,
                "keyring",
                "A keyring of its own: the caller's keys stay the caller's.",
                NewKeyring {
                    name: match &self.request.wishes.pause {
                        Some(pause) => pause.record.keyring().into(),
                        None => self.request.id.into(),
                    },
                },
            );
        }
    }

    pub(super) fn names(&mut self) {
        let own = self
            .linux
            .namespaces
            .iter()
            .any(|n| n.typ == NamespaceType::Uts);
        if let (true, Some(name)) = (own, &self.spec.hostname) {
            self.init(
                Stage::Namespaces,
                "hostname",
                "The UTS namespace gives it a host name of its own.",
                actions::SetHostname { name: name.clone() },
            );
        }
        if let (true, Some(name)) = (own, &self.spec.domainname) {
            self.init(
                Stage::Namespaces,
                "domainname",
                "And a NIS domain name.",
                actions::SetDomainname { name: name.clone() },
            );
        }
        if self.creates(NamespaceType::Network) {
            self.init(
                Stage::Namespaces,
                "loopback",
                "A new network namespace has a loopback that is down: without it 127.0.0.1 answers nobody.",
                actions::LoopbackUp,
            );
            if self.request.wishes.name_server {
                self.init(
                    Stage::Containers,
                    "name-server",
                    "Its program will ask for names at an address of its own loopback; we answer.",
                    OpenSockets,
                );
            }
        }
        for endpoint in &self.request.wishes.networks {
            self.init(
                Stage::Containers,
                format!("address-{}", endpoint.inside),
                "An address in the network, and where to send what is for elsewhere.",
                Configure {
                    endpoint: endpoint.clone(),
                },
            );
        }
    }
}
