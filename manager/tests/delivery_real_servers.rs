//! A real manager against real Postfix and Dovecot, which `scripts/mail-lab` starts on loopback: what each kind of mailbox that does not
//! take an order looks like in the campaign's CSV. One test with many targets, because a lab takes seconds to start.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod transcript;

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mailfleet::store::Store;
use mailfleet::system::now;
use shared::keys::{OpeningKey, SigningKey};
use shared::message::EnrolRequest;
use shared::{AgentId, Label, MailAddress};

/// Postfix looks at its queue every 5 s, and the slowest target needs three looks.
const PATIENCE: Duration = Duration::from_secs(90);

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/mail-lab")
}

struct Lab {
    folder: tempfile::TempDir,
    env: BTreeMap<String, String>,
}

impl Lab {
    fn up() -> Self {
        let parent = if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" };
        let folder = tempfile::Builder::new().prefix("deliver-").tempdir_in(parent).unwrap();
        let out = Command::new(script())
            .arg("up")
            .arg(folder.path())
            .args(["--users", "4", "--base", &free_base().to_string(), "--warn", "1s"])
            .output()
            .unwrap();
        assert!(
            out.status.success(),
            "the mail lab did not start (needs root, postfix, dovecot; set MAILFLEET_NO_MAIL_SERVERS=1 where they cannot be had): {}",
            String::from_utf8_lossy(&out.stderr)
        );
        let text = String::from_utf8(out.stdout).unwrap();
        let env = text.lines().map(|line| line.split_once('=').unwrap());
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { folder, env }
    }

    /// Mails in a mailbox.
    fn count(&self, user: &str) -> usize {
        let out = Command::new(script()).arg("count").arg(self.folder.path()).arg(user).output().unwrap();
        String::from_utf8(out.stdout).unwrap().trim().parse().unwrap_or(0)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _best_effort = Command::new(script()).arg("down").arg(self.folder.path()).status();
    }
}

fn free_base() -> u16 {
    for _ in 0..200 {
        let probe = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let base = 13_000 + probe % 15_000;
        let ports = [25, 26, 27, 28, 587, 465, 143, 993, 110, 995];
        if ports.iter().all(|port| TcpListener::bind(("127.0.0.1", base + port)).is_ok()) {
            return base;
        }
    }
    panic!("no free ports for the lab");
}

/// A manager's home whose mail goes over the lab.
struct Manager {
    dir: tempfile::TempDir,
}

impl Manager {
    fn new(lab: &Lab) -> Self {
        let manager = Self { dir: tempfile::tempdir().unwrap() };
        let password = manager.dir.path().join("password");
        fs::write(&password, &lab.env["LAB_PASS"]).unwrap();
        fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).unwrap();
        let url =
            |scheme: &str, port: &str| format!("{scheme}://manager@lab.test@localhost:{}", lab.env[port]);
        let (send, receive) =
            (url("smtp+starttls", "LAB_SUBMISSION_PORT"), url("imap+starttls", "LAB_IMAP_PORT") + "/INBOX");
        let init = ["init", "--address", "manager@lab.test", "--send", &send, "--receive", &receive];
        let login = ["--ca", &lab.env["LAB_CA"], "--password-file", password.to_str().unwrap()];
        manager.run(&[init.as_slice(), login.as_slice()].concat());
        let file = manager.home().join("manager.toml");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, format!("poll = \"1s\"\nretry_min = \"2s\"\n{text}")).unwrap();
        manager
    }

    fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mailfleet"));
        command.current_dir(self.dir.path()).env_clear().env("MAILFLEET_HOME", self.home());
        command
    }

    fn run(&self, args: &[&str]) -> String {
        let out = self.command().args(args).output().unwrap();
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }

    /// An agent that is enrolled; nobody reads its mail.
    fn agent(&self, id: &str, mail: &str, terms: &[&str]) {
        let set: Vec<&str> = terms.iter().flat_map(|term| ["--set", term]).collect();
        self.run(
            &[&["agent", "add", id, "--mail", mail, "--class", "office-gateway"], set.as_slice()].concat(),
        );
        let mut seed = [7; 32];
        seed[..id.len()].copy_from_slice(id.as_bytes());
        let sign = SigningKey::from_seed(&seed).verifying_key();
        let request = EnrolRequest {
            agent: AgentId::parse(id).unwrap(),
            secret: [7; 32],
            sign_key: sign.to_bytes(),
            seal_key: OpeningKey::from_seed(&seed).sealing_key().to_bytes(),
            mail: MailAddress::parse(mail).unwrap(),
            agent_version: Label::lossy("0.1.0"),
        };
        let mut store = Store::open(&self.home().join("store.db")).unwrap();
        store.write(|tx| tx.enrol(&request, sign.key_id(), now())).unwrap();
    }

    /// A bundle of 60 kB that cannot be made smaller.
    fn bundle(&self) {
        let (from, to) =
            (transcript::fixtures().join("bundles/office-gateway-1.0.02"), self.dir.path().join("b"));
        assert!(Command::new("cp").arg("-r").arg(from).arg(&to).status().unwrap().success());
        let mut state = 1u64;
        let noise: Vec<u8> = (0..60_000)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        fs::write(to.join("blob"), noise).unwrap();
        let file = to.join("bundle.toml");
        let text = fs::read_to_string(&file).unwrap();
        let module = "\n[[module]]\nname = \"blob\"\nversion = \"1\"\ndate = \"2026-11-21\"\nfile = \"blob\"\n\
                      path = \"data/blob\"\nmode = \"0644\"\nkind = \"data\"\n";
        fs::write(&file, text + module).unwrap();
        self.run(&["bundle", "build", "b", "-o", "b.mfb"]);
    }

    /// State and reason of each target, as the CSV has them.
    fn targets(&self) -> BTreeMap<String, (String, String)> {
        let text = self.run(&["report", "campaign", "1"]);
        let mut csv = csv::Reader::from_reader(text.as_bytes());
        csv.records()
            .map(|record| {
                let record = record.unwrap();
                (record[1].to_owned(), (record[7].to_owned(), record[8].to_owned()))
            })
            .collect()
    }

    /// That mails to the lab's domain have to be smaller.
    fn has_learned(&self) -> bool {
        let mut store = Store::open(&self.home().join("store.db")).unwrap();
        store.read(|tx| tx.path("lab.test")).unwrap().limit.is_some()
    }

    fn daemon(&self) -> Running {
        let log = fs::File::create(self.dir.path().join("log")).unwrap();
        Running(self.command().arg("run").stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _status = self.0.wait();
    }
}

