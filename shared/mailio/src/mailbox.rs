//! Receives mails, by whichever way the settings say: look, fetch, dispose. Opens no seals and trusts no
//! header; what is disposed of, and when, is the caller's decision, so that a mail is only deleted after its
//! content is safe.

use core::fmt;
use std::io::Write;
use std::path::Path;

use shared::MailAddress;

use crate::error::{ContentError, FetchError, MailError};
use crate::imap;
use crate::maildir::read::Folder;
use crate::maildir::{create, of_address};
use crate::mime::classify::{self, Class};
use crate::mime::dsn::{self, BOUNCE_MAX_BYTES, Bounce};
use crate::mime::extract::{Extracted, Extractor};
use crate::mime::header::Headers;
use crate::mime::reply;
use crate::pop3;
use crate::settings::{JunkPolicy, MailSettings};
use crate::url::ReceiveUrl;

/// The IMAP folder for junk.
const JUNK_FOLDER: &str = "mailfleet-junk";

/// Reads the mailbox of one account.
pub struct Mailbox {
    settings: MailSettings,
    backend: Backend,
}

enum Backend {
    Imap(Box<imap::inbox::Inbox>),
    Pop3(Box<pop3::inbox::Inbox>),
    Local(Folder),
}

/// A mail as its headers show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Names the mail for the other calls.
    pub key: MailKey,
    /// Size of the whole mail in bytes.
    pub size: u64,
    /// Sender, as claimed.
    pub from: Option<MailAddress>,
    /// Subject, as claimed: at most 500 bytes, no control characters.
    pub subject: String,
    /// What it claims to be.
    pub class: Class,
}

impl Found {
    pub(crate) fn read(key: MailKey, size: u64, headers: &Headers) -> Self {
        Self {
            key,
            size,
            from: classify::sender(headers),
            subject: classify::subject(headers).unwrap_or_default(),
            class: classify::classify(headers),
        }
    }
}

/// Names a mail in its mailbox. Keys of another folder numbering (UIDVALIDITY) are refused.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MailKey(Key);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Uid { validity: u32, uid: u32 },
    Unique(String),
    File(String),
}

impl MailKey {
    pub(crate) fn uid(validity: u32, uid: u32) -> Self {
        Self(Key::Uid { validity, uid })
    }

    pub(crate) fn unique(id: String) -> Self {
        Self(Key::Unique(id))
    }

    pub(crate) fn file(name: String) -> Self {
        Self(Key::File(name))
    }

    pub(crate) fn as_uid(&self) -> Result<(u32, u32), MailError> {
        match &self.0 {
            Key::Uid { validity, uid } => Ok((*validity, *uid)),
            Key::Unique(_) | Key::File(_) => Err(MailError::ForeignKey { key: self.to_string() }),
        }
    }

    pub(crate) fn as_unique(&self) -> Result<&str, MailError> {
        match &self.0 {
            Key::Unique(id) => Ok(id),
            Key::Uid { .. } | Key::File(_) => Err(MailError::ForeignKey { key: self.to_string() }),
        }
    }

    pub(crate) fn as_file(&self) -> Result<&str, MailError> {
        match &self.0 {
            Key::File(name) => Ok(name),
            Key::Uid { .. } | Key::Unique(_) => Err(MailError::ForeignKey { key: self.to_string() }),
        }
    }
}

impl fmt::Display for MailKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Key::Uid { validity, uid } => write!(f, "{validity}/{uid}"),
            Key::Unique(name) | Key::File(name) => f.write_str(name),
        }
    }
}

/// What becomes of a mail that was dealt with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposal {
    /// Its content is safe elsewhere: delete it.
    Done,
    /// It is not for us: delete it or move it aside, as [`JunkPolicy`] says.
    Junk,
}

impl Mailbox {
    /// Keeps the settings; connects at the first call.
    #[must_use]
    pub fn new(settings: MailSettings) -> Self {
        let backend = match &settings.receive {
            ReceiveUrl::Imap { host, port, tls, user, folder } => {
                Backend::Imap(Box::new(imap::inbox::Inbox::new(imap::inbox::Place {
                    host: host.clone(),
                    port: *port,
                    tls: *tls,
                    user: user.clone(),
                    folder: folder.clone(),
                })))
            }
            ReceiveUrl::Pop3 { host, port, tls, user } => {
                Backend::Pop3(Box::new(pop3::inbox::Inbox::new(pop3::inbox::Place {
                    host: host.clone(),
                    port: *port,
                    tls: *tls,
                    user: user.clone(),
                })))
            }
            ReceiveUrl::Maildir(path) => Backend::Local(Folder::new(path.clone())),
            ReceiveUrl::Spool(path) => Backend::Local(Folder::new(of_address(path, &settings.address))),
        };
        Self { settings, backend }
    }

