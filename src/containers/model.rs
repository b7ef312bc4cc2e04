//! What a container was created with, in the words of Docker's Engine API.
//!
//! What it does: [`Config`] is what would make sense on any host (the image's own configuration,
//! overridden by the command line); [`HostConfig`] is what ties it to this one. They are stored in
//! `container.json` and shown by `inspect` as they are, and are what the API's `create` takes.
//!
//! What it implements: the schemas `ContainerConfig` and `HostConfig` of the Docker Engine API
//! 1.50. Sizes are bytes, times seconds; 0 or an empty string means "not asked for".
//! Interface: [`Config`], [`HostConfig`]. Read next: `flags.rs` (from the command line), then
//! `config.rs` (to config.json).

use crate::spec::image::{Empty, Healthcheck};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

/// Docker writes `null` for a program that is not said, and readers tell it from an empty one.
fn null_for_none<S: serde::Serializer>(words: &[String], to: S) -> Result<S::Ok, S::Error> {
    match words {
        [] => to.serialize_none(),
        words => words.serialize(to),
    }
}

/// Docker's clients send `null` for a list that is empty.
fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

macro_rules! api {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
        #[serde(rename_all = "PascalCase", default)]
        pub struct $name {
            $($(#[$field_meta])* #[serde(deserialize_with = "nullable")] pub $field: $type,)*
        }
    };
}

api! {
    /// The part that does not depend on the host.
    pub struct Config {
        /// Host name inside; the short id when empty.
        hostname: String,
        /// NIS domain name inside.
        domainname: String,
        /// `user`, `uid`, `user:group`, `uid:gid`: names are the container's own.
        user: String,
        /// The creator wants to write to stdin.
        attach_stdin: bool,
        /// The creator wants stdout.
        attach_stdout: bool,
        /// The creator wants stderr.
        attach_stderr: bool,
        /// A terminal instead of three pipes.
        tty: bool,
        /// Keep stdin open although nobody is attached.
        open_stdin: bool,
        /// Close stdin when its first client leaves.
        stdin_once: bool,
        /// `NAME=value`, complete.
        env: Vec<String>,
        /// Arguments, or the program when there is no entrypoint.
        #[serde(serialize_with = "null_for_none")]
        cmd: Vec<String>,
        /// The image as the user named it.
        image: String,
        /// Where the program starts.
        working_dir: String,
        /// The program, before [`cmd`](Self::cmd).
        #[serde(serialize_with = "null_for_none")]
        entrypoint: Vec<String>,
        /// Free-form notes.
        labels: BTreeMap<String, String>,
        /// What `stop` sends first; `SIGTERM` when empty.
        stop_signal: String,
        /// How long `stop` waits before it kills; 10 seconds when absent.
        stop_timeout: Option<i64>,
        /// Places that get a volume without a name: `-v /DATA`, an image's `VOLUME`.
        volumes: BTreeMap<String, Empty>,
        /// Ports that it serves, published or not: `80/tcp`.
        exposed_ports: BTreeMap<String, Empty>,
        /// How to see that it is healthy; the image's when absent.
        healthcheck: Option<Healthcheck>,
    }
}

api! {
    /// The part that ties it to this host.
    pub struct HostConfig {
        /// `-v`: `SOURCE:DESTINATION[:OPTIONS]`.
        binds: Vec<String>,
        /// `--mount`.
        mounts: Vec<Mount>,
        /// Containers whose mounts it gets too: `NAME[:ro]`.
        volumes_from: Vec<String>,
        /// `--tmpfs`: destination → options.
        tmpfs: BTreeMap<String, String>,
        /// `none`, `host`, `container:ID`, `default`, or the first of its networks.
        network_mode: String,
        /// `-p`: `80/tcp` → ports of the host's.
        port_bindings: BTreeMap<String, Vec<PortBinding>>,
        /// `-P`: publish every exposed port.
        publish_all_ports: bool,
        /// `private` (or empty), `host`, `container:ID`, `shareable`, `none`.
        ipc_mode: String,
        /// Empty, `host` or `container:ID`.
        pid_mode: String,
        /// Empty or `host`.
        #[serde(rename = "UTSMode")]
        uts_mode: String,
        /// Empty or `host`.
        userns_mode: String,
        /// `private`, `host`, or empty: private on cgroup v2, the host's on v1, as docker does.
        cgroupns_mode: String,
        /// A cgroup under which the container's is made.
        cgroup_parent: String,
        /// Remove the container when it ends.
        auto_remove: bool,
        /// What to do when it ends.
        restart_policy: RestartPolicy,
        /// Capabilities beyond the default ones.
        cap_add: Vec<String>,
        /// Default capabilities that it does not get.
        cap_drop: Vec<String>,
        /// All capabilities, all devices, no seccomp filter, nothing masked.
        privileged: bool,
        /// The root file system cannot be written to.
        readonly_rootfs: bool,
        /// `seccomp=…`, `no-new-privileges`, `apparmor=…`, `label=…`, `systempaths=unconfined`.
        security_opt: Vec<String>,
        /// Additional groups.
        group_add: Vec<String>,
        /// Lines for /etc/hosts: `NAME:ADDRESS`.
        extra_hosts: Vec<String>,
        /// Resolvers in place of the host's.
        dns: Vec<String>,
        /// Options of resolv.conf.
        dns_options: Vec<String>,
        /// Domains in which a short name is looked for; `.` alone for none.
        dns_search: Vec<String>,
        /// Containers that it knows by another name: `NAME:ALIAS`.
        links: Vec<String>,
        /// Kernel parameters of its namespaces.
        sysctls: BTreeMap<String, String>,
        /// Size of /dev/shm; 64 MiB when 0.
        shm_size: i64,
        /// Whom the out-of-memory killer prefers.
        oom_score_adj: i32,
        /// A small init as PID 1.
        init: bool,
        /// Notes for config.json.
        annotations: BTreeMap<String, String>,
        /// Memory limit.
        memory: i64,
        /// Memory and swap together; −1 for unlimited swap.
        memory_swap: i64,
        /// Memory that is left to it under pressure.
        memory_reservation: i64,
        /// Billionths of a CPU.
        nano_cpus: i64,
        /// Relative weight, 1024 by default.
        cpu_shares: u64,
        /// Length of a period in µs.
        cpu_period: u64,
        /// CPU time in a period in µs.
        cpu_quota: i64,
        /// CPUs that it may use, as `0-2,5`.
        cpuset_cpus: String,
        /// Memory nodes that it may use.
        cpuset_mems: String,
        /// Length of a realtime period in µs (v1 only).
        cpu_realtime_period: u64,
        /// Realtime time in a period in µs (v1 only).
        cpu_realtime_runtime: i64,
        /// Number of tasks; −1 or 0 for no limit.
        pids_limit: i64,
        /// How readily its memory is swapped out, 0 to 100 (v1 only); −1 or nothing for the host's.
        memory_swappiness: Option<i64>,
        /// Wait in place of being killed when memory runs out (v1 only).
        oom_kill_disable: bool,
        /// Share of the disks, 10 to 1000; 0 for the host's default.
        blkio_weight: u16,
        /// The same for single devices.
        blkio_weight_device: Vec<WeightDevice>,
        /// Bytes read a second.
        blkio_device_read_bps: Vec<ThrottleDevice>,
        /// Bytes written a second.
        blkio_device_write_bps: Vec<ThrottleDevice>,
        /// Reads a second.
        #[serde(rename = "BlkioDeviceReadIOps")]
        blkio_device_read_iops: Vec<ThrottleDevice>,
        /// Writes a second.
        #[serde(rename = "BlkioDeviceWriteIOps")]
        blkio_device_write_iops: Vec<ThrottleDevice>,
        /// Resource limits.
        ulimits: Vec<Ulimit>,
        /// Devices of the host.
        devices: Vec<DeviceMapping>,
        /// Further rules for the device cgroup: `c 1:3 rwm`.
        device_cgroup_rules: Vec<String>,
        /// Where the log goes.
        log_config: LogConfig,
        /// A file that got the id.
        #[serde(rename = "ContainerIDFile")]
        container_id_file: String,
    }
}

api! {
    /// A port of the host's.
    pub struct PortBinding {
        /// Its address; all of them when empty.
        #[serde(rename = "HostIp")]
        host_ip: String,
        /// Its number; a range of which one is free; or empty for any.
        host_port: String,
    }
}

api! {
    /// A container's wishes about one network: one `--network`.
    pub struct EndpointConfig {
        /// The network: its name, or its id.
        network: String,
        /// Other names by which the network's containers find it.
        aliases: Vec<String>,
        /// An address of its own choice.
        ipv4_address: String,
        /// An IPv6 address of its own choice.
        ipv6_address: String,
        /// A hardware address of its own choice.
        mac_address: String,
        /// The network with the highest is the way to the rest of the world.
        gw_priority: i64,
    }
}

api! {
    /// One `--mount`.
    pub struct Mount {
        /// `bind`, `volume` or `tmpfs`.
        #[serde(rename = "Type")]
        typ: String,
        /// Path on the host or name of the volume.
        source: String,
        /// Path in the container.
        target: String,
        /// Cannot be written to.
        read_only: bool,
        /// What only a bind has.
        bind_options: Option<BindOptions>,
        /// What only a volume has.
        volume_options: Option<VolumeOptions>,
        /// What only a tmpfs has.
        tmpfs_options: Option<TmpfsOptions>,
    }
}

api! {
    /// The part of a `--mount` for a bind.
    pub struct BindOptions {
        /// `rprivate` (or empty), `rslave`, `shared`…
        propagation: String,
        /// Without what is mounted below the source.
        non_recursive: bool,
        /// Make a missing source, a directory, as `-v` does.
        create_mountpoint: bool,
        /// A read-only mount, but what is mounted below it stays as it is.
        read_only_non_recursive: bool,
        /// Read-only with all that is mounted below it, or not at all.
        read_only_force_recursive: bool,
    }
}

api! {
    /// The part of a `--mount` for a volume.
    pub struct VolumeOptions {
        /// A new volume does not begin with the image's content of its place.
        no_copy: bool,
        /// Labels of a volume that is made.
        labels: BTreeMap<String, String>,
        /// Only this path below the volume's root.
        subpath: String,
        /// The driver: `local` alone is known.
        driver_config: Option<DriverConfig>,
    }
}

api! {
    /// The driver of a volume.
    pub struct DriverConfig {
        /// `local` or empty.
        name: String,
        /// Its options, as `volume create -o`.
        options: BTreeMap<String, String>,
    }
}

api! {
    /// The part of a `--mount` for a tmpfs.
    pub struct TmpfsOptions {
        /// Size, 0 for the kernel's default.
        size_bytes: i64,
        /// Mode of its root directory.
        mode: Option<u32>,
    }
}

api! {
    /// One mount of the user's, as it was decided when the container was created: what `-v`,
    /// `--mount`, `--volumes-from` and the image came to.
    pub struct MountPoint {
        /// `bind` or `volume`.
        #[serde(rename = "Type")]
        typ: String,
        /// Name of the volume.
        name: String,
        /// Path on the host of a bind.
        source: String,
        /// Path in the container.
        destination: String,
        /// What stood after the second colon of `-v`.
        mode: String,
        /// Cannot be written to.
        read_only: bool,
        /// What is more particular of a bind.
        bind: BindOptions,
        /// What is more particular of a volume.
        volume: VolumeOptions,
    }
}

api! {
    /// A share of one disk.
    pub struct WeightDevice {
        /// Its device file.
        path: String,
        /// 10 to 1000.
        weight: u16,
    }
}

api! {
    /// A limit of one disk.
    pub struct ThrottleDevice {
        /// Its device file.
        path: String,
        /// Bytes, or operations, a second.
        rate: u64,
    }
}

api! {
    /// `--restart`.
    pub struct RestartPolicy {
        /// `no`, `on-failure`, `always` or `unless-stopped`.
        name: String,
        /// Give up after so many failures; 0 never.
        maximum_retry_count: u32,
    }
}

impl RestartPolicy {
    /// Whether a program that ended with `code`, after `count` restarts, is started again.
    pub fn restarts(&self, code: i32, count: u32) -> bool {
        match self.name.as_str() {
            "always" | "unless-stopped" => true,
            "on-failure" => {
                code != 0 && (self.maximum_retry_count == 0 || count < self.maximum_retry_count)
            }
            _ => false,
        }
    }
}

api! {
    /// One `--ulimit`.
    pub struct Ulimit {
        /// `nofile`, `core`…
        name: String,
        /// −1 for unlimited.
        soft: i64,
        /// −1 for unlimited.
        hard: i64,
    }
}

api! {
    /// One `--device`.
    pub struct DeviceMapping {
        /// Device file or directory on the host.
        path_on_host: String,
        /// Where it appears.
        path_in_container: String,
        /// Out of `rwm`.
        cgroup_permissions: String,
    }
}

api! {
    /// `--log-driver` and `--log-opt`.
    pub struct LogConfig {
        /// `json-file` or `none`.
        #[serde(rename = "Type")]
        typ: String,
        /// `max-size`, `max-file`.
        config: BTreeMap<String, String>,
    }
}

impl Config {
    /// Program and arguments: the entrypoint followed by the command.
    pub fn args(&self) -> Vec<String> {
        self.entrypoint.iter().chain(&self.cmd).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_apis_and_null_is_empty() {
        let config: Config =
            serde_json::from_str(r#"{"Env":null,"Cmd":["a"],"OpenStdin":true,"Unknown":1}"#)
                .unwrap();
        assert_eq!(
            (config.env.len(), config.args(), config.open_stdin),
            (0, vec!["a".to_string()], true)
        );
        let host = serde_json::to_value(HostConfig::default()).unwrap();
        for name in [
            "UTSMode",
            "NanoCpus",
            "PidsLimit",
            "CpusetCpus",
            "ContainerIDFile",
        ] {
            assert!(host.get(name).is_some(), "{name}");
        }
    }
}
