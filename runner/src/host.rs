//! What the host offers: memory, within the control group's limits, and memory maps.
//!
//! The arithmetic is pure, over the contents of the kernel's files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use ebb_units::ByteCount;

/// Maps that the process has besides the pools': its libraries, threads, allocator and compiled code.
const OTHER_MAPS: u64 = 1000;

/// Memory that this process and its neighbours share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HostMemory {
    /// The machine's memory, or the tightest limit of a control group around this process.
    pub total: ByteCount,
    /// How much of it could be used without swapping.
    pub available: ByteCount,
}

/// Memory maps that instances need: at least, and with everything against them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MemoryMaps {
    /// As they start.
    pub least: u64,
    /// With images, growth, and maps that the kernel could not merge.
    pub most: u64,
}

impl std::iter::Sum for MemoryMaps {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, maps| Self {
            least: sum.least.saturating_add(maps.least),
            most: sum.most.saturating_add(maps.most),
        })
    }
}

/// The host cannot hold as many instances.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "all instances together need about {needed} memory maps, vm.max_map_count allows {allowed}: raise it with \
     `sysctl -w vm.max_map_count={needed}`, or configure fewer replicas"
)]
pub struct MemoryMapsError {
    needed: u64,
    allowed: u64,
}

/// Whether memory maps are enough.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// They are. A host that does not say how many there are is trusted.
    Surely,
    /// They are enough to start, and may run out later.
    Perhaps(MemoryMapsError),
    /// They are not.
    No(MemoryMapsError),
}

/// Judges `maps` against the host's `vm.max_map_count`.
pub(crate) fn judge_memory_maps(maps: MemoryMaps) -> Fit {
    let allowed = fs::read_to_string("/proc/sys/vm/max_map_count").ok();
    match allowed.and_then(|text| text.trim().parse().ok()) {
        Some(allowed) => memory_maps_fit(maps, allowed),
        None => Fit::Surely,
    }
}

fn memory_maps_fit(maps: MemoryMaps, allowed: u64) -> Fit {
    let needed = maps.most.saturating_add(OTHER_MAPS);
    let error = MemoryMapsError { needed, allowed };
    if needed <= allowed {
        Fit::Surely
    } else if maps.least.saturating_add(OTHER_MAPS) <= allowed {
        Fit::Perhaps(error)
    } else {
        Fit::No(error)
    }
}

/// Reads the host's memory, if the host says.
pub(crate) fn memory() -> Option<HostMemory> {
    let machine = machine_memory(&fs::read_to_string("/proc/meminfo").ok()?)?;
    let membership = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let groups = memory_groups(&membership).into_iter().filter_map(|group| group.read());
    Some(groups.fold(machine, within))
}

/// Memory of this process that is in the host's memory now; zero on a host that does not say.
pub(crate) fn resident() -> ByteCount {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    entry(&status, "VmRSS:").unwrap_or_default()
}

/// `/proc/meminfo` → the machine's memory.
fn machine_memory(meminfo: &str) -> Option<HostMemory> {
    let bytes = |name| entry(meminfo, name);
    Some(HostMemory { total: bytes("MemTotal:")?, available: bytes("MemAvailable:")? })
}

/// An amount of memory in one of the kernel's files.
fn entry(file: &str, name: &str) -> Option<ByteCount> {
    let line = file.lines().find_map(|line| line.strip_prefix(name))?;
    let kib = line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?;
    Some(ByteCount(kib * 1024))
}

/// A control group's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct GroupMemory {
    limit: ByteCount,
    /// What cannot be reclaimed: usage less the file cache that nobody touched lately.
    working_set: ByteCount,
}

fn within(outer: HostMemory, group: GroupMemory) -> HostMemory {
    HostMemory {
        total: outer.total.min(group.limit),
        available: outer.available.min(group.limit.saturating_sub(group.working_set)),
    }
}

/// A control group's folder, and what its files are called.
#[derive(Debug, PartialEq, Eq)]
struct GroupFiles {
    folder: PathBuf,
    limit: &'static str,
    usage: &'static str,
    inactive: &'static str,
}

impl GroupFiles {
    fn read(&self) -> Option<GroupMemory> {
        let file = |name| fs::read_to_string(self.folder.join(name)).ok();
        let stat = file("memory.stat").unwrap_or_default();
        group_memory(&file(self.limit)?, &file(self.usage)?, &stat, self.inactive)
    }
}

