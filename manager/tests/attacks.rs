//! Attacks by their names, one module each, against the manager: what its mails show, and whose word it takes. Those
//! against an agent are in the agent's tests; `scripts/attacks` prints both as one table.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may panic"
)]

mod office;

use manager_core::{CampaignId, TargetState};
use office::{Box7, Office, goal, versions};
use shared::EnvelopeId;
use shared::message::{Report, Reported, Versions};

/// A campaign whose version query has reached its agents: the office, the agents, the campaign, the query.
fn asked(count: usize) -> (Office, Vec<Box7>, CampaignId, EnvelopeId) {
    let office = Office::new();
    let agents = office.enrolled(count);
    let id = office.campaign(&agents, 1_000);
    office.pass();
    office.pass();
    let queries: Vec<_> = agents.iter().map(|agent| agent.orders(&office)[1].0.id).collect();
    (office, agents, id, queries[0])
}

fn report(query: EnvelopeId, software: Reported) -> Report {
    Report::Versions(Versions { query: Some(query), versions: versions(software) })
}

/// After whatever has happened, the agent's own word counts.
fn believes(office: &Office, agent: &mut Box7, id: CampaignId, query: EnvelopeId) {
    assert_eq!(office.target(id, agent).0, TargetState::Mailed, "nothing has changed so far");
    agent.report(office, &report(query, goal()));
    office.pass();
    assert_eq!(office.target(id, agent).0, TargetState::Verified);
}

mod eavesdrop {
    use super::*;
    use mailfleet::daemon::Question;
    use mailfleet::store::NewAgent;
    use mailfleet::system::now;
    use mailio::Mailbox;
    use shared::message::Order;
    use shared::{Digest, Label};
    use std::collections::BTreeSet;
    use std::time::Duration;

    const SITE: &str = "Tokyo, third floor";

    /// The mails in a box's mailbox as a relay sees them, and what is attached to them.
    fn overheard(office: &Office, agent: &Box7) -> Vec<(Vec<u8>, Vec<u8>)> {
        let folder = office.spool().join(agent.mail.as_str());
        let mut mailbox = Mailbox::new(agent.settings.clone());
        office.runtime.block_on(async {
            let mut all = vec![];
            for found in mailbox.look(100).await.unwrap() {
                let mut attachment = vec![];
                mailbox.fetch(&found.key, 1 << 30, &mut attachment).await.unwrap();
                let raw =
                    ["new", "cur"].map(|sub| std::fs::read(folder.join(sub).join(found.key.to_string())));
                all.push((raw.into_iter().find_map(Result::ok).unwrap(), attachment));
            }
            all
        })
    }

    fn holds(bytes: &[u8], secret: &[u8]) -> bool {
        bytes.windows(secret.len()).any(|window| window == secret)
    }

    fn boxes(office: &Office, count: usize) -> Vec<Box7> {
        let mut agents = office.enrolled(count - 1);
        let mut last = Box7::new(count, &office.spool());
        let new = NewAgent {
            id: last.id.clone(),
            mail: last.mail.clone(),
            classes: vec![Label::lossy("office-gateway")],
            site: Label::lossy(SITE),
            note: Label::lossy("beside the lift"),
            admin: None,
            terms: mailfleet::registry::Terms::default(),
            secret_digest: Digest::of(&[7; 32]),
            invite_expires: now().plus(Duration::from_secs(3_600)),
        };
        assert!(office.store().write(|tx| tx.add_agent(&new, now())).unwrap());
        last.report(office, &last.enrol_request([7; 32]));
        office.pass();
        assert!(matches!(last.orders(office)[0].1, Order::Enrolled(_)));
        agents.push(last);
        agents
    }

    #[test]
    fn a_bulk_order_shows_no_content_no_version_no_agent_no_site_and_no_other_recipient() {
        let office = Office::new();
        let agents = boxes(&office, 3);
        office.campaign(&agents, 200_000);
        assert_eq!(office.pass().mails_out, 1, "one mail for all");
        let bundle = Digest::of(&[5; 200_000]);
        for agent in &agents {
            let [(raw, attachment)] = &overheard(&office, agent)[..] else { panic!("one mail each") };
            let mut secrets: Vec<&[u8]> = vec![
                b"1.0.02-0",
                b"spring",
                b"office-gateway",
                b"beside the lift",
                SITE.as_bytes(),
                &[5; 16],
                &bundle.0,
            ];
            for other in &agents {
                secrets.extend([other.id.as_str().as_bytes(), other.mail.as_str().as_bytes()]);
            }
            for secret in secrets {
                let word = String::from_utf8_lossy(secret);
                assert!(!holds(raw, secret) && !holds(attachment, secret), "{word}");
            }
        }
    }

