//! What can happen to a home while commands work on it: kills, Ctrl-C, a second manager, a locked database,
//! an altered bundle, mail that cannot work.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]
#![allow(clippy::arithmetic_side_effects, reason = "a test may overflow and fail")]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use mailfleet::home::Home;

struct Fleet {
    dir: tempfile::TempDir,
}

impl Fleet {
    fn new() -> Self {
        let fleet = Self { dir: tempfile::tempdir().unwrap() };
        let post = fleet.path("post");
        let spool = format!("spool:{}", post.display());
        fleet.good(&format!("init --address manager@lab.test --send {spool} --receive {spool}"));
        fleet
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mailfleet"));
        command.args(line.split(' ')).current_dir(self.dir.path()).env_clear();
        command.env("MAILFLEET_HOME", self.path("home")).stdin(Stdio::null());
        command
    }

    fn run(&self, line: &str) -> Output {
        self.command(line).output().unwrap()
    }

    fn good(&self, line: &str) -> String {
        let output = self.run(line);
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn bad(&self, line: &str, code: i32) -> String {
        let output = self.run(line);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{line}: {stderr}");
        stderr
    }

    fn bundle(&self) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/bundles/office-gateway-1.0.02");
        self.good(&format!("bundle build {} -o x.mfb", folder.display()));
    }

    /// A campaign for an agent that has not enrolled, without a daemon to work on it.
    fn campaign(&self) {
        self.bundle();
        self.good("agent add A1 --mail a1@lab.test");
        self.good("campaign start x.mfb --agent A1");
    }

    fn edit_config(&self, from: &str, to: &str) {
        let path = self.path("home/manager.toml");
        let text = fs::read_to_string(&path).unwrap();
        let edited: String = text
            .lines()
            .map(|line| if line.starts_with(from) { format!("{to}\n") } else { format!("{line}\n") })
            .collect();
        assert_ne!(edited, text);
        fs::write(path, edited).unwrap();
    }
}

/// A daemon that is ended with the test.
struct Running(Child);

impl Running {
    fn start(fleet: &Fleet) -> Self {
        let mut child = fleet.command("run").stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        assert!(first.contains("mailfleet runs"), "{first}");
        // Nobody reads the rest: a full pipe must not stop the daemon.
        std::thread::spawn(move || lines.for_each(drop));
        Self(child)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

#[test]
fn a_second_manager_on_the_same_home_is_refused_and_the_first_goes_on() {
    let fleet = Fleet::new();
    let mut first = Running::start(&fleet);
    let text = fleet.bad("run", 2);
    assert!(text.contains(&format!("process {}", first.0.id())), "{text}");
    assert!(fleet.bad("run --once", 2).contains("only one may"));
    // Commands that only read or enter something work beside it.
    fleet.good("agent add A1 --mail a1@lab.test");
    fleet.bundle();
    assert!(fleet.good("campaign start x.mfb --agent A1").contains("The daemon is running"));
    signal(&first.0, "-TERM");
    assert_eq!(first.0.wait().unwrap().code(), Some(0));
    assert!(fleet.good("run --once").contains("0 mails in"));
}

#[test]
fn a_campaign_of_agents_that_never_enrolled_ends_and_says_why() {
    let fleet = Fleet::new();
    fleet.campaign();
    let output = fleet.run("campaign watch 1");
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stdout}");
    assert!(stdout.contains("A1  failed         not enrolled"), "{stdout}");
    let show: serde_json::Value = serde_json::from_str(&fleet.good("campaign show 1 --json")).unwrap();
    assert_eq!(show["state"], "finished");
    assert_eq!(show["targets"][0]["state"], "failed");
    assert_eq!(show["targets"][0]["reason"], "not enrolled");
    let list: serde_json::Value = serde_json::from_str(&fleet.good("agent list --json")).unwrap();
    assert_eq!(list["agents"][0]["failed"], true);
}

#[test]
fn a_watcher_beside_a_daemon_sees_the_end_of_what_the_daemon_does() {
    let fleet = Fleet::new();
    let _daemon = Running::start(&fleet);
    fleet.campaign();
    assert_eq!(fleet.run("campaign watch 1").status.code(), Some(1));
}

#[test]
fn ctrl_c_ends_the_watching_and_loses_nothing() {
    let fleet = Fleet::new();
    // Whoever holds the home and does nothing keeps the campaign where it is. Not a stopped daemon: it may have
    // been stopped in the middle of a transaction.
    let held = Home::open(&fleet.path("home")).unwrap().lock().unwrap();
    fleet.campaign();
    let mut child =
        fleet.command("campaign watch 1").stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "1 pending");
    signal(&child, "-INT");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let rest: Vec<String> = lines.map(|l| l.unwrap()).collect();
    assert!(rest.iter().any(|l| l.contains("follow it again: mailfleet campaign watch 1")), "{rest:?}");
    // The next one to watch does the work, once the daemon is gone.
    drop(held);
    assert_eq!(fleet.run("campaign watch 1").status.code(), Some(1));
}

