//! Mail out: has a mail made of each order that is due (`letter`), hands it to the relay, and writes down what the relay said of
//! each recipient. Unknown outcomes are sent again under the same envelope ID.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mailio::{SendError, Sent};
use manager_core::TargetEvent;
use manager_core::delivery::{Cause, Trouble, next_try};
use manager_core::parts::Load;
use shared::error::chain;
use shared::{MailAddress, UnixMillis};

use super::alert_out::{BY_MAIL, mail_next};
use super::flights::{Fleet, Flights, Landed, NotSent, Rate};
use super::letter::Letter;
use super::line::Line;
use super::parts::{Cuts, Narrowed, Refusal, choose, gone_out, narrow};
use super::taken::apply;
use super::undelivered::{Undelivered, log_text, once_more, remailed, trouble};
use super::watched::MAIL_OUT;
use super::{DaemonError, Shared};
use crate::store::{BodyRecord, Due, Recipient, RecipientOutcome, Store, Tx, TxResult};
use crate::system::now;

/// The loop's hands.
pub(super) struct MailOut {
    shared: Arc<Shared>,
    store: Store,
    fleet: Fleet,
    rate: Rate,
    cuts: Cuts,
    sent: u64,
}

impl MailOut {
    pub(super) fn new(shared: &Arc<Shared>) -> Result<Self, DaemonError> {
        Ok(Self {
            shared: Arc::clone(shared),
            store: Store::open(&shared.home.store_path())?,
            fleet: Fleet::new(shared.mail(MAIL_OUT), shared.config.connections),
            rate: Rate::new(shared.config.mails_per_minute),
            cuts: Cuts::default(),
            sent: 0,
        })
    }

    /// Sends everything that is due, over several connections if the operator allows it. After the first failure that is
    /// not about one mail no other is begun. Gives the number of envelopes that were dealt with.
    pub(super) async fn pass(&mut self) -> Result<u64, DaemonError> {
        let (mut count, mut failed) = (0u64, None);
        // Dropped with this pass: what is on its way then was written down as tried.
        let mut flights = Flights::default();
        let (mut line, mut landed) = (Line::default(), Vec::new());
        loop {
            self.shared.works(MAIL_OUT);
            let mut answered = Vec::new();
            for landed in landed.drain(..) {
                let (mail, err) = self.landed(landed)?;
                answered.push(mail);
                failed = failed.or(err);
            }
            let room = if failed.is_none() { self.fleet.width().saturating_sub(flights.count()) } else { 0 };
            let most = room.min(self.rate.tokens());
            let turn = self.turn(&answered, (most, room), &mut line, &flights)?;
            count = count.saturating_add(turn.dealt_with);
            for claimed in turn.claimed {
                self.rate.take();
                self.begin(claimed, &mut flights)?;
            }
            tokio::select! {
                () = self.rate.ready(), if turn.more => {}
                some = flights.next(), if flights.count() > 0 => landed = some,
                else => break,
            }
        }
        match failed {
            Some(err) => Err(err.into()),
            None => Ok(count.saturating_add(self.alerts().await?)),
        }
    }

    /// Writes down, in one transaction, what became of mails, and that the relay is about to be asked about at most so many others, of
    /// those for which there is room.
    fn turn(
        &mut self,
        answered: &[Answered],
        (most, room): (usize, usize),
        line: &mut Line,
        flights: &Flights,
    ) -> Result<Turn, DaemonError> {
        let (at, shared, mut turn) = (now(), &self.shared, Turn::default());
        // Looks first: a write that has nothing to do would wait for the other loops and wake the disk.
        let next = if room > 0 && answered.is_empty() {
            self.store.read(|tx| line.next(tx, at, flights.under_way()))?
        } else {
            None
        };
        if let Some(due) = &next {
            line.back(due);
            turn.more = most == 0;
        }
        if answered.is_empty() && (next.is_none() || turn.more) {
            return Ok(turn);
        }
        self.store.write(|tx| {
            for Answered { due, load, answers } in answered {
                for (recipient, answer) in due.recipients.iter().zip(answers) {
                    note_one(tx, shared, (due, *load), recipient, answer.clone(), at)?;
                }
            }
            let mut under_way = flights.under_way().clone();
            while turn.claimed.len() < room {
                let Some(due) = line.next(tx, at, &under_way)? else { break };
                if due.expires <= at {
                    for recipient in &due.recipients {
                        note_one(tx, shared, (&due, Load::Whole), recipient, Answer::Expired, at)?;
                    }
                } else if turn.claimed.len() < most {
                    let claimed = claim(tx, shared, due, at)?;
                    under_way.add(&claimed.due);
                    turn.claimed.push(claimed);
                } else {
                    line.back(&due);
                    turn.more = true;
                    break;
                }
                turn.dealt_with = turn.dealt_with.saturating_add(1);
            }
            Ok(())
        })?;
        Ok(turn)
    }

