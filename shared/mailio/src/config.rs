//! The part of a TOML configuration that manager and agent have in common: the mail account, and errors that
//! name file and setting. Reads no files; the programs own their formats.

use core::time::Duration;
use std::io;
use std::path::{Path, PathBuf};

use shared::MailAddress;
use shared::error::{TomlFault, chain};
use shared::time::parse_duration;
use thiserror::Error;

use crate::secret::SecretSource;
use crate::settings::{JunkPolicy, MailSettings};
use crate::url::{ReceiveUrl, SendUrl};

/// A configuration that cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// Not readable.
    #[error("cannot read {}", .0.display())]
    Io(PathBuf, #[source] io::Error),
    /// Not TOML, or an unknown or missing key.
    #[error("{}", .0.display())]
    Toml(PathBuf, #[source] TomlFault),
    /// A value that is not allowed.
    #[error("{}: setting \"{setting}\": {why}", file.display())]
    Value {
        /// The file.
        file: PathBuf,
        /// The key.
        setting: &'static str,
        /// What was expected and found.
        why: String,
    },
}

/// The settings of a mail account as they stand in a file.
#[derive(Clone, Debug)]
pub struct Account {
    /// The own address.
    pub address: String,
    /// Where mail goes out.
    pub send: String,
    /// Where mail comes in.
    pub receive: String,
    /// The only authorities to trust.
    pub ca: Option<PathBuf>,
    /// A file with the password.
    pub password_file: Option<PathBuf>,
    /// An environment variable with the password.
    pub password_env: Option<String>,
    /// A systemd credential with the password.
    pub password_credential: Option<String>,
    /// A program that prints an access token.
    pub token_command: Option<Vec<String>>,
    /// `none` allows connections without TLS to other hosts.
    pub tls: Option<String>,
    /// `delete` or `aside`.
    pub junk: Option<String>,
    /// False: connections are not compressed, whatever the server can.
    pub compress: Option<bool>,
    /// False: only polls, whatever the server can.
    pub idle: Option<bool>,
}

/// Turns a value's fault into one that names the file and the setting.
#[derive(Clone, Copy, Debug)]
pub struct Values<'f> {
    file: &'f Path,
}

impl<'f> Values<'f> {
    /// Values of this file.
    #[must_use]
    pub fn of(file: &'f Path) -> Self {
        Self { file }
    }

    /// The error for a setting.
    #[must_use]
    pub fn bad(&self, setting: &'static str, why: String) -> ConfigError {
        ConfigError::Value { file: self.file.to_owned(), setting, why }
    }

    /// The value, or the error for its setting.
    ///
    /// # Errors
    /// `result`'s.
    pub fn value<T, E: core::error::Error>(
        &self,
        setting: &'static str,
        result: Result<T, E>,
    ) -> Result<T, ConfigError> {
        result.map_err(|err| self.bad(setting, chain(&err)))
    }

    /// A duration of more than zero.
    ///
    /// # Errors
    /// Not a duration, or zero.
    pub fn duration(
        &self,
        setting: &'static str,
        text: Option<&str>,
        default: Duration,
    ) -> Result<Duration, ConfigError> {
        let Some(text) = text else { return Ok(default) };
        let found = self.value(setting, parse_duration(text))?;
        if found.is_zero() { Err(self.bad(setting, "expected more than zero".to_owned())) } else { Ok(found) }
    }

    /// The account's settings, with `junk` for what it says nothing of.
    ///
    /// # Errors
    /// A value that is not allowed, or a connection without TLS that would leave this machine.
    pub fn mail(&self, account: Account, junk: JunkPolicy) -> Result<MailSettings, ConfigError> {
        let mut mail = MailSettings::new(
            self.value("address", MailAddress::parse(&account.address))?,
            self.value("send", SendUrl::parse(&account.send))?,
            self.value("receive", ReceiveUrl::parse(&account.receive))?,
        );
        mail.tls_none_allowed = match account.tls.as_deref() {
            None => false,
            Some("none") => true,
            Some(other) => {
                return Err(self.bad("tls", format!("expected \"none\" or nothing, found \"{other}\"")));
            }
        };
        mail.junk = match account.junk.as_deref() {
            None => junk,
            Some("delete") => JunkPolicy::Delete,
            Some("aside") => JunkPolicy::Aside,
            Some(other) => {
                return Err(self.bad("junk", format!("expected \"delete\" or \"aside\", found \"{other}\"")));
            }
        };
        mail.extensions.compress = account.compress.unwrap_or(true);
        mail.extensions.idle = account.idle.unwrap_or(true);
        mail.ca_file = account.ca;
        let mut secrets = [
            account.password_file.map(SecretSource::File),
            account.password_env.map(SecretSource::Env),
            account.password_credential.map(SecretSource::Credential),
            account.token_command.map(SecretSource::TokenCommand),
        ]
        .into_iter()
        .flatten();
        mail.secret = secrets.next().unwrap_or_default();
        if secrets.next().is_some() {
            let why = "expected only one of password_file, password_env, password_credential, token_command";
            return Err(self.bad("password_file", why.to_owned()));
        }
        self.value("send or receive", mail.check())?;
        Ok(mail)
    }
}