/// `/proc/self/cgroup` → the groups around this process that may limit its memory, innermost first.
fn memory_groups(membership: &str) -> Vec<GroupFiles> {
    let version_2 = |folder| GroupFiles {
        folder,
        limit: "memory.max",
        usage: "memory.current",
        inactive: "inactive_file ",
    };
    let version_1 = |folder| GroupFiles {
        folder,
        limit: "memory.limit_in_bytes",
        usage: "memory.usage_in_bytes",
        inactive: "total_inactive_file ",
    };
    let mut groups = Vec::new();
    for line in membership.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        // In a container the path may be the host's, which does not exist here; the group's own files
        // are then at the root of the mount, which is among the ancestors.
        let ancestors = Path::new(path.trim_start_matches('/')).ancestors();
        if controllers.is_empty() {
            groups.extend(ancestors.map(|path| version_2(Path::new("/sys/fs/cgroup").join(path))));
        } else if controllers.split(',').any(|controller| controller == "memory") {
            groups.extend(ancestors.map(|path| version_1(Path::new("/sys/fs/cgroup/memory").join(path))));
        }
    }
    groups
}

/// The contents of a group's files → its memory; nothing if it has no limit (`max`).
fn group_memory(limit: &str, usage: &str, stat: &str, inactive: &str) -> Option<GroupMemory> {
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let inactive = stat.lines().find_map(|line| number(line.strip_prefix(inactive)?)).unwrap_or(0);
    Some(GroupMemory {
        limit: ByteCount(number(limit)?),
        working_set: ByteCount(number(usage)?.saturating_sub(inactive)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &str =
        "MemTotal:       24000000 kB\nMemFree:         1000000 kB\nMemAvailable:   20000000 kB\n";

    fn machine() -> HostMemory {
        machine_memory(MEMINFO).unwrap()
    }

    #[test]
    fn a_machine_without_control_groups_tells_its_own_memory() {
        assert_eq!(
            machine(),
            HostMemory { total: ByteCount(24_576_000_000), available: ByteCount(20_480_000_000) }
        );
        assert_eq!(machine_memory("MemTotal: lots\n"), None);
    }

    #[test]
    fn a_version_2_group_limits_both() {
        let group = group_memory(
            "1073741824\n",
            "500000000\n",
            "anon 1\ninactive_file 100000000\n",
            "inactive_file ",
        )
        .unwrap();
        // 1,073,741,824 − (500,000,000 − 100,000,000)
        assert_eq!(
            within(machine(), group),
            HostMemory { total: ByteCount(1_073_741_824), available: ByteCount(673_741_824) }
        );
    }

    #[test]
    fn a_group_without_limit_changes_nothing() {
        assert_eq!(group_memory("max\n", "5\n", "", "inactive_file "), None);
        // Version 1 says "no limit" with a number beyond any machine.
        let group = group_memory("9223372036854771712\n", "5\n", "", "total_inactive_file ").unwrap();
        assert_eq!(within(machine(), group), machine());
    }

    #[test]
    fn a_group_over_its_limit_has_nothing_available() {
        let group = group_memory("100\n", "150\n", "", "inactive_file ").unwrap();
        assert_eq!(within(machine(), group).available, ByteCount(0));
    }

    #[test]
    fn every_group_around_the_process_counts() {
        let folders = |membership: &str| -> Vec<String> {
            memory_groups(membership).iter().map(|group| group.folder.display().to_string()).collect()
        };
        assert_eq!(folders("0::/a/b\n"), ["/sys/fs/cgroup/a/b", "/sys/fs/cgroup/a", "/sys/fs/cgroup/"]);
        assert_eq!(
            folders("9:cpu,memory:/x\n3:cpuset:/\nnonsense\n"),
            ["/sys/fs/cgroup/memory/x", "/sys/fs/cgroup/memory/"]
        );
    }

    #[test]
    fn too_few_memory_maps_are_told_with_the_number_needed() {
        // One memory each: 4 to 6 maps per instance, and 1,000 for the rest of the process.
        let fit = |instances: u64| {
            memory_maps_fit(MemoryMaps { least: 4 * instances, most: 6 * instances }, 65_530)
        };
        assert_eq!(fit(10_755), Fit::Surely);
        assert!(matches!(fit(10_756), Fit::Perhaps(_)));
        assert!(matches!(fit(16_132), Fit::Perhaps(_)));
        let Fit::No(error) = fit(16_133) else { panic!("{:?}", fit(16_133)) };
        // 6 · 16,133 + 1,000
        assert!(error.to_string().contains("vm.max_map_count=97798"), "{error}");
    }
}
