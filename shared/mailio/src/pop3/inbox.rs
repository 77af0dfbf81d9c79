//! A POP3 mailbox as a [`crate::Mailbox`] sees it: each look is a new session, mails are known by their unique IDs, and
//! what was disposed of is deleted when the session ends, or in a later one if it was lost.

mod look;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use crate::error::{ContentError, FetchError, MailError};
use crate::faults::Faults;
use crate::login::LoginLimit;
use crate::mailbox::MailKey;
use crate::net::Peer;
use crate::pop3::open::{Mail, Open};
use crate::pop3::session::{Ended, Session};
use crate::settings::MailSettings;
use crate::url::TlsMode;

/// A kept session older than this is not used: routers forget it without a word.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// Mails that are to be deleted, and mails that stay as junk, whose IDs are remembered: some 700 kB each at most.
const REMEMBERED_MAX_COUNT: usize = 10_000;

/// Goodbye to a server that has nothing to delete.
const GOODBYE_LIMIT: Duration = Duration::from_secs(5);

/// Where the mailbox is.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: TlsMode,
    pub(crate) user: String,
}

/// The mailbox and what is known about it.
pub(crate) struct Inbox {
    place: Place,
    // Taken out while in use, so that a cancelled call drops it.
    open: Option<Open>,
    logins: LoginLimit,
    faults: Faults<String>,
    /// Shown by the last look.
    shown: BTreeSet<String>,
    /// To be deleted, which no QUIT has confirmed yet.
    doomed: BTreeSet<String>,
    /// Junk that stays.
    aside: BTreeSet<String>,
}

impl Inbox {
    pub(crate) fn new(place: Place) -> Self {
        Self {
            place,
            open: None,
            logins: LoginLimit::default(),
            faults: Faults::new(),
            shown: BTreeSet::new(),
            doomed: BTreeSet::new(),
            aside: BTreeSet::new(),
        }
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
            progress: &settings.progress,
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
        if session.capabilities.is_some() {
            for what in ["UIDL", "TOP"] {
                if !session.can(what) {
                    return Err(MailError::Unsupported { host: place.host.clone(), what });
                }
            }
        }
        Ok(session)
    }

    /// A new session that knows at most `max` of the mails that `wanted` chooses, and has deleted what earlier ones
    /// should have.
    async fn enter(
        &mut self,
        settings: &MailSettings,
        max: usize,
        wanted: &(dyn Fn(&Self, &str) -> bool + Sync),
    ) -> Result<Open, MailError> {
        let mut session = self.connect(settings).await?;
        let (mut chosen, mut doomed, mut count) = (BTreeMap::new(), BTreeMap::new(), 0u64);
        let mut choose = |number, id: &str| {
            count = count.saturating_add(1);
            // Servers may give copies of a mail one ID: the second shows when the first is gone.
            if self.doomed.contains(id) {
                doomed.entry(id.to_owned()).or_insert(number);
            } else if chosen.len() < max && !chosen.contains_key(id) && wanted(self, id) {
                chosen.insert(id.to_owned(), Mail { number, size_bytes: 0 });
            }
        };
        match session.list("UIDL", &mut choose).await {
            Err(MailError::Refused { host, .. }) if session.capabilities.is_none() => {
                return Err(MailError::Unsupported { host, what: "UIDL" });
            }
            other => other?,
        }
        if !chosen.is_empty() {
            let numbers: BTreeMap<u32, String> =
                chosen.iter().map(|(id, mail): (&String, &Mail)| (mail.number, id.clone())).collect();
            session
                .list("LIST", &mut |number, size| {
                    let mail = numbers.get(&number).and_then(|id| chosen.get_mut(id));
                    if let (Some(mail), Ok(bytes)) = (mail, size.parse()) {
                        mail.size_bytes = bytes;
                    }
                })
                .await?;
        }
        // What is not there any more need not be remembered.
        self.doomed.retain(|id| doomed.contains_key(id));
        let used = Instant::now();
        let mut open = Open { session, mails: chosen, deleted: BTreeSet::new(), count, used };
        for (id, number) in doomed {
            match open.delete(&id, number).await {
                // Its content is safe, and it is not shown again: no reason to see no others.
                Err(err @ MailError::Refused { .. }) => tracing::warn!(%err, "a mail was not deleted"),
                other => other?,
            }
        }
        Ok(open)
    }

    /// Reads a mail piece by piece; `push` returns false when it has enough.
    pub(crate) async fn read(
        &mut self,
        settings: &MailSettings,
        key: &MailKey,
        size_max_bytes: u64,
        push: &mut (dyn FnMut(&[u8]) -> Result<bool, FetchError> + Send),
    ) -> Result<(), FetchError> {
        let id = key.as_unique()?;
        let kept = self.kept().await;
        let was_kept = kept.is_some();
        let mut open = match kept {
            Some(open) => open,
            None => self.reenter(settings, id).await?,
        };
        // Its first answer shows whether a kept session is still there.
        let mut asked = open.ask_for(id, size_max_bytes).await;
        if was_kept && matches!(asked, Err(FetchError::Transport(MailError::Unreachable(_)))) {
            open = self.reenter(settings, id).await?;
            asked = open.ask_for(id, size_max_bytes).await;
        }
        // What is refused is read to its end all the same, so that one bad mail does not cost a login.
        let mut refused = None;
        let mut taken = |bytes: &[u8]| {
            push(bytes).or_else(|err| {
                refused = Some(err);
                Ok::<bool, FetchError>(false)
            })
        };
        let done = match asked {
            Ok(most_bytes) => open.session.body("RETR", most_bytes, &mut taken).await,
            Err(err) => {
                match &err {
                    FetchError::Transport(MailError::Refused { .. }) => self.faults.note(id.to_owned()),
                    FetchError::Transport(_) => return Err(err),
                    FetchError::Gone | FetchError::Content(_) | FetchError::Output(_) => {}
                }
                self.open = Some(open);
                return Err(err);
            }
        };
        match (self.came(open, id, done)?, refused) {
            (_, Some(err)) => Err(err),
            (Ended::Cut, None) => Err(ContentError::TooLarge { limit_bytes: size_max_bytes }.into()),
            (Ended::Whole | Ended::Enough, None) => Ok(()),
        }
    }

