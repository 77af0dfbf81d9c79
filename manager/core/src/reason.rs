//! Why a target ended as it did, and whether another try can help. Only names reasons; `apply` and `plan` find
//! them.

use core::fmt;

use crate::delivery::{Cause, Trouble};
use minicbor::{Decode, Encode};
use shared::UnixMillis;
use shared::message::{CancelResult, Failure, Refusal, Reported, Waiting};

/// Why a target ended as it did.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Reason {
    /// The bundle is for other classes. Not mailed.
    #[n(0)]
    WrongClass,
    /// The agent's version is not one that the bundle goes over. Not mailed.
    #[n(1)]
    WrongFromVersion(#[n(0)] Reported),
    /// The agent has not enrolled, or was removed. Not mailed.
    #[n(2)]
    NotEnrolled,
    /// The install failed and was undone.
    #[n(3)]
    RolledBack(#[n(0)] Failure),
    /// The install failed and could not be undone.
    #[n(4)]
    Damaged(#[n(0)] Failure),
    /// The agent refused the order.
    #[n(5)]
    Refused(#[n(0)] Refusal),
    /// The agent reports another version after the settle time.
    #[n(6)]
    OtherVersion(#[n(0)] Reported),
    /// No answer to the version query.
    #[n(7)]
    NoAnswer {
        /// When the query was sent.
        #[n(0)]
        asked_at: UnixMillis,
        /// The agent had said that the order arrived.
        #[cbor(n(1), default)]
        received: bool,
        /// What a mail server has said of the order's mail since: it explains the silence.
        #[n(2)]
        mail: Option<Trouble>,
    },
    /// The relay refused the mail for good.
    #[n(8)]
    MailRefused(#[n(0)] String, #[cbor(n(1), default)] Cause),
    /// A bounce came back.
    #[n(9)]
    Bounced(#[n(0)] String, #[cbor(n(1), default)] Cause),
    /// What became of a withdrawn order; `None`: no answer.
    #[n(10)]
    Cancelled(#[n(0)] Option<CancelResult>),
    /// The order's life ended; the agent's last word on it, if any, or a mail server's.
    #[n(11)]
    OrderExpired(#[n(0)] Option<Waiting>, #[n(1)] Option<Trouble>),
    /// The registry says that updates are not wanted. Not mailed.
    #[n(12)]
    NotWanted,
    /// Consent is needed, and there is no administrator to ask. Not mailed.
    #[n(13)]
    NobodyToAsk,
    /// The administrator did not answer in time. Not mailed.
    #[n(14)]
    NoConsent {
        /// When the question was asked.
        #[n(0)]
        asked_at: UnixMillis,
    },
    /// The administrator does not want it. Not mailed.
    #[n(15)]
    SaysNo,
    /// Its site's window does not open before the order would expire. Not mailed.
    #[n(16)]
    NoWindow,
}

impl Reason {
    /// False if sending the same bundle again cannot help: only the operator may do so.
    #[must_use]
    pub fn allows_automatic_retry(&self) -> bool {
        match self {
            Self::RolledBack(_)
            | Self::Damaged(_)
            | Self::OtherVersion(_)
            | Self::NoAnswer { .. }
            | Self::Refused(Refusal::QueueFull | Refusal::BadBundle(_) | Refusal::OtherBase(_)) => true,
            // Anyone on the way can write a bounce: one without a clear word ends nothing.
            Self::Bounced(_, cause) => cause.may_pass() || *cause == Cause::Other,
            Self::MailRefused(_, cause) => cause.may_pass(),
            Self::WrongClass
            | Self::WrongFromVersion(_)
            | Self::NotEnrolled
            | Self::Refused(
                Refusal::Superseded
                | Refusal::WrongClass
                | Refusal::WrongFromVersion
                | Refusal::NotSigned
                | Refusal::Cancelled
                | Refusal::SpecialMode(_)
                | Refusal::OtherAgent(_)
                | Refusal::Declined
                | Refusal::OverBudget(_),
            )
            | Self::Cancelled(_)
            | Self::OrderExpired(..)
            | Self::NotWanted
            | Self::NobodyToAsk
            | Self::NoConsent { .. }
            | Self::SaysNo
            | Self::NoWindow => false,
        }
    }

    /// What was wrong with the mail, if that is why.
    #[must_use]
    pub fn mail_cause(&self) -> Option<Cause> {
        match self {
            Self::MailRefused(_, cause) | Self::Bounced(_, cause) => Some(*cause),
            Self::WrongClass
            | Self::WrongFromVersion(_)
            | Self::NotEnrolled
            | Self::RolledBack(_)
            | Self::Damaged(_)
            | Self::Refused(_)
            | Self::OtherVersion(_)
            | Self::NoAnswer { .. }
            | Self::Cancelled(_)
            | Self::OrderExpired(..)
            | Self::NotWanted
            | Self::NobodyToAsk
            | Self::NoConsent { .. }
            | Self::SaysNo
            | Self::NoWindow => None,
        }
    }

    /// True if it speaks against the bundle: a gate counts it as a failure. Others say something of the agent, its mail or
    /// its people. Of another version that is so if it is not the one from before, which the target knows.
    #[must_use]
    pub(crate) fn blames_release(&self) -> bool {
        match self {
            Self::RolledBack(_)
            | Self::Damaged(_)
            | Self::OtherVersion(_)
            | Self::Refused(
                Refusal::NotSigned | Refusal::BadBundle(_) | Refusal::SpecialMode(_) | Refusal::OtherAgent(_),
            ) => true,
            Self::WrongClass
            | Self::WrongFromVersion(_)
            | Self::NotEnrolled
            | Self::Refused(
                Refusal::Superseded
                | Refusal::WrongClass
                | Refusal::WrongFromVersion
                | Refusal::Cancelled
                | Refusal::QueueFull
                | Refusal::OtherBase(_)
                | Refusal::Declined
                | Refusal::OverBudget(_),
            )
            | Self::NoAnswer { .. }
            | Self::MailRefused(..)
            | Self::Bounced(..)
            | Self::Cancelled(_)
            | Self::OrderExpired(..)
            | Self::NotWanted
            | Self::NobodyToAsk
            | Self::NoConsent { .. }
            | Self::SaysNo
            | Self::NoWindow => false,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongClass => f.write_str("the bundle is for other classes"),
            Self::WrongFromVersion(has) => write!(f, "runs {has}, which the bundle does not go over"),
            Self::NotEnrolled => f.write_str("not enrolled"),
            Self::RolledBack(failure) => write!(f, "rolled back: {failure}"),
            Self::Damaged(failure) => write!(f, "damaged, old files not all back: {failure}"),
            Self::Refused(Refusal::Declined) => Refusal::Declined.fmt(f),
            Self::Refused(refusal) => write!(f, "refused: {refusal}"),
            Self::OtherVersion(reported) => write!(f, "reports {reported}"),
            Self::NoAnswer { asked_at, received: _, mail } => {
                write!(f, "no answer to the version query of {asked_at}")?;
                mail.as_ref().map_or(Ok(()), |mail| write!(f, "; its mail was still on its way ({mail})"))
            }
            Self::MailRefused(text, cause) => mail_text(f, "mail refused", text, *cause),
            Self::Bounced(text, cause) => mail_text(f, "mail bounced", text, *cause),
            Self::Cancelled(None) => f.write_str("cancelled; the agent did not answer"),
            Self::Cancelled(Some(result)) => result.fmt(f),
            Self::OrderExpired(None, None) => f.write_str("the order expired before anything came of it"),
            Self::OrderExpired(None, Some(mail)) => write!(f, "the order expired before it arrived: {mail}"),
            Self::NotWanted => f.write_str("updates are not wanted there"),
            Self::NobodyToAsk => f.write_str("there is no administrator to ask for consent"),
            Self::NoConsent { asked_at } => {
                write!(f, "its administrator, asked at {asked_at}, has not answered in time")
            }
            Self::NoWindow => f.write_str("its site's window does not open before the order expires"),
            Self::SaysNo => f.write_str("its administrator does not want it"),
            Self::OrderExpired(Some(waiting), _) => write!(f, "the order expired while {waiting}"),
        }
    }
}

fn mail_text(f: &mut fmt::Formatter<'_>, what: &str, text: &str, cause: Cause) -> fmt::Result {
    match cause.name() {
        Some(name) => write!(f, "{what}, {name}: {text}"),
        None => write!(f, "{what}: {text}"),
    }
}
