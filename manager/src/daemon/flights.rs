//! Mails on their way to the relay: one task for each, over a connection of its own, and how many there may be at a time
//! and in a minute. Writes nothing down.

use std::time::{Duration, Instant};

use mailio::{MailSettings, Outgoing, SendError, Sender, Sent};
use manager_core::parts::Load;
use shared::envelope::SealError;
use tokio::task::JoinSet;

use super::SHORTEST;
use super::line::UnderWay;
use crate::store::Due;

/// A relay that has refused a connection beside another, or all, is not asked for more than one for so long.
const CROWDED_FOR: Duration = Duration::from_secs(3_600);

/// More than these never go in one turn.
const TOKENS_MAX_COUNT: u32 = 64;

/// The mails on their way. Dropping it ends their connections.
#[derive(Default)]
pub(super) struct Flights {
    tasks: JoinSet<Landed>,
    under_way: UnderWay,
}

/// A mail that was offered to the relay.
pub(super) struct Landed {
    pub(super) sender: Sender,
    pub(super) due: Due,
    pub(super) load: Load,
    pub(super) attachment_bytes: u64,
    pub(super) result: Result<Vec<Sent>, NotSent>,
}

/// Why no recipient of a mail has a result.
pub(super) enum NotSent {
    /// There is no mail.
    Unsealed(SealError),
    /// The way out.
    Failed(SendError),
}

impl Flights {
    pub(super) fn count(&self) -> usize {
        self.tasks.len()
    }

    /// Whom the mails are for.
    pub(super) fn under_way(&self) -> &UnderWay {
        &self.under_way
    }

    /// Has a mail made, on another core, and sent. `due` is added to those under way.
    pub(super) fn begin(
        &mut self,
        mut sender: Sender,
        make: impl FnOnce() -> Result<Outgoing, SealError> + Send + 'static,
        (due, load): (Due, Load),
        attachment_bytes: u64,
    ) {
        self.under_way.add(&due);
        self.tasks.spawn(async move {
            let result = match unpanicked(tokio::task::spawn_blocking(make).await) {
                Ok(mail) => sender.send(&mail).await.map_err(NotSent::Failed),
                Err(err) => Err(NotSent::Unsealed(err)),
            };
            Landed { sender, due, load, attachment_bytes, result }
        });
    }

    /// Those that the relay has answered: at least one, or none if none is on its way.
    pub(super) async fn next(&mut self) -> Vec<Landed> {
        let mut joined: Vec<_> = self.tasks.join_next().await.into_iter().collect();
        while let Some(next) = self.tasks.try_join_next() {
            joined.push(next);
        }
        let landed: Vec<Landed> = joined.into_iter().map(unpanicked).collect();
        for Landed { due, .. } in &landed {
            self.under_way.remove(due);
        }
        landed
    }
}

/// What a task gave. Nobody ends tasks: what ends one is a panic, and goes on being one.
fn unpanicked<T>(joined: Result<T, tokio::task::JoinError>) -> T {
    joined.unwrap_or_else(|err| std::panic::resume_unwind(err.into_panic()))
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
            self.refill();
            if self.tokens >= 1.0 {
                return;
            }
            let missing = Duration::from_secs_f64((1.0 - self.tokens) * 60.0 / self.per_minute);
            tokio::time::sleep(missing.max(SHORTEST)).await;
        }
    }

    /// How many mails may go now.
    pub(super) fn tokens(&mut self) -> usize {
        self.refill();
        (1..=TOKENS_MAX_COUNT).take_while(|n| f64::from(*n) <= self.tokens).count()
    }

    fn refill(&mut self) {
        let now = Instant::now();
        let refill = now.duration_since(self.at).as_secs_f64() * self.per_minute / 60.0;
        self.tokens = (self.tokens + refill).min(self.per_minute);
        self.at = now;
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
