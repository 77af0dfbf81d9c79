//! Mails that did not reach their mailboxes, whether the relay says so or a bounce: asks the core what follows, and writes it down.
//! The same envelope is mailed again, never another one: agents execute an envelope once.

use mailio::{BounceAction, BouncedRecipient, Why};
use manager_core::delivery::{Course, Second, Trouble, Words, course};
use manager_core::{CampaignId, TargetEvent};
use shared::{AgentId, EnvelopeId, UnixMillis};

use super::Shared;
use super::parts::{Narrowed, Refusal, narrow};
use super::taken::apply;
use crate::store::{Bounced, MailedAgain, OrderKind, RecipientOutcome, Tx, TxResult};

/// A mail that one agent did not get.
pub(super) struct Undelivered<'a> {
    pub(super) kind: OrderKind,
    pub(super) campaign: Option<CampaignId>,
    pub(super) expires: UnixMillis,
    pub(super) agent: &'a AgentId,
    pub(super) second: Second,
}

/// What a relay's words mean.
pub(super) fn trouble(why: &Why, attachment_bytes: u64) -> Trouble {
    let enhanced = why.enhanced.as_deref().unwrap_or_default();
    Trouble::of(&Words { code: why.code, enhanced, text: &why.text }, attachment_bytes)
}

/// How a mail goes out once more after it was refused for good; `None`: it does not.
pub(super) fn once_more(
    tx: &Tx<'_>,
    mail: &Undelivered<'_>,
    trouble: &Trouble,
    now: UnixMillis,
) -> TxResult<Option<MailedAgain>> {
    let (mut second, mut again) = (mail.second, true);
    if let (Some(id), OrderKind::Install) = (mail.campaign, mail.kind) {
        let campaign = tx.campaign_for(id, mail.agent)?;
        again = campaign.as_ref().is_some_and(|campaign| campaign.may_mail_again(mail.agent));
        if !campaign.is_some_and(|campaign| campaign.wants_mail()) {
            second = Second::None;
        }
    }
    let (at, to_second) = match course(now, trouble.cause, second, again, mail.expires) {
        Course::Second => (now, true),
        Course::Again(at) => (at, false),
        Course::Over => return Ok(None),
    };
    Ok(Some(MailedAgain { at, to_second, answer: trouble.to_string() }))
}

/// What a campaign hears of it.
pub(super) fn remailed(envelope: EnvelopeId, trouble: &Trouble, again: &MailedAgain) -> TargetEvent {
    let MailedAgain { at, to_second, .. } = *again;
    TargetEvent::Remailed { envelope, trouble: trouble.clone(), at, to_second }
}

/// What an operator can read of it later.
pub(super) fn log_text(what: &str, trouble: &Trouble, again: Option<&MailedAgain>) -> String {
    match again {
        Some(again) if again.to_second => format!("{what}: {trouble}; mailed to its second address"),
        Some(again) => format!("{what}: {trouble}; mailed again at {}", again.at),
        None => format!("{what}: {trouble}"),
    }
}

/// Takes one line of a bounce, about one agent behind the address that it names (PROTOCOL 8.4, 8.5).
pub(super) fn take_line(
    tx: &Tx<'_>,
    shared: &Shared,
    envelope: EnvelopeId,
    line: &BouncedRecipient,
    about: &Bounced,
    now: UnixMillis,
) -> TxResult<()> {
    let words = Words { code: None, enhanced: &line.status, text: &line.text };
    let trouble = Trouble::of(&words, about.attachment_bytes);
    let event = match line.action {
        BounceAction::Failed if about.is_out => match bounced(tx, shared, envelope, about, trouble, now)? {
            Some(event) => event,
            None => return Ok(()),
        },
        BounceAction::Delayed if about.is_out => {
            tx.log(now, about.agent.as_str(), &format!("mail delayed: {trouble}"))?;
            TargetEvent::Stuck(envelope, trouble)
        }
        // Late news, or that it was delivered: only the agent itself can say that.
        BounceAction::Failed
        | BounceAction::Delayed
        | BounceAction::Delivered
        | BounceAction::Relayed
        | BounceAction::Expanded => return Ok(()),
    };
    match about.campaign {
        Some(id) => apply(tx, shared, id, &about.agent, &event, now),
        None => Ok(()),
    }
}

/// `None`: it is about a mail from before the way was known to be narrow.
fn bounced(
    tx: &Tx<'_>,
    shared: &Shared,
    envelope: EnvelopeId,
    about: &Bounced,
    trouble: Trouble,
    now: UnixMillis,
) -> TxResult<Option<TargetEvent>> {
    let &Bounced { ref agent, campaign, kind, expires, second, attempts, .. } = about;
    let mail = Undelivered { kind, campaign, expires, agent, second };
    let again = match narrow(tx, shared, (envelope, agent), &trouble, Refusal::Bounce, now)? {
        Narrowed::Known => return Ok(None),
        Narrowed::Yes => Some(MailedAgain { at: now, to_second: false, answer: trouble.to_string() }),
        Narrowed::No => once_more(tx, &mail, &trouble, now)?,
    };
    tx.log(now, agent.as_str(), &log_text("mail bounced", &trouble, again.as_ref()))?;
    match again {
        Some(again) => {
            tx.mail_again(envelope, agent, attempts, &again)?;
            Ok(Some(remailed(envelope, &trouble, &again)))
        }
        None => {
            let refused = RecipientOutcome::Refused { answer: trouble.to_string() };
            tx.recipient_outcome(envelope, agent, attempts, &refused)?;
            Ok(Some(TargetEvent::Bounced(envelope, trouble)))
        }
    }
}
