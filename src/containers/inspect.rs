//! A container in the words of docker's `inspect`.
//!
//! What it does: turns what is written down about a container into the keys that docker's users,
//! templates and the Engine API know. It only reads: a container whose monitor was killed is shown
//! as what it is, and left for the next command to take over or to clear up.
//! What it implements: the schema `ContainerInspectResponse` of the Docker Engine API 1.50, without
//! the keys of storage drivers and of platforms other than Linux.
//! Interface: [`docker_keys`]. Read next: [`crate::inspect`], which adds what the kernel says.

use super::reconcile;
use super::state::{Phase, Status};
use super::store::{Container, Store};
use super::{networks, volumes};
use crate::error::Result;
use serde_json::{Value, json};

/// What is true about it, without clearing up: a container without a monitor may run on.
/// Errors: its files cannot be read.
pub fn current_status(container: &Container) -> Result<Status> {
    let status = container.written_status()?;
    if !status.phase.is_live() || container.monitor_lives()? {
        return Ok(status);
    }
    let goes_on = match status.phase {
        Phase::Restarting => true,
        Phase::Running | Phase::Paused => reconcile::find_init(container, &status).is_some(),
        _ => false,
    };
    if goes_on {
        return Ok(Status {
            monitor: 0,
            error: "its monitor was killed; the next command that changes it starts another".into(),
            ..status
        });
    }
    Ok(Status {
        phase: Phase::Exited,
        pid: 0,
        monitor: 0,
        exit_code: 255, // not known
        error: "its monitor was killed; the next command that changes it clears up".into(),
        ..status
    })
}

/// The keys of docker's `inspect`. Errors: its files cannot be read.
pub fn docker_keys(container: &Container) -> Result<Value> {
    let status = current_status(container)?;
    let record = &container.record;
    let config = serde_json::to_value(&record.config).unwrap_or_default();
    let host_config = serde_json::to_value(&record.host_config).unwrap_or_default();
    let command = record.config.args();
    let path = command.first().cloned().unwrap_or_default();
    let arguments: Vec<&String> = command.iter().skip(1).collect();
    let time = |t: &super::time::Time| serde_json::to_value(t).unwrap_or_default();
    let running = matches!(status.phase, Phase::Running | Phase::Paused);
    let file = |name: &str| container.dir.join(name).display().to_string();
    let mut shown = json!({
        "Id": record.id,
        "Created": time(&record.created),
        "Path": path,
        "Args": arguments,
        "State": {
            "Status": status.phase.name(),
            "Running": running,
            "Paused": status.phase == Phase::Paused,
            "Restarting": status.phase == Phase::Restarting,
            "OOMKilled": status.oom_killed,
            "Dead": false,
            "Pid": status.pid,
            "ExitCode": status.exit_code,
            "EndedBy": status.ended_by,
            "Error": status.error,
            "StartedAt": time(&status.started_at),
            "FinishedAt": time(&status.finished_at),
        },
        "Image": record.image_id,
        "ResolvConfPath": file("resolv.conf"),
        "HostnamePath": file("hostname"),
        "HostsPath": file("hosts"),
        "LogPath": container.log().display().to_string(),
        "Name": format!("/{}", record.name),
        "RestartCount": status.restart_count,
        "Driver": "overlayfs",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": Value::Null,
        "HostConfig": host_config,
        "GraphDriver": {
            "Name": "overlayfs",
            "Data": {
                "UpperDir": file("upper"),
                "WorkDir": file("work"),
                "MergedDir": file("rootfs"),
            },
        },
        "Mounts": mounts(container, &Store::of(container)),
        "Config": config,
        "NetworkSettings": network_settings(container, running.then_some(status.pid)),
    });
    if let Some(health) = &status.health {
        shown["State"]["Health"] = serde_json::to_value(health).unwrap_or_default();
    }
    Ok(shown)
}

/// The networks; and what docker said of the default one beside them until API 1.52, which scripts
/// ask for: `{{.NetworkSettings.IPAddress}}`.
fn network_settings(container: &Container, pid: Option<i32>) -> Value {
    let networks = networks::show::endpoints(container, pid.is_some());
    let mut settings = json!({
        "SandboxKey": pid.map(|pid| format!("/proc/{pid}/ns/net")).unwrap_or_default(),
        "Ports": networks::show::ports(container, pid.is_some()),
        "EndpointID": "",
        "Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "IPAddress": "",
        "IPPrefixLen": 0,
        "IPv6Gateway": "",
        "MacAddress": "",
    });
    if let (Some(default), Some(all)) = (networks.get("bridge"), settings.as_object_mut()) {
        for (key, value) in all.iter_mut() {
            if let Some(said) = default.get(key) {
                *value = said.clone();
            }
        }
    }
    settings["Networks"] = json!(networks);
    settings
}

/// The user's mounts as docker shows them; volumes lie below `root`.
fn mounts(container: &Container, store: &Store) -> Vec<Value> {
    let points = container.record.mount_points.iter().map(|p| {
        let mut shown = json!({ "Type": p.typ });
        if p.typ == "volume" {
            let data = volumes::find(store, &p.name).map(|(_, data)| data.display().to_string());
            shown["Name"] = p.name.clone().into();
            shown["Source"] = data.unwrap_or_default().into();
        } else {
            shown["Source"] = p.source.clone().into();
        }
        shown["Destination"] = p.destination.clone().into();
        if p.typ == "volume" {
            shown["Driver"] = "local".into();
        }
        shown["Mode"] = p.mode.clone().into();
        shown["RW"] = (!p.read_only).into();
        shown["Propagation"] = match (p.typ.as_str(), p.bind.propagation.as_str()) {
            ("bind", "") => "rprivate".into(),
            (_, propagation) => propagation.into(),
        };
        shown
    });
    let tmpfs = container
        .record
        .host_config
        .mounts
        .iter()
        .filter(|m| m.typ == "tmpfs");
    let tmpfs = tmpfs.map(|m| {
        json!({
            "Type": "tmpfs",
            "Source": "",
            "Destination": m.target,
            "Mode": "",
            "RW": !m.read_only,
            "Propagation": "",
        })
    });
    points.chain(tmpfs).collect()
}
