//! The handler `exec`: a program that the site has named writes the firmware. For whatever speaks no protocol of ours.
//!
//! It is run as `COMMAND… ask`, `COMMAND… push` or `COMMAND… activate`, with one JSON document on its standard input that says all it needs:
//!
//! ```json
//! {"device": "scale-1", "host": "192.0.2.9", "port": 4711, "user": "admin", "password": "…",
//!  "file": "/…/scale-2.1.bin", "bytes": 123456, "sha256": "…", "module": "…", "type": "main", "component": "main",
//!  "shows": "2.0", "version": "2.1", "settings": {"slot": "b"}}
//! ```
//!
//! `ask` prints what `talk` reads. `push` prints a line `{"sent": BYTES}` whenever it likes, and at its end
//! `{"result": "sent" | "not-begun" | "incomplete" | "unclear" | "refused", "reason": "…"}`. An exit code that is not 0 is a failure: after
//! `push` nobody knows how far it got, unless it has said so. Nothing of it stands in arguments or the environment, which others can read.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use shared::device::Observation;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout_at};

use super::{Answer, Image, Job, Pushed, judge, said, talk};
use crate::limits::{FIRMWARE_EVENTS_MAX_COUNT, FIRMWARE_PIECE_BYTES, FIRMWARE_SAID_MAX_BYTES};

/// Time for a question.
const ASK_LIMIT: Duration = Duration::from_secs(60);

pub(super) fn check(job: &Job<'_>) -> Result<(), String> {
    if job.access().command.is_empty() {
        return Err("devices.toml names no command below [device.firmware]".to_owned());
    }
    Ok(())
}

/// Asks it whether the device may be updated now.
pub(super) async fn ask(job: &Job<'_>, seen: &Observation) -> Result<(), Answer> {
    let not_now = |reason| Answer::NotNow { reason, hold: judge::HOLD_FAULT };
    let shows = job.entry().shown_by(&seen.identity).map(ToString::to_string);
    match run(job, "ask", &document(job, None, shows.as_deref())).await {
        Ok(ran) if ran.is_good => talk::answer(ran.last.as_bytes()),
        Ok(ran) => Err(not_now(format!("its program fails: {}", ran.complaint))),
        Err(why) => Err(not_now(why)),
    }
}

/// Has it send the image.
pub(super) async fn push(job: &Job<'_>, file: &Path, image: &mut Image) -> Result<(), Pushed> {
    // The program reads the file itself, so it is read once before.
    image.verify(FIRMWARE_PIECE_BYTES).await.map_err(Pushed::NotBegun)?;
    let ran = run(job, "push", &document(job, Some(file), None)).await.map_err(Pushed::NotBegun)?;
    ended(&ran)
}

/// What its last line says of a transfer.
fn ended(ran: &Ran) -> Result<(), Pushed> {
    let result = serde_json::from_str::<Ended>(&ran.last);
    let reason = |text: Option<String>| {
        text.map_or_else(|| "its program does not say why".to_owned(), |text| said(text.as_bytes()))
    };
    match result {
        Ok(Ended { result: Word::Sent, .. }) if ran.is_good => Ok(()),
        Ok(Ended { result: Word::NotBegun, reason: text }) => Err(Pushed::NotBegun(reason(text))),
        Ok(Ended { result: Word::Incomplete, reason: text }) => Err(Pushed::Incomplete(reason(text))),
        Ok(Ended { result: Word::Refused, reason: text }) => Err(Pushed::Refused(reason(text))),
        Ok(Ended { result: Word::Unclear, reason: text }) => Err(Pushed::Unclear(reason(text))),
        Ok(Ended { result: Word::Sent, .. }) | Err(_) => {
            Err(Pushed::Unclear(format!("its program: {}", ran.complaint)))
        }
    }
}

/// Has it make the device use the image.
pub(super) async fn activate(job: &Job<'_>) -> Result<(), String> {
    let ran = run(job, "activate", &document(job, None, None)).await?;
    if ran.is_good { Ok(()) } else { Err(format!("its program: {}", ran.complaint)) }
}

