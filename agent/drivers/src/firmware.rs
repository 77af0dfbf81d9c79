//! How firmware gets to a device: one handler for each way, one answer for all of them, [`Pushed`]. A handler asks a device
//! whether it may be updated now, sends it one image, and says truthfully how far that got. It remembers nothing.
//!
//! Whether a device is updated at all, when, and whether a transfer may be repeated, is `agent-core`'s. That a device has its new
//! firmware is proven by nothing here but by what it says of itself afterwards ([`Drivers::poll`]).
//!
//! Every transfer ends the way that it is: while an image is on its way by TCP alone, the connection is set so that its loss, a
//! cancelled task and the end of the agent reset it. No device takes half an image for a whole one because the connection was closed.

mod ftp;
mod image;
mod ipp;
mod judge;
mod page;
mod program;
mod raw9100;
mod swupdate;
mod talk;
mod tftp;
mod upload;

use std::fmt;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use shared::bundle::{FirmwareEntry, FirmwareHandler, same_version};
use shared::device::Observation;
use shared::time::{UnixMillis, parse_duration};
use shared::{Digest, Label};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::{Instant, timeout, timeout_at};

use crate::access::{Access, Device, FirmwareAccess, Login};
use crate::limits::{
    FIRMWARE_LIMIT, FIRMWARE_PIECE_BYTES, FIRMWARE_RATE_MIN, FIRMWARE_REASON_MAX_CHARS,
    FIRMWARE_SEND_BUFFER_BYTES,
};
use crate::{Depth, Drivers};
use image::Image;

pub use judge::is_idle;

/// Time for a connection to be there.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// One image, as its bundle describes it.
#[derive(Clone, Copy, Debug)]
pub struct Package<'a> {
    /// Which devices it is for, and how it gets there.
    pub entry: &'a FirmwareEntry,
    /// Its size.
    pub bytes: u64,
    /// Its digest.
    pub digest: Digest,
}

/// What a device says to the question whether it may be updated now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It may.
    Ready {
        /// The version of this firmware that it shows now.
        shows: Label,
    },
    /// Not at this moment.
    NotNow {
        /// Why.
        reason: String,
        /// It makes sense to ask again after so long.
        hold: Duration,
    },
    /// Somebody at the device, or the device itself, puts it off (R7).
    Deferred {
        /// By so long.
        by: Duration,
    },
    /// Never like this: a person has to change something first.
    Refused {
        /// Why.
        reason: String,
    },
    /// It does not answer.
    Silent {
        /// In which way.
        reason: String,
    },
}

/// How a transfer has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// The device has the whole image, and the handler's protocol has ended as it ends when all is well.
    Sent {
        /// Bytes of the image.
        bytes: u64,
        /// From the first connection to the end.
        took: Duration,
    },
    /// Not one byte of the image has left the agent.
    NotBegun(String),
    /// It was cut: the device does not have the whole image.
    Incomplete(String),
    /// The device may have the whole image, and nobody knows what it does with it.
    Unclear(String),
    /// The device itself says that it does not take this image.
    Refused(String),
}

impl Drivers {
    /// Asks a device whether it may be updated now: what its site allows, what it is and shows, whether it is idle and well,
    /// whether its port is open, and what the handler's own request says (R7). Sends nothing of the image. A device of whose version
    /// nothing follows is only told with that version.
    pub async fn ask_firmware(
        &self,
        device: &Device,
        package: &Package<'_>,
        now: impl Fn() -> UnixMillis + Sync,
    ) -> Answer {
        let entry = package.entry;
        let job = Job::new(device, package, &|_| {});
        let settings = device.firmware.refusal(entry.handler).map_or_else(|| job.check(), Err);
        if let Err(reason) = settings {
            return Answer::Refused { reason };
        }
        let seen = match self.poll(device, Depth::Full, now).await {
            Ok(seen) => seen,
            Err(fault) if fault.is_silence() => return Answer::Silent { reason: fault.to_string() },
            Err(fault) => return Answer::Refused { reason: fault.to_string() },
        };
        let shows = match judge::judge(entry, &seen) {
            Ok(shows) => shows,
            Err(answer) => return answer,
        };
        if same_version(&shows, &entry.version) || !entry.goes_over(&shows) {
            return Answer::Ready { shows };
        }
        self.handler_asks(&job, &seen).await.err().unwrap_or(Answer::Ready { shows })
    }

