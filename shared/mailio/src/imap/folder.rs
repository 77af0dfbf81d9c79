//! Mails in the selected folder: list them in windows, read one in windows, delete or move them. Decides
//! nothing about their content; never marks anything as read.

use std::collections::{BTreeMap, BTreeSet};

use async_imap::imap_proto::{AttributeValue, Response};

use crate::error::{FetchError, MailError};
use crate::imap::command::{Allow, odd};
use crate::imap::session::{Session, quoted};
use crate::mime::classify::FIELDS;
use crate::net::Duplex;

/// Header bytes asked for per mail. A stranger may send 50 MB of them.
pub(crate) const HEADER_WINDOW_BYTES: u64 = 16 * 1024;

/// Body bytes asked for at a time: what a small box holds of a mail.
pub(crate) const BODY_WINDOW_BYTES: u64 = 256 * 1024;

/// Servers limit command lines; chatmail core keeps UID sets below 1,000 characters.
const SET_MAX_CHARS: usize = 900;

/// One mail of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) uid: u32,
    pub(crate) size_bytes: u64,
    /// The chosen header fields; `None` if the server could not read the mail.
    pub(crate) headers: Option<Vec<u8>>,
}

#[derive(Default)]
struct Partial {
    uid: Option<u32>,
    size_bytes: Option<u64>,
    headers: Option<Option<Vec<u8>>>,
}

impl<S: Duplex> Session<S> {
    /// Lists the mails with these sequence numbers. Each was individually seen, or it is an error: an empty
    /// or short answer is never taken for an empty mailbox.
    pub(crate) async fn list(&mut self, seqs: &[u32]) -> Result<Vec<Row>, MailError> {
        let line = format!(
            "FETCH {} (UID RFC822.SIZE BODY.PEEK[HEADER.FIELDS ({FIELDS})]<0.{HEADER_WINDOW_BYTES}>)",
            set(seqs)
        );
        let count = u64::try_from(seqs.len()).unwrap_or(u64::MAX);
        let allow = Allow {
            literal_bytes: HEADER_WINDOW_BYTES,
            total_bytes: count
                .saturating_mul(HEADER_WINDOW_BYTES.saturating_add(1024))
                .saturating_add(65_536),
        };
        let host = self.wire.host.clone();
        let wanted: BTreeSet<u32> = seqs.iter().copied().collect();
        let mut rows: BTreeMap<u32, Partial> = BTreeMap::new();
        self.wire
            .run("FETCH", &line, allow, |response| match response {
                Response::Fetch(seq, values) if wanted.contains(seq) => {
                    merge(rows.entry(*seq).or_default(), values);
                    Ok(())
                }
                // It shifts the numbers of all later mails: what was asked is no longer what is answered.
                Response::Expunge(_) => Err(odd(&host, "FETCH", "no EXPUNGE during FETCH", "EXPUNGE")),
                _ => Ok(()),
            })
            .await?;
        let short =
            |seq: u32| odd(&host, "FETCH", "UID, size and headers of each mail", &format!("not of {seq}"));
        wanted
            .into_iter()
            .map(|seq| {
                let row = rows.remove(&seq).ok_or_else(|| short(seq))?;
                Ok(Row {
                    uid: row.uid.ok_or_else(|| short(seq))?,
                    size_bytes: row.size_bytes.ok_or_else(|| short(seq))?,
                    headers: row.headers.ok_or_else(|| short(seq))?,
                })
            })
            .collect()
    }

    /// The UIDs of a window; touches no mail's file on the server.
    pub(crate) async fn uids(&mut self, from: u32, to: u32) -> Result<BTreeMap<u32, u32>, MailError> {
        let mut found = BTreeMap::new();
        let line = format!("FETCH {from}:{to} (UID)");
        let allow = Allow { total_bytes: 1024 * 1024, ..Allow::SMALL };
        self.wire
            .run("FETCH", &line, allow, |response| {
                if let Response::Fetch(seq, values) = response {
                    found.extend(uid_of(values).map(|uid| (*seq, uid)));
                }
                Ok(())
            })
            .await?;
        for seq in from..=to {
            if !found.contains_key(&seq) {
                return Err(self.wire.odd("FETCH", "the UID of each mail", &format!("not of {seq}")));
            }
        }
        Ok(found)
    }

