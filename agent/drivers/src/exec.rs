//! The driver `exec`: a program prints an observation as one JSON document. For whatever speaks no protocol of ours.
//!
//! The program gets a clean environment and nothing on its standard input; what it prints is bounded, and when its time
//! is up it is ended. `MAILFLEET_DEPTH` says how much is asked: `faults` or `full`.

use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process_group};
use shared::UnixMillis;
use shared::device::Observation;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use crate::json::Document;
use crate::{Depth, Device, PollFault};

/// Longest document: 600 counters with long labels are 150 kB.
const PRINTED_MAX_BYTES: u64 = 1024 * 1024;
/// So much of what it says on its standard error is told.
const SAID_MAX_BYTES: u64 = 2_000;

pub(crate) async fn poll(
    device: &Device,
    command: &[String],
    depth: Depth,
    now: impl Fn() -> UnixMillis,
) -> Result<Observation, PollFault> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(PollFault::Local("no program is named".to_owned()));
    };
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C.UTF-8")
        .env("MAILFLEET_DEVICE", device.name.as_str())
        .env("MAILFLEET_DEPTH", if depth == Depth::Full { "full" } else { "faults" })
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|err| PollFault::Local(format!("{program}: {err}")))?;
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let work = async {
        let (printed, said) = tokio::join!(read(stdout, PRINTED_MAX_BYTES), read(stderr, SAID_MAX_BYTES));
        (child.wait().await, printed, said)
    };
    let ended = tokio::time::timeout(device.timeout, work).await;
    let address = program.clone();
    if let Some(group) = group.filter(|_| ended.is_err()) {
        // Whatever it has started goes with it; that nothing is left is as good.
        let _ = kill_process_group(group, Signal::KILL);
    }
    let Ok((status, printed, said)) = ended else {
        let limit_ms = u64::try_from(device.timeout.as_millis()).unwrap_or(u64::MAX);
        return Err(PollFault::NoAnswer { address, limit_ms, hint: "; the program was ended" });
    };
    let status = status.map_err(|err| PollFault::Local(format!("{program}: {err}")))?;
    if !status.success() {
        let said = String::from_utf8_lossy(&said);
        return Err(PollFault::Local(format!("{program}: {status}: {}", said.trim())));
    }
    if printed.len() as u64 > PRINTED_MAX_BYTES {
        return Err(PollFault::Garbage { address, why: format!("more than {PRINTED_MAX_BYTES} bytes") });
    }
    let document = serde_json::from_slice::<Document>(&printed).map_err(|err| err.to_string());
    document.and_then(|document| document.read(now())).map_err(|why| PollFault::Garbage { address, why })
}

/// Reads one byte more than `most`, so that too much shows, and lets go: who prints on gets a broken pipe.
async fn read(from: Option<impl AsyncRead + Unpin>, most: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        // What was read until it failed is as good as there is.
        let _ = from.take(most.saturating_add(1)).read_to_end(&mut bytes).await;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Access;
    use shared::device::DeviceName;
    use std::time::{Duration, Instant};

    async fn run(script: &str, depth: Depth) -> Result<Observation, PollFault> {
        let command = ["sh", "-c", script].map(str::to_owned).to_vec();
        let device = Device {
            name: DeviceName::parse("scale").unwrap(),
            class: None,
            access: Access::Exec { command: command.clone() },
            timeout: Duration::from_secs(2),
            firmware: crate::access::FirmwareAccess::default(),
        };
        poll(&device, &command, depth, || UnixMillis(7)).await
    }

    #[tokio::test]
    async fn a_program_says_what_its_device_says() {
        let seen = run(r#"echo "{\"class\": \"other\", \"status\": \"idle\"}""#, Depth::Full).await.unwrap();
        assert_eq!((seen.taken_at, seen.status.as_str()), (UnixMillis(7), "idle"));
    }

    #[tokio::test]
    async fn a_program_knows_how_much_is_asked_and_nothing_of_the_agents_environment() {
        let script = r#"test "$MAILFLEET_DEPTH" = faults && test -z "$HOME" && test "$MAILFLEET_DEVICE" = scale &&
            echo '{"class": "other"}'"#;
        assert!(run(script, Depth::Faults).await.is_ok());
    }

    #[tokio::test]
    async fn a_program_that_fails_hangs_or_floods_is_a_fault_and_no_more() {
        let err = run("echo broken >&2; exit 3", Depth::Full).await.unwrap_err();
        assert!(err.to_string().ends_with("exit status: 3: broken"), "{err}");
        let began = Instant::now();
        let err = run("sleep 60", Depth::Full).await.unwrap_err();
        assert!(matches!(err, PollFault::NoAnswer { .. }), "{err}");
        assert!(began.elapsed() < Duration::from_secs(20));
        let err =
            run("while :; do echo aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa; done", Depth::Full).await;
        assert!(err.is_err());
        let err = run("echo '{\"class\": \"fridge\"}'", Depth::Full).await.unwrap_err();
        assert!(err.to_string().contains("\"fridge\" is no word for it"), "{err}");
        assert!(run("exec no-such-program", Depth::Full).await.is_err());
    }
}
