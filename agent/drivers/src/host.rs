//! The driver `host`: the computer that the agent runs on, by what its kernel says (`/proc`, `/sys`, statvfs). The only
//! program that it runs is `systemctl`, where the system is one of systemd's, and that with a limit.
//!
//! `text` understands files, `read` makes an observation of them; here is what looks.

mod read;
mod text;

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use shared::device::Observation;
use shared::time::UnixMillis;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use crate::Depth;
use crate::access::Device;
use crate::fault::PollFault;
use crate::limits::{
    HOST_CPU_SPAN, HOST_DISKS_MAX_COUNT, HOST_FILE_MAX_BYTES, HOST_PROCESSES_MAX_COUNT, HOST_UNITS_MAX_BYTES,
};
use read::{Disk, Found, Program};

/// There while systemd runs the system (sd_booted(3)).
const SYSTEMD: &str = "/run/systemd/system";
/// The name of a process has at most so many bytes (TASK_COMM_LEN).
const COMM_MAX_BYTES: usize = 15;

/// What polls of the box share: at most one at a time looks at its disks. One that hangs at a broken disk is not joined by
/// others each minute.
#[derive(Default)]
pub(crate) struct Shared {
    looking: Arc<Mutex<()>>,
}

/// One look at the box.
pub(crate) async fn poll(
    shared: &Shared,
    device: &Device,
    programs: &[String],
    depth: Depth,
    clock: impl Fn() -> UnixMillis,
) -> Result<Observation, PollFault> {
    let Ok(looking) = Arc::clone(&shared.looking).try_lock_owned() else {
        return Err(PollFault::Local("the look before has not ended: does a disk hang?".to_owned()));
    };
    let programs = programs.to_vec();
    let look = tokio::task::spawn_blocking(move || {
        let _looking = looking;
        look(&programs, depth)
    });
    let limit_ms = u64::try_from(device.timeout.as_millis()).unwrap_or(u64::MAX);
    let hint = "; does a disk hang?";
    let late = || PollFault::NoAnswer { address: "this box".to_owned(), limit_ms, hint };
    let looked = timeout(device.timeout, look).await.map_err(|_| late())?;
    let mut found = looked.map_err(|err| PollFault::Local(err.to_string()))?;
    match failed_units(device.timeout).await {
        Ok(units) => found.failed_units = units,
        Err(why) => found.unread(format!("services: {why}")),
    }
    if depth == Depth::Full {
        found.busy_percent = busy_percent().await;
    }
    Ok(read::observation(&found, depth, clock()))
}

/// What files and disks say. Takes no time, unless a disk hangs.
fn look(programs: &[String], depth: Depth) -> Found {
    let first = |paths: &[&str]| paths.iter().find_map(|path| line(path));
    let mut found = Found {
        host: line("/proc/sys/kernel/hostname"),
        vendor: line("/sys/class/dmi/id/sys_vendor"),
        // Boards without a BIOS have a device tree.
        model: first(&["/sys/class/dmi/id/product_name", "/proc/device-tree/model"]),
        serial: first(&["/sys/class/dmi/id/product_serial", "/proc/device-tree/serial-number"]),
        machine_id: line("/etc/machine-id"),
        os_release: content("/etc/os-release").or_else(|| content("/usr/lib/os-release")),
        kernel: line("/proc/sys/kernel/osrelease"),
        firmware: line("/sys/class/dmi/id/bios_version"),
        up_ms: content("/proc/uptime").and_then(|uptime| text::uptime_ms(&uptime)),
        ..Found::default()
    };
    disks(&mut found);
    if depth == Depth::Full {
        found.load_percent = content("/proc/loadavg").and_then(|load| text::load_percent(&load));
        found.memory_bytes = content("/proc/meminfo").and_then(|memory| text::memory(&memory));
        if !programs.is_empty() {
            found.programs = running(programs, found.up_ms.unwrap_or(0));
        }
    }
    found
}

/// The text of a file, as far as it is bounded; none if there is none, or not for this user.
fn content(path: impl AsRef<Path>) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(HOST_FILE_MAX_BYTES).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The one line of a file. Those of a device tree end with a zero.
fn line(path: &str) -> Option<String> {
    let text = content(path)?;
    let line = text.lines().next()?.trim_matches(['\0', ' ', '\t']).to_owned();
    (!line.is_empty()).then_some(line)
}

/// What is mounted, and the folder to see it from. A service sees less of the system than its first process: folders are
/// hidden from it, and others read-only for it alone.
fn system_view() -> (String, &'static str) {
    const FIRST: &str = "/proc/1/root";
    let mounts = content("/proc/1/mountinfo").filter(|_| fs::metadata(format!("{FIRST}/")).is_ok());
    match mounts {
        Some(mounts) => (mounts, FIRST),
        None => (content("/proc/self/mountinfo").unwrap_or_default(), ""),
    }
}

