//! How a campaign goes about its targets: in waves, with a gate behind each. Only says what a rollout is and who is in which
//! wave; whether a gate opens is found in [`judge()`], what is due then in `plan`.

mod judge;
mod size;

use core::fmt;
use core::time::Duration;

use minicbor::{Decode, Encode};
use shared::{AgentId, UnixMillis};

use crate::campaign::TargetState;

pub use judge::{Survey, Verdict, judge};
pub use size::{Share, SizeError, WaveSize, assign, spread};

/// The way of a campaign through its targets.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Rollout {
    /// The waves, in their order; a target names its wave by its place here.
    #[n(0)]
    pub waves: Vec<Wave>,
    /// Why nothing more is mailed; `None`: it goes on.
    #[n(1)]
    pub held: Option<Held>,
    /// When those that failed are tried again, and which.
    #[n(2)]
    pub retry: Retry,
    /// The customers are asked first (N8); `None`: they are not.
    #[n(3)]
    pub consent: Option<ConsentTerms>,
    /// When mails go out, and when agents install.
    #[n(4)]
    pub times: Times,
}

/// Which ends are followed by another try, and when.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Retry {
    /// Milliseconds from the end of a round to the next.
    #[n(0)]
    pub delay_ms: u64,
    /// The ends: failed, silent or undeliverable.
    #[n(1)]
    pub after: Vec<TargetState>,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            delay_ms: 0,
            after: vec![TargetState::Failed, TargetState::Silent, TargetState::Undeliverable],
        }
    }
}

/// How customers are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ConsentTerms {
    /// Milliseconds that they have for their answer.
    #[n(0)]
    pub patience_ms: u64,
}

/// When things may happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Times {
    /// Nothing is mailed before this (transmission time, R5).
    #[n(0)]
    pub send_at: Option<UnixMillis>,
    /// No agent installs before this (update time, R5).
    #[n(1)]
    pub install_at: Option<UnixMillis>,
    /// Agents install in the windows of their sites (N4).
    #[n(2)]
    pub windows: bool,
    /// Agents ask for the bundle when they may install it (R4).
    #[n(3)]
    pub fetch: bool,
    /// For so many milliseconds, from when it may be installed, a person at the site can put it off (R9); `None`: nobody can.
    #[n(4)]
    pub defer_max_ms: Option<u64>,
    /// Agents stop trying at this (R11); `None`: when their orders expire.
    #[n(5)]
    pub expires_at: Option<UnixMillis>,
}

impl Times {
    /// True if agents are told when to install; else they install when the order comes.
    #[must_use]
    pub fn is_scheduled(&self) -> bool {
        self.install_at.is_some() || self.windows || self.fetch || self.defer_max_ms.is_some()
    }
}

/// A set of targets that is mailed at once, and what must be true of it before the next is.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Wave {
    /// Test agents, or customers.
    #[n(0)]
    pub kind: WaveKind,
    /// What must be true of it.
    #[n(1)]
    pub gate: Gate,
    /// Its mails are spread over so many milliseconds; 0: all at once.
    #[n(2)]
    pub spread_ms: u64,
    /// When its targets could be mailed first.
    #[n(3)]
    pub opened_at: Option<UnixMillis>,
    /// When its gate opened.
    #[n(4)]
    pub passed_at: Option<UnixMillis>,
    /// What the operator has seen and taken into account by resuming.
    #[n(5)]
    pub forgiven: Forgiven,
}

/// Who a wave is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum WaveKind {
    /// The vendor's own test agents (N7): nobody is asked for consent, and the bundle's test is run on each.
    #[n(0)]
    Test,
    /// Customers' agents.
    #[n(1)]
    Customers,
}

/// What must be true of a wave before the next begins. Shares are of the targets that were mailed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Gate {
    /// So many at least are verified.
    #[n(0)]
    pub success_min: Share,
    /// So many at most have failed; one more halts the campaign.
    #[n(1)]
    pub failure_max: Share,
    /// So many at most do not answer; one more halts the campaign.
    #[n(2)]
    pub silence_max: Share,
    /// How many milliseconds the wave is watched after its last mail, at least; in a wave of test agents after the last of them
    /// is verified (soak time).
    #[n(3)]
    pub observe_ms: u64,
}

impl Gate {
    /// What a wave of customers is held to if the operator says nothing else.
    pub const CUSTOMERS: Self = Self {
        success_min: Share::hundredths(9_500),
        failure_max: Share::hundredths(500),
        silence_max: Share::hundredths(500),
        observe_ms: 3_600_000,
    };

    /// What test agents are held to: every one of them.
    pub const TEST: Self = Self {
        success_min: Share::hundredths(10_000),
        failure_max: Share::hundredths(0),
        silence_max: Share::hundredths(0),
        observe_ms: 3_600_000,
    };

    /// Never halts: a campaign of one wave tells its failures at its end, as M12 has it.
    pub const NONE: Self = Self {
        success_min: Share::hundredths(0),
        failure_max: Share::hundredths(10_000),
        silence_max: Share::hundredths(10_000),
        observe_ms: 0,
    };

    pub(crate) fn observe(&self) -> Duration {
        Duration::from_millis(self.observe_ms)
    }
}

/// What an operator has taken into account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Forgiven {
    /// Failures.
    #[n(0)]
    pub failed: u64,
    /// Agents without an answer.
    #[n(1)]
    pub silent: u64,
    /// Faults of devices and tests that failed: up to then they are known.
    #[n(2)]
    pub until: Option<UnixMillis>,
}

