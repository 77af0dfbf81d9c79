//! The daemon against agents made by hand, over a spool: what it mails, what it believes, what it refuses.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may panic"
)]

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mailfleet::config::{Choices, new_text};
use mailfleet::daemon::{Daemon, DaemonError, Pass};
use mailfleet::home::{Home, HomeError};
use mailfleet::store::{AgentState, BundleRecord, NewAgent, NewCampaign, NewTarget, Store};
use mailfleet::system::{new_envelope_id, now, rng};
use mailio::{
    Attachment, AutoKind, Class, Disposal, MailSettings, Mailbox, Outgoing, ReceiveUrl, SendUrl, Sender, Sent,
};
use manager_core::{BundleFacts, CampaignId, CampaignState, Reason, Settings, TargetState};
use shared::envelope::{Header, NewSmall, RawHead, check_body, open_body, seal_small};
use shared::keys::{OpeningKey, SealingKey, SigningKey, VerifyingKey};
use shared::message::{
    Cause, Ended, EnrolRequest, Failure, Order, Outcome, Phase, Report, Reported, VersionReport, Versions,
    decode_order, encode,
};
use shared::{AgentId, Digest, EnvelopeId, Label, MailAddress, SoftwareVersion};

/// A manager on a spool, with its daemon started anew for each pass: as after a crash each time.
struct Office {
    dir: tempfile::TempDir,
    home: Home,
    runtime: tokio::runtime::Runtime,
}

impl Office {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let spool = dir.path().join("post");
        let address = MailAddress::parse("manager@lab.test").unwrap();
        let url = format!("spool:{}", spool.display());
        let choices = Choices {
            address: address.clone(),
            send: url.clone(),
            receive: url,
            ca: None,
            password_file: None,
        };
        let text = format!("{}\nmails_per_minute = 100000\n", new_text(&choices));
        let home = Home::create(&dir.path().join("home"), &text).unwrap();
        Store::create(&home.store_path()).unwrap();
        Mailbox::create_spool(&spool, &address).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { dir, home, runtime }
    }

    fn spool(&self) -> PathBuf {
        self.dir.path().join("post")
    }

    fn store(&self) -> Store {
        Store::open(&self.home.store_path()).unwrap()
    }

    fn pass(&self) -> Pass {
        let daemon = Daemon::start(self.home.clone()).unwrap();
        let pass = self.runtime.block_on(daemon.once()).unwrap();
        assert!(pass.failures.is_empty(), "{:?}", pass.failures);
        pass
    }

    fn invite(&self, n: usize) -> Box7 {
        let agent = Box7::new(n, &self.spool());
        let new = NewAgent {
            id: agent.id.clone(),
            mail: agent.mail.clone(),
            classes: vec![],
            site: Label::default(),
            note: Label::default(),
            admin: None,
            secret_digest: Digest::of(&[7; 32]),
            invite_expires: now().plus(Duration::from_secs(3600)),
        };
        assert!(self.store().write(|tx| tx.add_agent(&new, now())).unwrap());
        agent
    }

    fn enrolled(&self, count: usize) -> Vec<Box7> {
        let mut agents: Vec<Box7> = (1..=count).map(|n| self.invite(n)).collect();
        for agent in &mut agents {
            agent.report(self, &agent.enrol_request([7; 32]));
        }
        self.pass();
        for agent in &mut agents {
            assert!(matches!(agent.orders(self)[0].1, Order::Enrolled(_)), "{}", agent.id);
        }
        agents
    }

    fn state_of(&self, agent: &Box7) -> AgentState {
        self.store().read(|tx| tx.agent(&agent.id)).unwrap().unwrap().state
    }

    fn log(&self) -> String {
        let events = self.store().read(|tx| tx.events(100)).unwrap();
        events.iter().map(|event| format!("{} {}\n", event.agent, event.text)).collect()
    }

    fn campaign(&self, agents: &[Box7], bundle_bytes: usize) -> CampaignId {
        let bundle = vec![5u8; bundle_bytes];
        let digest = Digest::of(&bundle);
        std::fs::write(self.home.bundles().join("b.mfb"), &bundle).unwrap();
        let version = SoftwareVersion::parse("1.0.02-0").unwrap();
        let record = BundleRecord {
            digest,
            file: "b.mfb".to_owned(),
            bytes: bundle.len() as u64,
            software_version: version.clone(),
            added_at: now(),
        };
        let new = NewCampaign {
            name: Label::lossy("spring"),
            bundle: BundleFacts { digest, software_version: version, from: vec![], classes: vec![] },
            settings: Settings {
                settle: Duration::ZERO,
                reply_timeout: Duration::from_secs(3600),
                retries: 0,
                order_life: Duration::from_secs(24 * 3600),
            },
            targets: agents.iter().map(|a| NewTarget { agent: a.id.clone(), from_version: None }).collect(),
        };
        self.store()
            .write(|tx| {
                tx.add_bundle(&record)?;
                tx.start_campaign(&new, now())
            })
            .unwrap()
    }

    fn target(&self, id: CampaignId, agent: &Box7) -> (TargetState, Option<Reason>) {
        let campaign = self.store().read(|tx| tx.campaign(id)).unwrap().unwrap();
        let target = &campaign.targets[&agent.id];
        (target.state, target.reason.clone())
    }
}