    #[test]
    fn two_mails_to_one_box_share_nothing_but_addresses_and_the_manager() {
        let office = Office::new();
        let agents = office.enrolled(1);
        for _ in 0..2 {
            let ids = [agents[0].id.clone()];
            let life = shared::limits::ORDER_LIFE;
            let asked = |tx: &mailfleet::store::Tx<'_>| {
                mailfleet::daemon::queue_query(tx, Question::Versions, &ids, 50, life, now())
            };
            office.store().write(asked).unwrap();
            // Mails that were made at one time show that anyway.
            assert_eq!(office.pass().mails_out, 1);
        }
        let [(_, one), (_, other)] = &overheard(&office, &agents[0])[..] else { panic!("two mails") };
        let runs = |bytes: &[u8]| bytes[20..].windows(16).map(<[u8]>::to_vec).collect::<BTreeSet<_>>();
        assert_eq!(runs(one).intersection(&runs(other)).count(), 0);
    }
}

mod forged_report {
    use super::*;

    #[test]
    fn what_one_agent_says_under_the_query_of_another_is_said_of_itself() {
        let (office, mut agents, id, query) = asked(2);
        agents[1].report(&office, &report(query, goal()));
        office.pass();
        assert_eq!(office.target(id, &agents[1]).0, TargetState::Verified);
        believes(&office, &mut agents[0], id, query);
    }

    #[test]
    fn a_report_under_the_key_name_of_another_is_refused() {
        let (office, mut agents, id, query) = asked(2);
        let (envelope, mut forged) = agents[1].sealed(&office, &report(query, Reported::Nothing));
        forged[8..16].copy_from_slice(&agents[0].sign.verifying_key().key_id().0);
        agents[1].post(&office, envelope, forged);
        office.pass();
        assert!(office.log().contains("refused a mail: from A0001"), "{}", office.log());
        believes(&office, &mut agents[0], id, query);
    }

    #[test]
    fn every_altered_byte_of_a_report_makes_it_worthless() {
        let (office, mut agents, id, query) = asked(1);
        let (envelope, sealed) = agents[0].sealed(&office, &report(query, Reported::Nothing));
        for at in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[at] ^= 1 << (at % 8);
            agents[0].post(&office, envelope, altered);
        }
        assert_eq!(office.pass().mails_in, sealed.len() as u64);
        println!("figure: {} bytes", sealed.len());
        believes(&office, &mut agents[0], id, query);
    }

    #[test]
    fn the_managers_own_orders_sent_back_to_it_are_no_reports() {
        let (office, mut agents, id, query) = asked(1);
        let order = shared::message::encode(&shared::message::Order::QueryVersions);
        let new = shared::envelope::NewSmall {
            id: EnvelopeId([3; 16]),
            created: mailfleet::system::now(),
            expires: mailfleet::system::now().plus(shared::limits::ORDER_LIFE),
            sequence: 99,
        };
        let keys = office.home.keys().unwrap();
        let to = [keys.trust.seal_key.clone()];
        let rng = &mut mailfleet::system::rng();
        let sealed = shared::envelope::seal_small(&new, &order, &to, &keys.order, rng).unwrap();
        agents[0].post(&office, new.id, sealed);
        office.pass();
        assert!(office.log().contains("refused a mail"), "{}", office.log());
        believes(&office, &mut agents[0], id, query);
    }

    #[test]
    fn replayed_reports_do_not_bring_an_old_version_back() {
        let (office, mut agents, id, query) = asked(1);
        let (envelope, old) = agents[0].sealed(&office, &report(query, Reported::Nothing));
        believes(&office, &mut agents[0], id, query);
        for _ in 0..3 {
            agents[0].post(&office, envelope, old.clone());
            office.pass();
        }
        assert_eq!(office.target(id, &agents[0]).0, TargetState::Verified);
        let record = office.store().read(|tx| tx.agent(&agents[0].id)).unwrap().unwrap();
        assert_eq!(record.versions.unwrap().software, goal());
    }
}

mod retired_key {
    use super::*;
    use shared::Digest;
    use std::time::Duration;

    #[test]
    fn the_key_of_a_removed_agent_is_worth_nothing() {
        let (office, mut agents, id, query) = asked(2);
        office.store().write(|tx| tx.remove_agent(&agents[0].id)).unwrap();
        agents[0].report(&office, &report(query, goal()));
        office.pass();
        assert_ne!(office.target(id, &agents[0]).0, TargetState::Verified);
        assert!(office.log().contains("refused a mail"), "{}", office.log());
        believes(&office, &mut agents[1], id, query);
    }