    async fn handler_asks(&self, job: &Job<'_>, seen: &Observation) -> Result<(), Answer> {
        match job.entry().handler {
            FirmwareHandler::Raw9100 => job.knock(raw9100::PORT).await,
            FirmwareHandler::Ftp => ftp::ask(job).await,
            FirmwareHandler::HttpUpload => page::ask(self, job).await,
            FirmwareHandler::TftpServe => Ok(()),
            FirmwareHandler::Ipp => ipp::ask(job),
            FirmwareHandler::SwUpdate => job.knock(swupdate::PORT).await,
            FirmwareHandler::Exec => program::ask(job, seen).await,
        }
    }

    /// Sends an image to a device. The caller has verified the file; it is read once, in constant memory, and what no longer fits its
    /// digest ends before its last bytes. `progress` is told how many bytes have left. Ends by itself, after a time that grows
    /// with the image, or when nothing moves for as long as `devices.toml` allows. Dropped on its way, it is cut.
    pub async fn push_firmware(
        &self,
        device: &Device,
        file: &Path,
        package: &Package<'_>,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Pushed {
        let job = Job::new(device, package, progress);
        let handler = package.entry.handler;
        let allowed = device.firmware.refusal(handler).map_or_else(|| job.check(), Err);
        if let Err(why) = allowed {
            return Pushed::NotBegun(why);
        }
        let mut image = match Image::open(file, package).await {
            Ok(image) => image,
            Err(why) => return Pushed::NotBegun(why),
        };
        let began = Instant::now();
        // Boxed: the largest of them would be part of every caller.
        let ended = match handler {
            FirmwareHandler::Raw9100 => Box::pin(raw9100::push(&job, &mut image)).await,
            FirmwareHandler::Ftp => Box::pin(ftp::push(&job, &mut image)).await,
            FirmwareHandler::HttpUpload => Box::pin(page::push(self, &job, &mut image)).await,
            FirmwareHandler::TftpServe => Box::pin(tftp::push(self, &job, &mut image)).await,
            FirmwareHandler::Ipp => Box::pin(ipp::push(self, &job, &mut image)).await,
            FirmwareHandler::SwUpdate => Box::pin(swupdate::push(self, &job, &mut image)).await,
            FirmwareHandler::Exec => Box::pin(program::push(&job, file, &mut image)).await,
        };
        match ended {
            Ok(()) => Pushed::Sent { bytes: package.bytes, took: began.elapsed() },
            Err(pushed) => pushed,
        }
    }

    /// Makes a device use what was sent to it, where that is a step of its own: a restart by SNMP if the bundle says
    /// `activate = "reset"`, SWUpdate's restart, a program's own. Often there is nothing to do.
    ///
    /// # Errors
    /// Why it was not done, for a person.
    pub async fn activate_firmware(&self, device: &Device, package: &Package<'_>) -> Result<(), String> {
        let job = Job::new(device, package, &|_| {});
        if let Some(why) = device.firmware.refusal(package.entry.handler) {
            return Err(why);
        }
        match package.entry.handler {
            FirmwareHandler::SwUpdate => swupdate::restart(self, &job).await,
            FirmwareHandler::Exec => program::activate(&job).await,
            _ if job.setting("activate") == Some("reset") => self.restart(device).await,
            _ => Ok(()),
        }
    }

    /// Restarts a printer by SNMP (prtGeneralReset).
    async fn restart(&self, device: &Device) -> Result<(), String> {
        let Access::Snmp(snmp) = &device.access else {
            return Err("only a device that is asked by SNMP can be restarted by it".to_owned());
        };
        let community = device.firmware.write_community.as_ref();
        let community = community.ok_or("devices.toml has no write_community below [device.firmware]")?;
        crate::snmp::restart(&self.snmp, snmp, &community.0, device.timeout).await
    }
}

/// One image for one device.
pub(crate) struct Job<'a> {
    pub(crate) device: &'a Device,
    package: &'a Package<'a>,
    progress: &'a (dyn Fn(u64) + Send + Sync),
    /// When it is over, however far it is.
    deadline: Instant,
}

/// Why the sending of an image stopped.
pub(crate) enum Halt<T> {
    /// The other side spoke before it had all of it.
    Early(T),
    /// The connection broke, or nothing moved.
    Broken(String),
    /// The file is not what was signed.
    Changed(String),
}

impl<'a> Job<'a> {
    fn new(device: &'a Device, package: &'a Package<'a>, progress: &'a (dyn Fn(u64) + Send + Sync)) -> Self {
        let moving = package.bytes.checked_div(FIRMWARE_RATE_MIN).map_or(Duration::ZERO, Duration::from_secs);
        let now = Instant::now();
        let deadline = now.checked_add(FIRMWARE_LIMIT.saturating_add(moving)).unwrap_or(now);
        Self { device, package, progress, deadline }
    }

