//! What the kernel and the system say in files, understood. Pure: texts in, numbers and names out.

use std::collections::BTreeMap;

/// The processors' ticks since the start: those with work, and all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ticks {
    busy: u64,
    all: u64,
}

/// Of `/proc/stat`: the line of all processors.
pub(super) fn ticks(stat: &str) -> Option<Ticks> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    // user nice system idle iowait irq softirq steal; guests are in user already.
    let numbers: Vec<u64> = line.split_ascii_whitespace().take(8).map_while(|n| n.parse().ok()).collect();
    let all = numbers.iter().fold(0_u64, |sum, n| sum.saturating_add(*n));
    let idle = numbers.get(3)?.saturating_add(numbers.get(4).copied().unwrap_or(0));
    Some(Ticks { busy: all.saturating_sub(idle), all })
}

/// Hundredths of the time between two looks that the processors worked.
pub(super) fn busy_percent(before: Ticks, after: Ticks) -> Option<u64> {
    let all = after.all.checked_sub(before.all)?;
    // Time of waiting is not exact and may fall.
    let busy = after.busy.saturating_sub(before.busy).min(all);
    busy.saturating_mul(100).saturating_add(all / 2).checked_div(all)
}

/// Of `/proc/uptime`: milliseconds since the start.
pub(super) fn uptime_ms(text: &str) -> Option<u64> {
    let (seconds, rest) = text.split_ascii_whitespace().next()?.split_once('.')?;
    let hundredths: u64 = rest.get(..2)?.parse().ok()?;
    let seconds: u64 = seconds.parse().ok()?;
    Some(seconds.saturating_mul(1_000).saturating_add(hundredths.saturating_mul(10)))
}

/// Of `/proc/loadavg`: processes that want a processor, in hundredths, the mean of 15 minutes.
pub(super) fn load_percent(text: &str) -> Option<u64> {
    let (whole, part) = text.split_ascii_whitespace().nth(2)?.split_once('.')?;
    let part: u64 = part.get(..2)?.parse().ok()?;
    Some(whole.parse::<u64>().ok()?.saturating_mul(100).saturating_add(part))
}

/// Of `/proc/meminfo`: bytes used, and bytes in all. What only keeps copies of files is free.
pub(super) fn memory(text: &str) -> Option<(u64, u64)> {
    let value = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
        Some(kilobytes.saturating_mul(1024))
    };
    let size = value("MemTotal")?;
    // Kernels before 3.14 do not work it out themselves.
    let free = value("MemAvailable").or_else(|| {
        Some(value("MemFree")?.saturating_add(value("Buffers")?).saturating_add(value("Cached")?))
    })?;
    Some((size.saturating_sub(free), size))
}

/// What is mounted somewhere, or is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) device: String,
    pub(super) place: String,
    pub(super) kind: String,
    /// The file system itself is, not only this view of it.
    pub(super) is_read_only: bool,
}

/// Of `/proc/PID/mountinfo`: what is mounted. Of several at one place the last is what is seen.
pub(super) fn mounts(text: &str) -> Vec<Mount> {
    let mount = |line: &str| {
        let (view, system) = line.split_once(" - ")?;
        let place = view.split_ascii_whitespace().nth(4)?;
        let mut system = system.split_ascii_whitespace();
        let (kind, device) = (system.next()?, system.next()?);
        Some(Mount {
            device: unescaped(device),
            place: unescaped(place),
            kind: kind.to_owned(),
            is_read_only: is_read_only(system.next().unwrap_or_default()),
        })
    };
    let all: BTreeMap<String, Mount> =
        text.lines().filter_map(mount).map(|mount| (mount.place.clone(), mount)).collect();
    all.into_values().collect()
}

/// Of `/etc/fstab`: what is to be mounted.
pub(super) fn fstab(text: &str) -> Vec<Mount> {
    let mount = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let device = words.next().filter(|word| !word.starts_with('#'))?;
        Some(Mount {
            device: unescaped(device),
            place: unescaped(words.next()?),
            kind: words.next()?.to_owned(),
            is_read_only: is_read_only(words.next().unwrap_or_default()),
        })
    };
    text.lines().filter_map(mount).collect()
}

