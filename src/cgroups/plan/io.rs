//! Block devices, huge pages, marks on packets, RDMA, and v2's files by name.
//!
//! What it implements: the kernel's admin-guide/cgroup-v2.rst ("IO", "HugeTLB"),
//! cgroup-v1/blkio-controller.rst, cgroup-v1/hugetlb.rst.
//! Interface: part of [`super::plan_limits`]. Read next: `actions/`.

use super::{Builder, only_v1, only_v2};
use crate::cgroups::limits::{IoWeight, Limit, Limits, parse_size};
use crate::error::{Error, Kind, Result};
use crate::host::LayoutKind;

impl Builder<'_> {
    pub(super) fn io(&mut self, limits: &Limits) -> Result<()> {
        let io = &limits.io;
        if *io == Default::default() {
            return Ok(());
        }
        let dir = self.controller("io", "blkio")?;
        let name = if dir.v2 { "io" } else { "blkio" };
        const WEIGHT: &str = "its share of a disk when others want it too";
        let weights = io
            .weight
            .iter()
            .chain(io.device_weights.iter().map(|(_, w)| w));
        if let Some(wrong) = weights.copied().find(|w| !w.is_valid()) {
            let (IoWeight::Io(n) | IoWeight::Blkio(n)) = wrong;
            return Err(
                Error::kind(Kind::Usage, format!("a weight of {n} cannot be set"))
                    .hint("io.weight is 1 to 10000, docker's --blkio-weight 10 to 1000"),
            );
        }
        // io.weight is there with the io.cost model; the BFQ scheduler has its own file.
        if let Some(w) = io.weight {
            if dir.v2 {
                self.push(
                    dir,
                    name,
                    "io.weight",
                    format!("default {}", w.io()),
                    None,
                    WEIGHT,
                );
                self.or_else(dir, "io.bfq.weight", w.bfq().to_string());
            } else {
                self.exact(dir, name, "blkio.bfq.weight", w.bfq(), WEIGHT);
                self.or_else(dir, "blkio.weight", w.bfq().max(10).to_string());
            }
        }
        for (device, w) in &io.device_weights {
            if dir.v2 {
                self.push(
                    dir,
                    name,
                    "io.weight",
                    format!("{device} {}", w.io()),
                    None,
                    WEIGHT,
                );
                self.or_else(dir, "io.bfq.weight", format!("{device} {}", w.bfq()));
            } else {
                let value = format!("{device} {}", w.bfq());
                self.push(dir, name, "blkio.bfq.weight_device", &value, None, WEIGHT);
                self.or_else(dir, "blkio.weight_device", value);
            }
        }
        const MAX: &str = "requests beyond this rate wait";
        for limit in &io.max {
            let keys = [
                ("rbps", limit.rbps, "blkio.throttle.read_bps_device"),
                ("wbps", limit.wbps, "blkio.throttle.write_bps_device"),
                ("riops", limit.riops, "blkio.throttle.read_iops_device"),
                ("wiops", limit.wiops, "blkio.throttle.write_iops_device"),
            ];
            if dir.v2 {
                let text = keys
                    .iter()
                    .filter_map(|(key, limit, _)| limit.map(|l| format!(" {key}={l}")))
                    .collect::<String>();
                self.push(
                    dir,
                    name,
                    "io.max",
                    format!("{}{text}", limit.device),
                    None,
                    MAX,
                );
            } else {
                for (_, value, file) in keys {
                    if let Some(value) = value {
                        // 0 takes a rule away, which is v1's way to say max.
                        let value = value.value().unwrap_or(0);
                        self.push(
                            dir,
                            name,
                            file,
                            format!("{} {value}", limit.device),
                            None,
                            MAX,
                        );
                    }
                }
            }
        }
        Ok(())
    }

    pub(super) fn hugetlb(&mut self, limits: &Limits) -> Result<()> {
        for (size, limit) in &limits.hugetlb {
            let dir = self.controller("hugetlb", "hugetlb")?;
            let file = match dir.v2 {
                true => format!("hugetlb.{size}.max"),
                false => format!("hugetlb.{size}.limit_in_bytes"),
            };
            let bytes = parse_size(size).ok().and_then(Limit::value);
            let why = "faults on further huge pages fail with SIGBUS";
            self.bytes(dir, "hugetlb", file, *limit, why);
            // Huge pages round down to themselves, not to small pages.
            if let (Some(last), Some(page), Limit::Value(n)) =
                (self.writes.last_mut(), bytes.filter(|b| *b > 0), limit)
            {
                last.expected = Some((n / page * page).to_string());
            }
            if let (Some(last), Limit::Max, false) = (self.writes.last_mut(), limit, dir.v2) {
                last.expected = None;
            }
        }
        Ok(())
    }

    pub(super) fn network(&mut self, limits: &Limits) -> Result<()> {
        let n = &limits.network;
        let unified = self.group.kind == LayoutKind::Unified;
        if let Some(class) = n.class_id {
            if unified {
                return Err(only_v1("net_cls.classid (classes of network packets)"));
            }
            let dir = self.controller("net_cls", "net_cls")?;
            let why = "what it sends is marked with this class, for tc's cgroup filter";
            self.exact(dir, "net_cls", "net_cls.classid", class, why);
        }
        for (interface, priority) in &n.priorities {
            if unified {
                return Err(only_v1(
                    "net_prio.ifpriomap (priorities of network packets)",
                ));
            }
            let dir = self.controller("net_prio", "net_prio")?;
            let value = format!("{interface} {priority}");
            let why = "what it sends by this interface has this priority";
            self.push(dir, "net_prio", "net_prio.ifpriomap", value, None, why);
        }
        Ok(())
    }

    pub(super) fn rdma(&mut self, limits: &Limits) -> Result<()> {
        for (device, limit) in &limits.rdma {
            let dir = self.controller("rdma", "rdma")?;
            let keys = [("hca_handle", limit.handles), ("hca_object", limit.objects)];
            let value = keys
                .iter()
                .filter_map(|(key, limit)| limit.map(|l| format!(" {key}={l}")))
                .collect::<String>();
            let why = "may hold this much of an RDMA device";
            let value = format!("{device}{value}");
            self.push(dir, "rdma", "rdma.max", value, None, why);
        }
        Ok(())
    }

    pub(super) fn unified(&mut self, limits: &Limits) -> Result<()> {
        for (file, value) in &limits.unified {
            let controller = file.split('.').next().unwrap_or_default().to_string();
            if file.contains('/') || !file.contains('.') {
                return Err(Error::kind(
                    Kind::Usage,
                    format!("{file:?} is no name of a cgroup file"),
                )
                .hint("write CONTROLLER.FILE=VALUE, such as memory.zswap.max=0"));
            }
            let dir = match controller.as_str() {
                // The core's own files, which every v2 group has.
                "cgroup" => self.group.unified(),
                _ if file.ends_with(".pressure") => self.group.unified(),
                name => Some(self.controller(name, name)?),
            };
            match dir {
                Some(dir) if dir.v2 => {
                    let why = "written as it was given";
                    self.push(dir, &controller, file.as_str(), value, None, why);
                }
                _ => return Err(only_v2(file, &controller)),
            }
        }
        Ok(())
    }
}