    /// Hands a mail to a connection.
    fn begin(&mut self, claimed: Claimed, flights: &mut Flights) -> Result<(), DaemonError> {
        let Claimed { due, body, load } = claimed;
        tracing::debug!(envelope = %due.envelope, recipients = due.recipients.len(), "sending");
        let (to, bytes) = (Addresses::of(&due.recipients).all, body.sealed.bytes);
        let letter = Letter::new(&self.shared, &mut self.cuts, (&due, load), body, to)?;
        flights.begin(self.fleet.sender(), move || letter.seal(), (due, load), bytes);
        Ok(())
    }

    /// What became of each recipient of a mail; with the error of a connection that says nothing about this mail.
    fn landed(&mut self, landed: Landed) -> Result<(Answered, Option<SendError>), DaemonError> {
        let Landed { sender, due, load, attachment_bytes, result } = landed;
        let count = due.recipients.len();
        let (answers, failed) = match result {
            Ok(results) => {
                self.fleet.worked(sender);
                self.sent = self.sent.saturating_add(1);
                let addresses = Addresses::of(&due.recipients);
                let of = |at| addresses.place(at).and_then(|place| results.get(place));
                ((0..count).map(|at| answer(of(at), attachment_bytes)).collect(), None)
            }
            Err(NotSent::Unsealed(err)) => return Err(err.into()),
            // No way of sending this mail will ever work: its recipients learn so, the others go on.
            Err(NotSent::Failed(err @ SendError::TooLarge { limit_bytes, .. })) => {
                self.fleet.worked(sender);
                let trouble = Trouble { cause: Cause::TooBig, text: chain(&err) };
                tracing::error!(envelope = %due.envelope, %trouble, "mail is too large");
                (vec![Answer::Impossible(trouble, limit_bytes); count], None)
            }
            Err(NotSent::Failed(err)) => {
                self.fleet.failed();
                let trouble = Trouble { cause: Cause::Other, text: chain(&err) };
                let at = now().plus(self.shared.config.retry_min);
                (vec![Answer::LaterAt(trouble, at); count], Some(err))
            }
        };
        Ok((Answered { due, load, answers }, failed))
    }

    /// Mails the alerts that are due, after the orders: an order may be what ends a fault.
    async fn alerts(&mut self) -> Result<u64, DaemonError> {
        let mut count = 0u64;
        while self.store.read(|tx| tx.alert_is_due(BY_MAIL, now()))? {
            self.shared.works(MAIL_OUT);
            self.rate.ready().await;
            self.rate.take();
            let mut sender = self.fleet.sender();
            if !mail_next(&self.shared, &mut self.store, &mut sender).await? {
                break;
            }
            self.fleet.back(sender);
            count = count.saturating_add(1);
            self.sent = self.sent.saturating_add(1);
        }
        Ok(count)
    }

    /// Mails handed to the relay since the start.
    pub(super) fn sent_count(&self) -> u64 {
        self.sent
    }

    /// Time until the next recipient is due.
    pub(super) fn next_try(&mut self) -> Result<Option<Duration>, DaemonError> {
        let next = self.store.read(|tx| Ok([tx.next_try()?, tx.next_alert(BY_MAIL)?]))?;
        Ok(next.into_iter().flatten().min().map(|at| at.since(now())))
    }

    pub(super) async fn close(&mut self) {
        self.fleet.close().await;
    }
}

/// What a turn of the loop has done.
#[derive(Default)]
struct Turn {
    claimed: Vec<Claimed>,
    /// Envelopes, those that had expired included.
    dealt_with: u64,
    /// Another could go, if it were not too soon.
    more: bool,
}

/// An order that the relay is about to be asked about, as the store has it.
struct Claimed {
    due: Due,
    body: BodyRecord,
    load: Load,
}

/// A mail that the relay was asked about.
struct Answered {
    due: Due,
    load: Load,
    /// For each of its recipients.
    answers: Vec<Answer>,
}

/// What became of a mail for one recipient.
#[derive(Clone)]
enum Answer {
    /// The relay has taken it.
    Taken,
    /// Not yet.
    Later(Trouble),
    /// Not yet, and this says when it is tried again.
    LaterAt(Trouble, UnixMillis),
    /// Not to this address.
    Never(Trouble),
    /// Not to any: the relay takes mails of at most so many bytes.
    Impossible(Trouble, u64),
    /// The relay was not asked: the order has expired.
    Expired,
}

fn answer(sent: Option<&Sent>, attachment_bytes: u64) -> Answer {
    match sent {
        Some(Sent::Done) => Answer::Taken,
        Some(Sent::Never(why)) => Answer::Never(trouble(why, attachment_bytes)),
        Some(Sent::Later(why)) => Answer::Later(trouble(why, attachment_bytes)),
        None => {
            let text = "the mail server said nothing of this recipient".to_owned();
            Answer::Later(Trouble { cause: Cause::Other, text })
        }
    }
}

