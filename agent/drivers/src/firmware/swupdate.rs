//! The handler `swupdate`: an image (`.swu`) given to the web server of SWUpdate, as its own page does it: a form to `/upload`,
//! while a web socket (RFC 6455) tells how the installation goes. That it took the image is said at once, and means nothing; what
//! counts is its `SUCCESS` or `FAILURE`. Where a device has two slots it installs
//! whole or not at all, so that a transfer that broke off can be repeated: its bundle says so (`repeatable`).
//!
//! Settings: `port` (8080), `path` (`/upload`), `events` (`/ws`), `file` (`firmware.swu`), `tls` = `no` | `yes`, `restart` (`/restart`; `none`:
//! it restarts by itself).

use std::pin::pin;

use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::upload::{Around, Stream, connect, in_words, tls};
use super::{Halt, Image, Job, Pushed, cut, page, said};
use crate::Drivers;
use crate::http::{self, HttpFault, Told};
use crate::limits::{FIRMWARE_EVENTS_MAX_COUNT, FIRMWARE_SAID_MAX_BYTES};

/// Where its web server listens.
pub(super) const PORT: u16 = 8080;

pub(super) const SETTINGS: &[&str] = &["port", "path", "events", "file", "tls", "restart"];

/// Nobody is to be kept out by it (RFC 6455 §1.3), so it need not be random.
const KEY: &str = "bWFpbGZsZWV0LWFnZW50IQ==";

pub(super) fn check(job: &Job<'_>) -> Result<(), String> {
    for (name, usual) in [("path", "/upload"), ("events", "/ws"), ("restart", "/restart")] {
        if !matches!(job.plain(name, usual)?, path if path.starts_with('/') || path == "none") {
            return Err(format!("{name} begins with /"));
        }
    }
    job.plain("file", "firmware.swu")?;
    job.word("tls", &["no", "yes"]).map(|_| ())
}

/// Sends it, and waits until it is installed.
pub(super) async fn push(drivers: &Drivers, job: &Job<'_>, image: &mut Image) -> Result<(), Pushed> {
    let around = request(job, image).map_err(Pushed::NotBegun)?;
    // Before the image: whoever listens only afterwards may have missed the end.
    let mut events = Events::open(drivers, job).await.map_err(Pushed::NotBegun)?;
    let stream = connect(drivers, job, PORT, tls(job)).await.map_err(Pushed::NotBegun)?;
    let (mut read, mut write) = tokio::io::split(stream);
    let whole = job.deadline.saturating_duration_since(tokio::time::Instant::now());
    // Its answer has no length that could be read (2022.12 writes "%sContent-Length"), and it keeps the connection.
    let told = http::told(&mut read, whole, false);
    let mut beside = pin!(heard(told, events.end()));
    let head = [around.head.as_bytes(), &around.before].concat();
    job.step(write.write_all(&head)).await.map_err(Pushed::NotBegun)?;
    match job.send(image, &mut write, beside.as_mut()).await {
        Ok(()) => {}
        Err(Halt::Early(end)) => {
            return end.and_then(|()| Err(cut(image, "it had its end before all was sent")));
        }
        Err(Halt::Broken(why)) | Err(Halt::Changed(why)) => return Err(cut(image, why)),
    }
    let unclear = |why: String| Pushed::Unclear(format!("all of it was sent, and then: {why}"));
    let rest = async {
        write.write_all(&around.after).await?;
        write.flush().await
    };
    job.step(rest).await.map_err(unclear)?;
    let late = |_| unclear("it does not say how the installation has ended".to_owned());
    tokio::time::timeout_at(job.deadline, beside).await.map_err(late)?
}

/// How the installation ends. That the image was taken is passed over, and so is an answer that breaks off: SWUpdate may close
/// that connection as soon as it has all, and the events still tell the end.
async fn heard(
    told: impl Future<Output = Result<Told, HttpFault>>,
    end: impl Future<Output = Result<(), Pushed>>,
) -> Result<(), Pushed> {
    let mut end = pin!(end);
    tokio::select! {
        biased;
        end = &mut end => return end,
        told = told => match told {
            Ok(Told { status: 200..=299, .. }) | Err(_) => {}
            Ok(Told { status, .. }) => return Err(Pushed::Refused(format!("HTTP {status}"))),
        },
    }
    end.await
}

/// Restarts it into what was installed.
pub(super) async fn restart(drivers: &Drivers, job: &Job<'_>) -> Result<(), String> {
    let path = job.plain("restart", "/restart")?;
    if path == "none" {
        return Ok(());
    }
    let mut stream = connect(drivers, job, PORT, tls(job)).await?;
    let head = format!("POST {path} HTTP/1.1\r\n{}Content-Length: 0\r\n\r\n", page::common(job)?);
    job.step(stream.write_all(head.as_bytes())).await?;
    match http::told(&mut stream, job.access().stall, false).await {
        Ok(Told { status: 200..=299, .. }) => Ok(()),
        Ok(Told { status, .. }) => Err(format!("its restart: HTTP {status}")),
        // It may be gone before its answer is.
        Err(HttpFault::Broken(_)) => Ok(()),
        Err(fault) => Err(format!("its restart: {}", in_words(&fault))),
    }
}

fn request(job: &Job<'_>, image: &Image) -> Result<Around, String> {
    let (path, file) = (job.plain("path", "/upload")?, job.plain("file", "firmware.swu")?);
    page::form(job, image, path, "", "file", file)
}