impl Wave {
    /// One that is not open yet.
    #[must_use]
    pub fn new(kind: WaveKind, gate: Gate) -> Self {
        Self { kind, gate, spread_ms: 0, opened_at: None, passed_at: None, forgiven: Forgiven::default() }
    }
}

impl Rollout {
    /// All targets in one wave without a gate.
    #[must_use]
    pub fn at_once() -> Self {
        Self {
            waves: vec![Wave::new(WaveKind::Customers, Gate::NONE)],
            held: None,
            retry: Retry::default(),
            consent: None,
            times: Times::default(),
        }
    }

    /// The same, under way since then: what campaigns were before there were waves.
    #[must_use]
    pub fn at_once_since(at: UnixMillis) -> Self {
        let mut rollout = Self::at_once();
        for wave in &mut rollout.waves {
            (wave.opened_at, wave.passed_at) = (Some(at), Some(at));
        }
        rollout
    }

    /// The first wave begins.
    pub fn begin(&mut self, now: UnixMillis) {
        if let Some(first) = self.waves.first_mut() {
            first.opened_at = first.opened_at.or(Some(now));
        }
    }

    /// The wave whose gate is awaited: its number, from 0.
    #[must_use]
    pub fn current(&self) -> Option<usize> {
        self.waves.iter().position(|wave| wave.passed_at.is_none())
    }

    /// The wave of a number.
    #[must_use]
    pub fn wave(&self, number: u32) -> Option<&Wave> {
        self.waves.get(usize::try_from(number).ok()?)
    }

    /// When a target of this wave is mailed: its wave's opening, and its own place in the spread after that, which follows from
    /// campaign and agent. `None`: the wave is not open.
    #[must_use]
    pub fn slot(&self, seed: &[u8], wave: u32, agent: &AgentId) -> Option<UnixMillis> {
        let wave = self.wave(wave)?;
        Some(wave.opened_at?.plus(spread(seed, agent, Duration::from_millis(wave.spread_ms))))
    }

    /// True once every test agent has passed: before, no customer is asked or mailed anything.
    #[must_use]
    pub fn is_tested(&self) -> bool {
        self.waves.iter().all(|wave| wave.kind != WaveKind::Test || wave.passed_at.is_some())
    }
}

/// A stop that the operator or a gate has made.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Held {
    /// Why.
    #[n(0)]
    pub why: HoldReason,
    /// Since when.
    #[n(1)]
    pub since: UnixMillis,
}

/// Why a campaign is paused or halted.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum HoldReason {
    /// The operator wants it; in the operator's words.
    #[n(0)]
    Operator(#[n(0)] String),
    /// More targets of a wave failed than its gate allows.
    #[n(1)]
    Failures {
        /// The wave, from 0.
        #[n(0)]
        wave: u32,
        /// How many failed.
        #[n(1)]
        failed: u64,
        /// Of how many that were mailed.
        #[n(2)]
        of: u64,
    },
    /// More targets of a wave are silent than its gate allows.
    #[n(2)]
    Silence {
        /// The wave, from 0.
        #[n(0)]
        wave: u32,
        /// How many do not answer.
        #[n(1)]
        silent: u64,
        /// Of how many that were mailed.
        #[n(2)]
        of: u64,
    },
    /// All have their end, and fewer are verified than the gate asks for.
    #[n(3)]
    TooFew {
        /// The wave, from 0.
        #[n(0)]
        wave: u32,
        /// How many are verified.
        #[n(1)]
        verified: u64,
        /// Of how many that were mailed.
        #[n(2)]
        of: u64,
    },
    /// The bundle's test did not end on a test agent as the bundle says that it does.
    #[n(4)]
    TestFailed {
        /// Where.
        #[n(0)]
        agent: AgentId,
        /// What came instead.
        #[n(1)]
        found: String,
    },
    /// A test agent has not answered to the test.
    #[n(5)]
    TestUnanswered {
        /// Which.
        #[n(0)]
        agent: AgentId,
    },
    /// A device behind a test agent has a new fault of class A or B.
    #[n(6)]
    NewFault {
        /// Where.
        #[n(0)]
        agent: AgentId,
        /// Which device, and what.
        #[n(1)]
        what: String,
    },
}

impl fmt::Display for HoldReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wave_of = |wave: &u32| wave.saturating_add(1);
        match self {
            Self::Operator(words) if words.is_empty() => f.write_str("the operator wants it"),
            Self::Operator(words) => write!(f, "the operator: {words}"),
            Self::Failures { wave, failed, of } => {
                write!(f, "{failed} of {of} failed in wave {}, more than its gate allows", wave_of(wave))
            }
            Self::Silence { wave, silent, of } => {
                write!(
                    f,
                    "{silent} of {of} do not answer in wave {}, more than its gate allows",
                    wave_of(wave)
                )
            }
            Self::TooFew { wave, verified: 0, of: 0 } => {
                write!(f, "nobody in wave {} could be mailed", wave_of(wave))
            }
            Self::TooFew { wave, verified, of } => {
                write!(
                    f,
                    "only {verified} of {of} are verified in wave {}, fewer than its gate asks for",
                    wave_of(wave)
                )
            }
            Self::TestFailed { agent, found } => write!(f, "the test on {agent} failed: {found}"),
            Self::TestUnanswered { agent } => write!(f, "{agent} does not answer to the test"),
            Self::NewFault { agent, what } => write!(f, "a new fault behind the test agent {agent}: {what}"),
        }
    }
}
