//! A site and its manager for tests: a spool as the post office, the real agent binary, and just enough of
//! a manager to seal orders and read reports.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

use std::collections::BTreeMap;
use std::io::{Cursor, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mailio::{
    Attachment, AutoKind, Class, Disposal, MailSettings, Mailbox, Outgoing, ReceiveUrl, SecretSource,
    SendUrl, Sender,
};
use rand_core::UnwrapErr;
use shared::bundle::{BundleSpec, Compression, pack, write_head};
use shared::envelope::{ContentKey, NewHeader, RawHead, check_body, open_body, seal_body, seal_head};
use shared::invitation::Invitation;
use shared::keys::{OpeningKey, SealingKey, SigningKey, VerifyingKey};
use shared::limits::ORDER_LIFE;
use shared::message::{
    CancelOrder, Ended, Enrolled, InstallOrder, Order, Outcome, Rekeyed, Report, Step, VersionReport,
    Versions, Waiting, decode_report, encode,
};
use shared::rekey::check;
use shared::trust::Trust;
use shared::{AgentId, Digest, EnvelopeId, KeyId, Label, MailAddress, SoftwareVersion, UnixMillis};
use tempfile::TempDir;

pub const AGENT: &str = "A0001";

pub fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    UnixMillis(i64::try_from(since.as_millis()).unwrap())
}

pub fn rng() -> UnwrapErr<getrandom::SysRng> {
    UnwrapErr(getrandom::SysRng)
}

pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand_core::Rng::fill_bytes(&mut rng(), &mut bytes);
    bytes
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// One agent, one manager, one post office.
pub struct World {
    pub folder: TempDir,
    pub sign: SigningKey,
    pub release: SigningKey,
    pub open: OpeningKey,
    pub sequence: u64,
    pub reports: Vec<Report>,
    /// Kind and mode of the modules in the next bundle.
    pub kind: &'static str,
    pub mode: &'static str,
    /// The agent that is started, if it is not the one of this build.
    pub program: Option<PathBuf>,
    pub agent_keys: Option<(VerifyingKey, SealingKey)>,
    /// Keys that the agent has replaced: reports under them may still come.
    pub former: Vec<VerifyingKey>,
    /// Reports that came.
    seen: BTreeMap<EnvelopeId, Came>,
    /// The newest state was damaged: what it knew as sent may be sent again.
    pub state_was_lost: bool,
    /// Real mail servers in the spool's place.
    pub servers: Option<Servers>,
}

/// A report that came.
#[derive(Clone, Copy)]
struct Came {
    /// Digest of the sealed bytes.
    mail: Digest,
    /// Digest of the message in them.
    message: Digest,
    sequence: u64,
}

/// Where real mail servers are.
pub struct Servers {
    pub smtps_port: String,
    pub imaps_port: String,
    pub ca: PathBuf,
    pub password_file: PathBuf,
}

/// What a test changes about an order.
#[derive(Clone, Copy)]
pub struct Life {
    pub id: EnvelopeId,
    pub created: UnixMillis,
    pub expires: UnixMillis,
    pub sequence: u64,
}

/// One module of a test bundle: path and content.
pub type Files<'f> = &'f [(&'f str, &'f str)];

