//! New keys for an agent, with a manager that does what the protocol says: whatever is lost, repeated or cut off by the
//! power, the manager always has a key of the agent, and the state never names a key that is not on the disk.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use agent_core::{
    AgentCore, BillDays, BootId, Disposal, Effect, EnvelopeFacts, Event, JunkReason, KeyName, MailHandle,
    ModulesFound, OpenFault, Payload, PostResult, Profile, Program, Rules, State,
};
use proptest::prelude::*;
use shared::keys::{OpeningKey, SigningKey};
use shared::limits::{FORMER_OPENING_KEY_LIFE, ORDER_LIFE};
use shared::message::{EnrolRequest, Heartbeat, Order, Rekeyed, Report};
use shared::trust::Trust;
use shared::{AgentId, EnvelopeId, Label, MailAddress, UnixMillis};

const T0: UnixMillis = UnixMillis(1_750_000_000_000);
const DAY: Duration = Duration::from_secs(86_400);

fn trust() -> Trust {
    let key = |n| SigningKey::from_seed(&[n; 32]).verifying_key();
    let seal = OpeningKey::from_seed(&[3; 32]).sealing_key();
    Trust::new(1, T0, vec![key(1)], vec![key(2)], 1, seal)
}

fn profile() -> Profile {
    Profile {
        agent: AgentId::parse("A1").unwrap(),
        classes: vec![],
        rules: Rules::default(),
        counters_every: None,
        bill: BillDays::default(),
    }
}

/// An order on its way, and the keys that it is sealed to.
#[derive(Clone, Debug)]
struct Mail {
    facts: EnvelopeFacts,
    order: Order,
    key: KeyName,
}

/// An agent and its manager, of which the latter keeps only names of keys.
struct Site {
    core: AgentCore,
    saved: Vec<u8>,
    now: UnixMillis,
    /// Pairs of keys on the disk.
    disk: BTreeSet<KeyName>,
    disk_full: bool,
    mailbox: Vec<Mail>,
    sequence: u64,
    /// Reports that went out, with the keys that signed them.
    sent: Vec<(u64, KeyName, Report)>,
    refused: Vec<JunkReason>,
    cut_after: Option<u32>,
    /// What the manager believes.
    believed: KeyName,
    former: BTreeSet<KeyName>,
}

fn name_of(rekeyed: &Rekeyed) -> KeyName {
    KeyName::Later(EnvelopeId(rekeyed.sign_key[..16].try_into().unwrap()))
}

impl Site {
    fn new() -> Self {
        let request = EnrolRequest {
            agent: profile().agent,
            secret: [0; 32],
            sign_key: [0; 32],
            seal_key: [0; 32],
            mail: MailAddress::parse("a@b.test").unwrap(),
            agent_version: Label::lossy("1"),
        };
        let state = State::enrolling(request, T0, trust());
        let mut site = Self {
            saved: state.encode(),
            core: AgentCore::new(profile(), state),
            now: T0,
            disk: [KeyName::First].into(),
            disk_full: false,
            mailbox: vec![],
            sequence: 0,
            sent: vec![],
            refused: vec![],
            cut_after: None,
            believed: KeyName::First,
            former: BTreeSet::new(),
        };
        site.start();
        site
    }

    fn start(&mut self) {
        self.core = AgentCore::new(profile(), State::decode(&self.saved).unwrap());
        self.feed(Event::Started { recovered: false, boot: BootId::default(), program: Program::default() });
    }

