//! `linux.resources`: the limits of the cgroup, in the words of cgroup v1.
//!
//! What it implements: config-linux.md, "Control groups". The words are those of cgroup v1; a host
//! with v2 translates (cpu.shares to cpu.weight, …) or takes [`Resources::unified`] as it is.
//! Interface: [`Resources`]. Read next: [`crate::cgroups`], which applies them.

use std::collections::BTreeMap;

document! {
    /// All limits. What is absent is not touched.
    #[serde(rename_all = "camelCase")]
    pub struct Resources {
        optional:
        /// Device rules in order; a later one overrides an earlier one.
        devices: Vec<DeviceRule>,
        /// Memory.
        memory: Option<Memory>,
        /// Processor time and places.
        cpu: Option<Cpu>,
        /// Number of processes and threads.
        pids: Option<Pids>,
        /// Block devices.
        #[serde(rename = "blockIO")]
        block_io: Option<BlockIo>,
        /// Huge pages, by size.
        hugepage_limits: Vec<HugepageLimit>,
        /// Marks on network packets (cgroup v1 alone).
        network: Option<Network>,
        /// RDMA, by device.
        rdma: BTreeMap<String, Rdma>,
        /// Files of cgroup v2 and what is written to them (`memory.high`).
        unified: BTreeMap<String, String>;
    }
}

document! {
    /// One device rule.
    pub struct DeviceRule {
        required:
        /// Allows or denies.
        #[serde(default)]
        allow: bool;
        optional:
        /// `a` (all), `c` or `b`. Absent: all.
        #[serde(rename = "type")]
        typ: Option<String>,
        /// The major number. Absent: every one.
        major: Option<i64>,
        /// The minor number. Absent: every one.
        minor: Option<i64>,
        /// Letters of `rwm` (read, write, mknod).
        access: Option<String>;
    }
}

document! {
    /// Memory, in bytes. -1 means no limit.
    #[serde(rename_all = "camelCase")]
    pub struct Memory {
        optional:
        /// The hard limit.
        limit: Option<i64>,
        /// The soft limit: reclaimed down to it when memory is short.
        reservation: Option<i64>,
        /// Memory and swap together.
        swap: Option<i64>,
        /// Deprecated: the kernel's own memory.
        kernel: Option<i64>,
        /// Deprecated: memory of TCP buffers.
        #[serde(rename = "kernelTCP")]
        kernel_tcp: Option<i64>,
        /// 0 to 100: how readily it swaps.
        swappiness: Option<u64>,
        /// No OOM kill: processes sleep instead.
        #[serde(rename = "disableOOMKiller")]
        disable_oom_killer: Option<bool>,
        /// Deprecated: count children in.
        use_hierarchy: Option<bool>,
        /// Refuse an update to a limit below the present usage.
        check_before_update: Option<bool>;
    }
}

document! {
    /// Processor time and places.
    #[serde(rename_all = "camelCase")]
    pub struct Cpu {
        optional:
        /// The share of the time when CPUs are busy; 1024 is the default.
        shares: Option<u64>,
        /// Microseconds in each period; -1 means no limit.
        quota: Option<i64>,
        /// Microseconds by which it may exceed the quota after it saved them.
        burst: Option<u64>,
        /// The period in microseconds.
        period: Option<u64>,
        /// Microseconds of real-time scheduling in each of its periods.
        realtime_runtime: Option<i64>,
        /// The real-time period in microseconds.
        realtime_period: Option<u64>,
        /// CPUs, in the list form `0-3,7`.
        cpus: Option<String>,
        /// Memory nodes, in the list form.
        mems: Option<String>,
        /// 1: runs only when nobody else wants to.
        idle: Option<i64>;
    }
}

document! {
    /// Number of processes and threads.
    pub struct Pids {
        optional:
        /// The limit; -1 (and, for old documents, 0) means none.
        limit: Option<i64>;
    }
}

document! {
    /// Block devices.
    #[serde(rename_all = "camelCase")]
    pub struct BlockIo {
        optional:
        /// 10 to 1000.
        weight: Option<u16>,
        /// The weight against the group's own children (cgroup v1 alone).
        leaf_weight: Option<u16>,
        /// Weights by device.
        weight_device: Vec<WeightDevice>,
        /// Bytes a second read.
        throttle_read_bps_device: Vec<ThrottleDevice>,
        /// Bytes a second written.
        throttle_write_bps_device: Vec<ThrottleDevice>,
        /// Reads a second.
        #[serde(rename = "throttleReadIOPSDevice")]
        throttle_read_iops_device: Vec<ThrottleDevice>,
        /// Writes a second.
        #[serde(rename = "throttleWriteIOPSDevice")]
        throttle_write_iops_device: Vec<ThrottleDevice>;
    }
}

document! {
    /// The weight of one device.
    #[serde(rename_all = "camelCase")]
    pub struct WeightDevice {
        required:
        /// The major number.
        major: i64,
        /// The minor number.
        minor: i64;
        optional:
        /// 10 to 1000.
        weight: Option<u16>,
        /// Against the group's own children.
        leaf_weight: Option<u16>;
    }
}

document! {
    /// The rate of one device.
    pub struct ThrottleDevice {
        required:
        /// The major number.
        major: i64,
        /// The minor number.
        minor: i64,
        /// Bytes or operations a second.
        rate: u64;
    }
}

document! {
    /// The limit for one size of huge pages.
    #[serde(rename_all = "camelCase")]
    pub struct HugepageLimit {
        required:
        /// `2MB`, `1GB`, …
        page_size: String,
        /// In bytes.
        limit: u64;
    }
}

document! {
    /// Marks on network packets.
    pub struct Network {
        optional:
        /// For tc's cgroup filter.
        #[serde(rename = "classID")]
        class_id: Option<u32>,
        /// Priorities by interface.
        priorities: Vec<InterfacePriority>;
    }
}

document! {
    /// The priority on one interface.
    pub struct InterfacePriority {
        required:
        /// The interface.
        name: String,
        /// Its priority.
        priority: u32;
    }
}

document! {
    /// The limits of one RDMA device.
    #[serde(rename_all = "camelCase")]
    pub struct Rdma {
        optional:
        /// Handles.
        hca_handles: Option<u32>,
        /// Objects.
        hca_objects: Option<u32>;
    }
}