/// An agent made by hand.
struct Box7 {
    id: AgentId,
    mail: MailAddress,
    sign: SigningKey,
    open: OpeningKey,
    sequence: u64,
    settings: MailSettings,
}

impl Box7 {
    fn new(n: usize, spool: &Path) -> Self {
        let mail = MailAddress::parse(&format!("box{n}@lab.test")).unwrap();
        let mut seed = [9u8; 32];
        seed[..8].copy_from_slice(&n.to_be_bytes());
        let settings = MailSettings::new(
            mail.clone(),
            SendUrl::Spool(spool.to_owned()),
            ReceiveUrl::Spool(spool.to_owned()),
        );
        Mailbox::create_spool(spool, &mail).unwrap();
        Self {
            id: AgentId::parse(&format!("A{n:04}")).unwrap(),
            mail,
            sign: SigningKey::from_seed(&seed),
            open: OpeningKey::from_seed(&seed),
            sequence: 0,
            settings,
        }
    }

    fn enrol_request(&self, secret: [u8; 32]) -> Report {
        Report::Enrol(EnrolRequest {
            agent: self.id.clone(),
            secret,
            sign_key: self.sign.verifying_key().to_bytes(),
            seal_key: self.open.sealing_key().to_bytes(),
            mail: self.mail.clone(),
            agent_version: Label::lossy("0.1.0"),
        })
    }

    fn sealed(&mut self, office: &Office, report: &Report) -> (EnvelopeId, Vec<u8>) {
        self.sequence += 1;
        let new = NewSmall {
            id: new_envelope_id(),
            created: now(),
            expires: now().plus(Duration::from_secs(3600)),
            sequence: self.sequence,
        };
        let to: SealingKey = office.home.keys().unwrap().open.sealing_key();
        (new.id, seal_small(&new, &encode(report), &[to], &self.sign, &mut rng()).unwrap())
    }

    fn report(&mut self, office: &Office, report: &Report) {
        let (id, attachment) = self.sealed(office, report);
        self.post(office, id, attachment);
    }

    fn post(&self, office: &Office, envelope: EnvelopeId, attachment: Vec<u8>) {
        let mail = Outgoing {
            from: self.mail.clone(),
            to: vec![MailAddress::parse("manager@lab.test").unwrap()],
            envelope,
            subject: "report".to_owned(),
            note: String::new(),
            date: now(),
            in_reply_to: None,
            auto: AutoKind::Generated,
            attachment: Attachment::Bytes(attachment),
        };
        let sent = office.runtime.block_on(Sender::new(self.settings.clone()).send(&mail)).unwrap();
        assert_eq!(sent, [Sent::Done]);
    }

    /// Takes all orders out of the mailbox; checks that they are the manager's and for this box.
    fn orders(&self, office: &Office) -> Vec<(Header, Order, Vec<u8>)> {
        let order_key: VerifyingKey = office.home.keys().unwrap().order.verifying_key();
        let mut mailbox = Mailbox::new(self.settings.clone());
        office.runtime.block_on(async {
            let mut orders = Vec::new();
            for found in mailbox.look(100).await.unwrap() {
                assert!(matches!(found.class, Class::Ours(_)));
                let mut bytes = Vec::new();
                mailbox.fetch(&found.key, 1 << 30, &mut bytes).await.unwrap();
                let mut rest = bytes.as_slice();
                let head = RawHead::read(&mut rest).unwrap();
                let header = head.verify(&order_key).unwrap();
                check_body(&header, &mut &*rest).unwrap();
                let key = header.open_slot(&self.open, head.sender()).unwrap();
                let (message, mut payload) = open_body(&header, &key, rest).unwrap();
                let mut bundle = Vec::new();
                payload.read_to_end(&mut bundle).unwrap();
                orders.push((header, decode_order(&message).unwrap(), bundle));
                mailbox.dispose(&[(found.key, Disposal::Done)]).await.unwrap();
            }
            orders
        })
    }
}

