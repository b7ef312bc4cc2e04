//! Creating a container: a name, an id, and a directory that outlives every process.
//!
//! What it does: decides all of it first ([`draft`], which touches nothing), then puts it on disk
//! in two steps. `container.json` is written last and flushed: with it the container exists,
//! before it there is only a directory that the next command sweeps away.
//! Interface: [`Wish`], [`draft`], [`plan`], [`create`]. Read next: `prepare.rs`.

use super::actions::{self, MakeDirectory, WriteFile};
use super::config;
use super::events;
use super::image::Image;
use super::model::{Config, EndpointConfig, HostConfig, MountPoint};
use super::names;
use super::networks;
use super::state::Record;
use super::store::{Container, Store};
use super::time::Time;
use super::volumes;
use crate::error::{Context, Error, Kind, Result};
use crate::host;
use crate::journal::{self, Plan, Scene, Stage, Step, Watch};
use std::path::PathBuf;

/// What a user asks for.
#[derive(Debug, Default)]
pub struct Wish {
    /// A name, or nothing for a generated one.
    pub name: Option<String>,
    /// What the user said, not yet merged with the image's configuration.
    pub config: Config,
    /// `--entrypoint`, when it was given.
    pub entrypoint: Option<Vec<String>>,
    /// The rest.
    pub host_config: HostConfig,
    /// The networks that it is to be in.
    pub networks: Vec<EndpointConfig>,
    /// A directory in place of an image.
    pub rootfs: Option<PathBuf>,
}

/// The container that [`create`] would make. Touches nothing. Errors: a bad name, no command,
/// contradicting flags.
pub fn draft(store: &Store, mut wish: Wish, image: &Image) -> Result<Container> {
    let id = names::new_id()?;
    let name = match wish.name {
        Some(name) => {
            let name = name.strip_prefix('/').unwrap_or(&name);
            names::check(name)?;
            name.to_string()
        }
        None => {
            let taken = store.names()?;
            names::generate(|n| taken.iter().any(|(t, _)| t == n))?
        }
    };
    check_taken(store, &name)?;
    if wish.host_config.auto_remove
        && !matches!(wish.host_config.restart_policy.name.as_str(), "" | "no")
    {
        return Err(Error::kind(
            Kind::Usage,
            "conflicting options: cannot specify both --restart and --rm",
        ));
    }
    check_conflicts(&wish.config, &wish.host_config)?;
    let h = &mut wish.host_config;
    if h.shm_size == 0 {
        h.shm_size = config::SHM;
    }
    let publishes = h.publish_all_ports || !h.port_bindings.is_empty();
    let unsaid = wish.networks.is_empty() && matches!(h.network_mode.as_str(), "" | "default");
    // A port leads into a network, and for a container that publishes none docker's default is the
    // same; an ordinary user cannot have this one.
    let open = unsaid && host::is_privileged();
    if open && (publishes || networks::obstacle(store).is_none()) {
        h.network_mode = "bridge".into();
    }
    let config = config::merge(image.config.as_ref(), wish.config, wish.entrypoint)?;
    let mut config = config;
    let own_name = wish.host_config.uts_mode != "host"
        && wish.host_config.network_mode != "host"
        && !wish.host_config.network_mode.starts_with("container:");
    if config.hostname.is_empty() && own_name {
        config.hostname = names::short(&id).to_string();
    }
    let mount_points = volumes::mount_points(store, &config, &wish.host_config)?;
    let (dir, run) = store.place(&id);
    let record = Record {
        id,
        name,
        created: Time::now(),
        image_id: image.id.clone(),
        rootfs: wish.rootfs,
        platform: image.platform.clone(),
        config,
        host_config: wish.host_config,
        mount_points,
        networks: wish.networks,
    };
    let container = Container { record, dir, run };
    for wanted in networks::wanted(&container) {
        networks::find(store, &wanted.network)?;
    }
    Ok(container)
}

/// What cannot be had together, in docker's words.
fn check_conflicts(config: &Config, h: &HostConfig) -> Result<()> {
    let shared = h.network_mode.starts_with("container:");
    let conflict = if !config.hostname.is_empty() && h.uts_mode == "host" {
        "hostname and the UTS mode"
    } else if !config.hostname.is_empty() && shared {
        "hostname and the network mode"
    } else if shared && (h.publish_all_ports || !h.port_bindings.is_empty()) {
        "port publishing and the container type network mode"
    } else if !h.extra_hosts.is_empty() && shared {
        "custom host-to-IP mapping and the network mode"
    } else {
        return Ok(());
    };
    Err(Error::kind(
        Kind::Usage,
        format!("conflicting options: {conflict}"),
    ))
}

fn check_taken(store: &Store, name: &str) -> Result<()> {
    match store.id_of_name(name)? {
        Some(id) => Err(Error::kind(
            Kind::Conflict,
            format!(
                "conflict: the container name \"{name}\" is already in use by container {}",
                names::short(&id)
            ),
        )
        .hint(format!(
            "`glassbox rm {name}` or `glassbox rename {name} NEW_NAME` frees it"
        ))),
        None => Ok(()),
    }
}

/// The steps of the creation, its volumes among them.
pub fn plan(store: &Store, container: &Container) -> Result<Plan> {
    let mut plan = Plan::default();
    let make = MakeDirectory {
        path: container.dir.clone(),
        mode: 0o700,
        own: true,
    };
    plan.push(Step::parent(
        Stage::Containers,
        "make-container",
        "A container is a directory: what it is, what became of it, what it wrote.",
        make,
    ));
    volumes::missing(store, container, &mut plan)?;
    let write = WriteFile {
        path: container.dir.join("container.json"),
        text: container.record.text()?,
        mode: 0o600,
        // Nobody misses a container with --rm after a power cut, which has ended it.
        durable: !container.record.host_config.auto_remove,
        own: true,
    };
    plan.push(Step::parent(
        Stage::Containers,
        "write-container",
        "With this file, there before anything else happens, the container exists.",
        write,
    ));
    Ok(plan)
}

/// Puts a drafted container on disk, and says which volumes were made for it. Errors: its name was
/// taken meanwhile; nothing is left then.
pub fn create(
    store: &Store,
    container: &Container,
    watch: &mut dyn Watch,
    options: &journal::Options,
) -> Result<Vec<String>> {
    actions::make_all(&store.paths().containers(), 0o711)?;
    let _names = store.lock_names()?;
    let _ = store.sweep(); // what cannot be removed is in nobody's way; `system recover` tells it
    check_taken(store, container.name())?;
    let plan = plan(store, container)?;
    let new =
        |p: &&MountPoint| p.typ == "volume" && !store.paths().volumes().join(&p.name).exists();
    let new = container.record.mount_points.iter().filter(new);
    let new: Vec<String> = new.map(|p| p.name.clone()).collect();
    journal::execute(&plan, &mut Scene::new(), watch, options)
        .with_context(|| format!("cannot create container {}", container.name()))?;
    for name in &new {
        let attributes = [("driver", "local".to_string())];
        events::emit(&store.paths().root, "volume", "create", name, &attributes);
    }
    events::of(container, "create", &[]);
    Ok(new)
}
