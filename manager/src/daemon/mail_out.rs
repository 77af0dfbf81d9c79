//! Mail out: seals a header over a kept body for the recipients that are due, hands the mail to the relay,
//! and writes down what the relay said of each. Unknown outcomes are sent again under the same envelope ID.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mailio::{Attachment, AutoKind, Outgoing, SendError, Sender, Sent};
use manager_core::{Delay, TargetEvent};
use shared::UnixMillis;
use shared::envelope::{NewHeader, seal_head};

use super::alert_out::{BY_MAIL, mail_next};
use super::mail_in::apply;
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
    sender: Sender,
    rate: Rate,
    sent: u64,
}

impl MailOut {
    pub(super) fn new(shared: &Arc<Shared>) -> Result<Self, DaemonError> {
        Ok(Self {
            shared: Arc::clone(shared),
            store: Store::open(&shared.home.store_path())?,
            sender: Sender::new(shared.mail(MAIL_OUT)),
            rate: Rate::new(shared.config.mails_per_minute),
            sent: 0,
        })
    }

    /// Sends everything that is due. Stops at the first failure that is not about one mail. Gives the number
    /// of envelopes that were dealt with.
    pub(super) async fn pass(&mut self) -> Result<u64, DaemonError> {
        let mut count = 0u64;
        while let Some(due) = self.store.read(|tx| tx.next_due(now()))? {
            count = count.saturating_add(1);
            self.shared.works(MAIL_OUT);
            if due.expires <= now() {
                self.note(&due, |_| (RecipientOutcome::Dropped, None))?;
                continue;
            }
            self.rate.wait().await;
            // Read anew: while this loop waited for its turn, an operator may have cancelled.
            if let Some((due, body)) = self.store.write(|tx| claim(tx, &self.shared, now()))? {
                self.send(&due, &body).await?;
            }
        }
        Ok(count.saturating_add(self.alerts().await?))
    }

