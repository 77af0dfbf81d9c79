//! What a mail has brought is kept and applied, in the caller's transaction: reports, requests to enrol, bounces. What it means
//! is asked of `manager-core`; mailboxes are `mail_in`'s.

use std::time::Duration;

use mailio::{Bounce, Disposal};
use manager_core::enrol::{EnrolDecision, decide};
use manager_core::rekey::Belief;
use manager_core::{Applied, TargetEvent};
use shared::error::chain;
use shared::message::{EnrolRequest, Progress, Report, Standing, Step, VersionReport};
use shared::{AgentId, EnvelopeId, UnixMillis};

use super::devices_in::{self, From};
use super::opening::Tried;
use super::undelivered::take_line;
use super::unseal::{Opened, claimed_sender, open_report, open_stranger};
use super::{Shared, carry, parts, rekey};
use crate::store::{NewReport, OrderKind, Sender, Tx, TxResult};

/// An enrolment is answered at most so often: a repeated request must not make us a mail gun.
const ANSWER_PAUSE: Duration = Duration::from_secs(600);

pub(super) fn take_attachment(
    tx: &Tx<'_>,
    shared: &Shared,
    bytes: &[u8],
    tried: Option<Tried>,
    now: UnixMillis,
) -> TxResult<Disposal> {
    let junk = |why: String| {
        tracing::info!(why, "refused a mail");
        tx.log(now, "", &format!("refused a mail: {why}")).map(|()| Disposal::Junk)
    };
    let sender = match claimed_sender(bytes) {
        Ok(sender) => sender,
        Err(err) => return junk(chain(&err)),
    };
    let Some(sender) = tx.sender(sender)? else {
        if shared.config.listens_only {
            return junk("of an agent that was not introduced here".to_owned());
        }
        return match open_stranger(bytes, &shared.keys.open) {
            Ok((opened, request)) => enrol(tx, shared, &opened, &request, now),
            Err(err) => junk(chain(&err)),
        };
    };
    let opened = match tried {
        Some(tried) if tried.key == sender.key => tried.result,
        // A mail before this one has brought the sender, or another key.
        _ => open_report(bytes, &shared.keys.open, &sender.key),
    };
    match opened {
        // PROTOCOL 8.7
        Ok(opened)
            if shared.config.listens_only
                && !matches!(opened.report, Report::Faults(_) | Report::Counters(_)) =>
        {
            junk(format!("from {}: no fault and no counters, and this manager only listens", sender.agent))
        }
        Ok(Opened { report: Report::Enrol(request), envelope, sequence, sender, message }) => {
            let opened =
                Opened { report: Report::Enrol(request.clone()), envelope, sequence, sender, message };
            enrol(tx, shared, &opened, &request, now)
        }
        Ok(opened) => match belief(&sender, opened.sequence, now) {
            Belief::Not => junk(format!("from {}: signed by a key that was replaced", sender.agent)),
            belief => take_report(tx, shared, &sender, &opened, belief, now).map(|()| Disposal::Done),
        },
        Err(err) => junk(format!("from {}: {}", sender.agent, chain(&err))),
    }
}

/// What a report of this sender is worth.
fn belief(sender: &Sender, sequence: u64, now: UnixMillis) -> Belief {
    sender.former.map_or(Belief::Whole, |(_, key)| key.belief(sequence, now))
}