/// What SWUpdate tells, as it happens.
struct Events {
    stream: Box<dyn Stream>,
    came: Vec<u8>,
}

/// One event. Its level is a number in a text.
#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    status: Option<String>,
    level: Option<String>,
    text: Option<String>,
}

/// Levels of messages that are errors.
const ERROR: &str = "3";

impl Events {
    /// Opens the web socket.
    async fn open(drivers: &Drivers, job: &Job<'_>) -> Result<Self, String> {
        let path = job.plain("events", "/ws")?;
        let mut stream = connect(drivers, job, PORT, tls(job)).await?;
        let host = job.host()?;
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        job.step(stream.write_all(head.as_bytes())).await?;
        let mut events = Self { stream, came: Vec::new() };
        let end = loop {
            if let Some(at) = events.came.windows(4).position(|four| four == b"\r\n\r\n") {
                break at.saturating_add(4);
            }
            if events.came.len() > FIRMWARE_SAID_MAX_BYTES {
                return Err("its answer has a head without an end".to_owned());
            }
            job.step(events.more()).await?;
        };
        let head: Vec<u8> = events.came.drain(..end).collect();
        if head.starts_with(b"HTTP/1.1 101") {
            return Ok(events);
        }
        let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
        Err(format!("it does not tell how an installation goes: {}", said(line)))
    }

    /// Waits for the end of the installation that begins now.
    async fn end(&mut self) -> Result<(), Pushed> {
        let broken =
            |why: &dyn std::fmt::Display| Pushed::Unclear(format!("it stopped telling how it goes: {why}"));
        let (mut runs, mut last_error) = (false, String::new());
        for _ in 0..FIRMWARE_EVENTS_MAX_COUNT {
            let frame = self.frame().await.map_err(|err| broken(&err))?;
            let Ok(event) = serde_json::from_slice::<Event>(&frame) else { continue };
            match (event.kind.as_str(), event.status.as_deref()) {
                ("status", Some("START" | "DOWNLOAD" | "RUN")) => runs = true,
                ("status", Some("SUCCESS")) if runs => return Ok(()),
                ("status", Some("FAILURE")) if runs => {
                    return Err(Pushed::Refused(format!("it did not install it: {last_error}")));
                }
                // The first errors are of what it looked for and does not need; the last is why.
                ("message", _) if event.level.as_deref() == Some(ERROR) => {
                    last_error = said(event.text.unwrap_or_default().as_bytes());
                }
                _ => {}
            }
        }
        Err(broken(&"it talks without an end"))
    }

    /// The content of the next frame of text; others are passed over.
    async fn frame(&mut self) -> std::io::Result<Vec<u8>> {
        loop {
            if let Some((opcode, content)) = take(&mut self.came)? {
                match opcode {
                    0x1 => return Ok(content),
                    0x8 => return Err(std::io::Error::other("it has closed")),
                    _ => continue,
                }
            }
            self.more().await?;
        }
    }

    async fn more(&mut self) -> std::io::Result<()> {
        let mut piece = [0_u8; 4096];
        match self.stream.read(&mut piece).await? {
            0 => Err(std::io::Error::other("it has closed the connection")),
            count => {
                self.came.extend(piece.iter().take(count));
                Ok(())
            }
        }
    }
}

/// What is made of frames that came.
pub(super) async fn replayed(bytes: &[u8]) -> Result<(), Pushed> {
    let stream = tokio::io::join(std::io::Cursor::new(bytes.to_vec()), tokio::io::sink());
    Events { stream: Box::new(stream), came: Vec::new() }.end().await
}

/// Takes one frame off what came, if it is there as a whole: its opcode and its content (RFC 6455 §5.2).
fn take(came: &mut Vec<u8>) -> std::io::Result<Option<(u8, Vec<u8>)>> {
    let (head, length) = match came.as_slice() {
        [_, length, ..] if *length < 126 => (2, u64::from(*length)),
        [_, 126, high, low, ..] => (4, u64::from(u16::from_be_bytes([*high, *low]))),
        // Longer than any event, or masked, as no server does.
        [_, 127..=255, ..] => return Err(std::io::Error::other("a frame that is no event")),
        _ => return Ok(None),
    };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > FIRMWARE_SAID_MAX_BYTES {
        return Err(std::io::Error::other("a frame that is no event"));
    }
    let end = length.saturating_add(head);
    if came.len() < end {
        return Ok(None);
    }
    let frame: Vec<u8> = came.drain(..end).collect();
    let opcode = frame.first().map_or(0, |first| first & 0x0f);
    Ok(Some((opcode, frame.get(head..).unwrap_or_default().to_vec())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_one_by_one_and_only_whole() {
        let mut came = b"\x81\x02{}\x8a\x00\x81\x7e\x00\x80".to_vec();
        came.extend([b'x'; 127]);
        assert_eq!(take(&mut came).unwrap(), Some((1, b"{}".to_vec())));
        assert_eq!(take(&mut came).unwrap(), Some((10, Vec::new())));
        assert_eq!(take(&mut came).unwrap(), None, "one byte is missing");
        came.push(b'x');
        assert_eq!(take(&mut came).unwrap(), Some((1, vec![b'x'; 128])));
        for bad in [&b"\x81\x7f\x00\x00"[..], b"\x81\x82abcd", b"\x81\x7e\xff\xff"] {
            assert!(take(&mut bad.to_vec()).is_err(), "{bad:?}");
        }
    }
}
