//! Real Postfix and Dovecot on loopback, in a folder of their own, as `scripts/mail-lab` starts them. They are stopped with the
//! value, by their pids.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// Mail servers that run.
#[derive(Debug)]
pub struct MailLab {
    folder: TempDir,
    base: String,
    users: String,
    /// The largest mail that they take.
    size_bytes: String,
    env: BTreeMap<String, String>,
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/mail-lab")
}

impl MailLab {
    /// Starts servers with a mailbox for the manager, so many agents and these others. `None`: `MAILFLEET_NO_MAIL_SERVERS` says
    /// that there are none to be had here.
    ///
    /// # Panics
    /// They do not start.
    #[must_use]
    pub fn new(users: usize, others: &[&str]) -> Option<Self> {
        Self::with_limit(users, others, 60_000_000)
    }

    /// The same, with servers that take mails of at most so many bytes.
    ///
    /// # Panics
    /// They do not start.
    #[must_use]
    pub fn with_limit(users: usize, others: &[&str], size_bytes: u64) -> Option<Self> {
        if std::env::var_os("MAILFLEET_NO_MAIL_SERVERS").is_some() {
            return None;
        }
        let parent = if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" };
        let folder = tempfile::Builder::new().prefix("lab-").tempdir_in(parent).unwrap();
        fs::write(
            folder.path().join("accounts"),
            others.iter().map(|o| format!("{o}\n")).collect::<String>(),
        )
        .unwrap();
        let (base, users) = (free_base().to_string(), users.to_string());
        let size_bytes = size_bytes.to_string();
        let mut lab = Self { folder, base, users, size_bytes, env: BTreeMap::new() };
        let variables = lab.up();
        let pair = |line: &str| {
            let (name, value) = line.split_once('=').unwrap();
            (name.to_owned(), value.to_owned())
        };
        lab.env = variables.lines().map(pair).collect();
        Some(lab)
    }

    /// Starts them again after `down`; gives their variables.
    ///
    /// # Panics
    /// They do not start.
    pub fn up(&self) -> String {
        let out = Command::new(script())
            .arg("up")
            .arg(self.folder.path())
            .args(["--users", &self.users, "--base", &self.base, "--size", &self.size_bytes, "--accounts"])
            .arg(self.folder.path().join("accounts"))
            .output()
            .unwrap();
        assert!(
            out.status.success(),
            "the mail lab did not start (needs root, postfix, dovecot; set MAILFLEET_NO_MAIL_SERVERS=1 where \
             they cannot be had): {}",
            String::from_utf8_lossy(&out.stderr)
        );
        String::from_utf8(out.stdout).unwrap()
    }

    /// Stops them.
    ///
    /// # Panics
    /// They do not stop.
    pub fn down(&self) {
        assert!(Command::new(script()).arg("down").arg(self.folder.path()).status().unwrap().success());
    }

    /// A variable of the lab, such as `LAB_IMAP_PORT`.
    ///
    /// # Panics
    /// There is no such variable.
    #[must_use]
    pub fn var(&self, name: &str) -> &str {
        &self.env[name]
    }

    /// The mails that lie in a mailbox of the lab, each as its file.
    ///
    /// # Panics
    /// The mailbox cannot be read.
    #[must_use]
    pub fn mails(&self, account: &str) -> Vec<PathBuf> {
        let maildir = Path::new(self.var("LAB_MAIL")).join(account).join("Maildir");
        let files = |part: &str| match fs::read_dir(maildir.join(part)) {
            Ok(entries) => entries.map(|entry| entry.unwrap().path()).collect(),
            // Nothing was ever delivered there.
            Err(_) => Vec::new(),
        };
        [files("new"), files("cur")].concat()
    }
}

impl Drop for MailLab {
    fn drop(&mut self) {
        let _best_effort = Command::new(script()).arg("down").arg(self.folder.path()).status();
    }
}

/// A first port whose whole range of the lab is free.
fn free_base() -> u16 {
    for _ in 0..200 {
        let probe = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let base = 13_000 + probe % 15_000;
        if [25, 26, 27, 28, 587, 465, 143, 993, 110, 995]
            .iter()
            .all(|port| TcpListener::bind(("127.0.0.1", base + port)).is_ok())
        {
            return base;
        }
    }
    panic!("no free ports for the lab");
}
