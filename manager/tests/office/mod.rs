//! A manager on a spool and agents made by hand, for tests of the daemon.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test file uses its part")]

pub mod watcher;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mailfleet::config::{Choices, new_text};
use mailfleet::daemon::{Daemon, DaemonError, Pass, queue_rekey};
use mailfleet::home::{Home, HomeError};
use mailfleet::store::{AgentRecord, AgentState, BundleRecord, NewAgent, NewCampaign, NewTarget, Store};
use mailfleet::system::{new_envelope_id, now, rng};
use mailio::{
    Attachment, AutoKind, Class, Disposal, MailSettings, Mailbox, Outgoing, ReceiveUrl, SendUrl, Sender, Sent,
};
use manager_core::{BundleFacts, CampaignId, Reason, Rollout, Settings, TargetState};
use shared::envelope::{Header, NewSmall, RawHead, check_body, open_body, seal_small};
use shared::keys::{OpeningKey, SealingKey, SigningKey, VerifyingKey};
use shared::message::{EnrolRequest, Order, Report, Reported, VersionReport, decode_order, encode};
use shared::rekey::rekeyed;
use shared::{AgentId, Digest, EnvelopeId, Label, MailAddress, SoftwareVersion};

/// A manager on a spool, with its daemon started anew for each pass: as after a crash each time.
pub struct Office {
    pub dir: tempfile::TempDir,
    pub home: Home,
    pub runtime: tokio::runtime::Runtime,
}

