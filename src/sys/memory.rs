//! How much memory the system gives the process.

use std::sync::LazyLock;

/// Bytes of memory that this process may have, the page cache of what it reads included: what the machine has, or what its
/// control groups allow where that is less; as it was when this was called for the first time. As large as can be where the
/// system does not say.
pub(crate) fn memory_allowed() -> u64 {
    static ALLOWED: LazyLock<u64> = LazyLock::new(ask);
    *ALLOWED
}

fn ask() -> u64 {
    #[cfg(target_os = "linux")]
    {
        let machine = rustix::system::sysinfo();
        let machine = u64::from(machine.mem_unit).saturating_mul(machine.totalram);
        let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let limits = limit_files(&groups).into_iter().filter_map(|path| std::fs::read_to_string(path).ok());
        limits.filter_map(|limit| limit.trim().parse().ok()).fold(machine, u64::min)
    }
    #[cfg(not(target_os = "linux"))]
    {
        u64::MAX
    }
}

/// The files with the limits of the control groups that a process is in, as `/proc/self/cgroup` lists them, and of those around
/// them. In a container the paths may be those outside of it, where there is nothing here; the outermost group is its own then.
#[cfg(target_os = "linux")]
fn limit_files(groups: &str) -> Vec<String> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            controllers if controllers.split(',').any(|name| name == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let paths = std::iter::successors(Some(path.trim_end_matches('/')), |path| Some(path.rsplit_once('/')?.0));
        files.extend(paths.map(|path| format!("{root}{path}/{file}")));
    }
    files
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn limits_are_those_of_a_group_and_of_all_around_it() {
        let second = limit_files("0::/user.slice/store.service\n");
        let expected = ["/user.slice/store.service", "/user.slice", ""];
        assert_eq!(second, expected.map(|path| format!("/sys/fs/cgroup{path}/memory.max")));

        let first = limit_files("5:cpu,cpuacct:/a\n4:memory:/docker/1:2\n1:name=systemd:/\nno line\n");
        let expected = ["/docker/1:2", "/docker", ""];
        assert_eq!(first, expected.map(|path| format!("/sys/fs/cgroup/memory{path}/memory.limit_in_bytes")));

        assert_eq!(limit_files("0::/\n"), ["/sys/fs/cgroup/memory.max"]);
    }

    #[test]
    fn there_is_some_memory() {
        assert!((16 << 20..1 << 56).contains(&memory_allowed()), "{}", memory_allowed());
    }
}