#[derive(Deserialize)]
struct Ended {
    result: Word,
    reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Word {
    Sent,
    NotBegun,
    Incomplete,
    Unclear,
    Refused,
}

#[derive(Deserialize)]
struct Progress {
    sent: u64,
}

fn document(job: &Job<'_>, file: Option<&Path>, shows: Option<&str>) -> serde_json::Value {
    let (access, entry) = (job.access(), job.entry());
    let login = access.login.as_ref();
    let settings: std::collections::BTreeMap<_, _> =
        entry.settings.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    serde_json::json!({
        "device": job.device.name.as_str(),
        "host": job.host().unwrap_or_default(),
        "port": access.port,
        "user": login.map(|login| &login.user),
        "password": login.map(|login| &login.password),
        "file": file,
        "bytes": job.package.bytes,
        "sha256": job.package.digest.to_string(),
        "module": entry.module.as_str(),
        "type": entry.kind.as_str(),
        "component": entry.component.as_str(),
        "shows": shows,
        "version": entry.version.as_str(),
        "settings": settings,
    })
}

/// How a run has ended.
struct Ran {
    is_good: bool,
    /// The last line that it has printed.
    last: String,
    /// Its status and its last words, for a person.
    complaint: String,
}

/// Runs the program to its end. An error: it did not begin.
async fn run(job: &Job<'_>, what: &str, document: &serde_json::Value) -> Result<Ran, String> {
    let Some((program, arguments)) = job.access().command.split_first() else {
        return Err("no program is named".to_owned());
    };
    let mut child = Command::new(program)
        .args(arguments)
        .arg(what)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|err| format!("{program}: {err}"))?;
    let group = Group::of(&child);
    let now = Instant::now();
    let limit = if what == "ask" { now.checked_add(ASK_LIMIT).unwrap_or(now) } else { job.deadline };
    let ended = timeout_at(limit, talk_with(job, &mut child, document)).await;
    drop(group);
    Ok(ended.unwrap_or_else(|_| Ran {
        is_good: false,
        last: String::new(),
        complaint: "it was ended, because it took too long".to_owned(),
    }))
}

async fn talk_with(job: &Job<'_>, child: &mut Child, document: &serde_json::Value) -> Ran {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let tell = async {
        if let Some(mut stdin) = stdin {
            // A program that does not want to know has closed it.
            let _ = stdin.write_all(format!("{document}\n").as_bytes()).await;
        }
    };
    let ((), last, words) = tokio::join!(tell, lines(job, stdout), words(stderr));
    match child.wait().await {
        Ok(status) => {
            let words = said(&words);
            let complaint = if words.is_empty() { status.to_string() } else { format!("{status}: {words}") };
            Ran { is_good: status.success(), last, complaint }
        }
        Err(err) => Ran { is_good: false, last, complaint: err.to_string() },
    }
}

/// Reads what it prints; the last line.
async fn lines(job: &Job<'_>, from: Option<impl AsyncRead + Unpin>) -> String {
    let mut last = String::new();
    let Some(from) = from else { return last };
    let mut from = BufReader::new(from);
    for _ in 0..FIRMWARE_EVENTS_MAX_COUNT {
        let mut line = Vec::new();
        let bound = FIRMWARE_SAID_MAX_BYTES as u64;
        match (&mut from).take(bound).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line);
        if let Ok(Progress { sent }) = serde_json::from_str(&text) {
            (job.progress)(sent.min(job.package.bytes));
        } else if !text.trim().is_empty() {
            last = text.into_owned();
        }
    }
    last
}

/// Its last words, of which the first are as good.
async fn words(from: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut words = Vec::new();
    if let Some(from) = from {
        // What was read until it failed is as good as there is.
        let _ = from.take(FIRMWARE_SAID_MAX_BYTES as u64).read_to_end(&mut words).await;
    }
    words
}

/// What is made of what a program printed.
pub(super) fn replayed(printed: &[u8]) -> Result<(), Pushed> {
    let last = String::from_utf8_lossy(printed).into_owned();
    ended(&Ran { is_good: true, last, complaint: "exit status: 0".to_owned() })
}

/// Whatever the program has started; ends with it, also where the transfer is given up.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // That nothing is left is as good.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}