    /// A mail's size; `None` if the server has no such mail.
    pub(crate) async fn size(&mut self, uid: u32) -> Result<Option<u64>, MailError> {
        let mut size = None;
        let line = format!("UID FETCH {uid} (UID RFC822.SIZE)");
        self.wire
            .run("FETCH", &line, Allow::SMALL, |response| {
                if let Response::Fetch(_, values) = response
                    && uid_of(values) == Some(uid)
                {
                    size = values.iter().find_map(size_of).or(size);
                }
                Ok(())
            })
            .await?;
        Ok(size)
    }

    /// The bytes of a mail from `offset` on, at most [`BODY_WINDOW_BYTES`]; none at its end.
    pub(crate) async fn body(&mut self, uid: u32, offset: u64) -> Result<Vec<u8>, MailError> {
        let line = format!("UID FETCH {uid} (UID BODY.PEEK[]<{offset}.{BODY_WINDOW_BYTES}>)");
        let allow =
            Allow { literal_bytes: BODY_WINDOW_BYTES, total_bytes: BODY_WINDOW_BYTES.saturating_add(65_536) };
        let host = self.wire.host.clone();
        let mut body: Option<Vec<u8>> = None;
        self.wire
            .run("FETCH", &line, allow, |response| {
                let Response::Fetch(_, values) = response else { return Ok(()) };
                for value in values {
                    let AttributeValue::BodySection { section: None, index, data: Some(data) } = value else {
                        continue;
                    };
                    // Some servers ignore the window and send the mail from its start (imapflow #396).
                    let found = index.map(u64::from);
                    if found != Some(offset) && !(found.is_none() && offset == 0) {
                        let found = index.map_or("none".to_owned(), |i| i.to_string());
                        return Err(odd(&host, "FETCH", "the window asked for", &format!("offset {found}")));
                    }
                    if uid_of(values).is_none_or(|found| found == uid) {
                        body = Some(data.to_vec());
                    }
                }
                Ok(())
            })
            .await?;
        body.ok_or_else(|| self.wire.odd("FETCH", "the mail's body", "none"))
    }

    /// Shows the first [`BODY_WINDOW_BYTES`] of these mails, which are `total_bytes` large together, by as few commands as
    /// can be, in the server's order. Shows nothing of a mail that is gone.
    pub(crate) async fn bodies(
        &mut self,
        uids: &[u32],
        total_bytes: u64,
        mut show: impl FnMut(u32, &[u8]) + Send,
    ) -> Result<(), MailError> {
        // Some servers give sizes that are a little wrong.
        let slack = u64::try_from(uids.len()).unwrap_or(u64::MAX).saturating_mul(1024).saturating_add(65_536);
        let allow = Allow {
            literal_bytes: BODY_WINDOW_BYTES,
            total_bytes: total_bytes.saturating_add(total_bytes / 8).saturating_add(slack),
        };
        for set in sets(uids) {
            let line = format!("UID FETCH {set} (UID BODY.PEEK[]<0.{BODY_WINDOW_BYTES}>)");
            self.wire
                .run("FETCH", &line, allow, |response| {
                    let Response::Fetch(_, values) = response else { return Ok(()) };
                    let body = values.iter().find_map(|value| match value {
                        AttributeValue::BodySection { section: None, index: None | Some(0), data } => {
                            data.as_ref()
                        }
                        _ => None,
                    });
                    if let (Some(uid), Some(body)) = (uid_of(values), body) {
                        show(uid, body);
                    }
                    Ok(())
                })
                .await?;
        }
        Ok(())
    }

    /// Deletes mails. Those that are gone already do no harm.
    pub(crate) async fn delete(&mut self, uids: &[u32]) -> Result<(), MailError> {
        for set in sets(uids) {
            let store = format!("UID STORE {set} +FLAGS.SILENT (\\Deleted)");
            self.wire.run("STORE", &store, Allow::SMALL, |_| Ok(())).await?;
            // Without UIDPLUS, mails that others marked as deleted go too, as they asked for.
            let expunge =
                if self.can("UIDPLUS") { format!("UID EXPUNGE {set}") } else { "EXPUNGE".to_owned() };
            self.wire.run("EXPUNGE", &expunge, Allow::SMALL, |_| Ok(())).await?;
        }
        Ok(())
    }

    /// Moves mails to a folder, which is made if it is not there.
    pub(crate) async fn move_to(&mut self, uids: &[u32], folder: &str) -> Result<(), MailError> {
        // Courier and some Cyrus setups keep everything below INBOX.
        let names = [folder.to_owned(), format!("INBOX.{folder}"), format!("INBOX/{folder}")];
        let mut last = None;
        for name in &names {
            match self.move_to_named(uids, name).await {
                Err(err @ MailError::Refused { .. }) => last = Some(err),
                other => return other,
            }
        }
        last.map_or(Ok(()), Err)
    }

