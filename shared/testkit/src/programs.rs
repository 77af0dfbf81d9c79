//! What ships, as processes: one manager and some agents in a folder, joined by the mail servers of [`crate::lab`].

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::lab::MailLab;

/// The mail servers, a home of the manager in `manager`, and homes of agents.
#[derive(Debug)]
pub struct Programs {
    /// The mail servers.
    pub lab: MailLab,
    folder: TempDir,
}

/// A program that works until this is dropped.
#[derive(Debug)]
pub struct Running(Child);

impl Running {
    /// Its process ID.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

/// What a program has printed, and then what it complained about.
#[must_use]
pub fn text(out: &Output) -> String {
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}

/// Waits for what must come, and not for longer than anything honest takes.
///
/// # Panics
/// It does not come within a minute.
pub fn wait_until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "still not: {what}");
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

/// A program that ships, built as this test was: a command for one that no mail server is needed for.
///
/// # Panics
/// It cannot be built.
#[must_use]
pub fn program(name: &str) -> Command {
    Command::new(built().join(name))
}

/// The folder of the programs, built as this test was.
fn built() -> &'static Path {
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

impl Programs {
    /// A manager `manager@lab.test` that looks for mail twice a second; `settings` stand at the end of its configuration.
    ///
    /// # Panics
    /// It cannot be made.
    #[must_use]
    pub fn new(lab: MailLab, settings: &str) -> Self {
        let site = Self { lab, folder: tempfile::tempdir().unwrap() };
        site.private("password", site.lab.var("LAB_PASS"));
        let init = ["init", "--address", "manager@lab.test"].map(str::to_owned).to_vec();
        site.manager(&[init, site.account("manager")].concat());
        site.wrap("manager/manager.toml", "poll = \"500ms\"\nretry_min = \"1s\"\n", settings);
        site
    }

    /// Invites and enrols the agents of a registry in CSV, whose mailboxes are `agent0001` and on: the n-th has its home in
    /// `agent/n`, its tree in `root/n`, and looks for mail each second. `settings` stand at the beginning of its configuration.
    ///
    /// # Panics
    /// They do not get enrolled.
    pub fn enrol(&self, csv: &str, settings: &str) {
        fs::write(self.path("agents.csv"), csv).unwrap();
        self.manager(&["agent", "import", "agents.csv", "-o", "invites"]);
        let ids: Vec<&str> = csv.lines().skip(1).filter_map(|line| line.split(',').next()).collect();
        for (n, id) in (1..).zip(&ids) {
            let root = self.path(&format!("root/{n}"));
            fs::create_dir_all(&root).unwrap();
            let enrol = ["enrol", &format!("invites/{id}.invite"), "--root", root.to_str().unwrap()];
            let out = self.agent_at(
                n,
                0,
                &[enrol.map(str::to_owned).to_vec(), self.account(&format!("agent{n:04}"))].concat(),
            );
            assert!(out.status.success(), "{}", text(&out));
            self.wrap(&format!("agent/{n}/agent.toml"), &format!("poll = \"1s\"\n{settings}"), "");
        }
        wait_until("the agents are enrolled, and no mail is left of that", || {
            self.manager(&["run", "--once"]);
            for n in 1..=ids.len() {
                self.agent_works_at(n, 0);
            }
            let agents = self.manager(&["agent", "list", "--json"]);
            let known = agents.matches("\"reported_at\": \"").count();
            let mailbox = |n: usize| if n == 0 { "manager".to_owned() } else { format!("agent{n:04}") };
            (known == ids.len() && (0..=ids.len()).all(|n| self.lab.mails(&mailbox(n)).is_empty()))
                .then_some(())
        });
    }

    /// A place in the folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file that only its owner may read.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn private(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Puts lines before and after those of a file.
    ///
    /// # Panics
    /// There is no such file.
    pub fn wrap(&self, name: &str, before: &str, after: &str) {
        let content = fs::read_to_string(self.path(name)).unwrap();
        fs::write(self.path(name), format!("{before}{content}{after}")).unwrap();
    }