    /// Keeps the session if it is in step; remembers a mail that broke it.
    fn came(
        &mut self,
        mut open: Open,
        id: &str,
        done: Result<Ended, FetchError>,
    ) -> Result<Ended, FetchError> {
        match &done {
            Ok(Ended::Whole) => {
                open.used = Instant::now();
                self.open = Some(open);
            }
            Err(FetchError::Transport(_)) => self.faults.note(id.to_owned()),
            Ok(Ended::Enough | Ended::Cut)
            | Err(FetchError::Gone | FetchError::Content(_) | FetchError::Output(_)) => {}
        }
        done
    }

    /// A session that knows this mail and those of the last look.
    async fn reenter(&mut self, settings: &MailSettings, id: &str) -> Result<Open, MailError> {
        self.enter(settings, usize::MAX, &|inbox, other| other == id || inbox.shown.contains(other)).await
    }

    /// Deletes some mails and passes over others from now on.
    pub(crate) async fn dispose(
        &mut self,
        settings: &MailSettings,
        delete: &[&MailKey],
        aside: &[&MailKey],
    ) -> Result<(), MailError> {
        let ids = |keys: &[&MailKey]| {
            keys.iter().map(|key| key.as_unique().map(str::to_owned)).collect::<Result<Vec<_>, _>>()
        };
        let (delete, aside) = (ids(delete)?, ids(aside)?);
        for id in aside {
            self.faults.forget(&id);
            remember(&mut self.aside, id);
        }
        for id in &delete {
            self.faults.forget(id);
            remember(&mut self.doomed, id.clone());
        }
        if delete.is_empty() {
            return Ok(());
        }
        let Some(mut open) = self.kept().await else {
            self.open = Some(self.reenter(settings, "").await?);
            return Ok(());
        };
        for id in &delete {
            let Some(mail) = open.mails.get(id).copied() else { continue };
            match open.delete(id, mail.number).await {
                Ok(()) => {}
                // A new session deletes what this one cannot any more.
                Err(MailError::Unreachable(err)) => {
                    tracing::debug!(host = %self.place.host, %err, "kept session was dead");
                    self.open = Some(self.reenter(settings, "").await?);
                    return Ok(());
                }
                Err(err @ MailError::Refused { .. }) => {
                    self.open = Some(open);
                    return Err(err);
                }
                Err(err) => return Err(err),
            }
        }
        self.open = Some(open);
        Ok(())
    }

    async fn kept(&mut self) -> Option<Open> {
        if self.open.as_ref().is_some_and(|open| open.used.elapsed() >= IDLE_MAX) {
            self.leave(GOODBYE_LIMIT).await;
        }
        self.open.take()
    }

    /// Ends the session, if there is one: what it has deleted is then gone.
    async fn leave(&mut self, limit: Duration) {
        let Some(open) = self.open.take() else { return };
        let limit = if open.deleted.is_empty() { limit.min(GOODBYE_LIMIT) } else { limit };
        match open.session.quit(limit).await {
            Ok(()) => self.doomed.retain(|id| !open.deleted.contains(id)),
            Err(err) if open.deleted.is_empty() => tracing::debug!(%err, "a session ended badly"),
            Err(err) => tracing::warn!(%err, "mails were not deleted; the next session does it again"),
        }
    }

    /// Connects and describes what is there.
    pub(crate) async fn probe(&mut self, settings: &MailSettings) -> Result<String, MailError> {
        self.leave(settings.timeouts.command).await;
        let mut open = self.enter(settings, 1, &|_, _| true).await?;
        if let Some(mail) = open.mails.values().next().copied() {
            match open.session.top(mail.number).await {
                Err(MailError::Refused { host, .. }) if open.session.capabilities.is_none() => {
                    return Err(MailError::Unsupported { host, what: "TOP" });
                }
                other => drop(other?),
            }
        }
        let Place { host, user, .. } = &self.place;
        let text = format!("{host}: logged in as {user}, {} mails", open.count);
        self.open = Some(open);
        self.close(settings).await;
        Ok(text)
    }

    pub(crate) async fn close(&mut self, settings: &MailSettings) {
        self.leave(settings.timeouts.command).await;
    }
}

fn remember(ids: &mut BTreeSet<String>, id: String) {
    ids.insert(id);
    while ids.len() > REMEMBERED_MAX_COUNT {
        ids.pop_first();
    }
}
