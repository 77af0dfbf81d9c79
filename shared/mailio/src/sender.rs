//! Sends mails, by whichever way the settings say. Holds at most one connection; keeps it only while it is
//! certainly in step with the server.

use core::time::Duration;

use shared::MailAddress;

use crate::error::SendError;
use crate::login::LoginLimit;
use crate::maildir::deliver;
use crate::net::Peer;
use crate::outgoing::{Outgoing, Sent};
use crate::sendmail;
use crate::settings::MailSettings;
use crate::smtp::session::Session;
use crate::smtp::transaction::later;
use crate::url::{SendUrl, TlsMode};

/// Servers drop idle clients after one to five minutes; a connection older than this is not trusted.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// Sends the mails of one account, one at a time.
pub struct Sender {
    settings: MailSettings,
    // Taken out while in use: a cancelled `send` drops the connection with its future, so replies to its
    // half-sent mail can never be read as answers to the next one (the fault of lettre's pool).
    session: Option<Session>,
    logins: LoginLimit,
}

struct Smtp {
    host: String,
    port: u16,
    tls: TlsMode,
    user: Option<String>,
}

impl Sender {
    /// Keeps the settings; connects when the first mail is sent.
    #[must_use]
    pub fn new(settings: MailSettings) -> Self {
        Self { settings, session: None, logins: LoginLimit::default() }
    }

    /// Hands one mail over: one result per recipient, in their order.
    ///
    /// It may be cancelled (dropped) at any point; whether the mail was taken is then unknown.
    ///
    /// # Errors
    /// No recipient has a result: see [`SendError`], and its `turn` for what to do. After
    /// [`SendError::UnknownOutcome`], send again: receivers ignore repeats.
    pub async fn send(&mut self, mail: &Outgoing) -> Result<Vec<Sent>, SendError> {
        let size = mail.mail_bytes().map_err(|err| SendError::io("reading the attachment's size", err))?;
        let limit_bytes = self.settings.mail_max_bytes;
        if size > limit_bytes {
            let whose = "the setting mail_max_bytes".to_owned();
            return Err(SendError::TooLarge { size_bytes: size, limit_bytes, whose });
        }
        match self.settings.send.clone() {
            SendUrl::Smtp { host, port, tls, user } => {
                self.settings.check_send().map_err(SendError::Settings)?;
                self.send_smtp(&Smtp { host, port, tls, user }, mail, size).await
            }
            SendUrl::Sendmail { program } => {
                sendmail::send(&program, mail, self.settings.timeouts.program).await
            }
            SendUrl::Maildir(path) => Ok(deliver::to_maildir(&path, mail)),
            SendUrl::Spool(path) => Ok(deliver::to_spool(&path, mail)),
        }
    }

    /// Ends the connection politely, if there is one.
    pub async fn close(&mut self) {
        if let Some(session) = self.session.take() {
            session.quit().await;
        }
    }

    /// Tries the way out without sending: connects, secures, logs in. For `doctor`.
    ///
    /// # Errors
    /// As [`Sender::send`].
    pub async fn probe(&mut self) -> Result<String, SendError> {
        match self.settings.send.clone() {
            SendUrl::Smtp { host, port, tls, user } => {
                self.settings.check_send().map_err(SendError::Settings)?;
                let session = self.connect(&Smtp { host, port, tls, user: user.clone() }).await?;
                let login = user.map_or("no login".to_owned(), |u| format!("logged in as {u}"));
                let text = format!("{}, {login}", session.describe(tls));
                session.quit().await;
                Ok(text)
            }
            SendUrl::Sendmail { program } => {
                let what = format!("looking for {}", program.display());
                std::fs::metadata(&program).map_err(|err| SendError::io(what, err))?;
                Ok(format!("program {} is there", program.display()))
            }
            SendUrl::Maildir(path) | SendUrl::Spool(path) => {
                let what = format!("opening folder {}", path.display());
                std::fs::read_dir(&path).map_err(|err| SendError::io(what, err))?;
                Ok(format!("folder {} is there", path.display()))
            }
        }
    }