fn disks(found: &mut Found) {
    let (mounts, root) = system_view();
    let mounts = text::mounts(&mounts);
    let fstab = text::fstab(&content("/etc/fstab").unwrap_or_default());
    let disks = text::disks(&mounts);
    if disks.len() > HOST_DISKS_MAX_COUNT {
        found.left_out.push(format!("disks past the first {HOST_DISKS_MAX_COUNT} of {}", disks.len()));
    }
    for disk in disks.into_iter().take(HOST_DISKS_MAX_COUNT) {
        match rustix::fs::statvfs(format!("{root}{}", disk.place)) {
            Ok(stat) => {
                let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
                found.disks.push(Disk {
                    place: disk.place.clone(),
                    used_bytes: bytes(stat.f_blocks.saturating_sub(stat.f_bfree)),
                    free_bytes: bytes(stat.f_bavail),
                    size_bytes: bytes(stat.f_blocks),
                    fell_read_only: text::fell_read_only(disk, &fstab),
                });
            }
            Err(err) => found.unread(format!("disk {}: {err}", disk.place)),
        }
    }
}

/// Which of the watched programs run, and for how long.
fn running(names: &[String], up_ms: u64) -> Vec<Program> {
    let mut programs: Vec<Program> =
        names.iter().map(|name| Program { name: name.clone(), processes: 0, seconds: 0 }).collect();
    let up_seconds = up_ms / 1_000;
    let folders = fs::read_dir("/proc").into_iter().flatten().flatten();
    for folder in folders.take(HOST_PROCESSES_MAX_COUNT) {
        let is_process =
            folder.file_name().to_str().is_some_and(|name| name.bytes().all(|b| b.is_ascii_digit()));
        // One that ends while it is looked at is none.
        let Some(stat) =
            Some(folder.path()).filter(|_| is_process).and_then(|path| content(path.join("stat")))
        else {
            continue;
        };
        let Some(process) = text::process(&stat) else { continue };
        let is_it = |name: &str| match name.as_bytes().get(..COMM_MAX_BYTES) {
            Some(start) if name.len() > COMM_MAX_BYTES => {
                process.name.as_bytes() == start && program_name(&folder.path()).as_deref() == Some(name)
            }
            _ => process.name == name,
        };
        for program in programs.iter_mut().filter(|program| is_it(&program.name)) {
            let started = process.started.checked_div(rustix::param::clock_ticks_per_second()).unwrap_or(0);
            program.processes = program.processes.saturating_add(1);
            program.seconds = program.seconds.max(up_seconds.saturating_sub(started));
        }
    }
    programs
}

/// The name of the file that a process was started from, as whoever started it called it.
fn program_name(process: &Path) -> Option<String> {
    let command = content(process.join("cmdline"))?;
    let first = command.split('\0').next()?;
    first.rsplit('/').next().map(str::to_owned)
}

/// Hundredths of a moment that the processors worked.
async fn busy_percent() -> Option<u64> {
    let before = content("/proc/stat").and_then(|stat| text::ticks(&stat))?;
    sleep(HOST_CPU_SPAN).await;
    let after = content("/proc/stat").and_then(|stat| text::ticks(&stat))?;
    text::busy_percent(before, after)
}

/// Units of systemd that have failed; none where there is no systemd.
async fn failed_units(limit: Duration) -> Result<Vec<String>, String> {
    if !Path::new(SYSTEMD).exists() {
        return Ok(Vec::new());
    }
    let child = Command::new("systemctl")
        .args(["list-units", "--state=failed", "--no-legend", "--no-pager", "--plain", "--full"])
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn();
    let mut child = child.map_err(|err| format!("systemctl: {err}"))?;
    let mut printed = Vec::new();
    let work = async {
        if let Some(stdout) = child.stdout.take() {
            stdout.take(HOST_UNITS_MAX_BYTES).read_to_end(&mut printed).await?;
        }
        child.wait().await
    };
    let ended = timeout(limit, work).await;
    match ended {
        Ok(Ok(status)) if status.success() => {
            Ok(text::units(&String::from_utf8_lossy(&printed)).map(str::to_owned).collect())
        }
        Ok(Ok(status)) => Err(format!("systemctl: {status}")),
        Ok(Err(err)) => Err(format!("systemctl: {err}")),
        Err(_) => Err("systemctl does not answer in time".to_owned()),
    }
}