/// Keeps a report, and applies it to every campaign that it can be about.
fn take_report(
    tx: &Tx<'_>,
    shared: &Shared,
    sender: &Sender,
    opened: &Opened,
    belief: Belief,
    now: UnixMillis,
) -> TxResult<()> {
    let agent = &sender.agent;
    let answers = answers(&opened.report);
    let kept = tx.keep_report(&NewReport {
        agent,
        envelope: opened.envelope,
        sequence: opened.sequence,
        received_at: now,
        answers,
        message: &opened.message,
    })?;
    if !kept {
        return match &opened.report {
            Report::Faults(faults) => devices_in::copy_came(tx, agent, faults, now),
            _ => Ok(()),
        };
    }
    tx.heard_under(agent, sender.former.map(|(number, _)| number), opened.sequence, now)?;
    // PROTOCOL 13.6: a late one counts as one that all others have overtaken.
    let sequence = if belief == Belief::Whole { opened.sequence } else { 0 };
    tx.heard(agent, sequence, versions(&opened.report), now)?;
    let from = From { agent, envelope: opened.envelope, sequence, now };
    match &opened.report {
        Report::Standing(standing) => stands(tx, agent, sequence, standing, now)?,
        Report::Rekeyed(rekeyed) => rekey::take(tx, shared, sender, rekeyed, now)?,
        // No campaign is about devices.
        Report::Faults(faults) => return devices_in::take_faults(tx, shared, from, faults),
        Report::Counters(counters) => return devices_in::take_counters(tx, from, counters),
        Report::Progress(Progress { order, step: Step::Received }) => parts::arrived(tx, agent, *order)?,
        Report::Ended(ended) => parts::arrived(tx, agent, ended.order)?,
        Report::Parts(ask) => parts::take_ask(tx, shared, agent, ask, now)?,
        Report::Enrol(_)
        | Report::Progress(_)
        | Report::Versions(_)
        | Report::Cancelled(_)
        | Report::Fetch(_)
        | Report::Tested(_)
        | Report::DeviceUpdates(_) => {}
    }
    let event = TargetEvent::Report { report: Box::new(opened.report.clone()), sequence };
    for id in tx.campaigns_of(agent, answers)? {
        apply(tx, shared, id, agent, &event, now)?;
    }
    Ok(())
}

/// Notes how an agent stands to us.
fn stands(tx: &Tx<'_>, agent: &AgentId, sequence: u64, standing: &Standing, now: UnixMillis) -> TxResult<()> {
    if !tx.stands(agent, sequence, standing)? {
        return Ok(());
    }
    let trust = standing.trust_version;
    let text = match standing.unheard_since {
        Some(since) => format!("has had no heartbeat since {since}: possible freeze (trust version {trust})"),
        None => format!("hears the manager (trust version {trust})"),
    };
    if standing.unheard_since.is_some() {
        tracing::warn!(%agent, text, "possible freeze");
    }
    tx.log(now, agent.as_str(), &text)
}

/// Applies an event to one target and saves what it changed.
pub(super) fn apply(
    tx: &Tx<'_>,
    shared: &Shared,
    id: manager_core::CampaignId,
    agent: &AgentId,
    event: &TargetEvent,
    now: UnixMillis,
) -> TxResult<()> {
    let Some(mut campaign) = tx.campaign_for(id, agent)? else { return Ok(()) };
    let before = campaign.targets.get(agent).cloned();
    if campaign.apply(now, agent, event) == Applied::Changed
        && let Some(target) = campaign.targets.get(agent)
    {
        carry::save_changed(tx, shared, id, agent, before.as_ref(), target, now)?;
        // A mail that was to be sent again some day has nobody who waits for it.
        if target.state.is_end() && before.is_some_and(|before| !before.state.is_end()) {
            tx.drop_queued(id, core::slice::from_ref(agent))?;
        }
    }
    Ok(())
}

fn answers(report: &Report) -> Option<EnvelopeId> {
    match report {
        Report::Enrol(_) => None,
        Report::Progress(progress) => Some(progress.order),
        Report::Ended(ended) => Some(ended.order),
        Report::Versions(versions) => versions.query,
        Report::Cancelled(answer) => Some(answer.order),
        Report::Rekeyed(rekeyed) => Some(rekeyed.order),
        Report::Counters(counters) => counters.query,
        Report::Fetch(fetch) => Some(fetch.schedule),
        Report::Tested(tested) => Some(tested.order),
        Report::Parts(ask) => Some(ask.order),
        Report::DeviceUpdates(updates) => Some(updates.plan),
        Report::Standing(_) | Report::Faults(_) => None,
    }
}

