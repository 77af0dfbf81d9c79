//! Which devices there are and how they are asked: `devices.toml` in the agent's home, mode 0600, because communities
//! and passwords stand in it.
//!
//! ```toml
//! [[device]]
//! name = "mfp-2nd-floor"
//! driver = "snmp"              # snmp | ipp | host | exec
//! address = "192.0.2.17"       # a name or address, with a port if it is not the usual one
//! version = "2c"               # 1 | 2c | 3; default 2c
//! community = "public"         # default
//! timeout = "2s"               # for one request
//! class = "mfp"                # where the device does not say it well
//!
//! [[device]]
//! name = "xerox"
//! driver = "snmp"
//! address = "192.0.2.18"
//! version = "3"
//! user = "mon"
//! auth = "sha256"              # md5 | sha1 | sha224 | sha256 | sha384 | sha512; with auth_password
//! auth_password = "…"
//! privacy = "aes128"           # des | aes128 | aes192 | aes256; with privacy_password
//! privacy_password = "…"
//!
//! [[device]]
//! name = "office-ipp"
//! driver = "ipp"
//! address = "ipps://192.0.2.19/ipp/print"
//! self_signed = true           # any certificate will do: nobody has signed those of printers
//! user = "mon"                 # with password: a login, only for ipps
//! password = "…"
//!
//! [[device]]
//! name = "box"
//! driver = "host"              # the computer that the agent runs on
//! watch_programs = ["acad"]    # whether these run, and since when
//!
//! [[device]]
//! name = "scale"
//! driver = "exec"
//! command = ["/usr/local/bin/scale-counters", "--json"]
//!
//! [device.firmware]            # of the device before it: without this table nobody writes firmware to it
//! allowed = true
//! handlers = ["ftp"]           # by these alone; default: by any
//! host = "192.0.2.17"          # where images go; default: where it is asked
//! port = 21                    # default: what the bundle says, else the handler's usual one
//! user = "admin"               # with password: for FTP, HTTP Basic and programs
//! password = "…"
//! tls = true                   # HTTP over TLS; with self_signed = true any certificate will do
//! listen = "192.0.2.1:69"      # where TFTP is offered; default: port 69 of all addresses
//! command = ["/usr/local/bin/flash-scale"]   # the program of the handler exec
//! write_community = "…"        # restarts it by SNMP, where its firmware needs that
//! stall = "2m"                 # longest time without one byte moving; default
//! ```

mod edit;
mod firmware;

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use shared::device::{DeviceClass, DeviceName};
use shared::error::TomlFault;
use shared::limits::DEVICES_MAX_COUNT;
use shared::time::parse_duration;
use thiserror::Error;
use toml::Spanned;

use crate::ipp::PrinterUrl;
use crate::limits::{HOST_PROGRAM_MAX_BYTES, HOST_PROGRAMS_MAX_COUNT};

pub use edit::{EditError, Entry, with_device, without_device};
pub use firmware::FirmwareAccess;
pub(crate) use firmware::Trust;

/// Time for one request unless the file says otherwise: printers that wake up need a second.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(2);
/// Longest time for one request: a device that needs more would not be asked each minute.
const TIMEOUT_MAX: Duration = Duration::from_secs(30);

/// A device and the way to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its name at this agent.
    pub name: DeviceName,
    /// What it is, where the operator knows better than the device says.
    pub class: Option<DeviceClass>,
    /// The way to it.
    pub access: Access,
    /// Time for one request, or for one run of a program.
    pub timeout: Duration,
    /// Whether and how firmware may be written to it.
    pub firmware: FirmwareAccess,
}

/// The way to a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// SNMP over UDP.
    Snmp(Snmp),
    /// IPP over HTTP or HTTPS.
    Ipp(Ipp),
    /// The box that the agent runs on.
    Host {
        /// Names of programs of which it is told whether they run.
        programs: Vec<String>,
    },
    /// A program that prints an observation as JSON.
    Exec {
        /// The program and its arguments.
        command: Vec<String>,
    },
}