    #[test]
    fn the_key_of_a_replaced_box_is_worth_nothing() {
        let (office, mut agents, id, query) = asked(2);
        let mut replaced = Box7::new(1_001, &office.spool());
        replaced.id = agents[0].id.clone();
        let expires = mailfleet::system::now().plus(Duration::from_secs(3_600));
        let renew =
            office.store().write(|tx| tx.renew_invitation(&replaced.id, Digest::of(&[8; 32]), expires));
        assert!(renew.unwrap());
        replaced.report(&office, &replaced.enrol_request([8; 32]));
        office.pass();
        agents[0].report(&office, &report(query, goal()));
        office.pass();
        assert_ne!(office.target(id, &agents[0]).0, TargetState::Verified);
        believes(&office, &mut agents[1], id, query);
    }
}

mod replaced_key {
    use super::*;
    use mailfleet::system::now;
    use shared::limits::FORMER_SIGNING_KEY_LIFE;
    use shared::message::Rekeyed;
    use std::time::Duration;

    /// A campaign whose first agent has changed its keys to those of seed 77 and has been heard under them; the thief who
    /// has the old keys, and the order that asked for the new ones.
    fn changed() -> (Office, Vec<Box7>, Box7, CampaignId, [EnvelopeId; 2]) {
        let (office, mut agents, id, query) = asked(2);
        let order = office.ask_for_keys(&agents[0]);
        let thief = Box7 { sequence: 10, ..Box7::new(1, &office.spool()) };
        let agent = &mut agents[0];
        agent.report(&office, &agent.rekeyed(order, 77));
        office.pass();
        agent.use_keys(77);
        agent.sequence = 20;
        agent.report(
            &office,
            &Report::Versions(Versions { query: None, versions: versions(Reported::Nothing) }),
        );
        office.pass();
        (office, agents, thief, id, [query, order])
    }

    fn signs_as(office: &Office, agent: &Box7) -> bool {
        office.record(agent).sign_key == Some(agent.sign.verifying_key())
    }

    #[test]
    fn a_thief_of_the_old_key_is_refused_after_the_change() {
        let (office, mut agents, mut thief, id, [query, _]) = changed();
        thief.sequence = 99;
        thief.report(&office, &report(query, goal()));
        office.pass();
        assert!(office.log().contains("from A0001: signed by a key that was replaced"), "{}", office.log());
        believes(&office, &mut agents[0], id, query);
    }

    #[test]
    fn a_thief_of_the_old_key_who_backdates_his_reports_says_nothing_of_versions() {
        let (office, mut agents, mut thief, id, [query, _]) = changed();
        thief.report(&office, &report(query, goal()));
        office.pass();
        assert_eq!(office.record(&agents[0]).versions.unwrap().software, Reported::Nothing);
        believes(&office, &mut agents[0], id, query);
    }

    #[test]
    fn a_thief_of_the_old_key_cannot_name_keys_of_his_own() {
        let (office, mut agents, mut thief, id, [query, order]) = changed();
        thief.report(&office, &thief.rekeyed(order, 66));
        office.pass();
        assert!(
            office.log().contains("new keys refused: they are signed by a key that was"),
            "{}",
            office.log()
        );
        assert!(signs_as(&office, &agents[0]));
        believes(&office, &mut agents[0], id, query);
    }

    #[test]
    fn the_old_enrolment_request_again_does_not_bring_the_old_keys_back() {
        let (office, mut agents, mut thief, id, [query, _]) = changed();
        for _ in 0..2 {
            thief.report(&office, &thief.enrol_request([7; 32]));
            office.pass();
            // The second time, the old key is forgotten, and its request comes from a stranger.
            let long_after = now().plus(FORMER_SIGNING_KEY_LIFE + Duration::from_secs(86_400));
            office.store().write(|tx| tx.forget_former_keys(long_after)).unwrap();
        }
        let refusals = office.log().matches("the invitation was used before, with other keys").count();
        assert_eq!(refusals, 2, "{}", office.log());
        assert!(signs_as(&office, &agents[0]));
        believes(&office, &mut agents[0], id, query);
    }

    #[test]
    fn replayed_reports_of_new_keys_change_nothing() {
        let (office, mut agents, id, query) = asked(1);
        let order = office.ask_for_keys(&agents[0]);
        let agent = &mut agents[0];
        let (envelope, first) = agent.sealed(&office, &agent.rekeyed(order, 77));
        agent.post(&office, envelope, first.clone());
        office.pass();
        agent.use_keys(77);
        agent.orders(&office);
        let order = office.ask_for_keys(agent);
        agent.report(&office, &agent.rekeyed(order, 78));
        office.pass();
        agent.use_keys(78);
        for _ in 0..3 {
            agent.post(&office, envelope, first.clone());
            office.pass();
        }
        assert!(signs_as(&office, agent));
        believes(&office, agent, id, query);
    }

