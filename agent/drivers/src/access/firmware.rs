//! Whether and how firmware may be written to a device: the table `[device.firmware]` of `devices.toml`. Without it nobody
//! flashes the device, whatever a bundle says.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;
use shared::bundle::FirmwareHandler;
use shared::time::parse_duration;

use super::Login;
use crate::limits::{FIRMWARE_STALL, FIRMWARE_STALL_MAX};

/// What a site allows for one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirmwareAccess {
    /// True if firmware may be written to it.
    pub allowed: bool,
    /// By which handlers; none named: any.
    pub(crate) handlers: Vec<FirmwareHandler>,
    /// Where images go; `None`: to where the device is asked.
    pub(crate) host: Option<String>,
    /// To which port; `None`: the bundle's, else the handler's usual one.
    pub(crate) port: Option<u16>,
    /// Who logs in.
    pub(crate) login: Option<Login>,
    /// HTTP over TLS, and whose certificate will do.
    pub(crate) tls: Option<Trust>,
    /// Where TFTP is offered.
    pub(crate) listen: Option<SocketAddr>,
    /// The program of the handler `exec`.
    pub(crate) command: Vec<String>,
    /// What restarts the device by SNMP, of versions 1 and 2c.
    pub(crate) write_community: Option<Community>,
    /// Longest time without one byte moving.
    pub(crate) stall: Duration,
}

/// Whose certificate will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// One that somebody has signed whom the system knows.
    Known,
    /// Any: nobody has signed those of printers.
    Any,
}

/// A community that may write; never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Community(pub(crate) String);

impl std::fmt::Debug for Community {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Community")
    }
}

impl Default for FirmwareAccess {
    fn default() -> Self {
        Self {
            allowed: false,
            handlers: Vec::new(),
            host: None,
            port: None,
            login: None,
            tls: None,
            listen: None,
            command: Vec::new(),
            write_community: None,
            stall: FIRMWARE_STALL,
        }
    }
}

impl FirmwareAccess {
    /// Why this handler may not write to the device; `None`: it may.
    #[must_use]
    pub fn refusal(&self, handler: FirmwareHandler) -> Option<String> {
        if !self.allowed {
            return Some(
                "the site does not allow it: devices.toml has no allowed = true below [device.firmware]"
                    .to_owned(),
            );
        }
        if !self.handlers.is_empty() && !self.handlers.contains(&handler) {
            return Some(format!("the site does not allow the handler {handler}"));
        }
        None
    }
}

/// The table, as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "the file's keys")]
pub(super) struct Raw {
    allowed: bool,
    handlers: Option<Vec<String>>,
    host: Option<String>,
    port: Option<u16>,
    user: Option<String>,
    password: Option<String>,
    #[serde(default)]
    tls: bool,
    #[serde(default)]
    self_signed: bool,
    listen: Option<String>,
    command: Option<Vec<String>>,
    write_community: Option<String>,
    stall: Option<String>,
}

impl Raw {
    pub(super) fn check(self) -> Result<FirmwareAccess, String> {
        let handlers = self.handlers.unwrap_or_default();
        let handlers = handlers.iter().map(|name| handler(name)).collect::<Result<_, _>>()?;
        let login = login(self.user, self.password)?;
        if self.self_signed && !self.tls {
            return Err("self_signed needs tls = true".to_owned());
        }
        let listen = self.listen.map(|text| {
            let bad = |_| {
                format!(
                    "listen \"{text}\", expected an address of this box with a port, such as 192.0.2.1:69"
                )
            };
            text.parse::<SocketAddr>().map_err(bad)
        });
        let plain = |text: &String| {
            !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic() && !"@/\"<>\\".contains(c))
        };
        if let Some(host) = self.host.as_ref().filter(|host| !plain(host)) {
            return Err(format!("host \"{host}\", expected a name or an address without a port"));
        }
        if self.port == Some(0) {
            return Err("port 0, expected 1 to 65535".to_owned());
        }
        let stall = match self.stall {
            Some(text) => parse_duration(&text).map_err(|err| err.to_string())?,
            None => FIRMWARE_STALL,
        };
        if stall.is_zero() || stall > FIRMWARE_STALL_MAX {
            return Err(format!("stall of {stall:?}, expected up to {FIRMWARE_STALL_MAX:?}"));
        }
        Ok(FirmwareAccess {
            allowed: self.allowed,
            handlers,
            host: self.host,
            port: self.port,
            login,
            tls: self.tls.then_some(if self.self_signed { Trust::Any } else { Trust::Known }),
            listen: listen.transpose()?,
            command: self.command.unwrap_or_default(),
            write_community: self.write_community.map(Community),
            stall,
        })
    }
}

/// The handler of this name.
fn handler(name: &str) -> Result<FirmwareHandler, String> {
    FirmwareHandler::parse(name).ok_or_else(|| {
        let all: Vec<_> = FirmwareHandler::ALL.iter().map(|handler| handler.as_str()).collect();
        format!("handler \"{name}\", expected one of {}", all.join(", "))
    })
}

/// A login for FTP, HTTP or a program: some devices have a password and no user.
fn login(user: Option<String>, password: Option<String>) -> Result<Option<Login>, String> {
    let login = match (user, password) {
        (None, None) => return Ok(None),
        (Some(_), None) => return Err("user without a password".to_owned()),
        (user, Some(password)) => Login { user: user.unwrap_or_default(), password },
    };
    // Each stands in one line of its protocol; a colon ends the user (RFC 7617 §2).
    if login.user.contains(':') || (login.user.clone() + &login.password).contains(char::is_control) {
        return Err("user or password has a character in it that it cannot have".to_owned());
    }
    Ok(Some(login))
}
