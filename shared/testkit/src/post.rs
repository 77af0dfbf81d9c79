//! The post office: takes mail by SMTP, with an answer per recipient, and delivers it into mailboxes, or not,
//! or late, or twice, or damaged. It belongs to nobody's friend: it keeps copies and sends them again.

use core::time::Duration;
use std::collections::BTreeMap;

use agent_core::{EnvelopeFacts, KeyName};
use shared::message::{Order, Report};
use shared::trust::Statement;
use shared::{AgentId, Digest, EnvelopeId, Span, UnixMillis};

use crate::dice::Dice;

/// Who reads a mailbox.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reader {
    Manager,
    Agent(AgentId),
}

/// What a mail carries.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// An order, signed by the order key or by somebody else's.
    /// Before it, the statements that introduce the key. With each recipient, the keys that it is sealed to.
    Order {
        genuine: bool,
        statements: Vec<Statement>,
        facts: EnvelopeFacts,
        recipients: BTreeMap<AgentId, KeyName>,
        order: Order,
        piece: Piece,
    },
    /// A report, signed by this agent with these of its keys.
    Report { signer: AgentId, key: KeyName, envelope: EnvelopeId, sequence: u64, report: Report },
    /// Says that a mail did not arrive. Anyone can write one.
    Bounce { envelope: EnvelopeId, agent: AgentId },
    /// An absence note.
    OutOfOffice,
    /// Something else.
    Junk,
}

/// How much of an order's body a mail has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Whole,
    /// A part of the body of this digest.
    Part(Digest, Span),
    /// Only the head of an order with this body.
    Head(Digest),
}

/// One mail in a mailbox.
#[derive(Clone, Debug)]
pub(crate) struct Mail {
    pub(crate) content: Content,
    /// False if it was cut or altered on its way.
    pub(crate) intact: bool,
    /// When it was handed in.
    pub(crate) sent: UnixMillis,
}

/// What a relay answers for one recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Taken,
    Later,
    Never,
}

/// Faults of the post office, each per thousand mails.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// Mails that vanish.
    pub drop: u64,
    /// Mails that come twice.
    pub duplicate: u64,
    /// Mails that take minutes to days.
    pub delay: u64,
    /// Mails that are cut or altered.
    pub damage: u64,
    /// Mails that bounce.
    pub bounce: u64,
    /// Mails that an absence note answers.
    pub out_of_office: u64,
    /// Recipients that are put off at SMTP time.
    pub put_off: u64,
    /// Times that an old mail is sent once more, or a forged one.
    pub attack: u64,
}

impl Habits {
    /// A post office with no faults.
    #[must_use]
    pub fn good() -> Self {
        Self {
            drop: 0,
            duplicate: 0,
            delay: 0,
            damage: 0,
            bounce: 0,
            out_of_office: 0,
            put_off: 0,
            attack: 0,
        }
    }

    pub(crate) fn roll(dice: &mut Dice) -> Self {
        let mut up_to = |n: u64| dice.below(n + 1);
        Self {
            drop: up_to(200),
            duplicate: up_to(200),
            delay: up_to(400),
            damage: up_to(150),
            bounce: up_to(50),
            out_of_office: up_to(50),
            put_off: up_to(200),
            attack: up_to(100),
        }
    }
}

/// The post office.
#[derive(Clone, Debug)]
pub(crate) struct Post {
    pub(crate) habits: Habits,
    /// Orders stay here until this is false again.
    pub(crate) keeps_orders: bool,
    dice: Dice,
    /// On their way, by the time of arrival.
    under_way: BTreeMap<(UnixMillis, u64), (Reader, Mail)>,
    /// Arrived.
    mailboxes: BTreeMap<Reader, BTreeMap<u64, Mail>>,
    /// Copies of all that ever passed: the attacker's collection.
    copies: Vec<(Reader, Mail)>,
    next: u64,
    pub(crate) mails: u64,
    pub(crate) bounces: u64,
}

impl Post {
    pub(crate) fn new(habits: Habits, dice: Dice) -> Self {
        Self {
            habits,
            keeps_orders: false,
            dice,
            under_way: BTreeMap::new(),
            mailboxes: BTreeMap::new(),
            copies: Vec::new(),
            next: 0,
            mails: 0,
            bounces: 0,
        }
    }