    /// Mails an order, sealed to the keys that the manager has now.
    fn mail(&mut self, order: Order) -> Mail {
        self.sequence += 1;
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.sequence.to_be_bytes());
        let facts = EnvelopeFacts {
            id: EnvelopeId(id),
            created: self.now,
            expires: self.now.plus(ORDER_LIFE),
            sequence: self.sequence,
            body_bytes: 1,
            signer: trust().order_keys[0].key_id(),
        };
        let mail = Mail { facts, order, key: self.believed };
        self.mailbox.push(mail.clone());
        mail
    }

    fn poll(&mut self) {
        while let Some(mail) = self.mailbox.first().cloned() {
            self.feed(Event::Envelope { mail: MailHandle(mail.facts.sequence), facts: mail.facts });
        }
        self.feed(Event::Tick);
    }

    fn feed(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let mut effects = Vec::new();
            self.core.step(self.now, event, &mut effects);
            for effect in effects {
                if let Some(left) = self.cut_after.take() {
                    if left == 0 {
                        return self.start();
                    }
                    self.cut_after = Some(left - 1);
                }
                events.extend(self.execute(effect));
                self.nothing_named_is_missing();
            }
        }
    }

    fn nothing_named_is_missing(&self) {
        let keys = State::decode(&self.saved).unwrap().keys;
        assert!(self.disk.contains(&keys.current), "the current keys are gone");
        assert!(
            keys.next.is_none_or(|next| self.disk.contains(&KeyName::Later(next))),
            "the next are not there"
        );
        // PROTOCOL 13.4: what the manager seals to now can be opened.
        assert!(
            self.believed == keys.current || Some(self.believed) == keys.next.map(KeyName::Later),
            "locked out: the manager has {:?}, the agent {keys:?}",
            self.believed
        );
    }

    fn execute(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Save(bytes) => self.saved = bytes,
            Effect::Open { mail } => return Some(self.open(mail)),
            Effect::Dispose { mail, disposal } => {
                if let Disposal::Junk(reason) = disposal {
                    self.refused.push(reason);
                }
                self.mailbox.retain(|m| m.facts.sequence != mail.0);
            }
            Effect::ReadModules { read, .. } => {
                return Some(Event::ModulesRead { read, found: ModulesFound::default() });
            }
            Effect::MakeKeys { order, keys } => {
                if self.disk_full {
                    return Some(Event::KeysMade { order, result: Err(Label::lossy("no room")) });
                }
                self.disk.insert(KeyName::Later(keys));
                let mut sign_key = [0; 32];
                sign_key[..16].copy_from_slice(&keys.0);
                let rekeyed = Rekeyed { order, sign_key, seal_key: sign_key, proof: [0; 64] };
                return Some(Event::KeysMade { order, result: Ok(rekeyed) });
            }
            Effect::DropKeys { keys } => {
                self.disk.remove(&keys);
            }
            Effect::Post(outgoing) => {
                assert!(self.disk.contains(&outgoing.signer), "signs with keys that are gone");
                let report = outgoing.sequence;
                self.sent.push((report.0, outgoing.signer, outgoing.report));
                return Some(Event::Posted { report, result: PostResult::Done });
            }
            Effect::Tidy { .. } | Effect::TidyParts { .. } | Effect::Forget { .. } => {}
            other => panic!("{}", other.name()),
        }
        None
    }

    fn open(&self, mail: MailHandle) -> Event {
        let found = self.mailbox.iter().find(|m| m.facts.sequence == mail.0).unwrap().clone();
        let opens = self.core.state().keys.all().any(|key| key == found.key && self.disk.contains(&key));
        if !opens {
            return Event::NotOpened { mail, fault: OpenFault::Mail(JunkReason::NotForUs) };
        }
        Event::Order {
            mail,
            facts: found.facts,
            order: found.order,
            payload: Payload::Absent,
            key: found.key,
        }
    }

    /// The manager takes in what has come: it believes the keys that it has, and takes new ones from the current.
    fn manager_reads(&mut self) {
        for (_, signer, report) in std::mem::take(&mut self.sent) {
            assert!(signer == self.believed || self.former.contains(&signer), "a report is not believed");
            if let Report::Rekeyed(rekeyed) = report
                && signer == self.believed
            {
                self.former.insert(std::mem::replace(&mut self.believed, name_of(&rekeyed)));
            }
        }
    }

    fn keys(&self) -> agent_core::OwnKeys {
        State::decode(&self.saved).unwrap().keys
    }
}

fn heartbeat() -> Order {
    Order::Heartbeat(Heartbeat { every_ms: 7 * 86_400_000 })
}

fn kinds(site: &Site) -> Vec<(KeyName, &'static str)> {
    let name = |report: &Report| match report {
        Report::Rekeyed(_) => "rekeyed",
        Report::Standing(_) => "standing",
        Report::Versions(_) => "versions",
        Report::Enrol(_)
        | Report::Progress(_)
        | Report::Ended(_)
        | Report::Cancelled(_)
        | Report::Faults(_)
        | Report::Counters(_)
        | Report::Fetch(_)
        | Report::Parts(_)
        | Report::Tested(_)
        | Report::DeviceUpdates(_) => "other",
    };
    site.sent.iter().map(|(_, signer, report)| (*signer, name(report))).collect()
}

/// A site whose manager has heard of it, with nothing under way.
fn calm() -> Site {
    let mut site = Site::new();
    site.mail(heartbeat());
    site.poll();
    site.manager_reads();
    site
}

#[test]
fn new_keys_count_when_the_manager_first_uses_them_and_the_old_ones_until_then() {
    let mut site = calm();
    let order = site.mail(Order::Rekey);
    site.poll();
    let new = KeyName::Later(order.facts.id);
    assert_eq!(kinds(&site), [(KeyName::First, "rekeyed")]);
    site.mail(Order::QueryVersions);
    site.poll();
    assert_eq!(site.keys().current, KeyName::First, "the manager may not have them yet");
    site.manager_reads();
    assert_eq!(site.believed, new);
    let late = Mail { key: KeyName::First, ..site.mail(heartbeat()) };
    site.poll();
    // PROTOCOL 13.4, 13.6: everything is said anew under the new keys.
    assert_eq!(kinds(&site), [(new, "standing"), (new, "versions")]);
    assert_eq!((site.keys().current, site.keys().next), (new, None));
    // What was on its way to the old keys is still opened, for as long as orders live.
    let again = EnvelopeFacts { id: EnvelopeId([9; 16]), sequence: 99, ..late.facts };
    site.mailbox.push(Mail { facts: again, order: Order::QueryVersions, ..late });
    site.poll();
    assert_eq!(kinds(&site).last(), Some(&(new, "versions")));
    site.now = site.now.plus(FORMER_OPENING_KEY_LIFE + DAY);
    site.poll();
    assert!(site.disk.contains(&KeyName::First), "a clock that jumps does not make the agent forget");
    site.mail(heartbeat());
    site.poll();
    assert_eq!((site.disk.clone(), site.refused.len()), ([new].into(), 0));
}