fn is_read_only(options: &str) -> bool {
    options.split(',').any(|option| option == "ro")
}

/// Blanks, tabs, line ends and backslashes stand there as octal numbers.
fn unescaped(word: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(word.to_owned(), |text, (octal, plain)| text.replace(octal, plain))
}

/// File systems that are never written to, and images of programs: nobody can do anything about their being full.
const IMAGES: [&str; 6] = ["squashfs", "erofs", "iso9660", "udf", "cramfs", "romfs"];
/// File systems on a disk that need not be a block device.
const ON_DISK: [&str; 5] = ["ubifs", "jffs2", "zfs", "btrfs", "bcachefs"];

/// The disks among the mounts, each once, at its shortest place. Not those of the network: a server that is gone would
/// hold up whoever looks.
pub(super) fn disks(mounts: &[Mount]) -> Vec<&Mount> {
    let mut by_device: BTreeMap<&str, &Mount> = BTreeMap::new();
    for mount in mounts {
        let is_disk = mount.device.starts_with("/dev/") || ON_DISK.contains(&mount.kind.as_str());
        // A container's root is one, whatever lies below it.
        let is_disk = is_disk || (mount.place == "/" && mount.kind == "overlay");
        if !is_disk || IMAGES.contains(&mount.kind.as_str()) {
            continue;
        }
        let known = by_device.entry(&mount.device).or_insert(mount);
        if mount.place.len() < known.place.len() {
            *known = mount;
        }
    }
    let mut disks: Vec<&Mount> = by_device.into_values().collect();
    disks.sort_by(|one, other| one.place.cmp(&other.place));
    disks
}

/// True if a disk is read-only that `/etc/fstab` wants to be written to: the kernel does that when it finds it broken.
pub(super) fn fell_read_only(disk: &Mount, fstab: &[Mount]) -> bool {
    disk.is_read_only && fstab.iter().any(|line| line.place == disk.place && !line.is_read_only)
}

/// Of `/etc/os-release`: a value without its quotes.
pub(super) fn os_release<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?.trim();
    let plain = value.trim_matches(['"', '\'']);
    (!plain.is_empty()).then_some(plain)
}

/// What one process is: of `/proc/PID/stat`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Process<'a> {
    /// The name of its program, at most 15 bytes of it.
    pub(super) name: &'a str,
    /// When it started, in ticks after the system.
    pub(super) started: u64,
}

/// Reads `/proc/PID/stat`. A name may have blanks and brackets in it; what is dead and not yet buried is no process.
pub(super) fn process(stat: &str) -> Option<Process<'_>> {
    let (_, rest) = stat.split_once('(')?;
    let (name, rest) = rest.rsplit_once(") ")?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    // Field 22 of the line; the state is the third.
    let started = fields.nth(18)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(Process { name, started })
}

