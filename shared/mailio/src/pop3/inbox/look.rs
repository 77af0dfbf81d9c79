//! A look at a POP3 mailbox: headers only, and past single mails that the server cannot show.

use std::collections::BTreeSet;

use tokio::time::Instant;

use crate::error::MailError;
use crate::faults::may_be_one_mail;
use crate::mailbox::{Found, MailKey};
use crate::mime::header::Headers;
use crate::pop3::inbox::Inbox;
use crate::pop3::open::{Mail, Open};
use crate::pop3::session::Ended;
use crate::settings::MailSettings;

/// Reconnects within one look.
const LOSSES_MAX: u8 = 6;

impl Inbox {
    /// The oldest mails, at most `max`.
    pub(crate) async fn look(
        &mut self,
        settings: &MailSettings,
        max: usize,
    ) -> Result<Vec<Found>, MailError> {
        // What was disposed of is deleted by that, and only a new session sees new mail.
        self.leave(settings.timeouts.command).await;
        let (mut found, mut first_error, mut losses) = (Vec::new(), None, 0u8);
        let mut seen: BTreeSet<String> = BTreeSet::new();
        loop {
            let room = max.saturating_sub(found.len());
            let entered = self
                .enter(settings, room, &|inbox, id| {
                    !seen.contains(id)
                        && !inbox.aside.contains(id)
                        && !inbox.faults.passes_over(&id.to_owned())
                })
                .await;
            let mut open = match entered {
                Ok(open) => open,
                Err(_) if !found.is_empty() => break,
                Err(err) => return Err(first_error.unwrap_or(err)),
            };
            let looked = self.heads(&mut open, &mut seen, &mut found, &mut first_error).await;
            match looked {
                Ok(Ended::Whole) => {
                    self.open = Some(open);
                    break;
                }
                Ok(Ended::Enough | Ended::Cut) => {}
                Err(err) if may_be_one_mail(&err) => {
                    tracing::debug!(host = %self.place.host, %err, "a mail was not shown, going on without it");
                    first_error = first_error.or(Some(err));
                }
                Err(err) => return Err(err),
            }
            losses = losses.saturating_add(1);
            if losses > LOSSES_MAX || found.len() >= max {
                break;
            }
        }
        self.shown = found.iter().map(|mail: &Found| mail.key.to_string()).collect();
        match first_error {
            // If nothing at all could be shown, that is no empty mailbox.
            Some(err) if found.is_empty() => Err(err),
            _ => {
                if found.is_empty() {
                    // A session may lock the mailbox, and there is nothing left to do in this one.
                    self.leave(settings.timeouts.command).await;
                }
                Ok(found)
            }
        }
    }

    /// Looks at the headers of a session's mails, oldest first.
    async fn heads(
        &mut self,
        open: &mut Open,
        seen: &mut BTreeSet<String>,
        found: &mut Vec<Found>,
        first_error: &mut Option<MailError>,
    ) -> Result<Ended, MailError> {
        let mut mails: Vec<(String, Mail)> =
            open.mails.iter().map(|(id, mail)| (id.clone(), *mail)).collect();
        mails.sort_by_key(|(_, mail)| mail.number);
        for (id, mail) in mails {
            seen.insert(id.clone());
            let (headers, ended) = match open.session.top(mail.number).await {
                Ok(read) => read,
                Err(MailError::Refused { host, .. }) if open.session.capabilities.is_none() => {
                    return Err(MailError::Unsupported { host, what: "TOP" });
                }
                Err(err) => {
                    self.faults.note(id);
                    let MailError::Refused { .. } = err else { return Err(err) };
                    first_error.get_or_insert(err);
                    continue;
                }
            };
            let headers = Headers::parse(&headers).unwrap_or_default();
            found.push(Found::read(MailKey::unique(id), mail.size_bytes, &headers));
            if ended != Ended::Whole {
                return Ok(ended);
            }
        }
        open.used = Instant::now();
        Ok(Ended::Whole)
    }
}
