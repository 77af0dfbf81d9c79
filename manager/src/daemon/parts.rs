//! Bodies that go in parts (PROTOCOL 17): what the next mail brings to whom, requests of agents, and what is learned of the ways to
//! them. The arithmetic is the core's.

use std::fs::File;
use std::path::Path as FilePath;

use manager_core::delivery::{Cause, Trouble};
use manager_core::parts::{Carriage, GATHER, Heads, Load, announced, carriage, mail_bytes};
use shared::envelope::Cut;
use shared::message::{Budget, PartsWanted};
use shared::{AgentId, EnvelopeId, MailAddress, Spans, UnixMillis};

use super::{DaemonError, Shared};
use crate::store::{BodyPlace, BodyRecord, Due, Mailing, Tx, TxResult};

/// Cuts that are remembered: of the bundles that go out now. Making one reads a whole body.
const CUTS_MAX_COUNT: usize = 4;

/// The way to the manager's own relay, and so a part of every way.
const RELAY: &str = "";

/// Bodies that were cut.
#[derive(Debug, Default)]
pub(super) struct Cuts(Vec<((i64, u64), Cut)>);

impl Cuts {
    /// The parts of a body, made now if they are not known.
    pub(super) fn get(&mut self, body: i64, file: &FilePath, part_bytes: u64) -> Result<&Cut, DaemonError> {
        let key = (body, part_bytes);
        let cut = match self.0.iter().position(|(known, _)| *known == key) {
            Some(place) => self.0.remove(place).1,
            None => {
                let failed = |err| DaemonError::File(file.to_owned(), err);
                Cut::of(&mut File::open(file).map_err(failed)?, part_bytes).map_err(failed)?
            }
        };
        self.0.truncate(CUTS_MAX_COUNT.saturating_sub(1));
        self.0.insert(0, (key, cut));
        self.0.first().map(|(_, cut)| cut).ok_or_else(|| {
            DaemonError::File(file.to_owned(), std::io::Error::other("its parts were forgotten"))
        })
    }
}

/// What heads have beside their parts.
fn heads(shared: &Shared, recipients: usize) -> Heads {
    Heads {
        recipients: recipients.max(shared.config.recipients_per_mail),
        introduction_bytes: shared.keys.introduction.len(),
    }
}

/// The largest mail that is tried on the way to an address (PROTOCOL 17.11).
fn mail_max_bytes(tx: &Tx<'_>, shared: &Shared, to: &MailAddress, now: UnixMillis) -> TxResult<u64> {
    let most = tx.path(RELAY)?.mail_max_bytes(shared.config.mail.mail_max_bytes, now);
    Ok(tx.path(to.domain())?.mail_max_bytes(most, now))
}

/// The pieces in which a body goes to an address. What does not fit however it is cut goes whole, and is refused by whoever it is too
/// large for.
fn carriage_to(
    tx: &Tx<'_>,
    shared: &Shared,
    to: &MailAddress,
    (body_bytes, recipients): (u64, usize),
    now: UnixMillis,
) -> TxResult<Option<Carriage>> {
    let most = mail_max_bytes(tx, shared, to, now)?;
    Ok(carriage(body_bytes, most, heads(shared, recipients)))
}

/// The pieces in which a body goes to an agent whose line has a budget (PROTOCOL 17.13).
fn carriage_within(
    tx: &Tx<'_>,
    shared: &Shared,
    to: &MailAddress,
    (body_bytes, recipients): (u64, usize),
    budget: &Budget,
    now: UnixMillis,
) -> TxResult<Option<Carriage>> {
    let most = mail_max_bytes(tx, shared, to, now)?;
    let heads = heads(shared, recipients);
    // A body that would be too many parts for so small a budget goes as it goes to others.
    let within = carriage(body_bytes, most.min(budget.mail_max_bytes()), heads);
    let carriage = within.or_else(|| carriage(body_bytes, most, heads));
    Ok(carriage.map(|carriage| announced(carriage, body_bytes)))
}

/// Chooses what the next mail of an order brings, leaves those of its recipients in it to whom that can go, and gives its size, or 0 if it
/// says nothing of the way.
pub(super) fn choose(
    tx: &Tx<'_>,
    shared: &Shared,
    due: &mut Due,
    body: &BodyRecord,
    now: UnixMillis,
) -> TxResult<(Load, u64)> {
    let BodyPlace::File(_) = &body.place else { return Ok((Load::Whole, 0)) };
    let (body_bytes, count) = (body.sealed.bytes, due.recipients.len());
    let mut carriages = Vec::with_capacity(count);
    for recipient in &due.recipients {
        let size = (body_bytes, count);
        let carriage = match tx.budget(&recipient.agent)? {
            Some(budget) => carriage_within(tx, shared, &recipient.mail, size, &budget, now)?,
            None => carriage_to(tx, shared, &recipient.mail, size, now)?,
        };
        carriages.push(carriage.unwrap_or(Carriage::Whole));
    }
    let mut load = None;
    let mut carriages = carriages.into_iter();
    due.recipients.retain(|recipient| {
        let Some(carriage) = carriages.next() else { return false };
        let wanted = recipient.wanted.as_ref();
        load.get_or_insert_with(|| Load::next(carriage, body_bytes, wanted)).serves(carriage, wanted)
    });
    let load = load.unwrap_or(Load::Whole);
    let heads = heads(shared, count);
    let size = match load {
        Load::Whole => mail_bytes(body_bytes, 1, heads),
        Load::Part { part_bytes, .. } => {
            mail_bytes(part_bytes, Carriage::Parts(part_bytes).mails(body_bytes), heads)
        }
        Load::Head { .. } => 0,
    };
    Ok((load, size))
}