fn versions(software: Reported) -> VersionReport {
    VersionReport { software, rom_version: Label::default(), modules: vec![], taken_at: now() }
}

fn goal() -> Reported {
    Reported::Exact(SoftwareVersion::parse("1.0.02-0").unwrap())
}

#[test]
fn an_invitation_is_accepted_once_and_refusals_are_logged_and_not_answered() {
    let office = Office::new();
    let mut first = office.invite(1);
    let second = office.invite(2);
    // PROTOCOL 9.2: the request is signed by the new key and sealed to the manager.
    first.report(&office, &first.enrol_request([1; 32]));
    office.pass();
    assert_eq!(office.state_of(&first), AgentState::Invited);
    assert!(office.log().contains("A0001 enrolment refused: wrong secret"), "{}", office.log());

    let request = first.enrol_request([7; 32]);
    first.report(&office, &request);
    office.pass();
    assert_eq!(office.state_of(&first), AgentState::Enrolled);
    assert_eq!(first.orders(&office).len(), 1);

    // Another box with the same invitation: other keys.
    let mut thief = Box7::new(3, &office.spool());
    thief.id = first.id.clone();
    thief.report(&office, &thief.enrol_request([7; 32]));
    let mut stranger = Box7::new(4, &office.spool());
    stranger.report(&office, &stranger.enrol_request([7; 32]));
    // A copied home: the keys of an enrolled agent under another ID.
    let mut copy = Box7::new(1, &office.spool());
    copy.id = second.id.clone();
    copy.report(&office, &copy.enrol_request([7; 32]));
    office.pass();
    let log = office.log();
    assert!(log.contains("A0001 enrolment refused: the invitation was used before"), "{log}");
    assert!(log.contains("A0004 enrolment refused: no agent of this ID"), "{log}");
    assert!(log.contains("A0002 enrolment refused: its key is another agent's"), "{log}");
    assert_eq!(office.state_of(&second), AgentState::Invited);
    assert!(thief.orders(&office).is_empty() && stranger.orders(&office).is_empty());
}

#[test]
fn a_request_whose_signature_is_not_by_the_key_inside_is_refused() {
    // PROTOCOL 9.3
    let office = Office::new();
    let mut agent = office.invite(1);
    let request = agent.enrol_request([7; 32]);
    agent.sign = SigningKey::from_seed(&[66; 32]);
    agent.report(&office, &request);
    office.pass();
    assert_eq!(office.state_of(&agent), AgentState::Invited);
    assert!(office.log().contains("refused a mail"), "{}", office.log());
}

#[test]
fn the_bundle_is_sealed_once_and_mailed_once_per_fifty_recipients() {
    let office = Office::new();
    let agents = office.enrolled(120);
    office.campaign(&agents, 300_000);
    assert_eq!(
        office.pass().mails_out,
        3,
        "three install orders; the queries wait for their mails' acceptance"
    );
    let mut envelopes = BTreeSet::new();
    let mut bodies = BTreeSet::new();
    for agent in &agents {
        let (header, order, bundle) = agent.orders(&office).remove(0);
        assert!(matches!(order, Order::Install(_)));
        assert_eq!(bundle.len(), 300_000);
        assert!(header.recipient_count() <= 50);
        envelopes.insert(header.id);
        bodies.insert(header.body_digest);
    }
    assert_eq!((envelopes.len(), bodies.len()), (3, 1));
    assert_eq!(office.pass().mails_out, 3, "one query to all, in three mails");
    assert_eq!(office.pass().mails_out, 0, "a pass that has nothing to do mails nothing");
}

