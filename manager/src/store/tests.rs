//! Behaviour of the store: durability rules are in its module; here is what callers rely on.

use super::*;
use shared::{AgentId, Digest, EnvelopeId, Label, MailAddress, UnixMillis};

pub(crate) fn invited(n: usize) -> NewAgent {
    NewAgent {
        id: AgentId::parse(&format!("A{n:05}")).unwrap(),
        mail: MailAddress::parse(&format!("box{n}@lab.test")).unwrap(),
        classes: vec![Label::lossy("office"), Label::lossy("pilot")],
        site: Label::lossy("Tokyo"),
        note: Label::default(),
        admin: None,
        terms: crate::registry::Terms::default(),
        secret_digest: Digest::of(&[1; 32]),
        invite_expires: UnixMillis(1_000),
    }
}

fn new_store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(&dir.path().join("store.db")).unwrap();
    (dir, store)
}

#[test]
fn ten_thousand_agents_are_added_in_one_transaction_or_not_at_all() {
    let (_dir, mut store) = new_store();
    let began = std::time::Instant::now();
    let added = store.write(|tx| {
        (0..10_000).map(|n| tx.add_agent(&invited(n), UnixMillis(1))).collect::<TxResult<Vec<_>>>()
    });
    assert_eq!(added.unwrap().iter().filter(|added| **added).count(), 10_000);
    println!("10,000 agents in {:?}", began.elapsed());
    let broken = store.write(|tx| {
        tx.add_agent(&invited(20_000), UnixMillis(1))?;
        Err::<(), _>(TxError::Row("the caller gives up".to_owned()))
    });
    assert!(broken.is_err());
    assert_eq!(store.read(|tx| tx.agents()).unwrap().len(), 10_000);
}

#[test]
fn an_agent_reads_back_and_its_id_is_never_reused() {
    let (_dir, mut store) = new_store();
    let new = invited(7);
    assert!(store.write(|tx| tx.add_agent(&new, UnixMillis(5))).unwrap());
    let found = store.read(|tx| tx.agent(&new.id)).unwrap().unwrap();
    assert_eq!((found.state, found.classes.len(), found.added_at), (AgentState::Invited, 2, UnixMillis(5)));
    assert!(store.write(|tx| tx.remove_agent(&new.id)).unwrap());
    assert!(!store.write(|tx| tx.add_agent(&new, UnixMillis(6))).unwrap());
    assert!(store.read(|tx| tx.agents()).unwrap().is_empty());
}

#[test]
fn a_copy_of_a_report_is_recognised() {
    let (_dir, mut store) = new_store();
    let agent = invited(1).id;
    store.write(|tx| tx.add_agent(&invited(1), UnixMillis(5))).unwrap();
    let report = NewReport {
        agent: &agent,
        envelope: EnvelopeId([1; 16]),
        sequence: 3,
        received_at: UnixMillis(9),
        answers: None,
        message: b"x",
    };
    assert!(store.write(|tx| tx.keep_report(&report)).unwrap());
    assert!(!store.write(|tx| tx.keep_report(&report)).unwrap());
}

#[test]
fn the_database_is_for_its_owner_only() {
    let (dir, _store) = new_store();
    let mode = fs::metadata(dir.path().join("store.db")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_damaged_a_missing_and_a_later_database_are_named() {
    let (dir, store) = new_store();
    let path = dir.path().join("store.db");
    drop(store);
    assert!(matches!(Store::open(&dir.path().join("other.db")), Err(StoreError::Missing(_))));
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert!(matches!(Store::open(&path), Err(StoreError::Newer(_))));
    fs::write(&path, b"SQLite format 3\0 and then nothing that makes sense at all, for many bytes").unwrap();
    for side in ["store.db-wal", "store.db-shm"] {
        let _ = fs::remove_file(dir.path().join(side));
    }
    let err = Store::open(&path).unwrap_err();
    assert!(matches!(err, StoreError::Damaged(..)), "{err:?}");
    assert!(err.to_string().contains("store.db"), "{err}");
}

#[test]
fn sequence_numbers_of_orders_only_rise() {
    let (_dir, mut store) = new_store();
    let key = shared::envelope::ContentKey::from_bytes([1; 32]);
    let sealed = shared::envelope::SealedBody { bytes: 1, digest: Digest([0; 32]) };
    let body = NewBody { key, sealed, place: BodyPlace::Here(vec![0]) };
    let seal = shared::keys::OpeningKey::from_seed(&[1; 32]).sealing_key();
    let sequences: Vec<u64> = (1..=3)
        .map(|n| {
            store
                .write(|tx| {
                    let agent = invited(n);
                    tx.add_agent(&agent, UnixMillis(1))?;
                    let keys = shared::message::EnrolRequest {
                        agent: agent.id.clone(),
                        secret: [0; 32],
                        sign_key: shared::keys::SigningKey::from_seed(&[1; 32]).verifying_key().to_bytes(),
                        seal_key: seal.to_bytes(),
                        mail: agent.mail.clone(),
                        agent_version: Label::default(),
                    };
                    tx.enrol(&keys, shared::KeyId([u8::try_from(n).unwrap(); 8]), UnixMillis(1))?;
                    let order = NewOrder {
                        envelope: EnvelopeId([u8::try_from(n).unwrap(); 16]),
                        body: tx.add_body(&body)?,
                        kind: OrderKind::Query,
                        campaign: None,
                        created: UnixMillis(1),
                        expires: UnixMillis(2),
                        agents: &[agent.id],
                    };
                    tx.queue(&order)?;
                    let due = tx.next_due(UnixMillis(1))?.unwrap();
                    tx.recipient_outcome(due.envelope, &due.recipients[0].agent, 0, &RecipientOutcome::Sent)?;
                    Ok(due.sequence)
                })
                .unwrap()
        })
        .collect();
    assert_eq!(sequences, [1, 2, 3]);
    // Expired long ago, they are forgotten with their bodies; the numbers are not.
    store.write(|tx| tx.forget_orders(UnixMillis(3))).unwrap();
    assert!(store.read(|tx| tx.body(1)).is_err());
    let next = store.read(|tx| tx.next_due(UnixMillis(1))).unwrap();
    assert!(next.is_none());
}
