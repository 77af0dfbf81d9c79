//! One image for one device: what its bundle and its site say about the way, the connection, and the sending with its limits.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use shared::Label;
use shared::bundle::{FirmwareEntry, FirmwareHandler};
use shared::time::parse_duration;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::{Instant, timeout, timeout_at};

use super::image::Image;
use super::{Answer, Package, Pushed, ftp, ipp, judge, page, program, raw9100, swupdate, tftp};
use crate::access::{Access, Device, FirmwareAccess, Login};
use crate::limits::{
    FIRMWARE_LIMIT, FIRMWARE_PIECE_BYTES, FIRMWARE_RATE_MIN, FIRMWARE_REASON_MAX_CHARS,
    FIRMWARE_SEND_BUFFER_BYTES,
};

/// Time for a connection to be there.
pub(super) const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// One image for one device.
pub(crate) struct Job<'a> {
    pub(crate) device: &'a Device,
    pub(super) package: &'a Package<'a>,
    pub(super) progress: &'a (dyn Fn(u64) + Send + Sync),
    /// When it is over, however far it is.
    pub(super) deadline: Instant,
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
    pub(super) fn new(
        device: &'a Device,
        package: &'a Package<'a>,
        progress: &'a (dyn Fn(u64) + Send + Sync),
    ) -> Self {
        let moving = package.bytes.checked_div(FIRMWARE_RATE_MIN).map_or(Duration::ZERO, Duration::from_secs);
        let now = Instant::now();
        let deadline = now.checked_add(FIRMWARE_LIMIT.saturating_add(moving)).unwrap_or(now);
        Self { device, package, progress, deadline }
    }

    pub(super) fn access(&self) -> &'a FirmwareAccess {
        &self.device.firmware
    }

    /// Who logs in: by IPP who also asks.
    pub(super) fn login(&self) -> Option<&'a Login> {
        let of_ipp = match &self.device.access {
            Access::Ipp(ipp) if self.entry().handler == FirmwareHandler::Ipp => ipp.login.as_ref(),
            _ => None,
        };
        self.access().login.as_ref().or(of_ipp)
    }

    pub(super) fn entry(&self) -> &'a FirmwareEntry {
        self.package.entry
    }

    /// What the bundle says to the handler.
    pub(super) fn setting(&self, name: &str) -> Option<&'a str> {
        let mut settings = self.entry().settings.iter();
        settings.find(|(key, _)| key.as_str() == name).map(|(_, value)| value.as_str())
    }

    /// Whether the bundle's settings and the site's make sense: a slip of the pen is better found before anything is sent.
    pub(super) fn check(&self) -> Result<(), String> {
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
    pub(super) fn word(&self, name: &str, words: &[&'static str]) -> Result<&'static str, String> {
        let first = words.first().copied().unwrap_or_default();
        let Some(value) = self.setting(name) else { return Ok(first) };
        let known = words.iter().copied().find(|word| *word == value);
        known.ok_or_else(|| format!("{name} = \"{value}\", expected one of {}", words.join(", ")))
    }

    /// A setting that stands in a line of a protocol.
    pub(super) fn plain(&self, name: &str, usual: &'a str) -> Result<&'a str, String> {
        let value = self.setting(name).unwrap_or(usual);
        let is_plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\\');
        if !value.is_empty() && value.chars().all(is_plain) {
            return Ok(value);
        }
        Err(format!("{name} = \"{value}\", expected letters, digits and signs without blanks"))
    }

    /// A time.
    pub(super) fn time(&self, name: &str, usual: Duration) -> Result<Duration, String> {
        match self.setting(name) {
            Some(text) => parse_duration(text).map_err(|err| format!("{name}: {err}")),
            None => Ok(usual),
        }
    }

    /// The site's port, else the bundle's, else the usual one.
    pub(super) fn port(&self, usual: u16) -> Result<u16, String> {
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
    pub(super) fn host(&self) -> Result<String, String> {
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
    pub(super) async fn connect(&self, usual: u16) -> Result<TcpStream, String> {
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
    pub(super) async fn knock(&self, usual: u16) -> Result<(), Answer> {
        let closed = |reason| Answer::NotNow { reason, hold: judge::HOLD_CLOSED };
        self.connect(usual).await.map(|_| ()).map_err(closed)
    }

    /// One step: it may take as long as nothing may move.
    pub(super) async fn step<T>(&self, work: impl Future<Output = io::Result<T>>) -> Result<T, String> {
        let now = Instant::now();
        let end = now.checked_add(self.access().stall).unwrap_or(now).min(self.deadline);
        match timeout_at(end, work).await {
            Ok(done) => done.map_err(|err| err.to_string()),
            Err(_) if Instant::now() >= self.deadline => Err("it took too long".to_owned()),
            Err(_) => Err(format!("nothing moved for {:?}", self.access().stall)),
        }
    }

    /// Sends the rest of an image, and stops as soon as `beside` has ended.
    pub(super) async fn send<T>(
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
pub(super) fn cut(image: &Image, why: impl fmt::Display) -> Pushed {
    if image.sent() == 0 {
        Pushed::NotBegun(why.to_string())
    } else {
        Pushed::Incomplete(format!("after {} of {} bytes: {why}", image.sent(), image.bytes()))
    }
}

/// What a device says, for a reason.
pub(super) fn said(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text: String = text.trim().chars().take(FIRMWARE_REASON_MAX_CHARS).collect();
    Label::lossy(&text).to_string()
}

/// The connection is reset when it is closed, by whomever, until [`end_well`] is called.
pub(super) fn end_badly(stream: &TcpStream) -> Result<(), String> {
    stream.set_zero_linger().map_err(|err| err.to_string())
}

/// All has left: the connection is closed as one that is complete.
pub(super) fn end_well(stream: &TcpStream) -> io::Result<()> {
    #[expect(deprecated, reason = "it warns of waiting in a drop; none is set here")]
    stream.set_linger(None)
}