impl Office {
    pub fn new() -> Self {
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

    pub fn spool(&self) -> PathBuf {
        self.dir.path().join("post")
    }

    pub fn store(&self) -> Store {
        Store::open(&self.home.store_path()).unwrap()
    }

    /// Starts the daemon. A program that another test starts in this process has a copy of every open file, the lock among
    /// them, until it is executed.
    fn daemon(&self) -> Daemon {
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        loop {
            match Daemon::start(self.home.clone()) {
                Err(DaemonError::Home(HomeError::Locked { .. })) if std::time::Instant::now() < deadline => {
                    std::thread::yield_now();
                }
                started => return started.unwrap(),
            }
        }
    }

    pub fn pass(&self) -> Pass {
        let daemon = self.daemon();
        let pass = self.runtime.block_on(daemon.once()).unwrap();
        assert!(pass.failures.is_empty(), "{:?}", pass.failures);
        pass
    }

    pub fn invite(&self, n: usize) -> Box7 {
        let agent = Box7::new(n, &self.spool());
        let new = NewAgent {
            id: agent.id.clone(),
            mail: agent.mail.clone(),
            classes: vec![],
            site: Label::default(),
            note: Label::default(),
            admin: None,
            terms: mailfleet::registry::Terms::default(),
            secret_digest: Digest::of(&[7; 32]),
            invite_expires: now().plus(Duration::from_secs(3600)),
        };
        assert!(self.store().write(|tx| tx.add_agent(&new, now())).unwrap());
        agent
    }

    pub fn enrolled(&self, count: usize) -> Vec<Box7> {
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

    /// Asks an agent for new keys; gives the order as the agent got it.
    pub fn ask_for_keys(&self, agent: &Box7) -> EnvelopeId {
        let ids = [agent.id.clone()];
        self.store().write(|tx| queue_rekey(tx, &ids, 50, now())).unwrap();
        self.pass();
        let orders = agent.orders(self);
        assert!(matches!(orders[0].1, Order::Rekey), "{:?}", orders[0].1);
        orders[0].0.id
    }

    pub fn record(&self, agent: &Box7) -> AgentRecord {
        self.store().read(|tx| tx.agent(&agent.id)).unwrap().unwrap()
    }

    pub fn state_of(&self, agent: &Box7) -> AgentState {
        self.store().read(|tx| tx.agent(&agent.id)).unwrap().unwrap().state
    }

    pub fn log(&self) -> String {
        let events = self.store().read(|tx| tx.events(100)).unwrap();
        events.iter().map(|event| format!("{} {}\n", event.agent, event.text)).collect()
    }

    pub fn campaign(&self, agents: &[Box7], bundle_bytes: usize) -> CampaignId {
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
            bundle: BundleFacts {
                digest,
                software_version: version,
                from: vec![],
                classes: vec![],
                test: None,
            },
            settings: Settings {
                settle: Duration::ZERO,
                reply_timeout: Duration::from_secs(3600),
                retries: 0,
                order_life: Duration::from_secs(24 * 3600),
            },
            rollout: Rollout::at_once_since(now()),
            notes: String::new(),
            vendor: None,
            planned: false,
            targets: agents
                .iter()
                .map(|a| NewTarget { agent: a.id.clone(), from_version: None, wave: 0 })
                .collect(),
        };
        self.store()
            .write(|tx| {
                tx.add_bundle(&record)?;
                tx.start_campaign(&new, now())
            })
            .unwrap()
    }

    pub fn target(&self, id: CampaignId, agent: &Box7) -> (TargetState, Option<Reason>) {
        let campaign = self.store().read(|tx| tx.campaign(id)).unwrap().unwrap();
        let target = &campaign.targets[&agent.id];
        (target.state, target.reason.clone())
    }
}

/// An agent made by hand.
pub struct Box7 {
    pub id: AgentId,
    pub mail: MailAddress,
    pub sign: SigningKey,
    pub open: OpeningKey,
    pub sequence: u64,
    pub settings: MailSettings,
}

impl Box7 {
    pub fn new(n: usize, spool: &Path) -> Self {
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

    pub fn enrol_request(&self, secret: [u8; 32]) -> Report {
        Report::Enrol(EnrolRequest {
            agent: self.id.clone(),
            secret,
            sign_key: self.sign.verifying_key().to_bytes(),
            seal_key: self.open.sealing_key().to_bytes(),
            mail: self.mail.clone(),
            agent_version: Label::lossy("0.1.0"),
        })
    }

    pub fn sealed(&mut self, office: &Office, report: &Report) -> (EnvelopeId, Vec<u8>) {
        self.sequence += 1;
        let new = NewSmall {
            id: new_envelope_id(),
            created: now(),
            expires: now().plus(Duration::from_secs(3600)),
            sequence: self.sequence,
        };
        let to: SealingKey = office.home.keys().unwrap().trust.seal_key;
        (new.id, seal_small(&new, &encode(report), &[to], &self.sign, &mut rng()).unwrap())
    }

    /// The report that names the keys of another seed, in answer to this order.
    pub fn rekeyed(&self, order: EnvelopeId, seed: u8) -> Report {
        let (sign, open) = (SigningKey::from_seed(&[seed; 32]), OpeningKey::from_seed(&[seed; 32]));
        Report::Rekeyed(rekeyed(&self.id, order, &sign, &open.sealing_key()))
    }

    /// Uses the keys of another seed from now on.
    pub fn use_keys(&mut self, seed: u8) {
        self.sign = SigningKey::from_seed(&[seed; 32]);
        self.open = OpeningKey::from_seed(&[seed; 32]);
    }

    pub fn report(&mut self, office: &Office, report: &Report) {
        let (id, attachment) = self.sealed(office, report);
        self.post(office, id, attachment);
    }

    pub fn post(&self, office: &Office, envelope: EnvelopeId, attachment: Vec<u8>) {
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
    pub fn orders(&self, office: &Office) -> Vec<(Header, Order, Vec<u8>)> {
        let order_key: VerifyingKey = office.home.keys().unwrap().order.verifying_key();
        let mut mailbox = Mailbox::new(self.settings.clone());
        office.runtime.block_on(async {
            let mut orders = Vec::new();
            for found in mailbox.look(100).await.unwrap() {
                assert!(matches!(found.class, Class::Ours(_)));
                let mut bytes = Vec::new();
                mailbox.fetch(&found.key, 1 << 30, &mut bytes).await.unwrap();
                let mut rest = bytes.as_slice();
                let (_, head) = RawHead::read_introduced(&mut rest).unwrap();
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

pub fn versions(software: Reported) -> VersionReport {
    VersionReport { software, rom_version: Label::default(), modules: vec![], taken_at: now(), line: None }
}

pub fn goal() -> Reported {
    Reported::Exact(SoftwareVersion::parse("1.0.02-0").unwrap())
}