fn versions(report: &Report) -> Option<&VersionReport> {
    match report {
        Report::Ended(ended) => Some(&ended.versions),
        Report::Versions(versions) => Some(&versions.versions),
        Report::Enrol(_)
        | Report::Progress(_)
        | Report::Cancelled(_)
        | Report::Standing(_)
        | Report::Rekeyed(_)
        | Report::Faults(_)
        | Report::Counters(_)
        | Report::Fetch(_)
        | Report::Parts(_)
        | Report::Tested(_)
        | Report::DeviceUpdates(_) => None,
    }
}

/// Decides about an enrolment request; the request is signed by the key inside it.
fn enrol(
    tx: &Tx<'_>,
    shared: &Shared,
    opened: &Opened,
    request: &EnrolRequest,
    now: UnixMillis,
) -> TxResult<Disposal> {
    let enrolment = tx.enrolment(&request.agent)?;
    let agent = request.agent.as_str();
    match decide(enrolment.as_ref(), request, now) {
        EnrolDecision::Accept if tx.key_is_taken(opened.sender, &request.seal_key, &request.agent)? => {
            tx.log(now, agent, "enrolment refused: its key is another agent's (was a home copied?)")?;
            Ok(Disposal::Junk)
        }
        EnrolDecision::Accept => {
            replaced(tx, request, now)?;
            tx.enrol(request, opened.sender, now)?;
            // Also the finished ones: the operator may retry them.
            for id in tx.all_campaigns_of(&request.agent)? {
                apply(tx, shared, id, &request.agent, &TargetEvent::Reenrolled, now)?;
            }
            tx.log(now, agent, &format!("enrolled, reads its mail at {}", request.mail))?;
            tracing::info!(agent, "enrolled");
            rekey::confirm_keys(tx, shared, &request.agent, now).map(|()| Disposal::Done)
        }
        EnrolDecision::AnswerAgain => {
            let last = tx.last_order_at(&request.agent, OrderKind::Enrolled)?;
            if last.is_some_and(|last| now.since(last) < ANSWER_PAUSE) {
                return Ok(Disposal::Done);
            }
            rekey::confirm_keys(tx, shared, &request.agent, now).map(|()| Disposal::Done)
        }
        EnrolDecision::Refuse(why) => {
            tracing::warn!(agent, %why, "enrolment refused");
            tx.log(now, agent, &format!("enrolment refused: {why}"))?;
            Ok(Disposal::Junk)
        }
    }
}

/// With another key it is another box, which knows nothing of the old one's devices.
fn replaced(tx: &Tx<'_>, request: &EnrolRequest, now: UnixMillis) -> TxResult<()> {
    let known = tx.agent(&request.agent)?.and_then(|agent| agent.sign_key);
    if known.is_none_or(|key| key.to_bytes() == request.sign_key) {
        return Ok(());
    }
    tx.counters_of_replaced(&request.agent)?;
    let ended = tx.end_faults_of_replaced(&request.agent, now)?;
    if ended > 0 {
        let text = format!("its box is another one: {ended} open faults of the old one are taken for over");
        tx.log(now, request.agent.as_str(), &text)?;
    }
    Ok(())
}

/// A bounce counts only for a recipient of the envelope that it names (PROTOCOL 8.4).
pub(super) fn take_bounce(
    tx: &Tx<'_>,
    shared: &Shared,
    bounce: &Bounce,
    now: UnixMillis,
) -> TxResult<Disposal> {
    let Some(envelope) = bounce.envelope else { return Ok(Disposal::Junk) };
    if let Some(addressee) = tx.alert_of(envelope)? {
        let text: Vec<&str> = bounce.recipients.iter().map(|recipient| recipient.text.as_str()).collect();
        tx.log(now, "", &format!("an alert bounced ({addressee}): {}", text.join("; ")))?;
        return Ok(Disposal::Done);
    }
    let mut ours = false;
    for recipient in &bounce.recipients {
        for about in tx.recipients_at(envelope, &recipient.address, now)? {
            ours = true;
            take_line(tx, shared, envelope, recipient, &about, now)?;
        }
    }
    Ok(if ours { Disposal::Done } else { Disposal::Junk })
}
