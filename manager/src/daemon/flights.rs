//! Mails on their way to the relay: one task for each, over a connection of its own, and how many there may be at a time
//! and in a minute. Writes nothing down.

use std::time::{Duration, Instant};

use mailio::{MailSettings, Outgoing, SendError, Sender, Sent};
use manager_core::parts::Load;
use shared::EnvelopeId;
use tokio::task::JoinSet;

use super::SHORTEST;
use crate::store::Due;

/// A relay that has refused a connection beside another, or all, is not asked for more than one for so long.
const CROWDED_FOR: Duration = Duration::from_secs(3_600);

/// The mails on their way. Dropping it ends their connections.
#[derive(Default)]
pub(super) struct Flights {
    tasks: JoinSet<Landed>,
    envelopes: Vec<EnvelopeId>,
}

/// A mail that was offered to the relay.
pub(super) struct Landed {
    pub(super) sender: Sender,
    pub(super) due: Due,
    pub(super) load: Load,
    pub(super) attachment_bytes: u64,
    pub(super) result: Result<Vec<Sent>, SendError>,
}

impl Flights {
    pub(super) fn count(&self) -> usize {
        self.envelopes.len()
    }

    /// The envelopes in the mails.
    pub(super) fn envelopes(&self) -> &[EnvelopeId] {
        &self.envelopes
    }

    pub(super) fn begin(
        &mut self,
        mut sender: Sender,
        mail: Outgoing,
        (due, load): (Due, Load),
        attachment_bytes: u64,
    ) {
        self.envelopes.push(due.envelope);
        self.tasks.spawn(async move {
            let result = sender.send(&mail).await;
            Landed { sender, due, load, attachment_bytes, result }
        });
    }

    /// The next one that the relay has answered; `None` if none is on its way.
    pub(super) async fn next(&mut self) -> Option<Landed> {
        match self.tasks.join_next().await? {
            Ok(landed) => {
                self.envelopes.retain(|envelope| *envelope != landed.due.envelope);
                Some(landed)
            }
            // Nobody ends these tasks: it was a panic, and goes on being one.
            Err(err) => match err.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => None,
            },
        }
    }
}

/// The connections to the relay.
pub(super) struct Fleet {
    settings: MailSettings,
    most: usize,
    idle: Vec<Sender>,
    /// Mails have gone through since the last failure.
    proven: bool,
    crowded_until: Option<Instant>,
}

impl Fleet {
    pub(super) fn new(settings: MailSettings, most: usize) -> Self {
        Self { settings, most, idle: Vec::new(), proven: false, crowded_until: None }
    }

    /// How many mails may be on their way. One, until the relay has shown that it takes mail: a wrong password is tried
    /// once, not once for each connection.
    pub(super) fn width(&self) -> usize {
        let crowded = self.crowded_until.is_some_and(|until| Instant::now() < until);
        if self.proven && !crowded { self.most } else { 1 }
    }

    /// A connection that is not in use: one that is open already, if there is one.
    pub(super) fn sender(&mut self) -> Sender {
        self.idle.pop().unwrap_or_else(|| Sender::new(self.settings.clone()))
    }

    /// This one has sent a mail, or could have.
    pub(super) fn worked(&mut self, sender: Sender) {
        self.proven = true;
        self.back(sender);
    }

    /// This one can be used again.
    pub(super) fn back(&mut self, sender: Sender) {
        self.idle.push(sender);
    }

    /// One was lost, or never came about.
    pub(super) fn failed(&mut self) {
        if self.proven && self.most > 1 {
            self.crowded_until = Instant::now().checked_add(CROWDED_FOR);
        }
        self.proven = false;
    }

    pub(super) async fn close(&mut self) {
        for mut sender in self.idle.drain(..) {
            sender.close().await;
        }
    }
}

/// Mails per minute: providers block an account that is faster. A minute's worth may go at once.
pub(super) struct Rate {
    per_minute: f64,
    tokens: f64,
    at: Instant,
}

impl Rate {
    pub(super) fn new(per_minute: u32) -> Self {
        let per_minute = f64::from(per_minute);
        Self { per_minute, tokens: per_minute, at: Instant::now() }
    }

    /// Completes when a mail may go. May be dropped and called again.
    pub(super) async fn ready(&mut self) {
        loop {
            let now = Instant::now();
            let refill = now.duration_since(self.at).as_secs_f64() * self.per_minute / 60.0;
            self.tokens = (self.tokens + refill).min(self.per_minute);
            self.at = now;
            if self.tokens >= 1.0 {
                return;
            }
            let missing = Duration::from_secs_f64((1.0 - self.tokens) * 60.0 / self.per_minute);
            tokio::time::sleep(missing.max(SHORTEST)).await;
        }
    }

    /// A mail goes.
    pub(super) fn take(&mut self) {
        self.tokens -= 1.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fleet(most: usize) -> Fleet {
        let address = shared::MailAddress::parse("manager@lab.test").unwrap();
        let place = |path: &str| std::path::PathBuf::from(path);
        let (send, receive) =
            (mailio::SendUrl::Spool(place("/none")), mailio::ReceiveUrl::Spool(place("/none")));
        Fleet::new(MailSettings::new(address, send, receive), most)
    }

    #[test]
    fn one_mail_goes_first_and_after_a_failure() {
        let mut fleet = fleet(4);
        assert_eq!(fleet.width(), 1);
        fleet.failed();
        assert_eq!((fleet.width(), fleet.crowded_until), (1, None), "nothing has worked yet");
        let sender = fleet.sender();
        fleet.worked(sender);
        assert_eq!(fleet.width(), 4);
        fleet.failed();
        let sender = fleet.sender();
        fleet.worked(sender);
        assert_eq!(fleet.width(), 1, "the relay may not want so many");
        fleet.crowded_until = Some(Instant::now());
        assert_eq!(fleet.width(), 4, "and is asked again some day");
    }

    #[tokio::test]
    async fn a_minute_s_worth_goes_at_once_and_then_one_by_one() {
        let mut rate = Rate::new(1_200);
        let began = Instant::now();
        for _ in 0..1_200 {
            rate.ready().await;
            rate.take();
        }
        let burst = began.elapsed();
        for _ in 0..4 {
            // Whoever stops waiting loses nothing by it.
            let _ = tokio::time::timeout(Duration::from_millis(1), rate.ready()).await;
            rate.ready().await;
            rate.take();
        }
        assert!(began.elapsed() >= Duration::from_millis(150), "{burst:?}, {:?}", began.elapsed());
    }
}