    /// Takes a mail for one recipient.
    pub(crate) fn submit(&mut self, now: UnixMillis, to: &Reader, content: Content, dead: bool) -> Answer {
        if dead {
            return Answer::Never;
        }
        if self.dice.chance(self.habits.put_off) {
            return Answer::Later;
        }
        self.mails += 1;
        let mail = Mail { content, intact: true, sent: now };
        if self.habits.attack > 0 {
            self.copies.push((to.clone(), mail.clone()));
        }
        if self.dice.chance(self.habits.bounce) {
            self.bounce(now, to, &mail);
            // Some bounce although they were delivered.
            if self.dice.chance(500) {
                return Answer::Taken;
            }
        }
        if self.dice.chance(self.habits.out_of_office) {
            let back = if matches!(to, Reader::Manager) { self.someone() } else { Some(Reader::Manager) };
            if let Some(back) = back {
                self.carry(now, &back, Mail { content: Content::OutOfOffice, intact: true, sent: now });
            }
        }
        if self.dice.chance(self.habits.drop) {
            return Answer::Taken;
        }
        let copies = if self.dice.chance(self.habits.duplicate) { 2 } else { 1 };
        for _ in 0..copies {
            let intact = !self.dice.chance(self.habits.damage);
            self.carry(now, to, Mail { intact, ..mail.clone() });
        }
        Answer::Taken
    }

    fn bounce(&mut self, now: UnixMillis, to: &Reader, mail: &Mail) {
        let (Reader::Agent(agent), Content::Order { facts, .. }) = (to, &mail.content) else { return };
        self.bounces += 1;
        let content = Content::Bounce { envelope: facts.id, agent: agent.clone() };
        self.carry(now, &Reader::Manager, Mail { content, intact: true, sent: now });
    }

    fn someone(&mut self) -> Option<Reader> {
        let agents: Vec<Reader> = self.mailboxes.keys().filter(|r| **r != Reader::Manager).cloned().collect();
        if agents.is_empty() {
            None
        } else {
            Some(agents[usize::try_from(self.dice.below(agents.len() as u64)).unwrap()].clone())
        }
    }

    fn carry(&mut self, now: UnixMillis, to: &Reader, mail: Mail) {
        let way = if self.dice.chance(self.habits.delay) {
            // Mostly hours, sometimes days: relays try for up to five.
            let longest = if self.dice.chance(200) { 5 * 24 * 3600 } else { 4 * 3600 };
            self.dice.between(Duration::from_secs(60), Duration::from_secs(longest))
        } else {
            self.dice.between(Duration::from_secs(1), Duration::from_secs(30))
        };
        self.next += 1;
        self.under_way.insert((now.plus(way), self.next), (to.clone(), mail));
    }

    /// The attacker's turn: an old mail again, or one with a forged signature.
    pub(crate) fn attack(&mut self, now: UnixMillis) {
        if self.copies.is_empty() || !self.dice.chance(self.habits.attack) {
            return;
        }
        let at = usize::try_from(self.dice.below(self.copies.len() as u64)).unwrap();
        let (to, mut mail) = self.copies[at].clone();
        let forges = self.dice.chance(300);
        match &mut mail.content {
            // A forger can copy an order, even open it if it is a recipient, but not sign it anew.
            Content::Order { genuine, facts, .. } if forges => {
                *genuine = false;
                facts.id = self.dice.envelope_id();
                facts.sequence += 1_000_000;
            }
            Content::Order { .. } | Content::Report { .. } | Content::Bounce { .. } => {}
            Content::OutOfOffice | Content::Junk => mail.content = Content::Junk,
        }
        self.carry(now, &to, mail);
    }

    /// Moves what has arrived by now into the mailboxes.
    pub(crate) fn deliver(&mut self, now: UnixMillis) {
        let later = self.under_way.split_off(&(UnixMillis(now.0 + 1), 0));
        for ((at, number), (to, mail)) in std::mem::replace(&mut self.under_way, later) {
            if self.keeps_orders && matches!(mail.content, Content::Order { .. }) {
                self.under_way.insert((at, number), (to, mail));
                continue;
            }
            self.mailboxes.entry(to).or_default().insert(number, mail);
        }
    }

    /// Numbers of the mails in a mailbox, oldest first.
    pub(crate) fn look(&self, reader: &Reader) -> Vec<u64> {
        self.mailboxes.get(reader).map_or_else(Vec::new, |mails| mails.keys().copied().collect())
    }

    pub(crate) fn fetch(&self, reader: &Reader, number: u64) -> Option<&Mail> {
        self.mailboxes.get(reader)?.get(&number)
    }

    pub(crate) fn delete(&mut self, reader: &Reader, number: u64) {
        if let Some(mails) = self.mailboxes.get_mut(reader) {
            mails.remove(&number);
        }
    }
}
