//! System memory available to this process, and limits on it. Known on Linux only.

use serde::Serialize;
use std::path::Path;

/// Resident memory of the process beyond the engine's ledger: program, thread stacks, encoders.
const OTHER_BYTES_MAX: u64 = 48 << 20;
/// Version 1 control groups express "no limit" as a number beyond any machine's memory.
const UNLIMITED_BYTES: u64 = 1 << 60;
/// Root of the file names below.
const ROOT: &str = "/";
/// The kernel's status of the process.
const STATUS: &str = "proc/self/status";

/// Source of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitedBy {
    /// A control group: the limit of a container or a service.
    ControlGroup,
    /// The address space of the process (`ulimit -v`).
    AddressSpace,
}

/// A limit on a process's memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryLimit {
    /// Its source.
    pub by: LimitedBy,
    /// The limit.
    pub bytes: u64,
    /// Bytes left under it.
    pub left_bytes: u64,
}

/// System memory available to this process, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SystemMemory {
    /// Total memory; `None` if the system does not report it.
    pub total_bytes: Option<u64>,
    /// Memory available without swapping and within every limit.
    pub available_bytes: Option<u64>,
    /// The strictest limit, if it is below the machine's memory.
    pub limit: Option<MemoryLimit>,
}

impl SystemMemory {
    /// Reads the present figures.
    pub fn now() -> SystemMemory {
        SystemMemory::under(Path::new(ROOT))
    }

    /// Largest budget of an engine: available memory less the program's own.
    pub fn budget_max_bytes(&self) -> Option<u64> {
        Some(self.available_bytes?.saturating_sub(OTHER_BYTES_MAX))
    }

    fn under(root: &Path) -> SystemMemory {
        let meminfo = read(root, "proc/meminfo");
        let total_bytes = kibibytes(&meminfo, "MemTotal:");
        let available_bytes = kibibytes(&meminfo, "MemAvailable:");
        let limit = control_group_limits(root)
            .chain(address_space_limit(root))
            .filter(|limit| total_bytes.is_none_or(|total| limit.bytes < total))
            .min_by_key(|limit| limit.left_bytes);
        let left = limit.map(|limit| limit.left_bytes);
        SystemMemory {
            total_bytes,
            available_bytes: available_bytes.into_iter().chain(left).min(),
            limit,
        }
    }
}

/// Resident size of the process, if the system reports it.
pub fn resident_bytes() -> Option<u64> {
    kibibytes(&read(Path::new(ROOT), STATUS), "VmRSS:")
}

/// Peak resident size of the process, if the system reports it.
pub fn resident_peak_bytes() -> Option<u64> {
    kibibytes(&read(Path::new(ROOT), STATUS), "VmHWM:")
}

/// Resident memory of the process by kind, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResidentMemory {
    /// Total.
    pub bytes: u64,
    /// Of the total, file-backed pages: the program with its embedded data, libraries, mapped
    /// weights.
    pub file_bytes: u64,
}

impl ResidentMemory {
    /// Reads the present figures; `None` if the system does not report them.
    pub fn now() -> ResidentMemory {
        let status = read(Path::new(ROOT), STATUS);
        ResidentMemory {
            bytes: kibibytes(&status, "VmRSS:").unwrap_or(0),
            file_bytes: kibibytes(&status, "RssFile:").unwrap_or(0),
        }
    }
}

/// A file's text; empty if it cannot be read.
fn read(root: &Path, file: impl AsRef<Path>) -> String {
    std::fs::read_to_string(root.join(file)).unwrap_or_default()
}

/// The number after a name, in KiB, as bytes.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    let kibibytes: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// Limits of the process's control groups and their ancestors, of both versions. Inside a container
/// its own group is the root.
fn control_group_limits(root: &Path) -> impl Iterator<Item = MemoryLimit> {
    /// Mount point of a hierarchy, its files for limit and usage, and the name of its reclaimable
    /// bytes.
    type Hierarchy = (
        &'static [&'static str],
        &'static str,
        &'static str,
        &'static str,
    );
    const UNIFIED: Hierarchy = (
        &["sys/fs/cgroup", "sys/fs/cgroup/unified"],
        "memory.max",
        "memory.current",
        "inactive_file ",
    );
    const OF_MEMORY: Hierarchy = (
        &["sys/fs/cgroup/memory"],
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "total_inactive_file ",
    );
    let mut limits = Vec::new();
    for line in read(root, "proc/self/cgroup").lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else {
            continue;
        };
        let (mounts, limit, used, reclaimable) = match controllers {
            "" => UNIFIED,
            _ if controllers.split(',').any(|name| name == "memory") => OF_MEMORY,
            _ => continue,
        };
        let group = Path::new(group.trim_start_matches('/'));
        for (mount, group) in
            (mounts.iter()).flat_map(|mount| group.ancestors().map(move |group| (mount, group)))
        {
            let folder = root.join(mount).join(group);
            let number = |file| read(&folder, file).trim().parse::<u64>().ok();
            let Some(bytes) = number(limit).filter(|&bytes| bytes < UNLIMITED_BYTES) else {
                continue;
            };
            let statistics = read(&folder, "memory.stat");
            let reclaimable_bytes = (statistics.lines())
                .find_map(|line| line.strip_prefix(reclaimable)?.trim().parse().ok())
                .unwrap_or(0);
            let used_bytes = number(used).unwrap_or(0).saturating_sub(reclaimable_bytes);
            limits.push(MemoryLimit {
                by: LimitedBy::ControlGroup,
                bytes,
                left_bytes: bytes.saturating_sub(used_bytes),
            });
        }
    }
    limits.into_iter()
}

