//! Install orders that wait: which begins next, what the manager is told of the others, and which can never begin any more.
//! Each begins in the order of arrival, but one whose time has not come holds up no other (PROTOCOL 15.4).

use shared::message::{Hindrance, Outcome, Progress, Refusal, Report, Step, Waiting};
use shared::{EnvelopeId, UnixMillis};

use crate::agent::AgentCore;
use crate::effect::Effect;
use crate::install::{End, Install, Job};
use crate::schedule::Gate;

impl AgentCore {
    /// Tells what each job waits for, and ends those that can never begin any more.
    pub(crate) fn tend_queue(&mut self, now: UnixMillis, out: &mut Vec<Effect>) {
        let mut place = 0;
        while let Some(job) = self.state.queue.get(place) {
            let hindrance = match self.state.gate(job, now) {
                Gate::Open => None,
                // PROTOCOL 15.3
                Gate::Past(hindrance) => Some(hindrance),
                Gate::Closed(Waiting { reason, about, .. }) if job.expires < now => {
                    Some(Hindrance { reason, about })
                }
                Gate::Closed(waiting) => {
                    self.tell_closed(now, place, waiting);
                    None
                }
            };
            match hindrance {
                None => place = place.saturating_add(1),
                Some(hindrance) => {
                    let job = self.state.queue.remove(place);
                    self.over(now, &job, End::too_late(job.order, Some(hindrance)), out);
                }
            }
        }
    }

    /// A wait is worth one mail, and another one when it becomes another.
    fn tell_closed(&mut self, now: UnixMillis, place: usize, waiting: Waiting) {
        let Some(job) = self.state.queue.get_mut(place) else { return };
        if job.told.as_ref() == Some(&waiting) {
            return;
        }
        job.told = Some(waiting.clone());
        let order = job.order;
        self.say(now, Report::Progress(Progress { order, step: Step::Waiting(waiting) }));
    }

    /// Starts the oldest job that may begin, if none runs and no test, and no device is sent anything. What is owed about the files is read first.
    pub(crate) fn begin_next_job(&mut self, now: UnixMillis, out: &mut Vec<Effect>) {
        // An install may end with another program, or a restart of the box: it would break off what goes to a device.
        while !self.state.updates.is_sending()
            && self.state.active.is_none()
            && self.state.owed.is_empty()
            && self.state.tests.is_empty()
        {
            let mut queue = self.state.queue.iter();
            let Some(place) = queue.position(|job| self.state.gate(job, now) == Gate::Open) else { return };
            let mut job = self.state.queue.remove(place);
            self.dirty = true;
            if job.expires < now {
                self.over(now, &job, End::too_late(job.order, None), out);
                continue;
            }
            for older in self.state.queue.iter_mut().take(place) {
                older.overtaken_by = Some(job.order);
            }
            job.told = None;
            let install = Install::Inspecting(job);
            out.extend(install.action(self.state.installed.as_ref(), &self.program));
            self.state.active = Some(install);
        }
    }

    /// Its time is over before it has begun: it waits again, where it was.
    pub(crate) fn put_back(&mut self, job: Job) {
        self.dirty = true;
        let older = |other: &&Job| other.overtaken_by == Some(job.order);
        let place = self.state.queue.iter().take_while(older).count();
        self.state.queue.insert(place, job);
    }

    /// A job that is neither queued nor running any more has ended.
    pub(crate) fn over(&mut self, now: UnixMillis, job: &Job, end: End, out: &mut Vec<Effect>) {
        let installed = matches!(end.outcome, Outcome::Installed | Outcome::AlreadyInstalled);
        self.job_is_over(job, installed);
        self.job_ended(now, end, out);
    }

    /// PROTOCOL 15.4: an older update never undoes a newer one that was not held up.
    pub(crate) fn supersede(&mut self, now: UnixMillis, newer: EnvelopeId, out: &mut Vec<Effect>) {
        let overtaken = |job: &Job| job.overtaken_by == Some(newer);
        while let Some(order) = self.state.queue.iter().find(|job| overtaken(job)).map(|job| job.order) {
            self.take_from_queue(now, order, Refusal::Superseded, out);
        }
    }

    /// Ends a job that waits in the queue as refused. False if it does not.
    pub(crate) fn take_from_queue(
        &mut self,
        now: UnixMillis,
        order: EnvelopeId,
        refusal: Refusal,
        out: &mut Vec<Effect>,
    ) -> bool {
        let Some(place) = self.state.queue.iter().position(|job| job.order == order) else { return false };
        let job = self.state.queue.remove(place);
        self.over(now, &job, End::without_change(order, Outcome::Refused(refusal)), out);
        true
    }

    /// When a job may begin, or ends because it cannot any more.
    pub(crate) fn queue_wake(&self, now: UnixMillis) -> Option<UnixMillis> {
        let closed = self.state.queue.iter().filter_map(|job| match self.state.gate(job, now) {
            // Past its expiry it is to be said that it has expired.
            Gate::Closed(waiting) if waiting.until >= job.expires => {
                Some(job.expires.plus(core::time::Duration::from_millis(1)))
            }
            Gate::Closed(waiting) => Some(waiting.until),
            Gate::Open | Gate::Past(_) => None,
        });
        closed.min()
    }
}