    #[test]
    fn keys_without_a_proof_unasked_or_of_another_agent_are_refused() {
        let (office, mut agents, id, query) = asked(3);
        let order = office.ask_for_keys(&agents[0]);
        let Report::Rekeyed(honest) = agents[0].rekeyed(order, 77) else { panic!() };
        let Report::Rekeyed(others) = agents[1].rekeyed(order, 77) else { panic!() };
        let theirs = agents[2].open.sealing_key();
        let sign = shared::keys::SigningKey::from_seed(&[77; 32]);
        let stolen = shared::rekey::rekeyed(&agents[0].id, order, &sign, &theirs);
        let Report::Rekeyed(unasked) = agents[0].rekeyed(query, 77) else { panic!() };
        let wrong = [
            (Rekeyed { proof: [0; 64], ..honest.clone() }, "the new keys are not proven"),
            (Rekeyed { seal_key: theirs.to_bytes(), ..honest }, "the new keys are not proven"),
            (others, "the new keys are not proven"),
            (stolen, "one of them is in use already"),
            (unasked, "they were not asked for"),
        ];
        for (at, (rekeyed, why)) in wrong.into_iter().enumerate() {
            agents[0].report(&office, &Report::Rekeyed(rekeyed));
            office.pass();
            let refused = office.log().matches("A0001 new keys refused").count();
            assert!(office.log().contains(why) && refused == at + 1, "{why}: {}", office.log());
            assert!(signs_as(&office, &agents[0]));
        }
        believes(&office, &mut agents[0], id, query);
    }

    #[test]
    fn the_keys_of_a_removed_or_replaced_box_are_forgotten_with_those_before_them() {
        let (office, agents, mut thief, id, [query, _]) = changed();
        let mut replaced = Box7::new(1_001, &office.spool());
        replaced.id = agents[0].id.clone();
        let digest = shared::Digest::of(&[8; 32]);
        let expires = now().plus(Duration::from_secs(3_600));
        assert!(office.store().write(|tx| tx.renew_invitation(&replaced.id, digest, expires)).unwrap());
        replaced.report(&office, &replaced.enrol_request([8; 32]));
        office.pass();
        thief.report(&office, &report(query, goal()));
        office.pass();
        let stranger = "which is no enrolled agent's key";
        assert_eq!(office.log().matches(stranger).count(), 1, "{}", office.log());
        assert_ne!(office.target(id, &replaced).0, TargetState::Verified);

        let (office, mut agents, mut thief, _, [query, _]) = changed();
        office.store().write(|tx| tx.remove_agent(&agents[0].id)).unwrap();
        for one in [&mut agents[0], &mut thief] {
            one.report(&office, &report(query, goal()));
        }
        office.pass();
        assert_eq!(office.log().matches(stranger).count(), 2, "{}", office.log());
    }
}

mod bombs {
    use super::*;
    use std::fmt::Write as _;

    #[test]
    fn mails_made_to_hurt_their_reader_hold_up_no_report() {
        let (office, mut agents, id, query) = asked(1);
        let marker = format!("X-Mailfleet: v1; id={}; size=100\r\n", EnvelopeId([3; 16]));
        let mut nested = String::new();
        for n in 0..10_000 {
            write!(nested, "Content-Type: multipart/mixed; boundary=\"b{n}\"\r\n\r\n--b{n}\r\n").unwrap();
        }
        let report = "Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n";
        let bombs = [
            "X-A: b\r\n".repeat(100_000),
            format!("Subject: {}", "a".repeat(50_000_000)),
            nested,
            format!(
                "Content-Type: multipart/mixed; boundary=b\r\n\r\n{}",
                "--b\r\n\r\nx\r\n".repeat(1_000_000)
            ),
            format!("{report}{}", "--b\r\nContent-Type: message/delivery-status\r\n\r\n".repeat(500_000)),
        ];
        let folder = office.spool().join("manager@lab.test/new");
        for (at, bomb) in bombs.iter().enumerate() {
            std::fs::write(folder.join(format!("{at}.a")), bomb).unwrap();
            std::fs::write(folder.join(format!("{at}.b")), format!("{marker}{bomb}")).unwrap();
        }
        assert_eq!(office.pass().mails_in, 10);
        believes(&office, &mut agents[0], id, query);
    }
}
