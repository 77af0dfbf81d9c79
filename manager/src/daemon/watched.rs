//! The daemon's loops as systemd sees them: each says when it will come round again, so that one that hangs is
//! noticed though the others go on.

use std::time::Duration;

use mailio::{MailSettings, Progress};

use super::Shared;

/// Name of the loop that takes mail in.
pub(super) const MAIL_IN: &str = "mail in";
/// Name of the loop that plans.
pub(super) const TICK: &str = "tick";
/// Name of the loop that sends mail.
pub(super) const MAIL_OUT: &str = "mail out";

/// Name of the loop that runs the programs of alerts; one may take a minute.
pub(super) const ALERTS: &str = "alerts";

/// What a loop may take beside its waits: the rate of mails holds one up for a minute at most, and a pass over
/// a large fleet makes the others wait for the thread.
const LATE: Duration = Duration::from_secs(180);

impl Shared {
    /// The mail settings of a loop: every byte that moves is a sign of its life.
    pub(super) fn mail(&self, who: &'static str) -> MailSettings {
        let mut mail = self.config.mail.clone();
        let (service, within) = (self.service.clone(), self.longest_step());
        mail.progress = Progress::to(move || service.promise(who, within));
        mail
    }

    /// A loop begins a step.
    pub(super) fn works(&self, who: &'static str) {
        self.service.promise(who, self.longest_step());
    }

    /// A loop has nothing to do for this long.
    pub(super) fn rests(&self, who: &'static str, rest: Duration) {
        self.service.promise(who, rest.saturating_add(LATE));
    }

    fn longest_step(&self) -> Duration {
        self.config.mail.longest_silence().saturating_add(LATE)
    }
}