#[test]
fn an_import_that_is_killed_at_any_moment_is_completed_by_the_same_command() {
    let fleet = Fleet::new();
    let rows: String = (0..3_000).map(|n| format!("A{n:05},a{n}@lab.test\n")).collect();
    fs::write(fleet.path("agents.csv"), format!("id,mail\n{rows}")).unwrap();
    for wait_ms in [1, 20, 60, 120, 200, 300] {
        let began = Instant::now();
        let mut child =
            fleet.command("agent import agents.csv -o invites").stdout(Stdio::null()).spawn().unwrap();
        // A moment in the middle of its work, not a wait for anything.
        while began.elapsed() < Duration::from_millis(wait_ms) && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        let _ = child.kill();
        child.wait().unwrap();
        let list: serde_json::Value = serde_json::from_str(&fleet.good("agent list --json")).unwrap();
        let count = list["agents"].as_array().unwrap().len();
        assert!(count == 0 || count == 3_000, "half imported: {count}");
    }
    fleet.good("agent import agents.csv -o invites");
    let names = fs::read_dir(fleet.path("invites")).unwrap().map(|e| e.unwrap().file_name());
    let invites = names.filter(|n| n.to_str().is_some_and(|n| n.ends_with(".invite"))).count();
    assert_eq!(invites, 3_000);
    // Each file is the one that counts: a further run keeps them all.
    assert!(fleet.good("agent import agents.csv -o invites").contains("3000 kept"));
}

#[test]
fn a_database_that_another_process_holds_is_named_and_nothing_is_lost() {
    let fleet = Fleet::new();
    let other = rusqlite::Connection::open(fleet.path("home/store.db")).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let text = fleet.bad("agent add A1 --mail a1@lab.test", 3);
    assert!(text.contains("is locked by another process"), "{text}");
    assert!(!fleet.path("A1.invite").exists());
    other.execute_batch("ROLLBACK").unwrap();
    fleet.good("agent add A1 --mail a1@lab.test");
}

#[test]
fn an_altered_bundle_is_refused_wherever_it_was_altered() {
    let fleet = Fleet::new();
    fleet.bundle();
    fleet.good("agent add A1 --mail a1@lab.test");
    let whole = fs::read(fleet.path("x.mfb")).unwrap();
    for at in (0..whole.len()).step_by(97) {
        let mut altered = whole.clone();
        altered[at] ^= 1;
        fs::write(fleet.path("y.mfb"), altered).unwrap();
        let text = fleet.bad("campaign start y.mfb --agent A1", 2);
        assert!(text.contains("y.mfb"), "altered at {at}: {text}");
    }
    assert!(fleet.good("campaign list").is_empty());
    assert_eq!(fs::read_dir(fleet.path("home/bundles")).unwrap().count(), 0);
}