    /// The options that name the servers and the password of an account.
    #[must_use]
    pub fn account(&self, user: &str) -> Vec<String> {
        let port = |name| self.lab.var(name);
        let send = format!("smtp+starttls://{user}@lab.test@localhost:{}", port("LAB_SUBMISSION_PORT"));
        let receive = format!("imap+starttls://{user}@lab.test@localhost:{}/INBOX", port("LAB_IMAP_PORT"));
        let password = self.path("password").display().to_string();
        ["--send", &send, "--receive", &receive, "--ca", self.lab.var("LAB_CA"), "--password-file", &password]
            .map(str::to_owned)
            .to_vec()
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(built().join(program));
        command.current_dir(self.folder.path()).env("MAILFLEET_HOME", self.path("manager"));
        command
    }

    /// A command of the manager that works; gives what it prints.
    ///
    /// # Panics
    /// It does not work.
    pub fn manager(&self, args: &[impl AsRef<str>]) -> String {
        let out = self.command("mailfleet").args(args.iter().map(AsRef::as_ref)).output().unwrap();
        assert!(out.status.success(), "{}", text(&out));
        String::from_utf8(out.stdout).unwrap()
    }

    /// A command of the n-th agent, on a box whose clock is so far ahead.
    ///
    /// # Panics
    /// It cannot be started.
    #[must_use]
    pub fn agent_at(&self, n: usize, ahead_ms: i64, args: &[impl AsRef<str>]) -> Output {
        self.command("mailfleet-agent")
            .env("MAILFLEET_TEST_CLOCK_ERROR_MS", ahead_ms.to_string())
            .args(["--home", &format!("agent/{n}"), "--log", "info"])
            .args(args.iter().map(AsRef::as_ref))
            .output()
            .unwrap()
    }

    /// Lets an agent do what is due at that time; gives how many reports the mail has taken.
    ///
    /// # Panics
    /// The agent ends with an error.
    pub fn agent_works_at(&self, n: usize, ahead_ms: i64) -> usize {
        let out = self.agent_at(n, ahead_ms, &["run", "--once"]);
        assert!(out.status.success(), "{}", text(&out));
        text(&out).lines().filter(|line| line.contains("Report handed to the mail")).count()
    }

    /// Starts the manager until the end of the test.
    #[must_use]
    pub fn manager_runs(&self) -> Running {
        self.start("mailfleet", "manager.log", &["run"])
    }

    /// Starts the n-th agent until the end of the test.
    #[must_use]
    pub fn agent_runs(&self, n: usize) -> Running {
        let home = format!("agent/{n}");
        self.start("mailfleet-agent", &format!("agent-{n}.log"), &["--home", &home, "run"])
    }

    /// Starts a program until the end of the test; it complains into this file.
    ///
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn start(&self, program: &str, log: &str, args: &[&str]) -> Running {
        let log = fs::File::create(self.path(log)).unwrap();
        Running(self.command(program).args(args).stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }

    /// The mails of a mailbox, once there are so many; there must not be more.
    ///
    /// # Panics
    /// There are others.
    #[must_use]
    pub fn mails(&self, account: &str, count: usize) -> Vec<String> {
        let files = wait_until(&format!("{count} mails for {account}"), || {
            let files = self.lab.mails(account);
            (files.len() >= count).then_some(files)
        });
        assert_eq!(files.len(), count, "{account}");
        files.iter().map(|file| fs::read_to_string(file).unwrap()).collect()
    }

    /// Somebody takes the mails out of the n-th agent's mailbox before it looks.
    ///
    /// # Panics
    /// There are other mails than so many.
    pub fn lose_mails_to_agent(&self, n: usize, count: usize) {
        let account = format!("agent{n:04}");
        let _seen = self.mails(&account, count);
        // By the server's own hand: what vanishes behind its back it goes on listing for a while.
        let expunged = Command::new("doveadm")
            .args(["-c", self.lab.var("LAB_DOVECOT_CONF"), "expunge", "-u", &format!("{account}@lab.test")])
            .args(["mailbox", "INBOX", "all"])
            .status()
            .unwrap();
        assert!(expunged.success() && self.lab.mails(&account).is_empty());
    }
}