/// How a printer is asked by IPP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ipp {
    /// Where it is.
    pub url: PrinterUrl,
    /// For `ipps`: accept a certificate that nobody we know has signed, as printers have them.
    pub self_signed: bool,
    /// Who asks, where it must be somebody. Only with `ipps`: HTTP Basic shows the password to whoever can read.
    pub login: Option<Login>,
}

/// User and password of HTTP Basic (RFC 7617).
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    pub(crate) user: String,
    pub(crate) password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login")
    }
}

/// How a device is asked by SNMP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snmp {
    /// Name or address, with or without a port.
    pub address: String,
    /// What it asks for.
    pub identity: SnmpIdentity,
}

/// What makes an SNMP device answer.
#[derive(Clone, PartialEq, Eq)]
pub enum SnmpIdentity {
    /// Version 1.
    V1 {
        /// The community.
        community: String,
    },
    /// Version 2c.
    V2c {
        /// The community.
        community: String,
    },
    /// Version 3 (RFC 3414).
    V3 {
        /// The user.
        user: String,
        /// Algorithm and password; without them nothing is authenticated.
        auth: Option<(Auth, String)>,
        /// Algorithm and password; needs `auth`.
        privacy: Option<(Privacy, String)>,
        /// The context, for agents that speak for several devices.
        context: String,
    },
}

impl fmt::Debug for SnmpIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1 { .. } => "V1",
            Self::V2c { .. } => "V2c",
            Self::V3 { .. } => "V3",
        })
    }
}

/// How SNMPv3 messages are authenticated (RFC 3414, RFC 7860).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Auth {
    /// HMAC-MD5-96.
    Md5,
    /// HMAC-SHA-96.
    Sha1,
    /// HMAC-128-SHA-224.
    Sha224,
    /// HMAC-192-SHA-256.
    Sha256,
    /// HMAC-256-SHA-384.
    Sha384,
    /// HMAC-384-SHA-512.
    Sha512,
}

/// How SNMPv3 messages are encrypted (RFC 3414, RFC 3826).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Privacy {
    /// CBC-DES: old devices have nothing else.
    Des,
    /// CFB-AES-128.
    Aes128,
    /// CFB-AES-192, as many makers have it.
    Aes192,
    /// CFB-AES-256, as many makers have it.
    Aes256,
}

