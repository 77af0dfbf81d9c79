//! Mail in: looks, fetches what can be ours in windows, keeps and applies each window in one transaction, and only then lets
//! go of the mails (PROTOCOL 10.4). While a window is opened (`opening`), the next one is fetched.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mailio::{Bounce, Class, Disposal, FetchError, Found, MailKey, Mailbox};
use manager_core::consent::token_in;
use shared::error::chain;
use shared::limits::REPORT_MAX_BYTES;

use super::opening::{self, Mail, Opening};
use super::people::{self, Reply};
use super::taken::{take_attachment, take_bounce};
use super::watched::MAIL_IN;
use super::{DaemonError, Shared};
use crate::store::Store;
use crate::system::now;

/// Mails looked at in one go, by their headers. They are deleted in one go too, which a mail server does at once for a
/// thousand as slowly as for one: some go through the whole folder each time.
const LOOK: usize = 1_000;

/// Mails of one transaction.
const WINDOW: usize = 200;

/// Attachments of a window held in memory before they are kept: one largest report more than this, and as much of the
/// window before. Anyone who knows the address can fill the mailbox; he must not fill the memory.
const WINDOW_BYTES: usize = 16 * 1024 * 1024;

/// The loop's hands.
pub(super) struct MailIn {
    shared: Arc<Shared>,
    store: Store,
    mailbox: Mailbox,
}

/// What a mail brought.
pub(super) enum Incoming {
    Attachment(Vec<u8>),
    Bounce(Bounce),
    /// A person's mail with a token of ours.
    Reply(Reply),
    Junk(String),
}

/// Where the time of a look went. Fetching and opening overlap; the time of opening is that of all cores together.
#[derive(Default)]
struct Spent {
    fetch: Duration,
    open: Duration,
    keep: Duration,
    delete: Duration,
}

impl Spent {
    fn say(&self, mails: usize) {
        let [fetch_ms, open_ms, keep_ms, delete_ms] =
            [self.fetch, self.open, self.keep, self.delete].map(|time| time.as_millis());
        tracing::debug!(mails, fetch_ms, open_ms, keep_ms, delete_ms, "a look at the mailbox");
    }
}

impl Incoming {
    fn held_bytes(&self) -> usize {
        match self {
            Self::Attachment(bytes) => bytes.len(),
            Self::Reply(reply) => reply.text.len(),
            Self::Bounce(_) | Self::Junk(_) => 0,
        }
    }
}

impl MailIn {
    pub(super) fn new(shared: &Arc<Shared>) -> Result<Self, DaemonError> {
        let store = Store::open(&shared.home.store_path())?;
        let mailbox = Mailbox::new(shared.mail(MAIL_IN));
        Ok(Self { shared: Arc::clone(shared), store, mailbox })
    }

    /// Takes in all mail that is there. Gives the number of mails.
    pub(super) async fn pass(&mut self) -> Result<u64, DaemonError> {
        let mut disposed: BTreeSet<MailKey> = BTreeSet::new();
        let mut count = 0u64;
        loop {
            self.shared.works(MAIL_IN);
            let mut spent = Spent::default();
            let began = Instant::now();
            let found = self.mailbox.look(LOOK).await?;
            spent.fetch = began.elapsed();
            let fresh: Vec<Found> = found.into_iter().filter(|mail| !disposed.contains(&mail.key)).collect();
            if fresh.is_empty() {
                return Ok(count);
            }
            let mut disposals = Vec::new();
            let taken = self.take_in(fresh, &mut disposals, &mut spent).await;
            count = count.saturating_add(disposals.len() as u64);
            // What was kept can go, even if something else has failed.
            let began = Instant::now();
            let let_go = self.mailbox.dispose(&disposals).await;
            spent.delete = began.elapsed();
            spent.say(disposals.len());
            taken?;
            let_go?;
            if disposals.is_empty() {
                return Ok(count);
            }
            disposed.extend(disposals.into_iter().map(|(key, _)| key));
        }
    }

    /// Fetches, opens and keeps these mails, window by window; `disposals` get what becomes of those that are kept. What was
    /// fetched before a failure counts: a mailbox that fails at every hundredth mail gets emptied all the same.
    async fn take_in(
        &mut self,
        mails: Vec<Found>,
        disposals: &mut Vec<(MailKey, Disposal)>,
        spent: &mut Spent,
    ) -> Result<(), DaemonError> {
        let mut mails = mails.into_iter();
        let mut before: Option<Opening> = None;
        loop {
            let began = Instant::now();
            let (window, failed) = self.fetch_some(&mut mails).await;
            spent.fetch = spent.fetch.saturating_add(began.elapsed());
            let senders = self.store.read(|tx| opening::senders(tx, &window))?;
            let opening = Opening::begin(&self.shared, senders, window);
            if let Some(before) = before.replace(opening) {
                disposals.extend(self.keep(before, spent).await?);
            }
            if failed.is_some() || mails.len() == 0 {
                if let Some(last) = before.take() {
                    disposals.extend(self.keep(last, spent).await?);
                }
                return failed.map_or(Ok(()), Err);
            }
        }
    }

