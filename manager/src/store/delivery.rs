//! Mails that came back, and agents' second addresses: whom a bounce is about, and mails that are sent again as they are.

use manager_core::CampaignId;
use manager_core::delivery::Second;
use rusqlite::{Row, params};
use shared::{AgentId, EnvelopeId, MailAddress, Spans, UnixMillis};

use super::outbox::OrderKind;
use super::rows::{agent_id, mail, opt_mail, time, to_cbor, unsigned};
use super::{Tx, TxResult};

/// A recipient of an order whom a bounce can be about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounced {
    /// The agent.
    pub agent: AgentId,
    /// The campaign that the order belongs to, if any.
    pub campaign: Option<CampaignId>,
    /// What the order is for.
    pub kind: OrderKind,
    /// From when on the order must not be executed.
    pub expires: UnixMillis,
    /// Size of what was attached.
    pub attachment_bytes: u64,
    /// Whether the mail went to the second address, or whether there is one.
    pub second: Second,
    /// How often it was mailed.
    pub attempts: u32,
    /// It is out: mailed, or just being mailed. A bounce that comes when it waits to be mailed again, or was given up, is late.
    pub is_out: bool,
}

/// A mail that is sent once more as it is: agents execute an envelope once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailedAgain {
    /// When.
    pub at: UnixMillis,
    /// To the second address; else to the one before.
    pub to_second: bool,
    /// What a mail server said.
    pub answer: String,
}

/// The address that a mail goes to, and which of the two that is.
pub(super) fn address_in_use(row: &Row<'_>) -> TxResult<(MailAddress, Second)> {
    let (first, fallback) = (mail(row, "mail")?, opt_mail(row, "fallback_mail")?);
    let fallback = fallback.filter(|fallback| !fallback.same_mailbox(&first));
    Ok(match (row.get::<_, bool>("second")?, fallback) {
        (true, Some(fallback)) => (fallback, Second::InUse),
        (false, Some(_)) => (first, Second::Unused),
        (_, None) => (first, Second::None),
    })
}

impl Tx<'_> {
    /// The recipients of an envelope that were mailed at this address: several agents can have the same one.
    ///
    /// # Errors
    /// The database's, or a bad row.
    pub fn recipients_at(
        &self,
        envelope: EnvelopeId,
        address: &MailAddress,
        now: UnixMillis,
    ) -> TxResult<Vec<Bounced>> {
        let mut statement = self.0.prepare_cached(
            "SELECT r.agent, r.state, r.attempts, r.next_try, r.second, a.mail, a.fallback_mail,
                 o.campaign, o.kind, o.expires, b.bytes
             FROM recipients r JOIN outbox o ON o.envelope = r.envelope
                 JOIN agents a ON a.id = r.agent JOIN bodies b ON b.id = o.body
             WHERE r.envelope = ?1 ORDER BY r.agent",
        )?;
        let mut rows = statement.query(params![envelope.0])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let (in_use, second) = address_in_use(row)?;
            let first = mail(row, "mail")?;
            let is_current = in_use.same_mailbox(address);
            // Late news of the first address: its mail is under way to the second.
            if !is_current && !first.same_mailbox(address) {
                continue;
            }
            let (state, attempts): (String, u32) = (row.get("state")?, row.get("attempts")?);
            // The answer of a relay that bounces at once can be read before its own word is written down.
            let in_hand = state == "queued" && attempts > 0 && time(row, "next_try")? <= now;
            found.push(Bounced {
                agent: agent_id(row, "agent")?,
                campaign: row.get::<_, Option<i64>>("campaign")?.map(CampaignId),
                kind: OrderKind::parse(&row.get::<_, String>("kind")?)?,
                expires: time(row, "expires")?,
                attachment_bytes: unsigned(row, "bytes")?,
                second,
                attempts,
                is_out: is_current && (state == "sent" || in_hand),
            });
        }
        Ok(found)
    }

    /// Puts a mail back into the outbox. False if it is another attempt's by now.
    ///
    /// # Errors
    /// The database's.
    pub fn mail_again(
        &self,
        envelope: EnvelopeId,
        agent: &AgentId,
        attempt: u32,
        again: &MailedAgain,
    ) -> TxResult<bool> {
        let changed = self.0.execute(
            // Counted, so that what the relay says of the attempt before comes too late.
            // Of a body in parts nobody knows which have come: its agent is asked (PROTOCOL 17.6).
            "UPDATE recipients SET state = 'queued', attempts = attempts + 1, next_try = ?4, second = second OR ?5, answer = ?6,
                 failures = 0, wanted = CASE WHEN wanted IS NULL THEN NULL ELSE ?7 END
             WHERE envelope = ?1 AND agent = ?2 AND attempts = ?3 AND state <> 'dropped'",
            params![
                envelope.0,
                agent.as_str(),
                attempt,
                again.at.0,
                again.to_second,
                again.answer,
                to_cbor(&Spans::default())
            ],
        )?;
        Ok(changed == 1)
    }
}
