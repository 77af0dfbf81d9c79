//! The agent's one loop as systemd sees it: how long the next step may take, and what it is. Decides nothing;
//! without systemd it says nothing.

use std::time::Duration;

use agent_core::{Enrolment, State};
use service::Service;
use shared::time::format_duration;

/// Name of the loop in the log.
const LOOP: &str = "agent";

/// A busy box may be late by so much.
const LATE: Duration = Duration::from_secs(60);

/// The word that the loop goes on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Alive {
    service: Service,
    step: Duration,
}

impl Alive {
    /// `step`: the longest time that anything but a script and a rest may take in silence.
    pub(crate) fn new(service: Service, step: Duration) -> Self {
        Self { service, step }
    }

    /// A step begins, or goes on.
    pub(crate) fn step(&self) {
        self.for_up_to(self.step);
    }

    /// A step of known length begins.
    pub(crate) fn for_up_to(&self, limit: Duration) {
        self.service.promise(LOOP, limit.saturating_add(LATE));
    }

    /// Shows what the agent does.
    pub(crate) fn show(&self, state: &State, poll: Duration) {
        self.service.status(&doing(state, poll));
    }
}

fn doing(state: &State, poll: Duration) -> String {
    let mut text =
        format!("polling every {}, {} reports wait", format_duration(poll), state.outbox.waiting.len());
    if state.enrolment != Enrolment::Accepted {
        text.push_str(", the manager has not answered the enrolment yet");
    }
    let Some(install) = &state.active else {
        let first = state.queue.iter().find_map(|job| Some((&job.target, job.told.as_ref()?.reason)));
        let waits = first.map(|(target, why)| format!(", {target} is not installed yet: {why}"));
        return text + &waits.unwrap_or_default();
    };
    let target = &install.job().target;
    match install.waiting() {
        None => format!("installing {target}: {}", install.name()),
        Some(wait) => format!("{text}, {target} is not installed yet: {}", wait.reason),
    }
}