/// The addresses of some recipients, each once: of a mailbox that several read, or a list, every mail is one copy for all.
struct Addresses {
    all: Vec<MailAddress>,
    /// Of each recipient.
    places: Vec<usize>,
}

impl Addresses {
    fn of(recipients: &[Recipient]) -> Self {
        let mut known: BTreeMap<String, usize> = BTreeMap::new();
        let (mut all, mut places) = (Vec::new(), Vec::new());
        for recipient in recipients {
            let place = *known.entry(recipient.mail.as_str().to_ascii_lowercase()).or_insert(all.len());
            if place == all.len() {
                all.push(recipient.mail.clone());
            }
            places.push(place);
        }
        Self { all, places }
    }

    fn place(&self, recipient: usize) -> Option<usize> {
        self.places.get(recipient).copied()
    }
}

/// Writes down that the relay is about to be asked. Whoever cancels after this knows that the order may be out there; whoever
/// cancelled before it has stopped it.
fn claim(tx: &Tx<'_>, shared: &Shared, mut due: Due, at: UnixMillis) -> TxResult<Claimed> {
    let body = tx.body(due.body)?;
    let (load, mail_bytes) = choose(tx, shared, &mut due, &body, at)?;
    for recipient in &mut due.recipients {
        tx.count_attempt(due.envelope, &recipient.agent, mail_bytes)?;
        recipient.attempts = recipient.attempts.saturating_add(1);
        if let Some(id) = due.campaign {
            apply(tx, shared, id, &recipient.agent, &TargetEvent::Trying(due.envelope), at)?;
        }
    }
    Ok(Claimed { due, body, load })
}

fn note_one(
    tx: &Tx<'_>,
    shared: &Shared,
    (due, load): (&Due, Load),
    recipient: &Recipient,
    answer: Answer,
    at: UnixMillis,
) -> TxResult<()> {
    let (outcome, event) = follows(tx, shared, (due, load), recipient, answer, at)?;
    if !tx.recipient_outcome(due.envelope, &recipient.agent, recipient.attempts, &outcome)? {
        return Ok(());
    }
    match (due.campaign, event) {
        (Some(id), Some(event)) => apply(tx, shared, id, &recipient.agent, &event, at),
        _ => Ok(()),
    }
}

fn follows(
    tx: &Tx<'_>,
    shared: &Shared,
    (due, load): (&Due, Load),
    recipient: &Recipient,
    answer: Answer,
    now: UnixMillis,
) -> TxResult<(RecipientOutcome, Option<TargetEvent>)> {
    let envelope = due.envelope;
    let later = |trouble: &Trouble, next_try| {
        let event = TargetEvent::Delayed(envelope, trouble.clone(), next_try);
        (RecipientOutcome::Later { next_try, answer: trouble.to_string() }, Some(event))
    };
    let (trouble, again) = match answer {
        Answer::Taken => {
            return Ok(match gone_out(tx, envelope, &recipient.agent, load)? {
                None => (RecipientOutcome::Sent, Some(TargetEvent::Sent(envelope))),
                Some(_) => (RecipientOutcome::More { at: now }, None),
            });
        }
        Answer::Expired => return Ok((RecipientOutcome::Dropped, None)),
        Answer::LaterAt(trouble, at) => return Ok(later(&trouble, at)),
        Answer::Later(trouble) => {
            let (min, max) = (shared.config.retry_min, shared.config.retry_max);
            return Ok(later(&trouble, next_try(now, recipient.failures, min, max)));
        }
        Answer::Impossible(trouble, limit_bytes) => {
            let refusal = Refusal::Relay(limit_bytes);
            if narrow(tx, shared, (envelope, &recipient.agent), &trouble, refusal, now)? != Narrowed::No {
                return Ok(later(&trouble, now));
            }
            (trouble, None)
        }
        Answer::Never(trouble) => {
            let of = (envelope, &recipient.agent);
            if narrow(tx, shared, of, &trouble, Refusal::Answer, now)? != Narrowed::No {
                return Ok(later(&trouble, now));
            }
            let &Due { kind, campaign, expires, .. } = due;
            let Recipient { agent, second, .. } = recipient;
            let mail = Undelivered { kind, campaign, expires, agent, second: *second };
            let again = once_more(tx, &mail, &trouble, now)?;
            (trouble, again)
        }
    };
    tx.log(now, recipient.agent.as_str(), &log_text("mail refused", &trouble, again.as_ref()))?;
    Ok(match again {
        Some(again) => {
            let event = remailed(envelope, &trouble, &again);
            (RecipientOutcome::Again(again), Some(event))
        }
        None => {
            let answer = trouble.to_string();
            (RecipientOutcome::Refused { answer }, Some(TargetEvent::Refused(envelope, trouble)))
        }
    })
}
