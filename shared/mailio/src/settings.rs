//! What a caller configures for one mail account. Plain data with defaults; reads no files itself.

use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::path::PathBuf;
use std::sync::Arc;

use shared::MailAddress;
use shared::limits::MAIL_MAX_DEFAULT_BYTES;
use thiserror::Error;

use crate::secret::SecretSource;
use crate::traffic::Traffic;
use crate::url::{ReceiveUrl, SendUrl, TlsMode};

/// Exim queues what comes after the tenth mail of a connection, for up to 15 minutes (chatmail core #3490).
pub const MAILS_PER_CONNECTION_DEFAULT: usize = 10;

/// One account: where its mail goes out and comes in.
#[derive(Clone, Debug)]
pub struct MailSettings {
    /// The own address.
    pub address: MailAddress,
    /// Where mail goes out.
    pub send: SendUrl,
    /// Where mail comes in.
    pub receive: ReceiveUrl,
    /// A PEM file: only certificates of the authorities in it are trusted. Without it, the system's.
    pub ca_file: Option<PathBuf>,
    /// Where the password comes from.
    pub secret: SecretSource,
    /// Allows connections without TLS to hosts other than loopback.
    pub tls_none_allowed: bool,
    /// Largest mail sent, in bytes as composed (headers and base64 included).
    pub mail_max_bytes: u64,
    /// Limits of every wait.
    pub timeouts: Timeouts,
    /// What happens to mail that is disposed of as junk.
    pub junk: JunkPolicy,
    /// Who is told that a connection moves bytes.
    pub progress: Progress,
    /// Counts the bytes of all connections.
    pub traffic: Traffic,
    /// Mails sent over one connection, unless the server says less by LIMITS MAILMAX (RFC 9422).
    pub mails_per_connection: usize,
    /// What is used of IMAP where the server offers it.
    pub extensions: Extensions,
}

/// Extensions of IMAP, which are used where the server offers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extensions {
    /// COMPRESS (RFC 4978): a mail's base64 crosses the line without its third more, for some CPU at both ends.
    pub compress: bool,
    /// IDLE (RFC 2177): the server tells of new mail.
    pub idle: bool,
}

impl Default for Extensions {
    fn default() -> Self {
        Self { compress: true, idle: true }
    }
}

/// Is told whenever a connection to a mail server has moved bytes: whoever watches over the caller can then
/// tell a slow line, on which one mail takes hours, from a hang.
#[derive(Clone, Default)]
pub struct Progress(Option<Arc<dyn Fn() + Send + Sync>>);

impl Progress {
    /// Tells `told`, which is called for each piece and must not take long.
    #[must_use]
    pub fn to(told: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(told)))
    }

    pub(crate) fn moved(&self) {
        if let Some(told) = &self.0 {
            told();
        }
    }

    /// The same, but silent while `quiet` says so.
    pub(crate) fn unless(&self, quiet: &Quiet) -> Self {
        let (told, quiet) = (self.clone(), quiet.clone());
        Self::to(move || {
            if !quiet.0.load(Ordering::Relaxed) {
                told.moved();
            }
        })
    }
}

/// A switch that silences a [`Progress`]: a word of a server to one who merely waits is no step of his work, and must
/// not shorten the time for which he has said that he will rest.
#[derive(Clone, Debug, Default)]
pub(crate) struct Quiet(Arc<AtomicBool>);

impl Quiet {
    pub(crate) fn set(&self, quiet: bool) {
        self.0.store(quiet, Ordering::Relaxed);
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Progress(told)" } else { "Progress(untold)" })
    }
}

/// What happens to junk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum JunkPolicy {
    /// It is deleted.
    Delete,
    /// It is moved to the folder `mailfleet-junk`. POP3 knows no folders: there it stays, and is passed over.
    #[default]
    Aside,
}

/// How long each step may take.
///
/// The defaults follow RFC 5321 §4.5.3.2, whose minima are this long because servers that scan mail really
/// take minutes: a 2 MB mail's last reply once took 3 min 38 s (chatmail core #1383).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Name lookup and TCP connect.
    pub connect: Duration,
    /// TLS handshake.
    pub tls: Duration,
    /// Until the server's greeting.
    pub greeting: Duration,
    /// From a command to its whole reply; for IMAP and POP3, from one response or piece to the next, and for each
    /// 256 KiB of the whole.
    pub command: Duration,
    /// Until the network took one block (at most 64 KiB) of a mail.
    pub block: Duration,
    /// From a mail's end to the server's verdict; one second per 64 KiB of mail is added.
    pub after_dot: Duration,
    /// How long a `sendmail` program may run.
    pub program: Duration,
    /// How long one IDLE lasts before it is begun anew. Servers end it after 30 minutes (RFC 2177), some after 5, and
    /// routers forget a silent connection; so long also goes one unnoticed that is dead. 5 minutes as in chatmail core.
    pub idle: Duration,
}