/// What a target looks like.
type Case = (&'static str, &'static str, &'static [&'static str], &'static str, &'static [&'static str]);

/// Agent, address, terms; the state and what its reason holds once everything is known.
const TARGETS: &[Case] = &[
    ("A-list-1", "agent0001@lab.test", &[], "mailed", &["settling"]),
    ("A-list-2", "AGENT0001@lab.test", &[], "mailed", &["settling"]),
    ("B-unknown", "nobody@lab.test", &[], "undeliverable", &["mail refused, unknown mailbox: 550 5.1.1"]),
    ("C-gone", "gone@lab.test", &[], "undeliverable", &["mail bounced, unknown mailbox: 550 5.1.1"]),
    ("D-full", "full@lab.test", &[], "queued", &["mailbox full since 20", "5.2.2", "; next try 20"]),
    ("E-denied", "denied@lab.test", &[], "undeliverable", &["mail refused, refused by policy: 550 5.7.1"]),
    // Too big is no end: its bounce has the bundle go in parts.
    ("F-small", "small@lab.test", &[], "mailed", &["settling"]),
    ("G-busy", "busy@lab.test", &[], "queued", &["mail server since 20", "450 4.3.0", "; next try 20"]),
    ("H-late", "late@lab.test", &[], "mailed", &["no route since 20", "; mail servers go on trying"]),
    (
        "I-second",
        "nobody2@lab.test",
        &["fallback_mail=agent0002@lab.test"],
        "mailed",
        &[
            "settling",
            "mailed to the second address, as the first did not take it (unknown mailbox: 550 5.1.1",
        ],
    ),
    (
        "J-gone-second",
        "gone+j@lab.test",
        &["fallback_mail=agent0003@lab.test"],
        "mailed",
        &[
            "settling",
            "mailed to the second address, as the first did not take it (unknown mailbox: 550 5.1.1",
        ],
    ),
    (
        "K-both-bad",
        "nobody3@lab.test",
        &["fallback_mail=denied@lab.test"],
        "undeliverable",
        &["mail refused, refused by policy", "as the first did not take it (unknown mailbox"],
    ),
];

fn missing(found: &BTreeMap<String, (String, String)>) -> Vec<String> {
    TARGETS
        .iter()
        .filter(|(agent, _, _, state, words)| {
            let (has, reason) = &found[*agent];
            has != state || !words.iter().all(|word| reason.contains(word))
        })
        .map(|(agent, ..)| format!("{agent}: {:?}", found[*agent]))
        .collect()
}

#[test]
fn each_mailbox_that_takes_no_order_is_told_apart_by_state_and_reason() {
    if std::env::var_os("MAILFLEET_NO_MAIL_SERVERS").is_some() {
        eprintln!("skipped: MAILFLEET_NO_MAIL_SERVERS is set");
        return;
    }
    let lab = Lab::up();
    let manager = Manager::new(&lab);
    for (agent, mail, terms, ..) in TARGETS {
        manager.agent(agent, mail, terms);
    }
    manager.bundle();
    manager.run(&["campaign", "start", "b.mfb", "--all", "--settle", "6h", "--retries", "1"]);
    let started = Instant::now();
    let daemon = manager.daemon();
    loop {
        let missing = missing(&manager.targets());
        if missing.is_empty() && manager.has_learned() {
            break;
        }
        let log = || fs::read_to_string(manager.dir.path().join("log")).unwrap_or_default();
        assert!(started.elapsed() < PATIENCE, "{missing:#?}\n{}", log());
        std::thread::park_timeout(Duration::from_millis(200));
    }
    eprintln!("all told apart after {:?}", started.elapsed());
    drop(daemon);
    assert_eq!(lab.count("agent0001"), 1, "one copy for all who read it");
    for user in ["agent0002", "agent0003"] {
        let mails = lab.count(user);
        assert!(
            (1..=2).contains(&mails),
            "{user}: {mails}, one copy, or its two parts after the bounce of the small one"
        );
    }
    let shown = manager.run(&["campaign", "show", "1"]);
    assert!(shown.contains("mailbox full since"), "{shown}");
    assert!(shown.contains("(2 attempts)"), "the full mailbox is tried again: {shown}");
    let value: serde_json::Value =
        serde_json::from_str(&manager.run(&["campaign", "show", "1", "--json"])).unwrap();
    assert_eq!(value["counts"]["failed"], serde_json::Value::Null, "{value}");
}