#[test]
fn waiting_with_a_mail_server_that_is_down_says_so_and_keeps_the_campaign() {
    let fleet = Fleet::new();
    fleet.edit_config("receive =", "receive = \"imap://manager@127.0.0.1:1/INBOX\"");
    fleet.bundle();
    fleet.good("agent add A1 --mail a1@lab.test");
    let stderr = fleet.bad("campaign start x.mfb --agent A1 --wait", 1);
    assert!(stderr.contains("cannot connect to 127.0.0.1:1"), "{stderr}");
    assert!(fleet.good("campaign list").contains("1.0.02-0"));
}

/// A mail server that knows nobody. Gives its port.
fn imap_that_refuses_every_login() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let _ = stream.write_all(b"* OK [CAPABILITY IMAP4rev1] ready\r\n");
            while let Some(Ok(line)) = lines.next() {
                let (tag, command) = line.split_once(' ').unwrap_or((&line, ""));
                let answer = match command.split(' ').next().unwrap_or("").to_ascii_uppercase().as_str() {
                    "LOGIN" | "AUTHENTICATE" => format!("{tag} NO [AUTHENTICATIONFAILED] wrong password\r\n"),
                    "CAPABILITY" => format!("* CAPABILITY IMAP4rev1\r\n{tag} OK done\r\n"),
                    _ => format!("{tag} OK done\r\n"),
                };
                let _ = stream.write_all(answer.as_bytes());
            }
        }
    });
    port
}

#[test]
fn a_wrong_password_is_the_operators_to_mend_and_ends_with_2() {
    let fleet = Fleet::new();
    let receive = format!("receive = \"imap://manager@127.0.0.1:{}/INBOX\"", imap_that_refuses_every_login());
    fleet.edit_config("receive =", &receive);
    fs::write(fleet.path("password"), "wrong\n").unwrap();
    fs::set_permissions(fleet.path("password"), fs::Permissions::from_mode(0o600)).unwrap();
    fleet.edit_config("# password_env", &format!("password_file = \"{}\"", fleet.path("password").display()));
    let text = fleet.bad("run --once", 2);
    assert!(text.contains("refused the login of manager"), "{text}");
    assert!(text.contains("manager.toml"), "{text}");
    let output = fleet.run("doctor");
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stdout}");
    assert!(
        stdout.lines().any(|l| l.starts_with("fail  IMAP") && l.contains("refused the login")),
        "{stdout}"
    );
}

#[test]
fn once_with_an_unreachable_mail_server_ends_with_3() {
    let fleet = Fleet::new();
    fleet.edit_config("receive =", "receive = \"imap://manager@127.0.0.1:1/INBOX\"");
    fs::write(fleet.path("password"), "x\n").unwrap();
    fs::set_permissions(fleet.path("password"), fs::Permissions::from_mode(0o600)).unwrap();
    fleet.edit_config("# password_env", &format!("password_file = \"{}\"", fleet.path("password").display()));
    let text = fleet.bad("run --once", 3);
    assert!(text.contains("127.0.0.1:1"), "{text}");
}

#[test]
fn tables_fit_the_width_that_is_asked_for_and_pipes_get_no_colour() {
    let fleet = Fleet::new();
    let mut add = fleet.command("agent add A1 --mail someone.with.a.long.name@a.long.domain.lab.test");
    add.args(["--note", "a customer with a long name, in a street with a long name"]);
    assert!(add.output().unwrap().status.success());
    fleet.bundle();
    fleet.good("campaign start x.mfb --agent A1");
    for line in ["agent list", "campaign show 1", "campaign list"] {
        for width in [60, 80, 120] {
            let output = fleet.command(line).env("COLUMNS", width.to_string()).output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            let table = text.lines().filter(|l| l.contains("A1 ") || l.contains("AGENT"));
            for row in table.filter(|l| !l.starts_with("  A1")) {
                assert!(row.chars().count() <= width, "{line} at {width}: {row}");
            }
            assert!(!text.contains('\u{1b}'), "{line}");
        }
    }
}
