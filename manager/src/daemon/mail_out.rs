//! Mail out: seals a header over a kept body for the recipients that are due, hands the mail to the relay,
//! and writes down what the relay said of each. Unknown outcomes are sent again under the same envelope ID.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mailio::{Attachment, AutoKind, Outgoing, SendError, Sent};
use manager_core::TargetEvent;
use manager_core::delivery::{Cause, Trouble, next_try};
use manager_core::parts::Load;
use shared::envelope::{NewHeader, seal_head, seal_part_head};
use shared::{EnvelopeId, MailAddress, UnixMillis};

use super::alert_out::{BY_MAIL, mail_next};
use super::flights::{Fleet, Flights, Landed, Rate};
use super::parts::{Cuts, Narrowed, Refusal, choose, gone_out, narrow};
use super::taken::apply;
use super::undelivered::{Undelivered, log_text, once_more, remailed, trouble};
use super::watched::MAIL_OUT;
use super::{DaemonError, Shared};
use crate::store::{BodyPlace, BodyRecord, Due, Recipient, RecipientOutcome, Store, Tx, TxResult};
use crate::system::{now, rng};
use shared::error::chain;

const NOTE: &str = "This mail carries a sealed order of a mailfleet manager for the machines that read this mailbox.\n\
                    It is not meant for people: please leave it in place.\n";

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
        loop {
            let mut next = None;
            if failed.is_none() && flights.count() < self.fleet.width() {
                next = self.store.read(|tx| tx.next_due_beside(now(), flights.envelopes()))?;
            }
            self.shared.works(MAIL_OUT);
            match next {
                Some(due) if due.expires <= now() => {
                    count = count.saturating_add(1);
                    self.note(&due, Load::Whole, |_| Answer::Expired)?;
                }
                Some(_) => tokio::select! {
                    () = self.rate.ready() => {
                        self.rate.take();
                        count = count.saturating_add(1);
                        self.begin(&mut flights)?;
                    }
                    Some(landed) = flights.next() => failed = failed.or(self.landed(landed)?),
                },
                None => match flights.next().await {
                    Some(landed) => failed = failed.or(self.landed(landed)?),
                    None => break,
                },
            }
        }
        match failed {
            Some(err) => Err(err.into()),
            None => Ok(count.saturating_add(self.alerts().await?)),
        }
    }

    /// Hands the next mail to a connection. Read anew: while this loop waited for its turn, an operator may have cancelled.
    fn begin(&mut self, flights: &mut Flights) -> Result<(), DaemonError> {
        let claimed = self.store.write(|tx| claim(tx, &self.shared, now(), flights.envelopes()))?;
        let Some((due, body, load)) = claimed else { return Ok(()) };
        let mail = self.compose(&due, &body, load, Addresses::of(&due.recipients).all)?;
        tracing::debug!(envelope = %due.envelope, recipients = due.recipients.len(), "sending");
        flights.begin(self.fleet.sender(), mail, (due, load), body.sealed.bytes);
        Ok(())
    }

    /// Writes down what became of a mail. Gives the error of a connection that says nothing about this mail.
    fn landed(&mut self, landed: Landed) -> Result<Option<SendError>, DaemonError> {
        let Landed { sender, due, load, attachment_bytes, result } = landed;
        let due = &due;
        match result {
            Ok(results) => {
                self.fleet.worked(sender);
                self.sent = self.sent.saturating_add(1);
                let addresses = Addresses::of(&due.recipients);
                let of = |at| addresses.place(at).and_then(|place| results.get(place));
                self.note(due, load, |at| answer(of(at), attachment_bytes))?;
            }
            // No way of sending this mail will ever work: its recipients learn so, the others go on.
            Err(err @ SendError::TooLarge { limit_bytes, .. }) => {
                self.fleet.worked(sender);
                let trouble = Trouble { cause: Cause::TooBig, text: chain(&err) };
                tracing::error!(envelope = %due.envelope, %trouble, "mail is too large");
                self.note(due, load, |_| Answer::Impossible(trouble.clone(), limit_bytes))?;
            }
            Err(err) => {
                self.fleet.failed();
                let trouble = Trouble { cause: Cause::Other, text: chain(&err) };
                let at = now().plus(self.shared.config.retry_min);
                self.note(due, load, |_| Answer::LaterAt(trouble.clone(), at))?;
                return Ok(Some(err));
            }
        }
        Ok(None)
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

    fn compose(
        &mut self,
        due: &Due,
        body: &BodyRecord,
        load: Load,
        to: Vec<MailAddress>,
    ) -> Result<Outgoing, DaemonError> {
        let header = NewHeader {
            id: due.envelope,
            created: due.created,
            expires: due.expires,
            sequence: due.sequence,
            body: body.sealed,
        };
        let recipients: Vec<_> = due.recipients.iter().map(|r| r.seal_key.clone()).collect();
        let keys = &self.shared.keys;
        let file = |name| self.shared.home.bodies().join(name);
        let head = match (load, &body.place) {
            (Load::Part { part_bytes, .. } | Load::Head { part_bytes }, BodyPlace::File(name)) => {
                let part = if let Load::Part { index, .. } = load { Some(index) } else { None };
                let cut = self.cuts.get(due.body, &file(name), part_bytes)?;
                seal_part_head(&header, (cut, part), &body.key, &recipients, &keys.order, &mut rng())?
            }
            _ => seal_head(&header, &body.key, &recipients, &keys.order, &mut rng())?,
        };
        // PROTOCOL 11.5: an agent that does not know the order key yet learns of it here.
        let head = [keys.introduction.as_slice(), &head].concat();
        let attachment = match (&body.place, load) {
            (BodyPlace::Here(bytes), _) => Attachment::Bytes([head.as_slice(), bytes].concat()),
            (BodyPlace::File(name), Load::Whole) => Attachment::HeadAndFile { head, file: file(name) },
            (BodyPlace::File(name), Load::Part { span, .. }) => {
                let (from, bytes) = (span.from, span.bytes());
                Attachment::HeadAndSlice { head, file: file(name), from, bytes }
            }
            (BodyPlace::File(_), Load::Head { .. }) => Attachment::Bytes(head),
        };
        Ok(Outgoing {
            from: self.shared.config.mail.address.clone(),
            to,
            envelope: due.envelope,
            subject: "order".to_owned(),
            note: NOTE.to_owned(),
            date: now(),
            in_reply_to: None,
            auto: AutoKind::Generated,
            attachment,
        })
    }

    /// Writes down, in one transaction, what became of each recipient, by its place.
    fn note(&mut self, due: &Due, load: Load, answer: impl Fn(usize) -> Answer) -> Result<(), DaemonError> {
        let at = now();
        self.store.write(|tx| {
            for (place, recipient) in due.recipients.iter().enumerate() {
                note_one(tx, &self.shared, (due, load), recipient, answer(place), at)?;
            }
            Ok(())
        })?;
        Ok(())
    }
}

/// What became of a mail for one recipient.
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

/// Takes the next order that is due and writes down that the relay is about to be asked. Whoever cancels
/// after this knows that the order may be out there; whoever cancelled before it has stopped it.
fn claim(
    tx: &Tx<'_>,
    shared: &Shared,
    at: UnixMillis,
    flying: &[EnvelopeId],
) -> TxResult<Option<(Due, BodyRecord, Load)>> {
    let Some(mut due) = tx.next_due_beside(at, flying)? else { return Ok(None) };
    let body = tx.body(due.body)?;
    let (load, mail_bytes) = choose(tx, shared, &mut due, &body, at)?;
    for recipient in &mut due.recipients {
        tx.count_attempt(due.envelope, &recipient.agent, mail_bytes)?;
        recipient.attempts = recipient.attempts.saturating_add(1);
        if let Some(id) = due.campaign {
            apply(tx, shared, id, &recipient.agent, &TargetEvent::Trying(due.envelope), at)?;
        }
    }
    Ok(Some((due, body, load)))
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
