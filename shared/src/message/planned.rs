//! When an install may happen, and whether it works: schedules (R4, R5, N4, R9), requests for what a schedule offers, and the
//! test of an installed bundle (N7).

use core::fmt;

use minicbor::{Decode, Encode};

use super::{OutputTail, Reported};
use crate::bounded;
use crate::id::{Digest, EnvelopeId, Label};
use crate::limits::INTERVALS_MAX_COUNT;
use crate::time::UnixMillis;
use crate::version::SoftwareVersion;

/// Says when the bundle of an install order may be installed. For all agents whose times are the same; the order itself is
/// the same for all. A later one for the same bundle replaces it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Schedule {
    /// Digest of the bundle file.
    #[n(0)]
    pub bundle: Digest,
    /// What the agent is called afterwards.
    #[n(1)]
    pub software_version: SoftwareVersion,
    /// Size of the bundle file.
    #[n(2)]
    pub bundle_bytes: u64,
    /// Not before this.
    #[n(3)]
    pub not_before: UnixMillis,
    /// It may begin in one of these, in their order; none: at any time from `not_before` on.
    #[cbor(n(4), decode_with = "bounded::list::<_, _, INTERVALS_MAX_COUNT>")]
    pub intervals: Vec<Interval>,
    /// A person at the site may put it off, until then at the latest (R9); `None`: nobody may.
    #[n(5)]
    pub defer_until: Option<UnixMillis>,
    /// True: the agent asks for the bundle when the time comes (R4); false: it is mailed without being asked for.
    #[n(6)]
    pub fetch: bool,
}

/// A time in which an install may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Interval {
    /// From here on.
    #[n(0)]
    pub from: UnixMillis,
    /// Before this.
    #[n(1)]
    pub until: UnixMillis,
}

/// Asks for the bundle that a schedule offers: its time has come.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Fetch {
    /// The schedule.
    #[n(0)]
    pub schedule: EnvelopeId,
    /// The bundle.
    #[n(1)]
    pub bundle: Digest,
}

/// Runs the test that the installed bundle brings.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct TestOrder {
    /// The version that is to be tested.
    #[n(0)]
    pub software_version: SoftwareVersion,
}

/// How a test ended.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Tested {
    /// The order.
    #[n(0)]
    pub order: EnvelopeId,
    /// What came.
    #[n(1)]
    pub result: TestResult,
}

/// What came of a test.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum TestResult {
    /// It ended with this exit code, and this was the end of what it wrote.
    #[n(0)]
    Exit(#[n(0)] i32, #[n(1)] OutputTail),
    /// It was ended by this signal.
    #[n(1)]
    Signal(#[n(0)] i32, #[n(1)] OutputTail),
    /// It ran longer than its limit, in seconds.
    #[n(2)]
    TimedOut(#[n(0)] u64, #[n(1)] OutputTail),
    /// It could not be run: its file is not the bundle's, say.
    #[n(3)]
    NotRun(#[n(0)] Label),
    /// The agent has another version.
    #[n(4)]
    OtherVersion(#[n(0)] Reported),
}

impl fmt::Display for TestResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit(code, _) => write!(f, "exit code {code}"),
            Self::Signal(signal, _) => write!(f, "ended by signal {signal}"),
            Self::TimedOut(limit_s, _) => write!(f, "ran longer than {limit_s} s"),
            Self::NotRun(why) => write!(f, "not run: {why}"),
            Self::OtherVersion(reported) => write!(f, "the agent has {reported}"),
        }
    }
}