#[test]
fn verdicts_come_from_signed_reports_and_only_the_failed_are_mailed_again() {
    let office = Office::new();
    let mut agents = office.enrolled(3);
    let id = office.campaign(&agents, 1_000);
    office.pass();
    office.pass();
    let orders: Vec<_> = agents.iter().map(|a| a.orders(&office)).collect();
    let (install, query) = (orders[0][0].0.id, orders[0][1].0.id);
    assert!(matches!(orders[0][1].1, Order::QueryVersions));
    agents[0].report(&office, &Report::Versions(Versions { query: Some(query), versions: versions(goal()) }));
    let failure = Failure { phase: Phase::Verify, cause: Cause::ScriptExit(9), undo_failed: false };
    let ended = Ended {
        order: install,
        outcome: Outcome::RolledBack(failure),
        output: None,
        versions: versions(Reported::Nothing),
    };
    agents[1].report(&office, &Report::Ended(ended));
    agents[2].report(
        &office,
        &Report::Versions(Versions { query: Some(query), versions: versions(Reported::Nothing) }),
    );
    office.pass();
    assert_eq!(office.target(id, &agents[0]), (TargetState::Verified, None));
    let (state, reason) = office.target(id, &agents[1]);
    assert_eq!(state, TargetState::Failed);
    assert_eq!(reason.unwrap().to_string(), "rolled back: verify: script ended with exit code 9");
    assert_eq!(office.target(id, &agents[2]).1, Some(Reason::OtherVersion(Reported::Nothing)));

    office
        .store()
        .write(|tx| {
            let mut campaign = tx.campaign(id)?.unwrap();
            assert_eq!(campaign.state, CampaignState::Finished);
            for agent in campaign.retry() {
                tx.save_target(id, &agent, &campaign.targets[&agent])?;
            }
            tx.save_campaign_state(id, campaign.state)
        })
        .unwrap();
    assert_eq!(office.pass().mails_out, 1);
    assert!(agents[0].orders(&office).is_empty());
    let again = agents[1].orders(&office);
    // PROTOCOL 4.2: the same body, under a new header.
    assert_eq!(again[0].0.body_digest, orders[1][0].0.body_digest);
    assert_ne!(again[0].0.id, install);
    assert!(again[0].0.sequence > orders[1][0].0.sequence);
    assert_eq!(agents[2].orders(&office).len(), 1);
}

#[test]
fn copies_forgeries_and_other_junk_change_nothing() {
    let office = Office::new();
    let mut agents = office.enrolled(2);
    let id = office.campaign(&agents, 1_000);
    office.pass();
    office.pass();
    let query = agents[0].orders(&office)[1].0.id;
    let good = Report::Versions(Versions { query: Some(query), versions: versions(goal()) });
    // A report of one agent says nothing of another, whatever it contains.
    agents[0].report(&office, &good);
    // Altered, cut, and empty attachments.
    let (envelope, sealed) = agents[1].sealed(&office, &good);
    for damaged in [sealed[..sealed.len() - 1].to_vec(), b"MAILFLT1".to_vec(), vec![]] {
        agents[1].post(&office, envelope, damaged);
    }
    let mut altered = sealed.clone();
    altered[100] ^= 1;
    agents[1].post(&office, envelope, altered);
    office.pass();
    assert_eq!(office.target(id, &agents[0]).0, TargetState::Verified);
    assert_eq!(office.target(id, &agents[1]).0, TargetState::Mailed);
    // The sound one, three times: kept once, applied once.
    for _ in 0..3 {
        agents[1].post(&office, envelope, sealed.clone());
    }
    office.pass();
    assert_eq!(office.target(id, &agents[1]).0, TargetState::Verified);
}

#[test]
fn a_second_daemon_on_one_home_is_told_who_holds_it() {
    let office = Office::new();
    let _daemon = Daemon::start(office.home.clone()).unwrap();
    let err = Daemon::start(office.home.clone()).unwrap_err();
    let DaemonError::Home(HomeError::Locked { pid, .. }) = err else { panic!("{err:?}") };
    assert_eq!(pid, std::process::id().to_string());
}

#[test]
fn the_daemon_stops_when_it_is_told_to() {
    let office = Office::new();
    let daemon = Daemon::start(office.home.clone()).unwrap();
    office.runtime.block_on(daemon.run(async { tokio::task::yield_now().await })).unwrap();
}

#[test]
fn a_body_whose_row_was_lost_in_a_crash_is_removed() {
    let office = Office::new();
    let orphan = office.home.bodies().join("orphan.body");
    std::fs::write(&orphan, b"x").unwrap();
    office.pass();
    assert!(!orphan.exists());
}

#[test]
fn an_operators_query_is_answered_outside_any_campaign() {
    let office = Office::new();
    let mut agents = office.enrolled(2);
    let ids: Vec<AgentId> = agents.iter().map(|a| a.id.clone()).collect();
    let asked = office
        .store()
        .write(|tx| mailfleet::daemon::queue_query(tx, &ids, 50, Duration::from_secs(3600), now()))
        .unwrap();
    assert_eq!(office.pass().mails_out, 1);
    let query = agents[0].orders(&office)[0].0.id;
    assert_eq!(asked, [query]);
    agents[0].report(&office, &Report::Versions(Versions { query: Some(query), versions: versions(goal()) }));
    office.pass();
    let progress = office.store().read(|tx| tx.query_progress(&asked)).unwrap();
    assert_eq!(progress.answered, BTreeSet::from([ids[0].clone()]));
    assert_eq!(progress.missing, BTreeSet::from([ids[1].clone()]));
    let record = office.store().read(|tx| tx.agent(&ids[0])).unwrap().unwrap();
    assert_eq!(record.versions.unwrap().software, goal());
}