    async fn move_to_named(&mut self, uids: &[u32], name: &str) -> Result<(), MailError> {
        let moves = self.can("MOVE");
        for set in sets(uids) {
            let verb = if moves { "MOVE" } else { "COPY" };
            let line = format!("UID {verb} {set} {}", quoted(name));
            if let Err(err) = self.wire.run("MOVE", &line, Allow::SMALL, |_| Ok(())).await {
                let MailError::Refused { .. } = err else { return Err(err) };
                let create = format!("CREATE {}", quoted(name));
                self.wire.run("CREATE", &create, Allow::SMALL, |_| Ok(())).await?;
                self.wire.run("MOVE", &line, Allow::SMALL, |_| Ok(())).await?;
            }
        }
        if moves { Ok(()) } else { self.delete(uids).await }
    }
}

/// Reads a mail in windows; `push` returns false when it has enough.
pub(crate) async fn windows<S: Duplex>(
    session: &mut Session<S>,
    uid: u32,
    size: u64,
    size_max_bytes: u64,
    push: &mut (dyn FnMut(&[u8]) -> Result<bool, FetchError> + Send),
) -> Result<(), FetchError> {
    let mut offset = 0u64;
    loop {
        let bytes = session.body(uid, offset).await?;
        let count = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if count == 0 || !push(&bytes)? {
            return Ok(());
        }
        offset = offset.saturating_add(count);
        // Some servers give a size that is a little wrong, so a full window means more; but one that was
        // asked beyond a mail's end has crashed (hmailserver #524).
        if (offset >= size && count < BODY_WINDOW_BYTES) || offset > size_max_bytes {
            return Ok(());
        }
    }
}

fn merge(row: &mut Partial, values: &[AttributeValue<'_>]) {
    row.uid = uid_of(values).or(row.uid);
    row.size_bytes = values.iter().find_map(size_of).or(row.size_bytes);
    for value in values {
        if let AttributeValue::BodySection { section: Some(_), data, .. } = value {
            row.headers = Some(data.as_ref().map(|d| d.to_vec()));
        }
    }
}

fn uid_of(values: &[AttributeValue<'_>]) -> Option<u32> {
    values.iter().find_map(|v| if let AttributeValue::Uid(uid) = v { Some(*uid) } else { None })
}

fn size_of(value: &AttributeValue<'_>) -> Option<u64> {
    if let AttributeValue::Rfc822Size(size) = value { Some(u64::from(*size)) } else { None }
}

/// Numbers as an IMAP set, runs joined: `1:3,7`.
fn set(numbers: &[u32]) -> String {
    runs(numbers).join(",")
}

/// [`set`] in pieces that fit a command line.
fn sets(numbers: &[u32]) -> Vec<String> {
    let mut sets: Vec<String> = Vec::new();
    for run in runs(numbers) {
        match sets.last_mut() {
            Some(set) if set.len().saturating_add(run.len()) < SET_MAX_CHARS => {
                set.push(',');
                set.push_str(&run);
            }
            _ => sets.push(run),
        }
    }
    sets
}

/// `7`, or `1:3` for those that follow each other.
fn runs(numbers: &[u32]) -> Vec<String> {
    let sorted: BTreeSet<u32> = numbers.iter().copied().collect();
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for n in sorted {
        match runs.last_mut() {
            Some((_, end)) if end.checked_add(1) == Some(n) => *end = n,
            _ => runs.push((n, n)),
        }
    }
    let text = |(a, b): &(u32, u32)| if a == b { a.to_string() } else { format!("{a}:{b}") };
    runs.iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_join_runs_and_stay_short() {
        assert_eq!(set(&[3, 1, 2, 7, 7]), "1:3,7");
        assert_eq!(set(&[u32::MAX, 1]), "1,4294967295");
        let odd: Vec<u32> = (0..1000).map(|n| 4_000_000_000 + n * 2).collect();
        assert!(sets(&odd).iter().all(|s| s.len() <= SET_MAX_CHARS));
        assert_eq!(sets(&odd).join(","), set(&odd));
        assert_eq!(sets(&(1..=5_000).collect::<Vec<_>>()), ["1:5000"]);
        assert_eq!(sets(&[]), Vec::<String>::new());
    }
}
