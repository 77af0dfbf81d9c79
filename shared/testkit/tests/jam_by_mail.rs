//! A jam on its whole way, with all that ships: a printer that answers by SNMP, the agent beside it, Postfix and Dovecot, the
//! manager, and the mailbox of a service desk. Needs what `scripts/mail-lab` needs.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests may panic"
)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use testkit::lab::MailLab;
use testkit::station::{Rows, Station, fixture, recording};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

/// Rows of the printer with a jam, beside those that it always has.
const JAM: &str = "1.3.6.1.2.1.25.3.2.1.5.1|2|5\n\
                   1.3.6.1.2.1.25.3.5.1.2.1|4x|04\n\
                   1.3.6.1.2.1.43.18.1.1.2.1.7|2|3\n\
                   1.3.6.1.2.1.43.18.1.1.3.1.7|2|3\n\
                   1.3.6.1.2.1.43.18.1.1.4.1.7|2|13\n\
                   1.3.6.1.2.1.43.18.1.1.5.1.7|2|1\n\
                   1.3.6.1.2.1.43.18.1.1.6.1.7|2|-1\n\
                   1.3.6.1.2.1.43.18.1.1.7.1.7|2|8\n\
                   1.3.6.1.2.1.43.18.1.1.8.1.7|4|Paper jam in tray 2\n";

fn whole() -> Rows {
    fixture("00-whole")
}

fn jammed() -> Rows {
    let mut rows = whole();
    rows.extend(recording(JAM));
    rows
}

/// The folder of the programs, built as this test was.
fn programs() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let test = std::env::current_exe().unwrap();
        let folder = test.ancestors().nth(2).unwrap();
        let release: &[&str] = if folder.ends_with("release") { &["--release"] } else { &[] };
        let built = Command::new(env!("CARGO"))
            .args(["build", "--locked", "--offline", "--quiet", "-p", "mailfleet", "-p", "mailfleet-agent"])
            .args(release)
            .arg("--target-dir")
            .arg(folder.parent().unwrap())
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .unwrap();
        assert!(built.success());
        folder.to_owned()
    })
}

fn text(out: &Output) -> String {
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}

/// Waits for what must come, and not for longer than anything honest takes.
fn wait_until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "still not: {what}");
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

/// A program that works until the test ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

/// A printer, its agent, the mail, the manager and a service desk.
struct Site {
    printer: Station,
    lab: MailLab,
    folder: tempfile::TempDir,
}