    fn access(&self) -> &'a FirmwareAccess {
        &self.device.firmware
    }

    /// Who logs in: by IPP who also asks.
    fn login(&self) -> Option<&'a Login> {
        let of_ipp = match &self.device.access {
            Access::Ipp(ipp) if self.entry().handler == FirmwareHandler::Ipp => ipp.login.as_ref(),
            _ => None,
        };
        self.access().login.as_ref().or(of_ipp)
    }

    fn entry(&self) -> &'a FirmwareEntry {
        self.package.entry
    }

    /// What the bundle says to the handler.
    fn setting(&self, name: &str) -> Option<&'a str> {
        let mut settings = self.entry().settings.iter();
        settings.find(|(key, _)| key.as_str() == name).map(|(_, value)| value.as_str())
    }

    /// Whether the bundle's settings and the site's make sense: a slip of the pen is better found before anything is sent.
    fn check(&self) -> Result<(), String> {
        let known: &[&str] = match self.entry().handler {
            FirmwareHandler::Raw9100 => raw9100::SETTINGS,
            FirmwareHandler::Ftp => ftp::SETTINGS,
            FirmwareHandler::HttpUpload => page::SETTINGS,
            FirmwareHandler::TftpServe => tftp::SETTINGS,
            FirmwareHandler::Ipp => ipp::SETTINGS,
            FirmwareHandler::SwUpdate => swupdate::SETTINGS,
            // Its settings are those of the program.
            FirmwareHandler::Exec => return program::check(self),
        };
        let unknown = |key: &&Label| !known.contains(&key.as_str()) && key.as_str() != "activate";
        if let Some(key) = self.entry().settings.keys().find(unknown) {
            return Err(format!("the handler {} has no setting \"{key}\"", self.entry().handler));
        }
        if let Some(value) = self.setting("activate").filter(|value| !matches!(*value, "reset" | "none")) {
            return Err(format!("activate = \"{value}\", expected \"reset\" or \"none\""));
        }
        self.port(0)?;
        match self.entry().handler {
            FirmwareHandler::Raw9100 => raw9100::check(self),
            FirmwareHandler::Ftp => ftp::check(self),
            FirmwareHandler::HttpUpload => page::check(self),
            FirmwareHandler::TftpServe => tftp::check(self),
            FirmwareHandler::Ipp => ipp::check(self),
            FirmwareHandler::SwUpdate => swupdate::check(self),
            FirmwareHandler::Exec => Ok(()),
        }?;
        self.host().map(|_| ())
    }

    /// One of some words.
    fn word(&self, name: &str, words: &[&'static str]) -> Result<&'static str, String> {
        let first = words.first().copied().unwrap_or_default();
        let Some(value) = self.setting(name) else { return Ok(first) };
        let known = words.iter().copied().find(|word| *word == value);
        known.ok_or_else(|| format!("{name} = \"{value}\", expected one of {}", words.join(", ")))
    }

    /// A setting that stands in a line of a protocol.
    fn plain(&self, name: &str, usual: &'a str) -> Result<&'a str, String> {
        let value = self.setting(name).unwrap_or(usual);
        let is_plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\\');
        if !value.is_empty() && value.chars().all(is_plain) {
            return Ok(value);
        }
        Err(format!("{name} = \"{value}\", expected letters, digits and signs without blanks"))
    }

    /// A time.
    fn time(&self, name: &str, usual: Duration) -> Result<Duration, String> {
        match self.setting(name) {
            Some(text) => parse_duration(text).map_err(|err| format!("{name}: {err}")),
            None => Ok(usual),
        }
    }

    /// The site's port, else the bundle's, else the usual one.
    fn port(&self, usual: u16) -> Result<u16, String> {
        if let Some(port) = self.access().port {
            return Ok(port);
        }
        match self.setting("port") {
            Some(text) => {
                let port = text.parse().ok().filter(|port| *port != 0);
                port.ok_or_else(|| format!("port = \"{text}\", expected 1 to 65535"))
            }
            None => Ok(usual),
        }
    }

    /// Where the image goes.
    fn host(&self) -> Result<String, String> {
        if let Some(host) = &self.access().host {
            return Ok(host.clone());
        }
        match &self.device.access {
            Access::Snmp(snmp) => Ok(host_of(&snmp.address)),
            Access::Ipp(ipp) => Ok(ipp.url.host().to_owned()),
            Access::Host { .. } => Ok("127.0.0.1".to_owned()),
            Access::Exec { .. } if self.entry().handler == FirmwareHandler::Exec => Ok(String::new()),
            Access::Exec { .. } => {
                Err("devices.toml says no host below [device.firmware]: nobody knows where it is".to_owned())
            }
        }
    }

    /// A connection. What the system holds of it is little, so that what has left is near to what has arrived.
    async fn connect(&self, usual: u16) -> Result<TcpStream, String> {
        let (host, port) = (self.host()?, self.port(usual)?);
        let place = format!("{host}:{port}");
        match timeout(CONNECT_LIMIT, connected((&host, port))).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(err)) => Err(format!("cannot reach {place}: {err}")),
            Err(_) => Err(format!("no answer from {place} within {} s", CONNECT_LIMIT.as_secs())),
        }
    }

    /// Whether the port is open. A device that answers otherwise and not there may have it switched off, or be at work: printers take
    /// one connection at a time.
    async fn knock(&self, usual: u16) -> Result<(), Answer> {
        let closed = |reason| Answer::NotNow { reason, hold: judge::HOLD_CLOSED };
        self.connect(usual).await.map(|_| ()).map_err(closed)
    }

    /// One step: it may take as long as nothing may move.
    async fn step<T>(&self, work: impl Future<Output = io::Result<T>>) -> Result<T, String> {
        let now = Instant::now();
        let end = now.checked_add(self.access().stall).unwrap_or(now).min(self.deadline);
        match timeout_at(end, work).await {
            Ok(done) => done.map_err(|err| err.to_string()),
            Err(_) if Instant::now() >= self.deadline => Err("it took too long".to_owned()),
            Err(_) => Err(format!("nothing moved for {:?}", self.access().stall)),
        }
    }

    /// Sends the rest of an image, and stops as soon as `beside` has ended.
    async fn send<T>(
        &self,
        image: &mut Image,
        to: &mut (impl AsyncWrite + Unpin),
        mut beside: Pin<&mut impl Future<Output = T>>,
    ) -> Result<(), Halt<T>> {
        while let Some(piece) = image.next(FIRMWARE_PIECE_BYTES).await.map_err(Halt::Changed)? {
            let mut rest = piece.as_slice();
            while !rest.is_empty() {
                let written = tokio::select! {
                    biased;
                    early = &mut beside => return Err(Halt::Early(early)),
                    written = self.step(to.write(rest)) => written.map_err(Halt::Broken)?,
                };
                if written == 0 {
                    return Err(Halt::Broken("the connection takes no more".to_owned()));
                }
                rest = rest.get(written..).unwrap_or_default();
                image.left(written);
                (self.progress)(image.sent());
            }
        }
        self.step(to.flush()).await.map_err(Halt::Broken)
    }
}

