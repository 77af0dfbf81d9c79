//! An IMAP folder as a [`crate::Mailbox`] sees it: connects when needed, keeps the connection while it is in
//! step, and gets past single mails that the server cannot give out.

use core::time::Duration;

use tokio::time::Instant;

use crate::error::{ContentError, FetchError, MailError};
use crate::faults::{Faults, may_be_one_mail};
use crate::imap::ahead::Ahead;
use crate::imap::folder::{BODY_WINDOW_BYTES, Row, windows};
use crate::imap::idle::Idling;
use crate::imap::restless::{Restless, Seen};
use crate::imap::session::Session;
use crate::login::LoginLimit;
use crate::mailbox::{Found, MailKey};
use crate::mime::header::Headers;
use crate::net::{Peer, limited};
use crate::settings::{MailSettings, Quiet};
use crate::url::TlsMode;

/// Mails listed by one command; what Delta Chat uses.
const WINDOW: u32 = 500;

/// Reconnects within one listing.
const LOSSES_MAX: u8 = 6;

/// A kept connection older than this is not used: routers forget it without a word, and the first command
/// would then wait for its whole limit.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// Where the folder is.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: TlsMode,
    pub(crate) user: String,
    pub(crate) folder: String,
}

/// The folder and what is known about it.
pub(crate) struct Inbox {
    place: Place,
    // Taken out while in use, so that a cancelled call drops it.
    session: Option<(Session, Instant)>,
    logins: LoginLimit,
    faults: Faults<(u32, u32)>,
    ahead: Ahead,
    /// The session, while it listens for new mail.
    idling: Option<Idling>,
    restless: Restless,
    /// What a connection that listens moves is no sign of work.
    listens: Quiet,
}

impl Inbox {
    pub(crate) fn new(place: Place) -> Self {
        Self {
            place,
            session: None,
            logins: LoginLimit::default(),
            faults: Faults::new(),
            ahead: Ahead::default(),
            idling: None,
            restless: Restless::default(),
            listens: Quiet::default(),
        }
    }

    async fn kept(&mut self) -> Option<Session> {
        self.awake().await;
        let (session, since) = self.session.take()?;
        (since.elapsed() < IDLE_MAX).then_some(session)
    }

    /// Stops listening.
    async fn awake(&mut self) {
        if let Some(idling) = self.idling.take() {
            self.session = idling.end().await;
        }
        self.listens.set(false);
    }

    /// Begins to listen for new mail on the connection that the last look has left. False if there is none, or its
    /// server cannot tell.
    pub(crate) fn listen(&mut self, settings: &MailSettings) -> bool {
        if self.idling.is_none() {
            let able =
                |(session, since): &mut (Session, Instant)| session.can("IDLE") && since.elapsed() < IDLE_MAX;
            let Some((session, _)) = self.session.take_if(able) else { return false };
            self.listens.set(true);
            let (folder, known) = (self.place.folder.clone(), self.restless.seen.exists);
            self.idling = Some(Idling::begin(session, folder, known, settings.timeouts));
        }
        true
    }

    /// Completes when it is time to look; never while nobody listens. May be dropped at any point.
    pub(crate) async fn news(&mut self) {
        match &mut self.idling {
            Some(idling) => idling.rung().await,
            None => core::future::pending().await,
        }
        tokio::time::sleep_until(self.restless.rung()).await;
    }

    /// A session whose folder was just selected.
    async fn fresh(&mut self, settings: &MailSettings) -> Result<Session, MailError> {
        if let Some(mut session) = self.kept().await {
            // A kept connection may have died, or be out of order: the new one's error counts.
            if session.select(&self.place.folder).await.is_ok() {
                return Ok(session);
            }
        }
        self.connect(settings).await
    }

    async fn connect(&mut self, settings: &MailSettings) -> Result<Session, MailError> {
        settings.check_receive().map_err(MailError::Settings)?;
        let place = &self.place;
        if let Some(wait) = self.logins.wait() {
            return Err(MailError::Throttled { host: place.host.clone(), wait });
        }
        let peer = Peer {
            host: &place.host,
            port: place.port,
            ca_file: settings.ca_file.as_deref(),
            timeouts: settings.timeouts,
            progress: &settings.progress.unless(&self.listens),
            traffic: &settings.traffic,
        };
        let mut session = Session::open(&peer, place.tls).await?;
        let secret = settings.secret.load().await.map_err(MailError::Secret)?;
        match session.login(&place.user, &secret, settings.secret.is_token()).await {
            Ok(()) => self.logins.worked(),
            Err(err) => {
                if matches!(err, MailError::AuthRefused { .. }) {
                    self.logins.failed();
                }
                return Err(err);
            }
        }
        if settings.extensions.compress {
            session = session.compress(settings.timeouts.command).await?;
        }
        session.select(&place.folder).await?;
        Ok(session)
    }