    async fn send_smtp(&mut self, to: &Smtp, mail: &Outgoing, size: u64) -> Result<Vec<Sent>, SendError> {
        let mut results: Vec<Option<Sent>> = vec![None; mail.to.len()];
        let mut first = true;
        loop {
            let open: Vec<(usize, &MailAddress)> =
                mail.to.iter().enumerate().filter(|(at, _)| matches!(results.get(*at), Some(None))).collect();
            if open.is_empty() {
                break;
            }
            let addresses: Vec<_> = open.iter().map(|(_, a)| *a).collect();
            match self.one_transaction(to, mail, &addresses, size).await {
                Ok(outcomes) => {
                    for ((at, _), outcome) in open.iter().zip(outcomes) {
                        if let Some(slot) = results.get_mut(*at) {
                            *slot = outcome;
                        }
                    }
                }
                Err(err) if first => return Err(err),
                // Some recipients have their result already: that must not be lost.
                Err(err) => {
                    results.iter_mut().filter(|r| r.is_none()).for_each(|r| *r = Some(later(&err)));
                }
            }
            first = false;
        }
        Ok(results.into_iter().flatten().collect())
    }

    async fn one_transaction(
        &mut self,
        to: &Smtp,
        mail: &Outgoing,
        addresses: &[&MailAddress],
        size: u64,
    ) -> Result<Vec<Option<Sent>>, SendError> {
        let (mut session, kept) = match self.usable_session().await {
            Some(session) => (session, true),
            None => (self.connect(to).await?, false),
        };
        check_size(&session, size)?;
        let result = session.transaction(mail, addresses, size).await;
        let result = match result {
            // A kept connection may have died meanwhile. Nothing of the mail was taken, so one new
            // connection is tried; its failure is final.
            Err(SendError::Unreachable(err)) if kept => {
                tracing::debug!(host = %to.host, %err, "kept connection was dead");
                session = self.connect(to).await?;
                check_size(&session, size)?;
                session.transaction(mail, addresses, size).await
            }
            other => other,
        };
        if result.is_ok() {
            self.keep(session);
        }
        result
    }

    async fn usable_session(&mut self) -> Option<Session> {
        let mut session = self.session.take()?;
        let wanted = self.settings.mails_per_connection;
        let most = session.offers.mail_max.unwrap_or(wanted).min(wanted);
        if session.idle_since.elapsed() >= IDLE_MAX || session.has_spoken().await {
            return None;
        }
        if session.mails_count >= most {
            session.quit().await;
            return None;
        }
        Some(session)
    }

    fn keep(&mut self, mut session: Session) {
        session.idle_since = tokio::time::Instant::now();
        self.session = Some(session);
    }

    async fn connect(&mut self, to: &Smtp) -> Result<Session, SendError> {
        if let Some(wait) = self.logins.wait() {
            return Err(SendError::Throttled { host: to.host.clone(), wait });
        }
        let peer = Peer {
            host: &to.host,
            port: to.port,
            ca_file: self.settings.ca_file.as_deref(),
            timeouts: self.settings.timeouts,
            progress: &self.settings.progress,
            traffic: &self.settings.traffic,
        };
        let mut session = Session::open(&peer, to.tls, self.settings.address.domain()).await?;
        if let Some(user) = &to.user {
            let source = &self.settings.secret;
            let secret = source.load().await.map_err(SendError::Secret)?;
            match session.login(user, &secret, source.is_token()).await {
                Ok(()) => self.logins.worked(),
                Err(err) => {
                    if matches!(err, SendError::AuthRefused { .. }) {
                        self.logins.failed();
                    }
                    return Err(err);
                }
            }
        }
        Ok(session)
    }
}

fn check_size(session: &Session, size_bytes: u64) -> Result<(), SendError> {
    match session.offers.size_max_bytes {
        Some(limit_bytes) if size_bytes > limit_bytes => {
            Err(SendError::TooLarge { size_bytes, limit_bytes, whose: session.host.clone() })
        }
        _ => Ok(()),
    }
}