async fn connected(place: (&str, u16)) -> io::Result<TcpStream> {
    let mut last = io::Error::other("the name has no address");
    for address in lookup_host(place).await? {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_send_buffer_size(FIRMWARE_SEND_BUFFER_BYTES)?;
        match socket.connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(err) => last = err,
        }
    }
    Err(last)
}

/// The host of an address that may have a port.
fn host_of(address: &str) -> String {
    if let Some((host, _)) = address.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return host.to_owned();
    }
    match address.rsplit_once(':') {
        Some((host, _)) if !host.contains(':') => host.to_owned(),
        _ => address.to_owned(),
    }
}

/// A transfer that ended before all of the image had left.
fn cut(image: &Image, why: impl fmt::Display) -> Pushed {
    if image.sent() == 0 {
        Pushed::NotBegun(why.to_string())
    } else {
        Pushed::Incomplete(format!("after {} of {} bytes: {why}", image.sent(), image.bytes()))
    }
}

/// What a device says, for a reason.
fn said(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text: String = text.trim().chars().take(FIRMWARE_REASON_MAX_CHARS).collect();
    Label::lossy(&text).to_string()
}

/// The connection is reset when it is closed, by whomever, until [`end_well`] is called.
fn end_badly(stream: &TcpStream) -> Result<(), String> {
    stream.set_zero_linger().map_err(|err| err.to_string())
}

/// All has left: the connection is closed as one that is complete.
fn end_well(stream: &TcpStream) -> io::Result<()> {
    #[expect(deprecated, reason = "it warns of waiting in a drop; none is set here")]
    stream.set_linger(None)
}
