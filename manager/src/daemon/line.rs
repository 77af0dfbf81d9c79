//! The orders that are due, in their turn. Looks through the outbox once for many of them: it may hold a fleet's. Decides who goes
//! next, beside those that are on their way; says nothing of when.

use std::collections::{BTreeSet, VecDeque};

use shared::{AgentId, EnvelopeId, UnixMillis};

use crate::store::{Due, Tx, TxResult};

/// Orders that one look finds. One that is put into the outbox later, or is due again, waits for no more mails than these.
const AHEAD_MAX_COUNT: usize = 256;

/// Orders that are passed over while others are on their way. A fleet's orders have few agents in common; if those at
/// the head have, the rest waits for them.
const PASSED_OVER_MAX_COUNT: usize = 64;

/// Who is on his way.
#[derive(Clone, Debug, Default)]
pub(super) struct UnderWay {
    pub(super) envelopes: BTreeSet<EnvelopeId>,
    pub(super) agents: BTreeSet<AgentId>,
}

impl UnderWay {
    pub(super) fn add(&mut self, due: &Due) {
        self.envelopes.insert(due.envelope);
        self.agents.extend(due.recipients.iter().map(|recipient| recipient.agent.clone()));
    }

    pub(super) fn remove(&mut self, due: &Due) {
        self.envelopes.remove(&due.envelope);
        for recipient in &due.recipients {
            self.agents.remove(&recipient.agent);
        }
    }
}

/// The line.
#[derive(Debug, Default)]
pub(super) struct Line(VecDeque<EnvelopeId>);

impl Line {
    /// The next order whose turn it is, which leaves the line. It is read anew: an operator may have cancelled it. No agent's order
    /// overtakes one before it, which may be the schedule that it waits for (PROTOCOL 15.8).
    pub(super) fn next(
        &mut self,
        tx: &Tx<'_>,
        now: UnixMillis,
        under_way: &UnderWay,
    ) -> TxResult<Option<Due>> {
        if self.0.is_empty() {
            self.0 = tx.due_line(now, AHEAD_MAX_COUNT)?.into();
        }
        let mut waits = under_way.agents.clone();
        let mut place = 0usize;
        while place < PASSED_OVER_MAX_COUNT {
            let Some(envelope) = self.0.get(place) else { break };
            let Some(due) = tx.due_of(*envelope, now)? else {
                self.0.remove(place);
                continue;
            };
            let behind = due.recipients.iter().any(|recipient| waits.contains(&recipient.agent));
            if !behind && !under_way.envelopes.contains(&due.envelope) {
                self.0.remove(place);
                // What is said in a kilobyte does not wait until gigabytes have gone out: look anew after each bundle.
                if due.is_last() {
                    self.0.clear();
                }
                return Ok(Some(due));
            }
            waits.extend(due.recipients.into_iter().map(|recipient| recipient.agent));
            place = place.saturating_add(1);
        }
        // All that is in the line is on its way, or waits for that: who else is due?
        self.0.clear();
        Ok(None)
    }

    /// Puts an order back to where it was.
    pub(super) fn back(&mut self, due: &Due) {
        self.0.push_front(due.envelope);
    }
}