    /// The oldest mails, at most `max`.
    pub(crate) async fn look(
        &mut self,
        settings: &MailSettings,
        max: usize,
    ) -> Result<Vec<Found>, MailError> {
        self.ahead.forget();
        let mut session = self.fresh(settings).await?;
        let validity = session.uid_validity;
        self.restless.looked(Seen { exists: session.exists, uid_next: session.uid_next });
        let most = u32::try_from(max).unwrap_or(u32::MAX).clamp(1, WINDOW);
        let (mut found, mut from, mut step) = (Vec::new(), 1u32, most);
        let (mut losses, mut first_error) = (0u8, None);
        while from <= session.exists && found.len() < max {
            let to = from.saturating_add(step.saturating_sub(1)).min(session.exists);
            match self.window(&mut session, from, to).await {
                Ok(rows) => {
                    found.extend(rows.iter().filter_map(|row| self.found(validity, row)));
                    from = to.saturating_add(1);
                    step = step.saturating_mul(2).min(most);
                }
                Err(err) if losses < LOSSES_MAX && may_be_one_mail(&err) => {
                    tracing::debug!(host = %self.place.host, from, to, %err, "listing failed, narrowing down");
                    losses = losses.saturating_add(1);
                    session = self.connect(settings).await?;
                    if session.uid_validity != validity {
                        return Err(err);
                    }
                    if from == to {
                        let uids = session.uids(from, to).await?;
                        uids.values().for_each(|uid| self.faults.note((validity, *uid)));
                        from = to.saturating_add(1);
                    } else {
                        step = to.saturating_sub(from).saturating_add(8) / 8;
                    }
                    first_error = first_error.or(Some(err));
                }
                Err(err) => return Err(err),
            }
        }
        // If nothing at all could be listed, that is no empty mailbox.
        match first_error {
            Some(err) if found.is_empty() => Err(err),
            _ => {
                self.session = Some((session, Instant::now()));
                found.truncate(max);
                Ok(found)
            }
        }
    }

    async fn window(&mut self, session: &mut Session, from: u32, to: u32) -> Result<Vec<Row>, MailError> {
        let validity = session.uid_validity;
        if !self.faults.passes_over_any(|(v, _)| *v == validity) {
            return session.list(&(from..=to).collect::<Vec<_>>()).await;
        }
        let uids = session.uids(from, to).await?;
        let seqs: Vec<u32> = uids
            .iter()
            .filter(|(_, uid)| !self.faults.passes_over(&(validity, **uid)))
            .map(|(seq, _)| *seq)
            .collect();
        if seqs.is_empty() { Ok(Vec::new()) } else { session.list(&seqs).await }
    }

    fn found(&mut self, validity: u32, row: &Row) -> Option<Found> {
        let Some(block) = &row.headers else {
            self.faults.note((validity, row.uid));
            return None;
        };
        let headers = Headers::parse(block).unwrap_or_default();
        Some(Found::read(MailKey::uid(validity, row.uid), row.size_bytes, &headers))
    }

    /// Reads small ones of these mails by few commands, so that [`Inbox::read`] has them at hand. Whatever goes wrong shows
    /// when they are read one by one.
    pub(crate) async fn read_ahead(&mut self, mails: &[(&MailKey, u64)]) {
        self.ahead.forget();
        let Some(mut session) = self.kept().await else { return };
        match self.ahead.fill(&mut session, mails).await {
            Ok(()) => self.session = Some((session, Instant::now())),
            Err(err) => tracing::debug!(host = %self.place.host, %err, "reading ahead failed"),
        }
    }