/// Of `systemctl list-units`: the names of units.
pub(super) fn units(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| line.trim_start_matches(['●', '*', ' ']).split_ascii_whitespace().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processors_load_is_that_between_two_looks() {
        let stat = "cpu  100 0 50 800 50 0 0 0 10 0\ncpu0 1 1 1 1 1 1 1 1 1 1\nintr 5\n";
        let before = ticks(stat).unwrap();
        assert_eq!(before, Ticks { busy: 150, all: 1_000 });
        let after = Ticks { busy: 175, all: 1_100 };
        assert_eq!(busy_percent(before, after), Some(25));
        assert_eq!(busy_percent(before, before), None);
        assert_eq!(busy_percent(after, before), None);
        assert_eq!(ticks("cpu  1 2\n"), None);
        assert_eq!(ticks(""), None);
    }

    #[test]
    fn uptime_load_and_memory_are_read() {
        assert_eq!(uptime_ms("350735.47 234388.90\n"), Some(350_735_470));
        assert_eq!(uptime_ms("abc"), None);
        assert_eq!(load_percent("0.20 0.18 1.12 1/80 11206\n"), Some(112));
        let meminfo = "MemTotal:        1000 kB\nMemFree:          100 kB\nMemAvailable:     700 kB\n";
        assert_eq!(memory(meminfo), Some((300 * 1024, 1_000 * 1024)));
        let old = "MemTotal: 1000 kB\nMemFree: 100 kB\nBuffers: 50 kB\nCached: 250 kB\n";
        assert_eq!(memory(old), Some((600 * 1024, 1_000 * 1024)));
        assert_eq!(memory("MemTotal: many kB\n"), None);
    }

    #[test]
    fn only_disks_count_each_once_and_none_of_the_network() {
        let list = mounts(
            "21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
             22 21 0:5 / /proc rw - proc proc rw\n\
             23 21 0:9 / /run rw - tmpfs tmpfs rw\n\
             24 21 8:1 /docker /var/lib/docker rw - ext4 /dev/sda1 rw\n\
             25 21 7:3 / /snap/core ro - squashfs /dev/loop3 ro\n\
             26 21 0:40 / /mnt/nfs rw - nfs4 server:/export rw\n\
             27 21 0:41 / /data rw - ubifs ubi0:data rw\n\
             28 21 8:17 / /media/my\\040stick rw - vfat /dev/sdb1 rw\n\
             29 21 8:3 / /home rw - ext4 /dev/sda3 rw\n\
             30 21 0:50 / /home ro - tmpfs tmpfs ro\n",
        );
        let places: Vec<_> = disks(&list).iter().map(|disk| disk.place.as_str()).collect();
        assert_eq!(places, ["/", "/data", "/media/my stick"], "what hides /home is no disk");
        let container = mounts("1 0 0:1 / / rw - overlay overlay rw\n2 1 0:2 / /x rw - overlay overlay rw\n");
        assert_eq!(disks(&container).len(), 1);
        assert_eq!(mounts("nonsense\n1 2 3 - x\n - - -\n"), []);
    }

    #[test]
    fn only_a_disk_that_is_to_be_written_to_and_cannot_be_is_a_fault() {
        let fstab = fstab(
            "# <file system> <mount point>\nUUID=1 / ext4 errors=remount-ro 0 1\nUUID=2 /usr ext4 ro 0 1\n\
            UUID=4 /boot ext4 defaults 0 1\n",
        );
        let list = mounts(
            "21 1 8:1 / / rw - ext4 /dev/sda1 ro\n\
             22 21 8:2 / /usr ro - ext4 /dev/sda2 ro\n\
             23 21 8:3 / /x ro - ext4 /dev/sda3 ro\n\
             24 21 8:4 / /boot ro - ext4 /dev/sda4 rw\n",
        );
        let fell: Vec<_> = disks(&list).into_iter().filter(|disk| fell_read_only(disk, &fstab)).collect();
        assert_eq!(fell.iter().map(|disk| disk.place.as_str()).collect::<Vec<_>>(), ["/"]);
    }

    #[test]
    fn the_systems_name_is_read_without_its_quotes() {
        let text =
            "NAME=\"Debian GNU/Linux\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\nX=\n";
        assert_eq!(os_release(text, "PRETTY_NAME"), Some("Debian GNU/Linux 12 (bookworm)"));
        assert_eq!(os_release(text, "ID"), Some("debian"));
        assert_eq!(os_release(text, "X"), None);
    }

    #[test]
    fn processes_have_names_with_anything_in_them() {
        let rest = "S 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 100 200";
        let line = format!("77 (a) b (c) {rest}");
        assert_eq!(process(&line), Some(Process { name: "a) b (c", started: 4_711 }));
        assert_eq!(process(&format!("77 (acad) {}", rest.replace('S', "Z"))), None);
        assert_eq!(process("77 (acad) S 1 2"), None);
        assert_eq!(process("nonsense"), None);
    }

    #[test]
    fn failed_units_are_the_first_words() {
        let text = "● cups.service loaded failed failed CUPS Scheduler\nx.timer loaded failed failed X\n\n";
        assert_eq!(units(text).collect::<Vec<_>>(), ["cups.service", "x.timer"]);
    }
}