fn address_space_limit(root: &Path) -> Option<MemoryLimit> {
    let limits = read(root, "proc/self/limits");
    let line = (limits.lines()).find_map(|line| line.strip_prefix("Max address space"))?;
    let bytes: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    let used_bytes = kibibytes(&read(root, STATUS), "VmSize:")?;
    Some(MemoryLimit {
        by: LimitedBy::AddressSpace,
        bytes,
        left_bytes: bytes.saturating_sub(used_bytes),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEBIBYTE: u64 = 1 << 20;

    /// A machine with 1000 MiB, 800 of them free, and these files.
    fn machine(files: &[(&str, &str)]) -> SystemMemory {
        let root = tempfile::tempdir().unwrap();
        let meminfo = "MemTotal:  1024000 kB\nMemFree: 1 kB\nMemAvailable:  819200 kB\n";
        for (file, text) in [("proc/meminfo", meminfo)].iter().chain(files) {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        SystemMemory::under(root.path())
    }

    #[test]
    fn without_limits_what_is_free_can_be_had() {
        let memory = machine(&[
            ("proc/self/cgroup", "0::/\n"),
            ("sys/fs/cgroup/memory.max", "max\n"),
            (
                "proc/self/limits",
                "Max address space         unlimited            unlimited            bytes\n",
            ),
        ]);
        assert_eq!(memory.total_bytes, Some(1000 * MEBIBYTE));
        assert_eq!(memory.available_bytes, Some(800 * MEBIBYTE));
        assert_eq!(memory.budget_max_bytes(), Some(752 * MEBIBYTE));
        assert_eq!(memory.limit, None);
        assert_eq!(
            SystemMemory::under(Path::new("/nowhere")),
            SystemMemory::default()
        );
    }

    #[test]
    fn a_group_around_the_processs_own_limits_it_too() {
        let memory = machine(&[
            ("proc/self/cgroup", "1:cpu:/else\n0::/slice/service\n"),
            ("sys/fs/cgroup/slice/memory.max", "104857600\n"),
            ("sys/fs/cgroup/slice/memory.current", "41943040\n"),
            (
                "sys/fs/cgroup/slice/memory.stat",
                "anon 20971520\ninactive_file 20971520\n",
            ),
            ("sys/fs/cgroup/slice/service/memory.max", "209715200\n"),
        ]);
        let limit = MemoryLimit {
            by: LimitedBy::ControlGroup,
            bytes: 100 * MEBIBYTE,
            left_bytes: 80 * MEBIBYTE,
        };
        assert_eq!(memory.limit, Some(limit));
        assert_eq!(memory.available_bytes, Some(80 * MEBIBYTE));
    }

    #[test]
    fn the_older_hierarchy_and_a_container_of_it_are_known() {
        let memory = machine(&[
            ("proc/self/cgroup", "4:cpu,memory:/docker/abc\n0::/\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "314572800\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "104857600\n"),
            (
                "sys/fs/cgroup/memory/memory.stat",
                "inactive_file 1\ntotal_inactive_file 0\n",
            ),
        ]);
        assert_eq!(memory.available_bytes, Some(200 * MEBIBYTE));
        let unlimited = machine(&[
            ("proc/self/cgroup", "4:memory:/\n"),
            (
                "sys/fs/cgroup/memory/memory.limit_in_bytes",
                "9223372036854771712\n",
            ),
        ]);
        assert_eq!(unlimited.limit, None);
    }

    #[test]
    fn the_address_space_may_be_what_is_short() {
        let memory = machine(&[
            (
                "proc/self/limits",
                "Limit  Soft Limit\nMax address space         524288000            unlimited            bytes\n",
            ),
            ("proc/self/status", "VmPeak:  1 kB\nVmSize:  102400 kB\n"),
        ]);
        assert_eq!(memory.limit.unwrap().by, LimitedBy::AddressSpace);
        assert_eq!(memory.available_bytes, Some(400 * MEBIBYTE));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_system_tells_the_resident_size() {
        assert!(resident_bytes().unwrap() > 0);
        assert!(resident_peak_bytes().unwrap() >= resident_bytes().unwrap() / 2);
    }
}