impl Timeouts {
    /// The same limit for every step; tests use short ones.
    #[must_use]
    pub fn all(limit: Duration) -> Self {
        Self {
            connect: limit,
            tls: limit,
            greeting: limit,
            command: limit,
            block: limit,
            after_dot: limit,
            program: limit,
            idle: limit,
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            tls: Duration::from_secs(60),
            greeting: Duration::from_secs(300),
            command: Duration::from_secs(300),
            block: Duration::from_secs(180),
            after_dot: Duration::from_secs(600),
            program: Duration::from_secs(600),
            idle: Duration::from_secs(300),
        }
    }
}

/// What a server that scans mails gets on top for a mail of this size.
pub(crate) fn after_dot_extra(mail_bytes: u64) -> Duration {
    Duration::from_secs(mail_bytes / (64 * 1024))
}

/// Settings that cannot be used together.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SettingsError {
    /// Mail and password would cross a network in clear.
    #[error(
        "{url} has no TLS and {host} is not this machine: expected smtps://, smtp+starttls://, imaps://, \
         imap+starttls://, pop3s:// or pop3+starttls:// (or the setting that allows connections without TLS)"
    )]
    NoTls {
        /// The URL.
        url: String,
        /// Its host.
        host: String,
    },
}

impl MailSettings {
    /// Settings with defaults for everything but the three that have none.
    #[must_use]
    pub fn new(address: MailAddress, send: SendUrl, receive: ReceiveUrl) -> Self {
        Self {
            address,
            send,
            receive,
            ca_file: None,
            secret: SecretSource::None,
            tls_none_allowed: false,
            mail_max_bytes: MAIL_MAX_DEFAULT_BYTES,
            timeouts: Timeouts::default(),
            junk: JunkPolicy::default(),
            progress: Progress::default(),
            traffic: Traffic::default(),
            mails_per_connection: MAILS_PER_CONNECTION_DEFAULT,
            extensions: Extensions::default(),
        }
    }

    /// The longest time in which a call may move no byte and yet be in order, by the limits of its waits.
    #[must_use]
    pub fn longest_silence(&self) -> Duration {
        let t = &self.timeouts;
        let verdict = t.after_dot.saturating_add(after_dot_extra(self.mail_max_bytes));
        // A step that fails in silence may be followed by another one (a new connection after a dead one) and
        // by a token program.
        let step = [t.connect, t.tls, t.greeting, t.command, t.block, t.program, verdict];
        step.into_iter().max().unwrap_or_default().saturating_mul(3)
    }

    /// Checks what parsing one URL cannot see. `Sender` and `Mailbox` check it again for their direction
    /// before they connect.
    ///
    /// # Errors
    /// A connection without TLS that would leave this machine.
    pub fn check(&self) -> Result<(), SettingsError> {
        self.check_send()?;
        self.check_receive()
    }

    pub(crate) fn check_send(&self) -> Result<(), SettingsError> {
        match &self.send {
            SendUrl::Smtp { host, tls, .. } => self.check_tls(host, *tls, &self.send.to_string()),
            SendUrl::Sendmail { .. } | SendUrl::Maildir(_) | SendUrl::Spool(_) => Ok(()),
        }
    }

    pub(crate) fn check_receive(&self) -> Result<(), SettingsError> {
        match &self.receive {
            ReceiveUrl::Imap { host, tls, .. } | ReceiveUrl::Pop3 { host, tls, .. } => {
                self.check_tls(host, *tls, &self.receive.to_string())
            }
            ReceiveUrl::Maildir(_) | ReceiveUrl::Spool(_) => Ok(()),
        }
    }

    fn check_tls(&self, host: &str, tls: TlsMode, url: &str) -> Result<(), SettingsError> {
        if tls != TlsMode::None || self.tls_none_allowed || is_loopback(host) {
            return Ok(());
        }
        Err(SettingsError::NoTls { url: url.to_owned(), host: host.to_owned() })
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(send: &str) -> MailSettings {
        MailSettings::new(
            MailAddress::parse("box@site.test").unwrap(),
            SendUrl::parse(send).unwrap(),
            ReceiveUrl::Maildir("/x".into()),
        )
    }

    #[test]
    fn without_tls_only_this_machine_is_reached() {
        for fine in ["smtp://127.0.0.1", "smtp://[::1]", "smtp://localhost:25", "smtps://h", "maildir:/x"] {
            assert_eq!(settings(fine).check(), Ok(()), "{fine}");
        }
        for leak in ["smtp://mail.test", "smtp://localhost.evil.test", "smtp://10.0.0.1"] {
            let err = settings(leak).check().unwrap_err().to_string();
            assert!(err.contains("has no TLS"), "{err}");
        }
        let allowed = MailSettings { tls_none_allowed: true, ..settings("smtp://mail.test") };
        assert_eq!(allowed.check(), Ok(()));
    }
}