    /// Mails the alerts that are due, after the orders: an order may be what ends a fault.
    async fn alerts(&mut self) -> Result<u64, DaemonError> {
        let mut count = 0u64;
        while self.store.read(|tx| tx.alert_is_due(BY_MAIL, now()))? {
            self.shared.works(MAIL_OUT);
            self.rate.wait().await;
            if !mail_next(&self.shared, &mut self.store, &mut self.sender).await? {
                break;
            }
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
        self.sender.close().await;
    }

    async fn send(&mut self, due: &Due, body: &BodyRecord) -> Result<(), DaemonError> {
        let mail = self.compose(due, body)?;
        tracing::debug!(envelope = %due.envelope, recipients = due.recipients.len(), "sending");
        match self.sender.send(&mail).await {
            Ok(results) => {
                self.sent = self.sent.saturating_add(1);
                let mut results = results.into_iter();
                let at = now();
                let shared = Arc::clone(&self.shared);
                self.note(due, |recipient| outcome(&shared, due, recipient, results.next(), at))
            }
            // No way of sending this mail will ever work: its recipients learn so, the others go on.
            Err(err @ SendError::TooLarge { .. }) => {
                let text = chain(&err);
                tracing::error!(envelope = %due.envelope, text, "mail is too large");
                self.note(due, |_| {
                    let event = TargetEvent::Refused(due.envelope, text.clone());
                    (RecipientOutcome::Refused { answer: text.clone() }, Some(event))
                })
            }
            Err(err) => {
                let answer = chain(&err);
                let next_try = now().plus(self.shared.config.retry_min);
                self.note(due, |_| {
                    let delay = Delay { text: answer.clone(), next_try };
                    let event = TargetEvent::Delayed(due.envelope, delay);
                    (RecipientOutcome::Later { next_try, answer: answer.clone() }, Some(event))
                })?;
                Err(err.into())
            }
        }
    }

    fn compose(&self, due: &Due, body: &BodyRecord) -> Result<Outgoing, DaemonError> {
        let header = NewHeader {
            id: due.envelope,
            created: due.created,
            expires: due.expires,
            sequence: due.sequence,
            body: body.sealed,
        };
        let recipients: Vec<_> = due.recipients.iter().map(|r| r.seal_key.clone()).collect();
        let keys = &self.shared.keys;
        let head = seal_head(&header, &body.key, &recipients, &keys.order, &mut rng())?;
        // PROTOCOL 11.5: an agent that does not know the order key yet learns of it here.
        let head = [keys.introduction.as_slice(), &head].concat();
        let attachment = match &body.place {
            BodyPlace::Here(bytes) => Attachment::Bytes([head.as_slice(), bytes].concat()),
            BodyPlace::File(name) => {
                Attachment::HeadAndFile { head, file: self.shared.home.bodies().join(name) }
            }
        };
        Ok(Outgoing {
            from: self.shared.config.mail.address.clone(),
            to: due.recipients.iter().map(|r| r.mail.clone()).collect(),
            envelope: due.envelope,
            subject: "order".to_owned(),
            note: NOTE.to_owned(),
            date: now(),
            in_reply_to: None,
            auto: AutoKind::Generated,
            attachment,
        })
    }

    /// Writes down, in one transaction, what became of each recipient.
    fn note(
        &mut self,
        due: &Due,
        mut outcome: impl FnMut(&Recipient) -> (RecipientOutcome, Option<TargetEvent>),
    ) -> Result<(), DaemonError> {
        let at = now();
        let outcomes: Vec<_> = due.recipients.iter().map(|r| (r, outcome(r))).collect();
        self.store.write(|tx| {
            for (recipient, (outcome, event)) in &outcomes {
                note_one(tx, &self.shared, due, recipient, outcome, event.as_ref(), at)?;
            }
            Ok(())
        })?;
        Ok(())
    }
}

/// Takes the next order that is due and writes down that the relay is about to be asked. Whoever cancels
/// after this knows that the order may be out there; whoever cancelled before it has stopped it.
fn claim(tx: &Tx<'_>, shared: &Shared, at: UnixMillis) -> TxResult<Option<(Due, BodyRecord)>> {
    let Some(due) = tx.next_due(at)? else { return Ok(None) };
    for recipient in &due.recipients {
        tx.count_attempt(due.envelope, &recipient.agent)?;
        if let Some(id) = due.campaign {
            apply(tx, shared, id, &recipient.agent, &TargetEvent::Trying(due.envelope), at)?;
        }
    }
    let body = tx.body(due.body)?;
    Ok(Some((due, body)))
}

fn note_one(
    tx: &Tx<'_>,
    shared: &Shared,
    due: &Due,
    recipient: &Recipient,
    outcome: &RecipientOutcome,
    event: Option<&TargetEvent>,
    at: UnixMillis,
) -> TxResult<()> {
    tx.recipient_outcome(due.envelope, &recipient.agent, outcome)?;
    if let RecipientOutcome::Refused { answer } = outcome {
        tx.log(at, recipient.agent.as_str(), &format!("mail refused: {answer}"))?;
    }
    match (due.campaign, event) {
        (Some(id), Some(event)) => apply(tx, shared, id, &recipient.agent, event, at),
        _ => Ok(()),
    }
}

fn outcome(
    shared: &Shared,
    due: &Due,
    recipient: &Recipient,
    result: Option<Sent>,
    at: UnixMillis,
) -> (RecipientOutcome, Option<TargetEvent>) {
    match result {
        Some(Sent::Done) => (RecipientOutcome::Sent, Some(TargetEvent::Sent(due.envelope))),
        Some(Sent::Never(why)) => {
            let answer = why.to_string();
            let event = TargetEvent::Refused(due.envelope, answer.clone());
            (RecipientOutcome::Refused { answer }, Some(event))
        }
        later => {
            let answer = match later {
                Some(Sent::Later(why)) => why.to_string(),
                _ => "the mail server said nothing of this recipient".to_owned(),
            };
            let factor = 1u32.checked_shl(recipient.attempts.min(16)).unwrap_or(1);
            let pause = shared.config.retry_min.saturating_mul(factor).min(shared.config.retry_max);
            let delay = Delay { text: answer.clone(), next_try: at.plus(pause) };
            let event = TargetEvent::Delayed(due.envelope, delay);
            (RecipientOutcome::Later { next_try: at.plus(pause), answer }, Some(event))
        }
    }
}

/// Mails per minute: providers block an account that is faster. A minute's worth may go at once.
struct Rate {
    per_minute: f64,
    tokens: f64,
    at: Instant,
}

impl Rate {
    fn new(per_minute: u32) -> Self {
        let per_minute = f64::from(per_minute);
        Self { per_minute, tokens: per_minute, at: Instant::now() }
    }

    async fn wait(&mut self) {
        let now = Instant::now();
        let refill = now.duration_since(self.at).as_secs_f64() * self.per_minute / 60.0;
        self.tokens = (self.tokens + refill).min(self.per_minute);
        self.at = now;
        if self.tokens < 1.0 {
            let missing = Duration::from_secs_f64((1.0 - self.tokens) * 60.0 / self.per_minute);
            tokio::time::sleep(missing).await;
            self.at = Instant::now();
            self.tokens = 1.0;
        }
        self.tokens -= 1.0;
    }
}