impl Site {
    /// One agent that is enrolled and watches one printer.
    fn new() -> Option<Self> {
        let lab = MailLab::new(1, &["desk", "listener"])?;
        let site = Self { printer: Station::serve(whole()), lab, folder: tempfile::tempdir().unwrap() };
        site.private("password", site.lab.var("LAB_PASS"));
        fs::write(
            site.path("agents.csv"),
            "id,mail,class,site,note,admin\nA0001,agent0001@lab.test,,Tokyo,Alpha,\n",
        )
        .unwrap();
        let init = ["init", "--address", "manager@lab.test"].map(str::to_owned).to_vec();
        site.manager(&[init, site.account("manager")].concat());
        let quick = "poll = \"500ms\"\nretry_min = \"1s\"\n";
        let alert = "\n[[alert]]\nto = \"desk@lab.test\"\nkinds = [\"jam\"]\n";
        site.wrap("manager/manager.toml", quick, alert);
        site.manager(&["agent", "import", "agents.csv", "-o", "invites"]);
        let root = site.path("root");
        fs::create_dir(&root).unwrap();
        let enrol = ["enrol", "invites/A0001.invite", "--root", root.to_str().unwrap()].map(str::to_owned);
        let out = site.agent_at(0, &[enrol.to_vec(), site.account("agent0001")].concat());
        assert!(out.status.success(), "{}", text(&out));
        let quick = "poll = \"1s\"\nlook_for_faults = \"1s\"\nsend_counters = \"never\"\n";
        site.wrap("agent/agent.toml", quick, "");
        wait_until("the agent is enrolled, and no mail is left of that", || {
            site.manager(&["run", "--once"]);
            site.agent_works_at(0);
            let agents: serde_json::Value =
                serde_json::from_str(&site.manager(&["agent", "list", "--json"])).unwrap();
            let is_known = !agents["agents"][0]["reported_at"].is_null();
            let mails = ["manager", "agent0001"].map(|account| site.lab.mails(account).len());
            (is_known && mails == [0, 0]).then_some(())
        });
        let device = format!(
            "[[device]]\nname = \"mfp\"\ndriver = \"snmp\"\naddress = \"{}\"\ntimeout = \"2s\"\n",
            site.printer.address
        );
        site.private("agent/devices.toml", &device);
        Some(site)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn private(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Puts lines before and after those of a file.
    fn wrap(&self, name: &str, before: &str, after: &str) {
        let content = fs::read_to_string(self.path(name)).unwrap();
        fs::write(self.path(name), format!("{before}{content}{after}")).unwrap();
    }

    fn account(&self, user: &str) -> Vec<String> {
        let port = |name| self.lab.var(name);
        let send = format!("smtp+starttls://{user}@lab.test@localhost:{}", port("LAB_SUBMISSION_PORT"));
        let receive = format!("imap+starttls://{user}@lab.test@localhost:{}/INBOX", port("LAB_IMAP_PORT"));
        let password = self.path("password").display().to_string();
        ["--send", &send, "--receive", &receive, "--ca", self.lab.var("LAB_CA"), "--password-file", &password]
            .map(str::to_owned)
            .to_vec()
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(programs().join(program));
        command.current_dir(self.folder.path()).env("MAILFLEET_HOME", self.path("manager"));
        command
    }

    /// A command of the manager that works.
    fn manager(&self, args: &[impl AsRef<str>]) -> String {
        let out = self.command("mailfleet").args(args.iter().map(AsRef::as_ref)).output().unwrap();
        assert!(out.status.success(), "{}", text(&out));
        String::from_utf8(out.stdout).unwrap()
    }

    /// A command of the agent, on a box whose clock is so far ahead.
    fn agent_at(&self, ahead_ms: i64, args: &[impl AsRef<str>]) -> Output {
        self.command("mailfleet-agent")
            .env("MAILFLEET_TEST_CLOCK_ERROR_MS", ahead_ms.to_string())
            .args(["--home", "agent", "--log", "info"])
            .args(args.iter().map(AsRef::as_ref))
            .output()
            .unwrap()
    }

    /// Lets the agent do what is due at that time; gives how many reports the mail has taken.
    fn agent_works_at(&self, ahead_ms: i64) -> usize {
        let out = self.agent_at(ahead_ms, &["run", "--once"]);
        assert!(out.status.success(), "{}", text(&out));
        text(&out).lines().filter(|line| line.contains("Report handed to the mail")).count()
    }

    fn status(&self) -> serde_json::Value {
        let out = self.agent_at(0, &["status", "--json"]);
        serde_json::from_slice(&out.stdout).unwrap_or_else(|err| panic!("{err}: {}", text(&out)))
    }

    /// Starts a program that works until the end of the test.
    fn start(&self, program: &str, args: &[&str]) -> Running {
        let log = fs::File::create(self.path(&format!("{program}.log"))).unwrap();
        let child = self.command(program).args(args).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        Running(child)
    }

    /// The rows of `report faults`, by column.
    fn faults(&self) -> Vec<BTreeMap<String, String>> {
        let csv = self.manager(&["report", "faults"]);
        let mut lines = csv.lines().map(|line| line.trim_end_matches('\r'));
        let columns: Vec<&str> = lines.next().unwrap().split(',').collect();
        let row = |line: &str| {
            let cells = line.split(',').map(str::to_owned);
            columns.iter().map(|column| (*column).to_owned()).zip(cells).collect()
        };
        lines.map(row).collect()
    }

    /// Mails of a mailbox, once there are so many.
    fn mails(&self, account: &str, count: usize) -> Vec<String> {
        let files = wait_until(&format!("{count} mails for {account}"), || {
            let files = self.lab.mails(account);
            (files.len() >= count).then_some(files)
        });
        assert_eq!(files.len(), count, "{account}");
        files.iter().map(|file| fs::read_to_string(file).unwrap()).collect()
    }

    /// Somebody takes the mails out of the agent's mailbox before it looks.
    fn lose_mails_to_agent(&self, count: usize) {
        self.mails("agent0001", count);
        self.lab.mails("agent0001").iter().for_each(|file| fs::remove_file(file).unwrap());
    }
}

#[test]
fn a_jam_is_told_to_the_service_desk_acknowledged_and_told_again_when_it_is_over() {
    let Some(site) = Site::new() else { return };
    let _manager = site.start("mailfleet", &["run"]);
    let _agent = site.start("mailfleet-agent", &["--home", "agent", "run"]);
    wait_until("the printer is watched", || (site.status()["devices"] == 1).then_some(()));
    assert!(site.faults().is_empty() && site.lab.mails("desk").is_empty());

    *site.printer.rows.lock().unwrap() = jammed();
    let acknowledged = |row: &BTreeMap<String, String>| !row["acknowledged_at"].is_empty();
    let row = wait_until("the jam is acknowledged", || site.faults().pop().filter(acknowledged));
    let says = |column: &str| row[column].as_str();
    assert_eq!(
        [says("agent"), says("device"), says("code"), says("kind"), says("severity"), says("text")],
        ["A0001", "mfp", "8", "jam", "critical", "Paper jam in tray 2"]
    );
    assert_eq!((says("cleared_at"), says("site")), ("", "Tokyo"));
    let mail = site.mails("desk", 1).remove(0);
    assert!(mail.contains("jam at Tokyo: mfp") && mail.contains("Paper jam in tray 2"), "{mail}");
    wait_until("the agent knows", || (site.status()["faults_not_acknowledged"] == 0).then_some(()));
    assert_eq!(site.status()["open_faults"][0]["kind"], "jam");

    *site.printer.rows.lock().unwrap() = whole();
    let ended = |row: &BTreeMap<String, String>| !row["cleared_at"].is_empty();
    let over = wait_until("the end of the jam is told", || site.faults().pop().filter(ended));
    assert_eq!((&over["raised_at"], &over["reported_at"]), (&row["raised_at"], &row["reported_at"]));
    assert!(over["raised_at"] < over["cleared_at"], "{over:?}");
    let mails = site.mails("desk", 2);
    assert!(mails.iter().any(|mail| mail.contains("cleared: class")), "{mails:?}");
    wait_until("nothing waits any more", || {
        let status = site.status();
        (status["faults_not_acknowledged"] == 0 && status["outbox"] == 0).then_some(())
    });
    assert_eq!(site.faults().len(), 1, "it was one fault");
}

#[test]
fn a_listener_hears_of_the_jam_too_and_says_nothing_to_the_agent() {
    // PROTOCOL 8.7
    let Some(site) = Site::new() else { return };
    let at_listener = |args: &[&str]| site.manager(&[["--home", "listener"].as_slice(), args].concat());
    let account = site.account("listener");
    let account: Vec<&str> = account.iter().map(String::as_str).collect();
    at_listener(&[["init", "--address", "listener@lab.test"].as_slice(), &account].concat());
    site.wrap("listener/manager.toml", "listens_only = true\npoll = \"500ms\"\n", "");
    site.manager(&["agent", "export", "-o", "known.csv"]);
    at_listener(&["agent", "introduce", "known.csv"]);
    let keys: serde_json::Value = serde_json::from_str(&at_listener(&["keys", "list", "--json"])).unwrap();
    let copy =
        format!("\n[[copy]]\nof = [\"faults\"]\nto = \"listener@lab.test\"\nkey = {}\n", keys["opening_key"]);
    site.wrap("agent/agent.toml", "", &copy);
    let _manager = site.start("mailfleet", &["run"]);
    let _listener = site.start("mailfleet", &["--home", "listener", "run"]);
    let _agent = site.start("mailfleet-agent", &["--home", "agent", "run"]);
    wait_until("the printer is watched", || (site.status()["devices"] == 1).then_some(()));
    *site.printer.rows.lock().unwrap() = jammed();
    wait_until("the listener knows of the jam", || {
        at_listener(&["report", "faults"]).contains("Paper jam in tray 2").then_some(())
    });
    let acknowledged = |row: &BTreeMap<String, String>| !row["acknowledged_at"].is_empty();
    wait_until("the manager acknowledges it", || site.faults().pop().filter(acknowledged));
    wait_until("the agent knows", || (site.status()["faults_not_acknowledged"] == 0).then_some(()));
    site.mails("desk", 1);
}

#[test]
fn a_report_whose_acknowledgement_is_lost_comes_once_more_and_then_waits_for_a_contact() {
    // PROTOCOL 14.9
    let Some(site) = Site::new() else { return };
    *site.printer.rows.lock().unwrap() = jammed();
    // The manager is away. What was seen is gathered for some seconds, and then told.
    assert_eq!(site.agent_works_at(0), 0);
    assert_eq!(site.agent_works_at(10_000), 1);
    assert_eq!(site.agent_works_at(29 * MINUTE_MS), 0, "the answer may still come");
    assert_eq!(site.agent_works_at(31 * MINUTE_MS), 1, "once more");
    for later in [62 * MINUTE_MS, 5 * HOUR_MS] {
        assert_eq!(site.agent_works_at(later), 0, "and not a third time");
    }
    site.mails("manager", 2);
    // Both come to the manager, and its answer is lost.
    site.manager(&["run", "--once"]);
    site.lose_mails_to_agent(1);
    assert_eq!(site.faults().len(), 1);
    assert_eq!(site.agent_works_at(6 * HOUR_MS), 0);
    assert_eq!(site.status()["faults_not_acknowledged"], 1, "it is kept");
    // The manager is heard: it asks for something else.
    site.manager(&["query", "versions", "--all"]);
    site.manager(&["run", "--once"]);
    site.mails("agent0001", 1);
    assert_eq!(site.agent_works_at(7 * HOUR_MS), 2, "the versions, and the fault again");
    site.mails("manager", 2);
    site.manager(&["run", "--once"]);
    site.mails("agent0001", 1);
    assert_eq!(site.agent_works_at(7 * HOUR_MS + MINUTE_MS), 0);
    assert_eq!(site.status()["faults_not_acknowledged"], 0);
    let faults = site.faults();
    assert_eq!(faults.len(), 1, "however often it was told, it is one: {faults:?}");
    site.mails("desk", 1);
}