    async fn keep(
        &mut self,
        opening: Opening,
        spent: &mut Spent,
    ) -> Result<Vec<(MailKey, Disposal)>, DaemonError> {
        let (mails, time) = opening.done().await;
        spent.open = spent.open.saturating_add(time);
        let began = Instant::now();
        let disposals = self.take(mails)?;
        spent.keep = spent.keep.saturating_add(began.elapsed());
        Ok(disposals)
    }

    /// Fetches the next of these mails, as many as fit in a window and in the memory set aside for it.
    async fn fetch_some(
        &mut self,
        mails: &mut std::vec::IntoIter<Found>,
    ) -> (Vec<(MailKey, Incoming)>, Option<DaemonError>) {
        let mut incoming = Vec::new();
        let mut held_bytes = 0usize;
        let next = mails.as_slice().iter().take(WINDOW);
        self.mailbox
            .read_ahead(&next.filter(|mail| matches!(mail.class, Class::Ours(_))).collect::<Vec<_>>())
            .await;
        for mail in mails.take(WINDOW) {
            self.shared.works(MAIL_IN);
            match self.fetch(&mail).await {
                Ok(Some(content)) => {
                    held_bytes = held_bytes.saturating_add(content.held_bytes());
                    incoming.push((mail.key, content));
                }
                Ok(None) => {}
                Err(err) => return (incoming, Some(err)),
            }
            if held_bytes > WINDOW_BYTES {
                break;
            }
        }
        (incoming, None)
    }

    /// Waits until there may be mail, but not for longer than this.
    pub(super) async fn wait(&mut self, longest: Duration) {
        // False where nothing tells of mail: then it is the time that counts.
        self.mailbox.listen();
        let _time_to_look = tokio::time::timeout(longest, self.mailbox.news()).await;
    }

    pub(super) async fn close(&mut self) {
        self.mailbox.close().await;
    }

    /// Downloads what its headers do not rule out. `None`: it is gone, or comes another time.
    async fn fetch(&mut self, mail: &Found) -> Result<Option<Incoming>, DaemonError> {
        let mut attachment = Vec::new();
        let result = match &mail.class {
            Class::Foreign if token_in(&mail.subject).is_some() => match self.mailbox.text(&mail.key).await {
                Ok(text) => {
                    let (from, subject) = (mail.from.clone(), mail.subject.clone());
                    return Ok(Some(Incoming::Reply(Reply { from, subject, text })));
                }
                Err(err) => Err(err),
            },
            Class::Foreign => return Ok(Some(Incoming::Junk("not a mail of an agent".to_owned()))),
            Class::AutoReply => return Ok(Some(Incoming::Junk("an automatic answer".to_owned()))),
            Class::Bounce => match self.mailbox.bounce(&mail.key).await {
                Ok(Some(bounce)) => return Ok(Some(Incoming::Bounce(bounce))),
                Ok(None) => return Ok(Some(Incoming::Junk("a bounce of another mail".to_owned()))),
                Err(err) => Err(err),
            },
            Class::Ours(_) => {
                self.mailbox.fetch(&mail.key, REPORT_MAX_BYTES, &mut attachment).await.map(drop)
            }
        };
        match result {
            Ok(()) => Ok(Some(Incoming::Attachment(attachment))),
            Err(FetchError::Transport(err)) => Err(err.into()),
            Err(FetchError::Gone) => Ok(None),
            Err(err @ (FetchError::Content(_) | FetchError::Output(_))) => {
                Ok(Some(Incoming::Junk(chain(&err))))
            }
        }
    }

    /// Keeps and applies a window of mails, all or none. Gives what becomes of them.
    fn take(&mut self, mails: Vec<Mail>) -> Result<Vec<(MailKey, Disposal)>, DaemonError> {
        let now = now();
        let shared = &self.shared;
        let disposals = self.store.write(|tx| {
            let mut disposals = Vec::new();
            for Mail { key, content, tried } in mails {
                let disposal = match content {
                    Incoming::Attachment(bytes) => take_attachment(tx, shared, &bytes, tried, now)?,
                    Incoming::Bounce(bounce) => take_bounce(tx, shared, &bounce, now)?,
                    Incoming::Reply(reply) => people::take_reply(tx, shared, &reply, now)?,
                    Incoming::Junk(why) => {
                        tracing::debug!(mail = %key, why, "junk");
                        Disposal::Junk
                    }
                };
                disposals.push((key, disposal));
            }
            Ok(disposals)
        })?;
        Ok(disposals)
    }
}
