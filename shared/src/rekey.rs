//! New keys of an agent's own (PROTOCOL 13): the proof that whoever names them also holds them. Who makes keys, and when
//! they count, is not here.

use thiserror::Error;

use crate::id::{AgentId, EnvelopeId};
use crate::keys::{BadSignature, KeyError, SealingKey, SigningKey, VerifyingKey};
use crate::message::Rekeyed;

const LABEL: &str = "mailfleet/rekey/v1";

/// The report that names an agent's new keys, with their proof.
#[must_use]
pub fn rekeyed(agent: &AgentId, order: EnvelopeId, sign: &SigningKey, seal: &SealingKey) -> Rekeyed {
    let (sign_key, seal_key) = (sign.verifying_key().to_bytes(), seal.to_bytes());
    let proof = sign.sign(LABEL, &proven(agent, order, &sign_key, &seal_key));
    Rekeyed { order, sign_key, seal_key, proof }
}

/// The keys that a report names, if the new signing key itself says that they are this agent's (PROTOCOL 13.2).
///
/// # Errors
/// Bytes that are no keys, or another proof.
pub fn check(agent: &AgentId, rekeyed: &Rekeyed) -> Result<(VerifyingKey, SealingKey), RekeyError> {
    let sign = VerifyingKey::from_bytes(&rekeyed.sign_key)?;
    let seal = SealingKey::from_bytes(&rekeyed.seal_key)?;
    let message = proven(agent, rekeyed.order, &rekeyed.sign_key, &rekeyed.seal_key);
    sign.verify(LABEL, &message, &rekeyed.proof)?;
    Ok((sign, seal))
}

/// What the new signing key signs. All but the last have one length, so no two sets of values collide.
fn proven(agent: &AgentId, order: EnvelopeId, sign_key: &[u8; 32], seal_key: &[u8; 32]) -> Vec<u8> {
    [order.0.as_slice(), sign_key, seal_key, agent.as_str().as_bytes()].concat()
}

/// New keys that cannot be believed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RekeyError {
    /// Not keys.
    #[error("the new keys are not usable")]
    Key(#[from] KeyError),
    /// The new signing key has not signed them, or not for this agent and order.
    #[error("the new keys are not proven")]
    Proof(#[from] BadSignature),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::OpeningKey;

    #[test]
    fn a_proof_counts_only_for_its_agent_order_and_keys() {
        let agent = |id| AgentId::parse(id).unwrap();
        let seal = |n| OpeningKey::from_seed(&[n; 32]).sealing_key();
        let sign = SigningKey::from_seed(&[1; 32]);
        let honest = rekeyed(&agent("A1"), EnvelopeId([5; 16]), &sign, &seal(2));
        assert_eq!(check(&agent("A1"), &honest), Ok((sign.verifying_key(), seal(2))));
        let other_sign = SigningKey::from_seed(&[9; 32]).verifying_key().to_bytes();
        for wrong in [
            Rekeyed { order: EnvelopeId([6; 16]), ..honest.clone() },
            Rekeyed { seal_key: seal(3).to_bytes(), ..honest.clone() },
            Rekeyed { sign_key: other_sign, ..honest.clone() },
            Rekeyed { proof: [0; 64], ..honest.clone() },
        ] {
            assert_eq!(check(&agent("A1"), &wrong), Err(RekeyError::Proof(BadSignature)));
        }
        assert!(check(&agent("A2"), &honest).is_err());
        let small_order = Rekeyed { sign_key: [0; 32], ..honest };
        assert!(matches!(check(&agent("A1"), &small_order), Err(RekeyError::Key(_))));
    }
}