    /// Makes the mailbox of an address in a spool, readable by its owner alone. Its owner's first
    /// [`Mailbox::look`] does the same; until then, senders are told that there is no such mailbox.
    ///
    /// # Errors
    /// The folders cannot be made.
    pub fn create_spool(spool: &Path, address: &MailAddress) -> Result<(), MailError> {
        let folder = of_address(spool, address);
        create(&folder).map_err(|err| MailError::io(format!("making mailbox {}", folder.display()), err))
    }

    /// The oldest mails that were not yet disposed of, at most `max`, by headers and size only. Looking
    /// again shows the same mails again. Mails that could not be fetched three times are passed over for an
    /// hour.
    ///
    /// # Errors
    /// The mailbox cannot be read. An empty list always means an empty mailbox.
    pub async fn look(&mut self, max: usize) -> Result<Vec<Found>, MailError> {
        match &mut self.backend {
            Backend::Imap(inbox) => inbox.look(&self.settings, max).await,
            Backend::Pop3(inbox) => inbox.look(&self.settings, max).await,
            Backend::Local(folder) => folder.look(max),
        }
    }

    /// Reads small ones of these mails at once, for the [`Mailbox::fetch`] of each that follows: whoever is to read hundreds saves
    /// as many commands. It holds up to 4 MiB of them in memory, until the next call or look.
    pub async fn read_ahead(&mut self, mails: &[&Found]) {
        match &mut self.backend {
            Backend::Imap(inbox) => {
                let mails: Vec<_> = mails.iter().map(|mail| (&mail.key, mail.size)).collect();
                inbox.read_ahead(&mails).await;
            }
            // Reading a file is no command, and POP3 has none for several mails.
            Backend::Pop3(_) | Backend::Local(_) => {}
        }
    }

    /// Writes a mail's attachment, decoded, to `out` while it is downloaded, in constant memory. `out` may
    /// have got bytes even if this fails; they are worth nothing then.
    ///
    /// # Errors
    /// [`FetchError`] tells a mailbox that failed (the mail stays) from a mail that is damaged (dispose of
    /// it as you see fit) and from an output that failed (the mail must stay).
    pub async fn fetch(
        &mut self,
        key: &MailKey,
        limit_bytes: u64,
        out: &mut (dyn Write + Send),
    ) -> Result<Extracted, FetchError> {
        let mut extractor = Extractor::new(limit_bytes, out);
        // Base64 in short lines takes at most 1.5 times its content; notes and headers come on top. What is
        // larger is refused before a byte is downloaded.
        let size_max = limit_bytes.saturating_add(limit_bytes / 2).saturating_add(512 * 1024);
        let mut push = |bytes: &[u8]| {
            extractor.push(bytes)?;
            Ok(!extractor.is_done())
        };
        match self.read(key, size_max, &mut push).await {
            // In the caller's terms, not in those of the mail around it.
            Err(FetchError::Content(ContentError::TooLarge { .. })) => {
                Err(ContentError::TooLarge { limit_bytes }.into())
            }
            Err(err) => Err(err),
            Ok(()) => extractor.finish(),
        }
    }

    /// Reads what a mail of [`Class::Bounce`] reports, up to 256 KiB of it; `None` if it tells nothing about
    /// a mail of ours.
    ///
    /// # Errors
    /// As [`Mailbox::fetch`].
    pub async fn bounce(&mut self, key: &MailKey) -> Result<Option<Bounce>, FetchError> {
        let mut mail = Vec::new();
        let most = usize::try_from(BOUNCE_MAX_BYTES).unwrap_or(usize::MAX);
        let mut push = |bytes: &[u8]| {
            mail.extend(bytes.iter().take(most.saturating_sub(mail.len())));
            Ok(mail.len() < most)
        };
        // Servers that ignore RET=HDRS return the whole mail; its report comes first.
        self.read(key, u64::MAX, &mut push).await?;
        Ok(dsn::parse(&mail)?)
    }