    /// Reads a mail in windows; `push` returns false when it has enough.
    pub(crate) async fn read(
        &mut self,
        settings: &MailSettings,
        key: &MailKey,
        size_max_bytes: u64,
        push: &mut (dyn FnMut(&[u8]) -> Result<bool, FetchError> + Send),
    ) -> Result<(), FetchError> {
        let (validity, uid) = key.as_uid()?;
        if let Some(mail) = self.ahead.take((validity, uid)) {
            return push(&mail).map(drop);
        }
        let (mut session, size) = self.sized(settings, validity, uid).await?;
        if size > size_max_bytes {
            self.session = Some((session, Instant::now()));
            return Err(ContentError::TooLarge { limit_bytes: size_max_bytes }.into());
        }
        let limit = mail_limit(settings.timeouts.command, size);
        let reading = windows(&mut session, uid, size, size_max_bytes, push);
        // A server that gives a byte for each window keeps every other limit.
        let done = match limited(&self.place.host, "mail", limit, reading).await {
            Ok(done) => done,
            Err(late) => Err(MailError::from(late).into()),
        };
        match &done {
            Err(FetchError::Transport(_)) => self.faults.note((validity, uid)),
            // The session is in step: each window was read to its end.
            Ok(()) | Err(FetchError::Gone | FetchError::Content(_) | FetchError::Output(_)) => {
                self.session = Some((session, Instant::now()));
            }
        }
        done
    }

    async fn sized(
        &mut self,
        settings: &MailSettings,
        validity: u32,
        uid: u32,
    ) -> Result<(Session, u64), FetchError> {
        let (mut session, kept) = match self.kept().await {
            Some(session) => (session, true),
            None => (self.connect(settings).await?, false),
        };
        if session.uid_validity != validity {
            return Err(self.renumbered(validity, session));
        }
        let size = match session.size(uid).await {
            Err(MailError::Unreachable(_)) if kept => {
                session = self.connect(settings).await?;
                if session.uid_validity != validity {
                    return Err(self.renumbered(validity, session));
                }
                session.size(uid).await?
            }
            other => other?,
        };
        match size {
            Some(size) => Ok((session, size)),
            None => {
                self.session = Some((session, Instant::now()));
                Err(FetchError::Gone)
            }
        }
    }

    fn renumbered(&mut self, expected: u32, session: Session) -> FetchError {
        let found = session.uid_validity;
        self.session = Some((session, Instant::now()));
        MailError::Renumbered { host: self.place.host.clone(), expected, found }.into()
    }

    /// Deletes some mails and moves others to `junk`.
    pub(crate) async fn dispose(
        &mut self,
        settings: &MailSettings,
        delete: &[&MailKey],
        aside: &[&MailKey],
        junk: &str,
    ) -> Result<(), MailError> {
        let keys = |keys: &[&MailKey]| keys.iter().map(|k| k.as_uid()).collect::<Result<Vec<_>, _>>();
        let (delete, aside) = (keys(delete)?, keys(aside)?);
        let mut session = self.fresh(settings).await?;
        let found = session.uid_validity;
        if let Some((expected, _)) = delete.iter().chain(&aside).find(|(validity, _)| *validity != found) {
            let expected = *expected;
            self.session = Some((session, Instant::now()));
            return Err(MailError::Renumbered { host: self.place.host.clone(), expected, found });
        }
        let uids = |keys: &[(u32, u32)]| keys.iter().map(|(_, uid)| *uid).collect::<Vec<_>>();
        if !aside.is_empty() {
            session.move_to(&uids(&aside), junk).await?;
        }
        session.delete(&uids(&delete)).await?;
        self.restless.removed(delete.len().saturating_add(aside.len()));
        for key in delete.iter().chain(&aside) {
            self.faults.forget(key);
        }
        self.session = Some((session, Instant::now()));
        Ok(())
    }

    /// Connects and describes what is there.
    pub(crate) async fn probe(&mut self, settings: &MailSettings) -> Result<String, MailError> {
        let session = self.fresh(settings).await?;
        let Place { host, user, folder, .. } = &self.place;
        let compressed = if session.compressed { ", compressed" } else { "" };
        let text = format!("{host}: logged in as {user}, {} mails in {folder}{compressed}", session.exists);
        self.session = Some((session, Instant::now()));
        Ok(text)
    }

    pub(crate) async fn close(&mut self) {
        self.awake().await;
        if let Some((session, _)) = self.session.take() {
            session.logout().await;
        }
    }
}

/// How long a whole mail may take: one limit for each window, and two to begin and end with.
fn mail_limit(command: Duration, size: u64) -> Duration {
    let windows = size.div_ceil(BODY_WINDOW_BYTES).saturating_add(2);
    command.saturating_mul(u32::try_from(windows).unwrap_or(u32::MAX))
}