#[test]
fn a_second_order_before_the_change_is_answered_with_the_same_keys() {
    let mut site = calm();
    let first = site.mail(Order::Rekey);
    site.poll();
    site.mail(Order::Rekey);
    site.poll();
    let names: Vec<KeyName> = site
        .sent
        .iter()
        .map(|(_, _, report)| match report {
            Report::Rekeyed(rekeyed) => name_of(rekeyed),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(names, [KeyName::Later(first.facts.id); 2]);
}

#[test]
fn an_order_that_the_change_has_overtaken_is_answered_under_the_old_key_with_the_new_ones() {
    let mut site = calm();
    let first = site.mail(Order::Rekey);
    site.poll();
    let overtaken = site.mail(Order::Rekey);
    site.mailbox.clear();
    site.manager_reads();
    site.mail(heartbeat());
    site.poll();
    site.manager_reads();
    site.mailbox.push(overtaken);
    site.poll();
    // A manager whose store was put back to an older copy finds its agent again by this.
    let (_, signer, report) = &site.sent[0];
    let Report::Rekeyed(rekeyed) = report else { panic!("{report:?}") };
    assert_eq!((*signer, name_of(rekeyed)), (KeyName::First, KeyName::Later(first.facts.id)));
    assert_eq!(site.keys().next, None, "no third pair");
}

#[test]
fn keys_that_the_disk_does_not_take_are_made_later() {
    let mut site = calm();
    site.disk_full = true;
    site.mail(Order::Rekey);
    site.poll();
    assert_eq!((site.sent.len(), site.keys().next), (0, None));
    site.disk_full = false;
    let (wake, _) = site.core.next_wake().unwrap();
    assert!(wake > site.now, "it does not try without pause");
    site.now = wake;
    site.poll();
    assert_eq!(kinds(&site), [(KeyName::First, "rekeyed")]);
}

#[test]
fn a_state_from_before_there_were_new_keys_has_the_enrolments() {
    let state = State::enrolling(
        EnrolRequest {
            agent: profile().agent,
            secret: [0; 32],
            sign_key: [0; 32],
            seal_key: [0; 32],
            mail: MailAddress::parse("a@b.test").unwrap(),
            agent_version: Label::lossy("1"),
        },
        T0,
        trust(),
    );
    assert_eq!(State::decode(&state.encode()).unwrap().keys, agent_core::OwnKeys::default());
    // Field 20 of the map and the two behind it are cut out, and the map's head says so.
    let bytes = state.encode();
    let keys = minicbor_tail(&bytes);
    let mut older = bytes[..bytes.len() - keys].to_vec();
    older[1] -= 3;
    assert_eq!(State::decode(&older).unwrap(), state);
}

/// Bytes of field 20 and all behind it: older programs do not write them.
fn minicbor_tail(bytes: &[u8]) -> usize {
    let at = bytes.iter().rposition(|byte| *byte == 20).unwrap();
    bytes.len() - at
}

#[derive(Clone, Debug)]
enum Move {
    Rekey,
    Beat,
    Repeat(u8),
    Lose,
    Read,
    Poll,
    Cut(u8),
    Days(u8),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        3 => Just(Move::Rekey),
        2 => Just(Move::Beat),
        2 => any::<u8>().prop_map(Move::Repeat),
        1 => Just(Move::Lose),
        3 => Just(Move::Read),
        4 => Just(Move::Poll),
        3 => (0u8..12).prop_map(Move::Cut),
        1 => (0u8..30).prop_map(Move::Days),
    ];
    prop::collection::vec(one, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn nobody_is_ever_locked_out(moves in moves()) {
        let mut site = calm();
        let mut mails = vec![];
        for step in moves {
            match step {
                Move::Rekey => mails.push(site.mail(Order::Rekey)),
                Move::Beat => mails.push(site.mail(heartbeat())),
                Move::Repeat(n) if !mails.is_empty() => {
                    let again: &Mail = &mails[usize::from(n) % mails.len()];
                    if site.mailbox.iter().all(|mail| mail.facts.id != again.facts.id) {
                        site.mailbox.push(again.clone());
                    }
                }
                Move::Repeat(_) => {}
                Move::Lose => site.mailbox.clear(),
                Move::Read => site.manager_reads(),
                Move::Poll => site.poll(),
                Move::Cut(n) => site.cut_after = Some(u32::from(n)),
                Move::Days(n) => site.now = site.now.plus(DAY * u32::from(n)),
            }
        }
        // Better times: the last order is carried out, and both know the same keys.
        site.cut_after = None;
        site.mailbox.clear();
        site.manager_reads();
        site.mail(Order::Rekey);
        site.poll();
        site.manager_reads();
        site.mail(heartbeat());
        site.poll();
        site.manager_reads();
        prop_assert_eq!(site.keys().current, site.believed);
        prop_assert_eq!(site.keys().next, None);
    }
}
