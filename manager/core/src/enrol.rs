//! Whether an enrolment request is accepted (PROTOCOL 9). The shell has checked that the request is signed
//! by the key inside it.

use core::fmt;

use shared::message::EnrolRequest;
use shared::{Digest, UnixMillis};

/// What the manager keeps of an invitation: never the secret itself (PROTOCOL 9.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolment {
    /// SHA-256 of the one-time secret.
    pub secret_digest: Digest,
    /// Until when it can be used.
    pub expires: UnixMillis,
    /// The keys that used it: signing key, sealing key.
    pub used_by: Option<([u8; 32], [u8; 32])>,
}

/// What to do about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnrolDecision {
    /// Keep its keys, and answer.
    Accept,
    /// The keys are kept already; the answer may have been lost, so answer again (PROTOCOL 9.4).
    AnswerAgain,
    /// Log it, and do not answer.
    Refuse(EnrolRefusal),
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EnrolRefusal {
    /// No agent of this ID was invited.
    UnknownAgent,
    /// Not the invitation's secret.
    WrongSecret,
    /// Other keys have used the invitation before.
    Used,
    /// The invitation's time is over.
    Expired,
}

impl fmt::Display for EnrolRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::UnknownAgent => "no agent of this ID is invited",
            Self::WrongSecret => "wrong secret",
            Self::Used => "the invitation was used before, with other keys",
            Self::Expired => "the invitation has expired",
        })
    }
}

/// Decides about a request, given what is kept of the agent's invitation.
#[must_use]
pub fn decide(enrolment: Option<&Enrolment>, request: &EnrolRequest, now: UnixMillis) -> EnrolDecision {
    let Some(enrolment) = enrolment else { return EnrolDecision::Refuse(EnrolRefusal::UnknownAgent) };
    // Digests of random secrets are compared, so the time that it takes tells nothing of the secret.
    if Digest::of(&request.secret) != enrolment.secret_digest {
        return EnrolDecision::Refuse(EnrolRefusal::WrongSecret);
    }
    match enrolment.used_by {
        Some(keys) if keys == (request.sign_key, request.seal_key) => EnrolDecision::AnswerAgain,
        Some(_) => EnrolDecision::Refuse(EnrolRefusal::Used),
        None if now >= enrolment.expires => EnrolDecision::Refuse(EnrolRefusal::Expired),
        None => EnrolDecision::Accept,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::{AgentId, Label, MailAddress};

    fn request(secret: u8, key: u8) -> EnrolRequest {
        EnrolRequest {
            agent: AgentId::parse("A1").unwrap(),
            secret: [secret; 32],
            sign_key: [key; 32],
            seal_key: [key; 32],
            mail: MailAddress::parse("a@b.test").unwrap(),
            agent_version: Label::default(),
        }
    }

    fn invited(used_by: Option<u8>) -> Enrolment {
        Enrolment {
            secret_digest: Digest::of(&[1; 32]),
            expires: UnixMillis(100),
            used_by: used_by.map(|k| ([k; 32], [k; 32])),
        }
    }

    #[test]
    fn a_secret_is_accepted_once() {
        let now = UnixMillis(50);
        assert_eq!(decide(Some(&invited(None)), &request(1, 7), now), EnrolDecision::Accept);
        let used = decide(Some(&invited(Some(7))), &request(1, 8), now);
        assert_eq!(used, EnrolDecision::Refuse(EnrolRefusal::Used));
    }

    #[test]
    fn the_same_request_is_answered_again_even_after_the_expiry() {
        // PROTOCOL 9.4: the answer may have been lost.
        assert_eq!(
            decide(Some(&invited(Some(7))), &request(1, 7), UnixMillis(500)),
            EnrolDecision::AnswerAgain
        );
    }

    #[test]
    fn strangers_wrong_secrets_and_late_comers_are_refused() {
        let refuse = EnrolDecision::Refuse;
        assert_eq!(decide(None, &request(1, 7), UnixMillis(1)), refuse(EnrolRefusal::UnknownAgent));
        assert_eq!(
            decide(Some(&invited(None)), &request(2, 7), UnixMillis(1)),
            refuse(EnrolRefusal::WrongSecret)
        );
        assert_eq!(
            decide(Some(&invited(None)), &request(1, 7), UnixMillis(100)),
            refuse(EnrolRefusal::Expired)
        );
    }
}
