//! Plays a server's recorded bytes to the sessions of this crate, without a connection: greeting, login and work
//! are those of [`crate::Sender`] and [`crate::Mailbox`]. For fuzz targets and tests.
//!
//! The bytes lie ready before the client speaks, and their end is the end of the connection. Not here: TLS,
//! reconnects, waiting.

use core::time::Duration;
use std::collections::BTreeMap;

use tokio::io::{Join, Sink, join, sink};

use crate::error::{FetchError, MailError, SendError};
use crate::imap::folder::windows;
use crate::mailbox::{Found, MailKey};
use crate::mime::extract::{Extracted, Extractor};
use crate::mime::header::Headers;
use crate::outgoing::{Outgoing, Sent};
use crate::secret::Secret;
use crate::settings::Timeouts;
use crate::{imap, pop3, smtp};

/// Nothing waits here; a step that did would hang, and this ends it.
const LIMIT: Duration = Duration::from_secs(5);

/// Mails listed and read of a folder.
const MAILS_MAX: u32 = 20;

/// Attachment bytes taken of one mail.
const ATTACHMENT_MAX_BYTES: u64 = 64 * 1024;

/// Bytes read of one mail, before its windows end.
const MAIL_MAX_BYTES: u64 = 256 * 1024;

const HOST: &str = "replay.test";

/// How a session logs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Login {
    /// With a password.
    Password,
    /// With an access token (XOAUTH2).
    Token,
}

fn connection(server: &[u8]) -> Join<&[u8], Sink> {
    join(server, sink())
}

/// Offers `mail` to a server that says these bytes: one result per recipient, `None` for those that want
/// another transaction. Without `login` there is none.
///
/// # Errors
/// As [`crate::Sender::send`].
pub async fn smtp(
    server: &[u8],
    login: Option<Login>,
    mail: &Outgoing,
) -> Result<Vec<Option<Sent>>, SendError> {
    let size = mail.mail_bytes().map_err(|err| SendError::io("reading the attachment's size", err))?;
    let timeouts = Timeouts::all(LIMIT);
    let mut session =
        smtp::session::Session::greeted(connection(server), HOST, timeouts, mail.from.domain()).await?;
    if let Some(login) = login {
        session.login("user", &Secret::new("word".to_owned()), login == Login::Token).await?;
    }
    let to: Vec<_> = mail.to.iter().collect();
    let sent = session.transaction(mail, &to, size).await?;
    session.quit().await;
    Ok(sent)
}

/// What a folder held.
#[derive(Debug)]
pub struct Folder {
    /// The mails as listed.
    pub found: Vec<Found>,
    /// The attachment of each, or why it has none.
    pub fetched: Vec<Result<Extracted, FetchError>>,
}

/// Lists a folder of a server that says these bytes, reads its mails, puts the first aside and deletes the
/// others. The attachments' bytes go to `out`.
///
/// # Errors
/// As [`crate::Mailbox::look`] and [`crate::Mailbox::dispose`].
pub async fn imap(server: &[u8], login: Login, out: &mut Vec<u8>) -> Result<Folder, MailError> {
    let timeouts = Timeouts::all(LIMIT);
    let mut session = imap::session::Session::greeted(connection(server), HOST, timeouts).await?;
    session.login("user", &Secret::new("word".to_owned()), login == Login::Token).await?;
    session.select("INBOX").await?;
    let most = session.exists.min(MAILS_MAX);
    let rows = if most == 0 { Vec::new() } else { session.list(&(1..=most).collect::<Vec<_>>()).await? };
    let validity = session.uid_validity;
    let found = rows.iter().filter_map(|row| {
        let headers = Headers::parse(row.headers.as_ref()?).unwrap_or_default();
        Some(Found::read(MailKey::uid(validity, row.uid), row.size_bytes, &headers))
    });
    let found = found.collect();
    let mut fetched = Vec::new();
    for row in &rows {
        let Some(size) = session.size(row.uid).await? else {
            fetched.push(Err(FetchError::Gone));
            continue;
        };
        let mut extractor = Extractor::new(ATTACHMENT_MAX_BYTES, out);
        let mut push = |bytes: &[u8]| extractor.push(bytes).map(|()| !extractor.is_done());
        match windows(&mut session, row.uid, size, MAIL_MAX_BYTES, &mut push).await {
            Ok(()) => fetched.push(extractor.finish()),
            Err(FetchError::Transport(err)) => return Err(err),
            Err(other) => fetched.push(Err(other)),
        }
    }
    let uids: Vec<u32> = rows.iter().map(|row| row.uid).collect();
    let (aside, delete) = uids.split_at(uids.len().min(1));
    if !aside.is_empty() {
        session.move_to(aside, "mailfleet-junk").await?;
    }
    session.delete(delete).await?;
    session.logout().await;
    Ok(Folder { found, fetched })
}

/// Lists a POP3 mailbox of a server that says these bytes, reads its mails and deletes them. The attachments' bytes go
/// to `out`.
///
/// # Errors
/// As [`crate::Mailbox::look`] and [`crate::Mailbox::dispose`].
pub async fn pop3(server: &[u8], login: Login, out: &mut Vec<u8>) -> Result<Folder, MailError> {
    let timeouts = Timeouts::all(LIMIT);
    let mut session = pop3::session::Session::greeted(connection(server), HOST, timeouts).await?;
    session.login("user", &Secret::new("word".to_owned()), login == Login::Token).await?;
    let (mut ids, mut sizes) = (BTreeMap::new(), BTreeMap::new());
    let most = usize::try_from(MAILS_MAX).unwrap_or(usize::MAX);
    let mut note = |number: u32, id: &str| {
        if ids.len() < most {
            ids.insert(number, id.to_owned());
        }
    };
    session.list("UIDL", &mut note).await?;
    let mut note = |number: u32, size: &str| {
        if ids.contains_key(&number) {
            sizes.insert(number, size.parse().unwrap_or(0));
        }
    };
    session.list("LIST", &mut note).await?;
    let (mut found, mut fetched) = (Vec::new(), Vec::new());
    for (number, id) in &ids {
        let (headers, _) = session.top(*number).await?;
        let headers = Headers::parse(&headers).unwrap_or_default();
        let size = sizes.get(number).copied().unwrap_or(0);
        found.push(Found::read(MailKey::unique(id.clone()), size, &headers));
    }
    for number in ids.keys() {
        session.command("RETR", &format!("RETR {number}")).await?;
        let mut extractor = Extractor::new(ATTACHMENT_MAX_BYTES, out);
        let mut push = |bytes: &[u8]| extractor.push(bytes).map(|()| !extractor.is_done());
        match session.body("RETR", MAIL_MAX_BYTES, &mut push).await {
            Ok(_) => fetched.push(extractor.finish()),
            Err(FetchError::Transport(err)) => return Err(err),
            Err(other) => fetched.push(Err(other)),
        }
        session.command("DELE", &format!("DELE {number}")).await?;
    }
    session.quit(LIMIT).await?;
    Ok(Folder { found, fetched })
}