/// Notes that a load has gone out to a recipient. What is still to be mailed to it, if anything.
pub(super) fn gone_out(
    tx: &Tx<'_>,
    envelope: EnvelopeId,
    agent: &AgentId,
    load: Load,
) -> TxResult<Option<Spans>> {
    if load == Load::Whole {
        return Ok(None);
    }
    // Read anew: the agent may have asked meanwhile.
    let Some(record) = tx.parts_of(envelope, agent)? else { return Ok(None) };
    let rest = match load {
        Load::Whole => None,
        Load::Head { .. } => record.wanted.filter(|wanted| !wanted.is_empty()),
        Load::Part { .. } => load.rest(record.body_bytes, record.wanted.as_ref()),
    };
    tx.want_parts(envelope, agent, rest.as_ref().unwrap_or(&Spans::default()))?;
    Ok(rest)
}

/// Whose word it is that a mail is too large.
pub(super) enum Refusal {
    /// The own relay's, before anything was sent: it takes no more than so many bytes.
    Relay(u64),
    /// A server's answer.
    Answer,
    /// A bounce's.
    Bounce,
}

/// What follows from a mail that was too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Narrowed {
    /// The way is narrower than was known: the body goes in smaller parts.
    Yes,
    /// That was known already: it is about a mail from before.
    Known,
    /// Nothing more can be done.
    No,
}

/// Learns from a mail of an order that was too large for the way to one recipient (PROTOCOL 17.11).
pub(super) fn narrow(
    tx: &Tx<'_>,
    shared: &Shared,
    (envelope, agent): (EnvelopeId, &AgentId),
    trouble: &Trouble,
    refusal: Refusal,
    now: UnixMillis,
) -> TxResult<Narrowed> {
    if trouble.cause != Cause::TooBig {
        return Ok(Narrowed::No);
    }
    let Some(record) = tx.parts_of(envelope, agent)?.filter(|record| record.is_file) else {
        return Ok(Narrowed::No);
    };
    let domain = if matches!(refusal, Refusal::Relay(_)) { RELAY } else { record.mail.domain() };
    let mut path = tx.path(domain)?;
    let news = match refusal {
        Refusal::Relay(most) => path.refused(record.mail_bytes, Some(most), now),
        Refusal::Answer => path.refused(record.mail_bytes, None, now),
        Refusal::Bounce => path.bounced(record.mail_bytes, now),
    };
    if news {
        tx.save_path(domain, &path)?;
        let most = path.mail_max_bytes(u64::MAX, now);
        let whom = if domain.is_empty() { "the relay" } else { domain };
        tx.log(now, agent.as_str(), &format!("mails to {whom} are at most {most} bytes from now on"))?;
    }
    let known = match refusal {
        // Another recipient's word on the same mail: the next one is smaller.
        Refusal::Relay(_) | Refusal::Answer => record.mail_bytes > path.mail_max_bytes(u64::MAX, now),
        // The same mail's other parts.
        Refusal::Bounce => path.limit.is_some_and(|(_, at)| at >= record.created),
    };
    let size = (record.body_bytes, 1);
    Ok(match carriage_to(tx, shared, &record.mail, size, now)? {
        Some(_) if news => Narrowed::Yes,
        Some(Carriage::Parts(_)) if known => Narrowed::Known,
        Some(Carriage::Parts(_) | Carriage::Whole) | None => Narrowed::No,
    })
}

/// An agent asks for parts: they go out again, to it and all others that lack them (PROTOCOL 17.7).
pub(super) fn take_ask(
    tx: &Tx<'_>,
    shared: &Shared,
    agent: &AgentId,
    ask: &PartsWanted,
    now: UnixMillis,
) -> TxResult<()> {
    let Some(record) = tx.parts_of(ask.order, agent)? else { return Ok(()) };
    let wants = match record.campaign {
        Some(id) => {
            tx.campaign_for(id, agent)?.is_some_and(|campaign| campaign.wants_parts(agent, ask.order))
        }
        None => false,
    };
    if !wants || !record.is_file || record.mailing == Mailing::Dropped || record.expires <= now {
        return tx.log(now, agent.as_str(), "asks for parts of an order that counts no more");
    }
    let Some(asked) = record.asked.again(now) else {
        return tx.log(now, agent.as_str(), "asks for parts too often: not answered before tomorrow");
    };
    // Until its first part is out, all of them are to go out anyhow.
    if record.mailing == Mailing::Queued && record.wanted.is_none() {
        return Ok(());
    }
    let mut wanted = record.wanted.unwrap_or_default();
    wanted.add_all(&ask.missing);
    wanted.cut_at(record.body_bytes);
    if wanted.is_empty() {
        return Ok(());
    }
    let at = now.plus(GATHER.min(shared.config.retry_min));
    tx.parts_asked(ask.order, agent, &wanted, asked, (now, at))?;
    tx.log(now, agent.as_str(), &format!("asks for {} bytes of an order again", ask.missing.bytes()))
}

/// An agent has all of an order's body: nothing of it goes out to it any more, and its mails are known to have come.
pub(super) fn arrived(tx: &Tx<'_>, agent: &AgentId, order: EnvelopeId) -> TxResult<()> {
    let Some(record) = tx.parts_of(order, agent)?.filter(|record| record.is_file) else { return Ok(()) };
    tx.parts_arrived(order, agent)?;
    let mut path = tx.path(record.mail.domain())?;
    let before = path;
    path.taken(record.mail_bytes);
    if path == before { Ok(()) } else { tx.save_path(record.mail.domain(), &path) }
}