/// `devices.toml` that cannot be used.
#[derive(Debug, Error)]
pub enum DevicesError {
    /// Not TOML, or an unknown key.
    #[error("not a list of devices")]
    Toml(#[source] TomlFault),
    /// A device is wrong.
    #[error("line {line}, device \"{device}\": {why}")]
    Device {
        /// Line of the device's head.
        line: usize,
        /// Its name, as written.
        device: String,
        /// What is wrong.
        why: String,
    },
    /// More than an agent can ask.
    #[error("{0} devices, expected at most {DEVICES_MAX_COUNT}")]
    TooMany(usize),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    device: Vec<Spanned<Raw>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Driver {
    Snmp,
    Ipp,
    Host,
    Exec,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    name: String,
    driver: Driver,
    class: Option<String>,
    timeout: Option<String>,
    address: Option<String>,
    version: Option<String>,
    community: Option<String>,
    user: Option<String>,
    password: Option<String>,
    auth: Option<Auth>,
    auth_password: Option<String>,
    privacy: Option<Privacy>,
    privacy_password: Option<String>,
    context: Option<String>,
    self_signed: Option<bool>,
    command: Option<Vec<String>>,
    watch_programs: Option<Vec<String>>,
    firmware: Option<Spanned<firmware::Raw>>,
}

/// Reads `devices.toml`.
///
/// # Errors
/// Not TOML, an unknown key, a device that is wrong or named twice, or too many of them.
pub fn read_devices(text: &str) -> Result<Vec<Device>, DevicesError> {
    Ok(read_with_lines(text)?.into_iter().map(|(_, device)| device).collect())
}

/// The devices, each with the line of its head.
fn read_with_lines(text: &str) -> Result<Vec<(usize, Device)>, DevicesError> {
    let file: File = toml::from_str(text).map_err(|err| DevicesError::Toml(TomlFault::of(text, &err)))?;
    if file.device.len() > DEVICES_MAX_COUNT {
        return Err(DevicesError::TooMany(file.device.len()));
    }
    let mut devices: Vec<(usize, Device)> = Vec::new();
    for raw in file.device {
        let line = line_of(text, &raw);
        let mut raw = raw.into_inner();
        let named = raw.name.clone();
        let fault_at = |line, why| DevicesError::Device { line, device: named.clone(), why };
        let fault = |why: String| fault_at(line, why);
        let firmware = match raw.firmware.take() {
            Some(table) => {
                let line = line_of(text, &table);
                let in_table = |why| fault_at(line, format!("firmware: {why}"));
                table.into_inner().check().map_err(in_table)?
            }
            None => FirmwareAccess::default(),
        };
        let device = Device { firmware, ..raw.check().map_err(fault)? };
        if devices.iter().any(|(_, other)| other.name == device.name) {
            return Err(fault("the name stands twice".to_owned()));
        }
        devices.push((line, device));
    }
    Ok(devices)
}

/// The line that something begins in.
fn line_of<T>(text: &str, what: &Spanned<T>) -> usize {
    let before = text.get(..what.span().start).unwrap_or_default();
    before.matches('\n').count().saturating_add(1)
}

impl Raw {
    fn check(mut self) -> Result<Device, String> {
        let name = DeviceName::parse(&self.name).map_err(|err| err.to_string())?;
        let class = self.class.take().map(|text| class_of(&text)).transpose()?;
        let timeout = match self.timeout.take() {
            Some(text) => parse_duration(&text).map_err(|err| err.to_string())?,
            None => TIMEOUT_DEFAULT,
        };
        if timeout.is_zero() || timeout > TIMEOUT_MAX {
            return Err(format!("timeout of {timeout:?}, expected up to {TIMEOUT_MAX:?}"));
        }
        let access = match self.driver {
            Driver::Snmp => Access::Snmp(self.snmp()?),
            Driver::Ipp => Access::Ipp(self.ipp()?),
            Driver::Host => Access::Host { programs: self.programs()? },
            Driver::Exec => {
                let command = self.command.take().unwrap_or_default();
                if command.is_empty() {
                    return Err("command is missing: the program and its arguments".to_owned());
                }
                Access::Exec { command }
            }
        };
        self.nothing_left()?;
        Ok(Device { name, class, access, timeout, firmware: FirmwareAccess::default() })
    }

    fn take_address(&mut self) -> Result<String, String> {
        self.address.take().filter(|a| !a.is_empty()).ok_or_else(|| "address is missing".to_owned())
    }

    fn programs(&mut self) -> Result<Vec<String>, String> {
        let programs = self.watch_programs.take().unwrap_or_default();
        if programs.len() > HOST_PROGRAMS_MAX_COUNT {
            return Err(format!(
                "{} programs to watch, expected at most {HOST_PROGRAMS_MAX_COUNT}",
                programs.len()
            ));
        }
        let is_name = |name: &String| {
            let bad = |c: char| c == '/' || c.is_control();
            (1..=HOST_PROGRAM_MAX_BYTES).contains(&name.len()) && !name.contains(bad)
        };
        match programs.iter().find(|name| !is_name(name)) {
            Some(name) => {
                Err(format!("watch_programs has \"{name}\", expected the name of a program's file"))
            }
            None => Ok(programs),
        }
    }

    fn ipp(&mut self) -> Result<Ipp, String> {
        let url = PrinterUrl::parse(&self.take_address()?)?;
        let login = match (self.user.take(), self.password.take()) {
            (None, None) => None,
            // RFC 7617 §2: a colon ends the user, and both stand in one line.
            (Some(user), _) if user.contains(':') => return Err("user has a colon in it".to_owned()),
            (Some(user), Some(password)) if (user.clone() + &password).contains(char::is_control) => {
                return Err("user or password has a character in it that nobody can type".to_owned());
            }
            (Some(user), Some(password)) => Some(Login { user, password }),
            _ => return Err("user and password belong together".to_owned()),
        };
        if login.is_some() && !url.is_tls() {
            return Err(
                "a login needs ipps://: over ipp:// everybody on the way reads the password".to_owned()
            );
        }
        Ok(Ipp { url, self_signed: self.self_signed.take().unwrap_or(false), login })
    }

    fn snmp(&mut self) -> Result<Snmp, String> {
        let address = self.take_address()?;
        let version = self.version.take();
        let version = version.as_deref().unwrap_or("2c");
        let community = self.community.take();
        let identity = match version {
            "1" => SnmpIdentity::V1 { community: community.unwrap_or_else(|| "public".to_owned()) },
            "2c" => SnmpIdentity::V2c { community: community.unwrap_or_else(|| "public".to_owned()) },
            "3" if community.is_some() => return Err("community belongs to versions 1 and 2c".to_owned()),
            "3" => {
                let auth = both(self.auth.take(), self.auth_password.take(), "auth")?;
                let privacy = both(self.privacy.take(), self.privacy_password.take(), "privacy")?;
                if privacy.is_some() && auth.is_none() {
                    return Err("privacy needs auth".to_owned());
                }
                SnmpIdentity::V3 {
                    user: self.user.take().ok_or("user is missing")?,
                    auth,
                    privacy,
                    context: self.context.take().unwrap_or_default(),
                }
            }
            other => return Err(format!("version \"{other}\", expected \"1\", \"2c\" or \"3\"")),
        };
        Ok(Snmp { address, identity })
    }

    /// A setting that the driver does not have is a slip of the pen.
    fn nothing_left(&self) -> Result<(), String> {
        let left = [
            ("address", self.address.is_some()),
            ("version", self.version.is_some()),
            ("community", self.community.is_some()),
            ("user", self.user.is_some()),
            ("password", self.password.is_some()),
            ("auth", self.auth.is_some()),
            ("auth_password", self.auth_password.is_some()),
            ("privacy", self.privacy.is_some()),
            ("privacy_password", self.privacy_password.is_some()),
            ("context", self.context.is_some()),
            ("self_signed", self.self_signed.is_some()),
            ("command", self.command.is_some()),
            ("watch_programs", self.watch_programs.is_some()),
        ];
        match left.iter().find(|(_, is_set)| *is_set) {
            Some((key, _)) => Err(format!("{key} does not belong to this driver or version")),
            None => Ok(()),
        }
    }
}

/// RFC 3414 §11.2: shorter passwords are not allowed.
const PASSWORD_MIN_CHARS: usize = 8;

fn both<T>(kind: Option<T>, password: Option<String>, what: &str) -> Result<Option<(T, String)>, String> {
    match (kind, password) {
        (None, None) => Ok(None),
        (Some(_), Some(password)) if password.chars().count() < PASSWORD_MIN_CHARS => {
            Err(format!("{what}_password is shorter than {PASSWORD_MIN_CHARS} characters"))
        }
        (Some(kind), Some(password)) => Ok(Some((kind, password))),
        _ => Err(format!("{what} and {what}_password belong together")),
    }
}

fn class_of(text: &str) -> Result<DeviceClass, String> {
    DeviceClass::parse(text).ok_or_else(|| {
        let all: Vec<_> = DeviceClass::ALL.iter().map(|class| class.as_str()).collect();
        format!("class \"{text}\", expected one of {}", all.join(", "))
    })
}

#[cfg(test)]
mod tests;