impl World {
    /// A world in which nobody is enrolled yet.
    pub fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            sign: SigningKey::from_seed(&random()),
            release: SigningKey::from_seed(&random()),
            open: OpeningKey::from_seed(&random()),
            sequence: 0,
            reports: vec![],
            kind: "resident",
            mode: "0755",
            program: None,
            agent_keys: None,
            former: vec![],
            seen: BTreeMap::new(),
            state_was_lost: false,
            servers: None,
        }
    }

    /// A world with an enrolled agent.
    pub fn enrolled() -> Self {
        Self::new().with_agent()
    }

    /// The same, after the agent's enrolment.
    pub fn with_agent(self) -> Self {
        let mut w = self;
        let out = w.enrol(&w.invitation());
        assert!(out.status.success(), "{}", text(&out));
        w.collect();
        w.send(&Order::Enrolled(Enrolled { agent: AgentId::parse(AGENT).unwrap(), heartbeat: None }));
        assert_eq!(w.once(), 0);
        w.collect();
        w.reports.clear();
        w
    }

    /// The same manager with another folder: what has happened so far happened there too.
    pub fn twin(&self, folder: TempDir) -> Self {
        let sign = |key: &SigningKey| SigningKey::parse_secret_text(&key.to_secret_text()).unwrap();
        Self {
            folder,
            sign: sign(&self.sign),
            release: sign(&self.release),
            open: OpeningKey::parse_secret_text(&self.open.to_secret_text()).unwrap(),
            sequence: self.sequence,
            reports: vec![],
            kind: self.kind,
            mode: self.mode,
            program: None,
            agent_keys: self.agent_keys.clone(),
            former: self.former.clone(),
            seen: self.seen.clone(),
            state_was_lost: self.state_was_lost,
            servers: None,
        }
    }

    /// What the invitation says.
    pub fn trust(&self) -> Trust {
        let (order, release) = (self.sign.verifying_key(), self.release.verifying_key());
        Trust::new(1, UnixMillis(0), vec![order], vec![release], 1, self.open.sealing_key())
    }

    pub fn spool(&self) -> PathBuf {
        self.folder.path().join("post")
    }

    pub fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    pub fn manager_address() -> MailAddress {
        MailAddress::parse("manager@lab.test").unwrap()
    }

    pub fn agent_address() -> MailAddress {
        MailAddress::parse("agent0001@lab.test").unwrap()
    }

    pub fn invitation(&self) -> Invitation {
        Invitation {
            agent: AgentId::parse(AGENT).unwrap(),
            mail: Self::agent_address(),
            classes: vec![Label::lossy("office-gateway")],
            manager: Self::manager_address(),
            trust: self.trust(),
            secret: [9; 32].into(),
            created: now().minus(Duration::from_secs(60)),
            expires: now().plus(Duration::from_secs(3_600)),
        }
    }

    fn urls(&self, address: &MailAddress) -> (String, String) {
        match &self.servers {
            None => {
                let url = format!("spool:{}", self.spool().display());
                (url.clone(), url)
            }
            Some(servers) => (
                format!("smtps://{address}@localhost:{}", servers.smtps_port),
                format!("imaps://{address}@localhost:{}/INBOX", servers.imaps_port),
            ),
        }
    }

    fn manager_mail(&self) -> MailSettings {
        let address = Self::manager_address();
        let (send, receive) = self.urls(&address);
        let mut settings =
            MailSettings::new(address, SendUrl::parse(&send).unwrap(), ReceiveUrl::parse(&receive).unwrap());
        settings.mail_max_bytes = u64::MAX;
        if let Some(servers) = &self.servers {
            settings.ca_file = Some(servers.ca.clone());
            settings.secret = SecretSource::File(servers.password_file.clone());
        }
        settings
    }

    /// Runs `enrol` with this invitation; both mailboxes are there.
    pub fn enrol(&self, invitation: &Invitation) -> Output {
        self.enrol_command(invitation).output().unwrap()
    }

    /// The command that enrols; both mailboxes are there.
    pub fn enrol_command(&self, invitation: &Invitation) -> Command {
        let file = self.folder.path().join("A0001.invite");
        std::fs::write(&file, invitation.to_text().as_bytes()).unwrap();
        let (send, receive) = self.urls(&Self::agent_address());
        let mut command = self.command(&["enrol"]);
        command.arg(file).args(["--send", &send, "--receive", &receive, "--root"]).arg(self.root());
        match &self.servers {
            None => {
                for address in [Self::manager_address(), Self::agent_address()] {
                    Mailbox::create_spool(&self.spool(), &address).unwrap();
                }
            }
            Some(servers) => {
                command.arg("--ca").arg(&servers.ca).arg("--password-file").arg(&servers.password_file);
            }
        }
        command
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let built = Path::new(env!("CARGO_BIN_EXE_mailfleet-agent"));
        let mut command = Command::new(self.program.as_deref().unwrap_or(built));
        command.args(args).env("MAILFLEET_HOME", self.home()).env_remove("RUST_LOG");
        command.stdin(Stdio::null());
        command
    }

    pub fn agent(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// `run --once`; gives the exit code.
    pub fn once(&self) -> i32 {
        let out = self.agent(&["--log", "info", "run", "--once"]);
        let code = out.status.code().unwrap();
        if code > 1 {
            eprintln!("{}", text(&out));
        }
        code
    }

    pub fn spawn(&self, args: &[&str]) -> Child {
        self.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    pub fn set_config(&self, line: &str) {
        let path = self.home().join("agent.toml");
        let old = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, format!("{line}\n{old}")).unwrap();
    }

    pub fn life(&mut self) -> Life {
        self.sequence += 1;
        let created = now();
        Life { id: EnvelopeId(random()), created, expires: created.plus(ORDER_LIFE), sequence: self.sequence }
    }

    pub fn agent_seal_key(&self) -> SealingKey {
        self.agent_keys.clone().unwrap().1
    }

    /// A sealed order as an attachment.
    pub fn seal(
        &self,
        life: Life,
        message: &[u8],
        payload: &[u8],
        to: &[SealingKey],
        signer: &SigningKey,
    ) -> Vec<u8> {
        let key = ContentKey::from_bytes(random());
        let mut body = Vec::new();
        let sealed = seal_body(&key, message, &mut Cursor::new(payload), &mut body).unwrap();
        let header = NewHeader {
            id: life.id,
            created: life.created,
            expires: life.expires,
            sequence: life.sequence,
            body: sealed,
        };
        let mut attachment = seal_head(&header, &key, to, signer, &mut rng()).unwrap();
        attachment.extend_from_slice(&body);
        attachment
    }

    /// The mail of an attachment to the agent.
    pub fn outgoing(id: EnvelopeId, attachment: Vec<u8>) -> Outgoing {
        Outgoing {
            from: Self::manager_address(),
            to: vec![Self::agent_address()],
            envelope: id,
            subject: "order".to_owned(),
            note: String::new(),
            date: now(),
            in_reply_to: None,
            auto: AutoKind::Generated,
            attachment: Attachment::Bytes(attachment),
        }
    }

    /// Mails an attachment to the agent.
    pub fn mail(&self, id: EnvelopeId, attachment: Vec<u8>) {
        let mail = Self::outgoing(id, attachment);
        let sent = wait(Sender::new(self.manager_mail()).send(&mail)).unwrap();
        assert_eq!(sent, [mailio::Sent::Done]);
    }

    /// Seals and mails an order; gives its ID.
    pub fn send(&mut self, order: &Order) -> EnvelopeId {
        let life = self.life();
        self.send_with(life, order, &[])
    }

    pub fn send_with(&mut self, life: Life, order: &Order, payload: &[u8]) -> EnvelopeId {
        let attachment = self.seal(life, &encode(order), payload, &[self.agent_seal_key()], &self.sign);
        self.mail(life.id, attachment);
        life.id
    }

    pub fn install_order(bundle: &[u8], version: &str) -> Order {
        Self::install_order_at(bundle, version, false)
    }

    /// An install order that waits for its schedule, or not.
    pub fn install_order_at(bundle: &[u8], version: &str, scheduled: bool) -> Order {
        Order::Install(InstallOrder {
            bundle: Digest::of(bundle),
            bundle_bytes: bundle.len() as u64,
            software_version: SoftwareVersion::parse(version).unwrap(),
            scheduled,
            delta: None,
        })
    }

    /// Builds, seals and mails a bundle.
    pub fn install(&mut self, version: &str, script: Option<&str>, files: Files<'_>) -> EnvelopeId {
        let bundle = self.bundle(version, "", script, files);
        let life = self.life();
        self.send_with(life, &Self::install_order(&bundle, version), &bundle)
    }

    pub fn query(&mut self) -> EnvelopeId {
        self.send(&Order::QueryVersions)
    }

    pub fn cancel(&mut self, order: EnvelopeId) -> EnvelopeId {
        self.send(&Order::Cancel(CancelOrder { orders: vec![order] }))
    }

    /// A signed bundle of these files.
    pub fn bundle(&self, version: &str, extra: &str, script: Option<&str>, files: Files<'_>) -> Vec<u8> {
        let modules: Vec<_> = files.iter().map(|(path, text)| (*path, self.kind, text.as_bytes())).collect();
        self.bundle_of(version, extra, script, &modules)
    }

    /// A signed bundle of these modules: path, kind and content.
    pub fn bundle_of(
        &self,
        version: &str,
        extra: &str,
        script: Option<&str>,
        modules: &[(&str, &str, &[u8])],
    ) -> Vec<u8> {
        let mode = self.mode;
        let mut toml = format!("software_version = \"{version}\"\n{extra}\n");
        if script.is_some() {
            toml.push_str("script = \"install.sh\"\n");
        }
        for (index, (path, kind, _)) in modules.iter().enumerate() {
            let name = path.rsplit('/').next().unwrap();
            toml.push_str(&format!(
                "[[module]]\nname = \"{name}\"\nversion = \"{version}\"\ndate = \"2026-01-01\"\n\
                 file = \"f{index}\"\npath = \"{path}\"\nmode = \"{mode}\"\nkind = \"{kind}\"\n"
            ));
        }
        let spec = BundleSpec::parse(&toml).unwrap();
        let mut payload = Vec::new();
        let manifest = pack(
            &spec,
            Compression::Zstd,
            1,
            now(),
            &mut |file| {
                let name = file.path.as_str();
                let content = match name.strip_prefix('f').and_then(|n| n.parse::<usize>().ok()) {
                    Some(index) => modules[index].2.to_vec(),
                    None => format!("#!/bin/sh\n{}\n", script.unwrap()).into_bytes(),
                };
                Ok(Cursor::new(content))
            },
            &mut payload,
            &mut |_| {},
        )
        .unwrap();
        let mut bundle = write_head(&manifest, &[&self.release]).unwrap();
        bundle.extend_from_slice(&payload);
        bundle
    }

    /// Reads the manager's mailbox into `reports`.
    pub fn collect(&mut self) {
        // One runtime for all calls: a connection belongs to the runtime that made it.
        let reports = wait(self.read_reports());
        self.reports.extend(reports);
    }

    async fn read_reports(&mut self) -> Vec<Report> {
        let mut reports = vec![];
        let mut mailbox = Mailbox::new(self.manager_mail());
        let found = mailbox.look(1_000).await.unwrap();
        for mail in found {
            assert!(matches!(mail.class, Class::Ours(_)), "{mail:?}");
            let mut file = tempfile::tempfile().unwrap();
            mailbox.fetch(&mail.key, 10_000_000, &mut file).await.unwrap();
            file.seek(SeekFrom::Start(0)).unwrap();
            let mut bytes = vec![];
            file.read_to_end(&mut bytes).unwrap();
            let mut file = Cursor::new(&bytes);
            let head = RawHead::read(&mut file).unwrap();
            let header = head.decode_unverified().unwrap();
            let key = header.open_slot(&self.open, head.sender()).unwrap();
            let at = file.position();
            check_body(&header, &mut file).unwrap();
            file.set_position(at);
            let (message, _) = open_body(&header, &key, file).unwrap();
            let report = decode_report(&message).unwrap();
            if let Report::Enrol(request) = &report {
                let sign = VerifyingKey::from_bytes(&request.sign_key).unwrap();
                let keys = (sign, SealingKey::from_bytes(&request.seal_key).unwrap());
                // PROTOCOL 9.4: the secret is used up; a manager refuses the same box with other keys.
                assert!(self.agent_keys.as_ref().is_none_or(|known| *known == keys), "other keys");
                self.agent_keys = Some(keys);
            }
            let current = self.agent_keys.as_ref().unwrap().0.clone();
            let former = self.former.iter().find(|key| key.key_id() == head.sender());
            head.verify(former.unwrap_or(&current)).unwrap();
            if let Report::Rekeyed(rekeyed) = &report {
                self.take_keys(rekeyed, head.sender());
            }
            let came =
                Came { mail: Digest::of(&bytes), message: Digest::of(&message), sequence: header.sequence };
            if self.is_new(header.id, came) {
                reports.push(report);
            }
            mailbox.dispose(&[(mail.key, Disposal::Done)]).await.unwrap();
        }
        mailbox.close().await;
        reports
    }

    /// What a manager does about new keys (PROTOCOL 13.2, 13.5).
    fn take_keys(&mut self, rekeyed: &Rekeyed, signer: KeyId) {
        let new = check(&AgentId::parse(AGENT).unwrap(), rekeyed).unwrap();
        let known = self.agent_keys.as_ref().unwrap();
        if *known != new {
            assert_eq!(known.0.key_id(), signer, "other keys under a key that was replaced");
            self.former.push(self.agent_keys.replace(new).unwrap().0);
        }
    }

    /// What an order was told to wait for.
    pub fn waits(&mut self, order: EnvelopeId) -> Vec<Waiting> {
        self.collect();
        let of_order = self.reports.iter().filter_map(|report| match report {
            Report::Progress(progress) if progress.order == order => Some(&progress.step),
            _ => None,
        });
        of_order.filter_map(|step| if let Step::Waiting(w) = step { Some(w.clone()) } else { None }).collect()
    }

    /// A report may come twice, byte for byte: the agent died before it knew that it was sent. Anything else is
    /// another report, with another number; but a box that lost its newest state may seal what it had sent anew.
    fn is_new(&mut self, id: EnvelopeId, came: Came) -> bool {
        if let Some(before) = self.seen.get(&id) {
            assert_eq!(before.mail, came.mail, "an envelope's ID came back with other bytes");
            return false;
        }
        if let Some(before) = self.seen.values().find(|before| before.sequence == came.sequence) {
            let again = self.state_was_lost && before.message == came.message;
            assert!(again, "sequence number {} stands for two reports", came.sequence);
            return false;
        }
        self.seen.insert(id, came);
        true
    }

    /// How an order ended; fails the test if not exactly once.
    pub fn ended(&mut self, order: EnvelopeId) -> Ended {
        self.collect();
        let ends: Vec<&Ended> = self
            .reports
            .iter()
            .filter_map(|r| if let Report::Ended(e) = r { Some(e) } else { None })
            .filter(|e| e.order == order)
            .collect();
        assert_eq!(ends.len(), 1, "{:?}", self.reports);
        ends[0].clone()
    }

    pub fn outcome(&mut self, order: EnvelopeId) -> Outcome {
        self.ended(order).outcome
    }

    /// The answers to a version query.
    pub fn answers(&mut self, query: EnvelopeId) -> Vec<VersionReport> {
        self.collect();
        let answer = |r: &Report| match r {
            Report::Versions(Versions { query: Some(q), versions }) if *q == query => Some(versions.clone()),
            _ => None,
        };
        self.reports.iter().filter_map(answer).collect()
    }

    /// Content of a file below the root.
    pub fn file(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.root().join(path)).ok()
    }

    /// Mails in the agent's mailbox.
    pub fn unread(&self) -> usize {
        let folder = self.spool().join("agent0001@lab.test");
        ["new", "cur"].iter().map(|sub| std::fs::read_dir(folder.join(sub)).unwrap().count()).sum()
    }

    /// Puts a raw mail into the agent's mailbox.
    pub fn deliver_raw(&self, name: &str, mail: &[u8]) {
        let path = self.spool().join("agent0001@lab.test/new").join(name);
        std::fs::File::create(path).unwrap().write_all(mail).unwrap();
    }

    pub fn status(&self) -> String {
        let out = self.agent(&["status"]);
        assert!(out.status.success(), "{}", text(&out));
        String::from_utf8(out.stdout).unwrap()
    }
}

/// Waits for something, with an end.
pub fn wait_until(what: &str, mut test: impl FnMut() -> bool) {
    let began = Instant::now();
    while !test() {
        assert!(began.elapsed() < Duration::from_secs(30), "still not: {what}");
        std::thread::yield_now();
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// All that a process has said.
pub fn text(out: &Output) -> String {
    format!(
        "exit {:?}\n{}{}",
        out.status.code(),
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    )
}

/// All files below a folder but the agent's own, with content and mode.
pub fn tree(folder: &Path) -> Vec<(PathBuf, Vec<u8>, u32)> {
    use std::os::unix::fs::PermissionsExt;
    let mut all = vec![];
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if path.file_name().unwrap() != ".mailfleet" {
                    folders.push(path);
                }
            } else {
                let mode = std::fs::metadata(&path).unwrap().permissions().mode();
                all.push((path.clone(), std::fs::read(&path).unwrap(), mode));
            }
        }
    }
    all.sort();
    all
}

/// Text that does not compress away.
pub fn noise(bytes: usize) -> String {
    let mut seed = 1u64;
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(b' ' + u8::try_from(seed >> 58).unwrap())
    };
    (0..bytes).map(|_| next()).collect()
}
