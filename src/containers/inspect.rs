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
use super::store::Container;
use crate::error::Result;
use serde_json::{Value, json};
use std::path::Path;

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
    Ok(json!({
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
        "Mounts": mounts(&host_config, container.dir.ancestors().nth(2).unwrap_or(&container.dir)),
        "Config": config,
        "NetworkSettings": {
            "SandboxKey": match running {
                true => format!("/proc/{}/ns/net", status.pid),
                false => String::new(),
            },
            "Ports": {},
            "Networks": {},
        },
    }))
}

/// `Binds` and `Mounts` of the host's part as docker shows mounts; named volumes lie below `root`.
fn mounts(host_config: &Value, root: &Path) -> Vec<Value> {
    let volume = |name: &str| {
        root.join("volumes")
            .join(name)
            .join("_data")
            .display()
            .to_string()
    };
    let list = |key: &str| host_config[key].as_array().cloned().unwrap_or_default();
    let binds = list("Binds").into_iter().filter_map(|bind| {
        let bind = bind.as_str()?.to_string();
        let mut parts = bind.split(':');
        let (source, destination) = (parts.next()?, parts.next()?);
        let mode = parts.next().unwrap_or("");
        let is_path = source.starts_with('/');
        Some(json!({
            "Type": if is_path { "bind" } else { "volume" },
            "Name": if is_path { "" } else { source },
            "Source": if is_path { source.to_string() } else { volume(source) },
            "Destination": destination,
            "Mode": mode,
            "RW": !mode.split(',').any(|o| o == "ro"),
            "Propagation": if is_path { "rprivate" } else { "" },
        }))
    });
    let mounts = list("Mounts").into_iter().map(|m| {
        let source = m["Source"].as_str().unwrap_or_default();
        let named = m["Type"] == "volume" && !source.is_empty();
        json!({
            "Type": m["Type"],
            "Name": if named { source } else { "" },
            "Source": if named { volume(source) } else { source.to_string() },
            "Destination": m["Target"],
            "Mode": "",
            "RW": m["ReadOnly"] != true,
            "Propagation": m["Propagation"].as_str().unwrap_or(""),
        })
    });
    binds.chain(mounts).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binds_and_mounts_look_alike() {
        let host_config = json!({
            "Binds": ["/a:/b:ro,z", "data:/d"],
            "Mounts": [
                {"Type": "tmpfs", "Target": "/t", "ReadOnly": false},
                {"Type": "volume", "Source": "more", "Target": "/m"}
            ]
        });
        let all = mounts(&host_config, Path::new("/root"));
        assert_eq!(all.len(), 4);
        let volume = |i: usize| (all[i]["Name"].as_str(), all[i]["Source"].as_str());
        assert_eq!(volume(1), (Some("data"), Some("/root/volumes/data/_data")));
        assert_eq!(volume(3), (Some("more"), Some("/root/volumes/more/_data")));
        assert_eq!(
            (&all[0]["Type"], &all[0]["RW"]),
            (&"bind".into(), &false.into())
        );
        assert_eq!(
            (&all[1]["Type"], &all[1]["Name"]),
            (&"volume".into(), &"data".into())
        );
        assert_eq!(
            (&all[2]["Destination"], &all[2]["RW"]),
            (&"/t".into(), &true.into())
        );
    }
}
