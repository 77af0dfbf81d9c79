//! Trust statements: as they come, and the trust below its signatures.

use std::collections::BTreeSet;

use shared::UnixMillis;
use shared::keys::VerifyingKey;
use shared::limits::{ORDER_KEYS_MAX_COUNT, RELEASE_SIGNATURES_MAX_COUNT};
use shared::message::encode;
use shared::trust::{MAGIC, Statement, Trust, TrustError, introduction};

use crate::harness::{opening_key, release_key, sender_key, told};

/// What an agent of the harness believes.
#[must_use]
pub fn known_trust() -> Trust {
    let (order, release) = (sender_key().verifying_key(), release_key().verifying_key());
    Trust::new(1, UnixMillis(1), vec![order], vec![release], 1, opening_key().sealing_key())
}

/// Statements one after the other, as in the file of an operator.
pub(crate) fn statements(data: &[u8]) -> bool {
    let all = match Statement::read_all(data) {
        Ok(all) => all,
        Err(err) => {
            told(&err);
            return false;
        }
    };
    let bytes: Vec<u8> = all.iter().flat_map(Statement::to_bytes).collect();
    assert_eq!(bytes, data, "statements are written as they were read");
    assert!(introduction(&all).len() <= data.len());
    let mut joined = all.first().cloned();
    for statement in &all {
        if let Some(first) = &mut joined {
            let before = first.signers().len();
            let same = first.join(statement);
            assert!(same || first.signers().len() == before, "signatures of another statement");
        }
    }
    followed(&all).is_some_and(|trust| trust != known_trust())
}

/// Where a chain of statements leads; `None` if one is refused.
fn followed(statements: &[Statement]) -> Option<Trust> {
    statements.iter().try_fold(known_trust(), |known, statement| match statement.accept(&known) {
        Ok(trust) => {
            // PROTOCOL 11.2
            assert!(trust.version > known.version, "trust only rises");
            holds(&trust);
            Some(trust)
        }
        Err(err) => {
            told(&err);
            None
        }
    })
}

/// The CBOR of a trust, signed by the harness with the key that is trusted now.
pub(crate) fn trust(data: &[u8]) -> bool {
    let read = |signature: &[u8; 64]| Statement::read(&mut statement(data, signature).as_slice());
    let trust = match read(&[0; 64]).and_then(|statement| statement.inspect_unverified()) {
        Ok(trust) => trust,
        Err(err) => {
            told(&err);
            return false;
        }
    };
    holds(&trust);
    let forged = read(&[0; 64]).and_then(|statement| statement.accept(&known_trust()));
    assert!(matches!(forged, Err(TrustError::TooFew { found: 0, .. })));
    let accepted = read(&release_key().sign("mailfleet/trust/v1", data))
        .and_then(|statement| statement.accept(&known_trust()));
    // PROTOCOL 11.2, 11.3: it is newer, and its own keys have signed it too.
    let signed_by_its_own =
        trust.threshold == 1 && trust.release_keys.contains(&release_key().verifying_key());
    assert_eq!(accepted.is_ok(), signed_by_its_own && trust.version > 1);
    if let Err(err) = &accepted {
        told(err);
    }
    let again = Statement::unsigned(&trust);
    assert_eq!(again.inspect_unverified().ok().as_ref(), Some(&trust), "a trust reads back");
    assert!(encode(&trust).len() <= data.len());
    accepted.is_ok()
}

fn statement(trust: &[u8], signature: &[u8; 64]) -> Vec<u8> {
    let length = u32::try_from(trust.len()).unwrap_or(u32::MAX).to_be_bytes();
    let key = release_key().verifying_key().key_id().0;
    [MAGIC.as_slice(), &length, trust, &[1], &key, signature].concat()
}

// PROTOCOL 2.1, 11.4: what an agent may rely on.
fn holds(trust: &Trust) {
    let bytes = |keys: &[VerifyingKey]| keys.iter().map(VerifyingKey::to_bytes).collect::<BTreeSet<_>>();
    let (orders, releases) = (bytes(&trust.order_keys), bytes(&trust.release_keys));
    assert!((1..=ORDER_KEYS_MAX_COUNT).contains(&orders.len()) && orders.len() == trust.order_keys.len());
    assert!((1..=RELEASE_SIGNATURES_MAX_COUNT).contains(&releases.len()));
    assert!(releases.len() == trust.release_keys.len() && orders.is_disjoint(&releases));
    assert!((1..=releases.len()).contains(&usize::from(trust.threshold)));
}
