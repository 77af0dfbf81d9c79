//! The agent's own keys: which it signs with, which open its orders, and how new ones take their place (PROTOCOL 13).
//! The secrets are files of the shell's; here they have names.
//!
//! ```text
//! rekey order → asked, saved → keys made, on the disk → next, saved → report, signed by the old key
//!   → an order comes that is sealed to next → next is current, the one before is former → former is dropped
//! ```

use minicbor::{Decode, Encode};
use shared::limits::FORMER_OPENING_KEY_LIFE;
use shared::message::{Rekeyed, Report};
use shared::{EnvelopeId, Label, UnixMillis};

use crate::agent::AgentCore;
use crate::effect::Effect;
use crate::limits::{FORMER_KEYS_MAX_COUNT, MAKE_KEYS_AGAIN};
use crate::outbox::is_due;
use crate::state::Owed;

/// Names a pair of the agent's own keys. Never given to another pair, so that a name in a state that was saved long ago
/// still means the same files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum KeyName {
    /// Those of the enrolment.
    #[default]
    #[n(0)]
    First,
    /// Those that this order asked for.
    #[n(1)]
    Later(#[n(0)] EnvelopeId),
}

/// Which keys are for what. Every pair that is named here is on the disk, but former ones may be gone already.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct OwnKeys {
    /// Signs; opens.
    #[n(0)]
    pub current: KeyName,
    /// Opens, and becomes current when it first does: then the manager has it.
    #[n(1)]
    pub next: Option<EnvelopeId>,
    /// Open what was on its way when they were replaced, and sign what was said before. The oldest first.
    #[n(2)]
    pub former: Vec<Former>,
    /// Keys that are being made.
    #[n(3)]
    pub asked: Option<Asked>,
}

/// Keys that were replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Former {
    /// Their name.
    #[n(0)]
    pub keys: KeyName,
    /// They are dropped when the clock floor has passed this. Not by the box's clock, which may jump.
    #[n(1)]
    pub until: UnixMillis,
}

/// An order for keys that is not answered yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Asked {
    /// The order.
    #[n(0)]
    pub order: EnvelopeId,
    /// The keys that answer it.
    #[n(1)]
    pub keys: EnvelopeId,
    /// The keys that it was sealed to, which sign the answer: the manager believes those.
    #[n(2)]
    pub signer: KeyName,
    /// Not before this.
    #[n(3)]
    pub next_try: UnixMillis,
}

impl OwnKeys {
    /// Every pair that may be needed, the newest first.
    pub fn all(&self) -> impl Iterator<Item = KeyName> + '_ {
        let later = [self.asked.map(|asked| asked.keys), self.next].into_iter().flatten().map(KeyName::Later);
        later.chain([self.current]).chain(self.former.iter().rev().map(|former| former.keys))
    }
}

impl AgentCore {
    /// An order was opened with these keys. If they are the next ones, the manager has them, and everything is said under
    /// them from now on.
    pub(crate) fn opened_with(&mut self, now: UnixMillis, key: KeyName) {
        let floor = self.state.fresh.clock_floor();
        let keys = &mut self.state.keys;
        let Some(next) = keys.next.filter(|next| KeyName::Later(*next) == key) else { return };
        // PROTOCOL 13.4.
        keys.next = None;
        let former = std::mem::replace(&mut keys.current, KeyName::Later(next));
        keys.former.push(Former { keys: former, until: floor.plus(FORMER_OPENING_KEY_LIFE) });
        // PROTOCOL 13.6: what was said under the old keys and is on its way counts as overtaken from now on.
        self.stands(now);
        self.owe(Owed::Versions(None));
    }

    /// The manager asks for new keys.
    pub(crate) fn rekey(&mut self, order: EnvelopeId, sealed_to: KeyName) {
        let keys = &mut self.state.keys;
        // PROTOCOL 13.3: there is one answer for all orders that were sealed to the same keys.
        let making = keys.asked.map(|asked| asked.keys).filter(|made| KeyName::Later(*made) != keys.current);
        let answer = match (keys.current, keys.next.or(making)) {
            (KeyName::Later(current), _) if sealed_to != keys.current => current,
            (_, Some(next)) => next,
            (_, None) => order,
        };
        keys.asked = Some(Asked { order, keys: answer, signer: sealed_to, next_try: UnixMillis(0) });
    }

    /// Has keys made that were asked for, and drops those that are of no use any more.
    pub(crate) fn tend_keys(&mut self, now: UnixMillis, out: &mut Vec<Effect>) {
        if let Some(asked) = &mut self.state.keys.asked
            && is_due(now, asked.next_try)
        {
            // Written down before it is tried: whatever keeps the keys from being made must not be met without pause.
            asked.next_try = now.plus(MAKE_KEYS_AGAIN);
            self.dirty = true;
            out.push(Effect::MakeKeys { order: asked.order, keys: asked.keys });
        }
        let floor = self.state.fresh.clock_floor();
        let waiting = &self.state.outbox.waiting;
        let surplus = self.state.keys.former.len().saturating_sub(FORMER_KEYS_MAX_COUNT);
        let mut place = 0usize;
        let mut gone = Vec::new();
        self.state.keys.former.retain(|former| {
            place = place.saturating_add(1);
            let to_say = waiting.iter().any(|queued| queued.signer == former.keys);
            let stays = place > surplus && (former.until >= floor || to_say);
            if !stays {
                gone.push(former.keys);
            }
            stays
        });
        for keys in gone {
            self.dirty = true;
            out.push(Effect::DropKeys { keys });
        }
    }

    pub(crate) fn keys_made(&mut self, now: UnixMillis, order: EnvelopeId, result: Result<Rekeyed, Label>) {
        let Some(asked) = self.state.keys.asked.take_if(|asked| asked.order == order && result.is_ok())
        else {
            return;
        };
        let Ok(rekeyed) = result else { return };
        self.dirty = true;
        let keys = &mut self.state.keys;
        if KeyName::Later(asked.keys) != keys.current {
            keys.next = Some(asked.keys);
        }
        // PROTOCOL 13.1.
        self.state.outbox.push(now, asked.signer, Report::Rekeyed(rekeyed));
    }
}