    /// The text that a person has written: see [`reply::text`].
    ///
    /// # Errors
    /// As [`Mailbox::fetch`].
    pub async fn text(&mut self, key: &MailKey) -> Result<String, FetchError> {
        let mut mail = Vec::new();
        let most = usize::try_from(BOUNCE_MAX_BYTES).unwrap_or(usize::MAX);
        let mut push = |bytes: &[u8]| {
            mail.extend(bytes.iter().take(most.saturating_sub(mail.len())));
            Ok(mail.len() < most)
        };
        // The words come first, whatever is attached.
        self.read(key, u64::MAX, &mut push).await?;
        Ok(reply::text(&mail)?)
    }

    async fn read(
        &mut self,
        key: &MailKey,
        size_max_bytes: u64,
        push: &mut (dyn FnMut(&[u8]) -> Result<bool, FetchError> + Send),
    ) -> Result<(), FetchError> {
        match &mut self.backend {
            Backend::Imap(inbox) => inbox.read(&self.settings, key, size_max_bytes, push).await,
            Backend::Pop3(inbox) => inbox.read(&self.settings, key, size_max_bytes, push).await,
            Backend::Local(folder) => folder.read(key, size_max_bytes, push).await,
        }
    }

    /// Deletes mails or moves them aside. Mails that are gone already do no harm, so this can be repeated.
    ///
    /// With POP3 they are deleted at the next [`Mailbox::look`] or [`Mailbox::close`]; a process that ends before
    /// sees them again.
    ///
    /// # Errors
    /// The mailbox failed: some mails may still be there, and will be looked at again.
    pub async fn dispose<'m>(&mut self, mails: &'m [(MailKey, Disposal)]) -> Result<(), MailError> {
        let aside = |d: Disposal| d == Disposal::Junk && self.settings.junk == JunkPolicy::Aside;
        let (junk, done): (Vec<_>, Vec<_>) = mails.iter().partition(|(_, d)| aside(*d));
        if mails.is_empty() {
            return Ok(());
        }
        let keys =
            |list: Vec<&'m (MailKey, Disposal)>| list.into_iter().map(|(key, _)| key).collect::<Vec<_>>();
        let (done, junk) = (keys(done), keys(junk));
        match &mut self.backend {
            Backend::Imap(inbox) => inbox.dispose(&self.settings, &done, &junk, JUNK_FOLDER).await,
            Backend::Pop3(inbox) => inbox.dispose(&self.settings, &done, &junk).await,
            Backend::Local(folder) => {
                done.iter().try_for_each(|key| folder.delete(key))?;
                junk.iter().try_for_each(|key| folder.aside(key))
            }
        }
    }

    /// Begins to listen for new mail on the connection that [`Mailbox::look`] has left open. False if this mailbox
    /// cannot tell, or is not to: then there is only looking again. Any other call ends it.
    pub fn listen(&mut self) -> bool {
        match &mut self.backend {
            Backend::Imap(inbox) => self.settings.extensions.idle && inbox.listen(&self.settings),
            Backend::Pop3(_) | Backend::Local(_) => false,
        }
    }

    /// Completes when it is time to look, which is a hint: there may be nothing, and what is there may never be told
    /// of, so look from time to time all the same. Never completes without a [`Mailbox::listen`] that was true. It
    /// may be dropped at any point and called again.
    pub async fn news(&mut self) {
        match &mut self.backend {
            Backend::Imap(inbox) => inbox.news().await,
            Backend::Pop3(_) | Backend::Local(_) => core::future::pending().await,
        }
    }

    /// Tries the way in: connects, logs in, opens the folder. For `doctor`.
    ///
    /// # Errors
    /// As [`Mailbox::look`].
    pub async fn probe(&mut self) -> Result<String, MailError> {
        match &mut self.backend {
            Backend::Imap(inbox) => inbox.probe(&self.settings).await,
            Backend::Pop3(inbox) => inbox.probe(&self.settings).await,
            Backend::Local(folder) => folder.probe(),
        }
    }

    /// Ends the connection politely, if there is one.
    pub async fn close(&mut self) {
        match &mut self.backend {
            Backend::Imap(inbox) => inbox.close().await,
            Backend::Pop3(inbox) => inbox.close(&self.settings).await,
            Backend::Local(_) => {}
        }
    }
}
