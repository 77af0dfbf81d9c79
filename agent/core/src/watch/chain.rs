//! Where the agent's chain of readings stands, and where the manager's copy of it does. Usually the manager's is behind. If it
//! is ahead, or another, this disk holds an older copy of what it held: then another chain begins, for a place in a chain is
//! given out once (PROTOCOL 14.4, 14.10).
//!
//! Not here: the readings. They lie in files of the shell's, which compares, drops and carries them over.

use shared::device::DeviceName;
use shared::message::{Acknowledge, CounterReport, ReadingMark, Report};
use shared::{EnvelopeId, UnixMillis};

use crate::agent::AgentCore;
use crate::effect::Effect;
use crate::event::Compared;
use crate::limits::CHAINS_MAX_COUNT;

impl AgentCore {
    /// A reading is on the disk.
    pub(crate) fn kept(&mut self, now: UnixMillis, device: &DeviceName, mark: ReadingMark) {
        self.memory.head = Some(mark);
        self.know_chain(mark.chain);
        self.kept_for_bill(now, device);
    }

    /// What an acknowledgement of this chain means is known from now on.
    pub(crate) fn know_chain(&mut self, chain: u64) {
        let chains = &mut self.state.watch.chains;
        if chains.last() == Some(&chain) {
            return;
        }
        self.dirty = true;
        chains.retain(|known| *known != chain);
        chains.push(chain);
        let over = chains.len().saturating_sub(CHAINS_MAX_COUNT);
        chains.drain(..over);
    }

    /// M5: the counters are asked for.
    pub(crate) fn query_counters(&mut self, now: UnixMillis, query: EnvelopeId) {
        self.send_counters(now, Some(query));
    }

    /// Queues what the manager does not have. The readings themselves are put in when the report is sealed.
    pub(crate) fn send_counters(&mut self, now: UnixMillis, query: Option<EnvelopeId>) {
        self.state.watch.sending = self.memory.head;
        let report = CounterReport {
            query,
            after: self.state.watch.delivered,
            upto: None,
            more: false,
            packed: Vec::new(),
        };
        self.say(now, Report::Counters(report));
    }

    /// The agent has started, and this is where the chain on the disk ends.
    pub(crate) fn follow(&mut self, head: Option<ReadingMark>, out: &mut Vec<Effect>) {
        let Some(head) = head else { return };
        self.know_chain(head.chain);
        let delivered = self.state.watch.delivered;
        // What is delivered was on the disk once.
        if delivered.is_some_and(|mark| mark.chain == head.chain && mark.index > head.index) {
            out.push(Effect::BeginChain { after: head.index });
        }
    }

    /// The manager says which readings it has.
    pub(crate) fn readings_acknowledged(
        &mut self,
        now: UnixMillis,
        answer: &Acknowledge,
        out: &mut Vec<Effect>,
    ) {
        let (Some(mark), Some(head)) = (answer.readings, self.memory.head) else { return };
        if mark.chain == head.chain && mark.index <= head.index {
            match answer.there {
                Some(there) => out.push(Effect::CompareReading { mark, there }),
                None => self.delivered(now, mark, out),
            }
            return;
        }
        // A chain of which this disk knows nothing is like a place that it has not reached. Of one that it knows and has left
        // nothing follows.
        let unknown = mark.index > 0 && !self.state.watch.chains.contains(&mark.chain);
        if mark.chain == head.chain || unknown {
            out.push(Effect::BeginChain { after: self.delivered_of(head) });
        }
    }

    /// How the reading at a place of the chain stands to the manager's.
    pub(crate) fn compared(
        &mut self,
        now: UnixMillis,
        mark: ReadingMark,
        compared: Compared,
        out: &mut Vec<Effect>,
    ) {
        let reaches = |head: &ReadingMark| head.chain == mark.chain && head.index >= mark.index;
        let Some(head) = self.memory.head.filter(reaches) else { return };
        let asked = std::mem::take(&mut self.memory.asked_where);
        match compared {
            Compared::Same => self.delivered(now, mark, out),
            Compared::FirstOther => out.push(Effect::BeginChain { after: mark.index.saturating_sub(1) }),
            // It was not said where they part, and will not be.
            Compared::Other if asked => out.push(Effect::BeginChain { after: self.delivered_of(head) }),
            Compared::Other => {
                // The manager names the first place of a report that another reading has.
                self.memory.asked_where = true;
                if !self.state.outbox.holds_counters() {
                    self.send_counters(now, None);
                }
            }
        }
    }

    /// Up to where the manager has the present chain, as far as is known here.
    fn delivered_of(&self, head: ReadingMark) -> u64 {
        let delivered = self.state.watch.delivered.filter(|mark| mark.chain == head.chain);
        delivered.map_or(0, |mark| mark.index)
    }

    /// Another chain has begun, with the readings that the manager does not have.
    pub(crate) fn chain_begun(&mut self, now: UnixMillis, head: Option<ReadingMark>) {
        self.dirty = true;
        self.memory.head = head;
        self.memory.asked_where = false;
        self.state.watch.delivered = None;
        self.state.watch.sending = None;
        if let Some(head) = head {
            self.know_chain(head.chain);
            self.send_counters(now, None);
        }
    }

    fn delivered(&mut self, now: UnixMillis, mark: ReadingMark, out: &mut Vec<Effect>) {
        self.dirty = true;
        self.state.watch.delivered = Some(mark);
        out.push(Effect::DropReadings { upto: mark });
        let rest = self.state.watch.sending.filter(|upto| *upto > mark);
        self.state.watch.sending = rest;
        if rest.is_some() && !self.state.outbox.holds_counters() {
            let upto = rest;
            self.send_counters(now, None);
            self.state.watch.sending = upto;
        }
    }
}
