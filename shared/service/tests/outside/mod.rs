//! What is around a daemon, for the tests of both: systemd's end of the notify socket, a file that stands for
//! the journal, mail servers that refuse a login, and a search for secrets in what was logged.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// What systemd waits for a sign of life in these tests.
pub const WATCHDOG: Duration = Duration::from_millis(200);

/// systemd's end of the line.
pub struct Systemd {
    socket: UnixDatagram,
    folder: tempfile::TempDir,
}

impl Systemd {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        Self { socket, folder }
    }

    /// Starts a program as a service with a watchdog.
    pub fn adopt<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        let usec = WATCHDOG.as_micros().to_string();
        command.env("NOTIFY_SOCKET", self.folder.path().join("notify")).env("WATCHDOG_USEC", usec)
    }

    /// The next message, if one comes in this time.
    pub fn next(&self, within: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(within)).unwrap();
        let mut buffer = [0u8; 4096];
        let n = self.socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8(buffer[..n].to_vec()).unwrap())
    }

    /// Reads until a message has this in it; gives all that came.
    pub fn hear(&self, wanted: &str) -> Vec<String> {
        let end = Instant::now() + Duration::from_secs(30);
        let mut all = Vec::new();
        while Instant::now() < end {
            all.extend(self.next(Duration::from_millis(100)));
            if all.last().is_some_and(|last| last.contains(wanted)) {
                return all;
            }
        }
        panic!("never heard {wanted}: {all:?}");
    }

    /// Fails unless so many signs of life come, each before systemd would lose patience. That one is late by a
    /// busy machine is allowed for.
    pub fn hear_life(&self, count: usize) {
        let mut alive = 0;
        while alive < count {
            let message = self.next(WATCHDOG * 10);
            alive += usize::from(message.expect("a sign of life") == "WATCHDOG=1");
        }
    }

    /// Forgets what is in the queue, and fails if anything more comes.
    pub fn hear_nothing_more(&self) {
        while self.next(Duration::from_millis(1)).is_some() {}
        assert_eq!(self.next(WATCHDOG * 3), None);
    }
}

/// Sends a signal.
pub fn signal(name: &str, pid: u32) {
    assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}

/// A file that a program takes for the journal.
pub struct Journal(PathBuf);

impl Journal {
    pub fn new(folder: &Path) -> Self {
        Self(folder.join("journal"))
    }

    pub fn attach<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        let file = File::create(&self.0).unwrap();
        let meta = file.metadata().unwrap();
        command.env("JOURNAL_STREAM", format!("{}:{}", meta.dev(), meta.ino())).stderr(file)
    }

    pub fn text(&self) -> String {
        std::fs::read_to_string(&self.0).unwrap()
    }
}

/// Fails unless each line has a priority in front, and no time and no colour.
pub fn assert_journal_lines(text: &str) {
    assert!(!text.is_empty());
    for line in text.lines() {
        let rest = ["<3>", "<4>", "<6>", "<7>"].iter().find_map(|mark| line.strip_prefix(mark));
        let rest = rest.unwrap_or_else(|| panic!("no priority: {line}"));
        assert!(!rest.starts_with("20") && !line.contains('\x1b'), "{line}");
    }
}

/// Starts a server that answers each line with what `answer` makes of it; gives its port. It ends with the test.
pub fn serve(greeting: &'static str, answer: fn(&str) -> String) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for tcp in listener.incoming() {
            std::thread::spawn(move || talk(tcp.unwrap(), greeting, answer));
        }
    });
    port
}

fn talk(mut tcp: TcpStream, greeting: &str, answer: fn(&str) -> String) {
    let _gone = tcp.write_all(greeting.as_bytes());
    for line in BufReader::new(tcp.try_clone().unwrap()).lines().map_while(Result::ok) {
        let _gone = tcp.write_all(answer(&line).as_bytes());
    }
}

/// An SMTP server that refuses every login.
pub fn refusing_smtp() -> u16 {
    serve("220 hello\r\n", |line| match line.split(' ').next().unwrap() {
        "EHLO" => "250-me\r\n250 AUTH PLAIN LOGIN\r\n".to_owned(),
        "QUIT" => "221 bye\r\n".to_owned(),
        _ => "535 5.7.8 wrong password\r\n".to_owned(),
    })
}

/// An IMAP server that refuses every login.
pub fn refusing_imap() -> u16 {
    serve("* OK hello\r\n", |line| {
        let (tag, command) = line.split_once(' ').unwrap_or((line, ""));
        if command.starts_with("CAPABILITY") {
            format!("* CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR\r\n{tag} OK done\r\n")
        } else {
            format!("{tag} NO [AUTHENTICATIONFAILED] wrong password\r\n")
        }
    })
}

/// A password file that only its owner may read.
pub fn password_file(folder: &Path, password: &str) -> PathBuf {
    use std::os::unix::fs::OpenOptionsExt as _;
    let path = folder.join("password");
    let mut file = File::options().create(true).write(true).truncate(true).mode(0o600).open(&path).unwrap();
    file.write_all(password.as_bytes()).unwrap();
    path
}

/// The bytes of a key in its text form, such as `ed25519-secret:…`.
pub fn key_bytes(text: &str) -> Vec<u8> {
    let (_, base64) = text.trim().rsplit_once(':').unwrap();
    STANDARD_NO_PAD.decode(base64.trim_end_matches('=')).unwrap()
}

/// Fails if a secret stands in a text, in any of the forms in which a program may print bytes.
pub fn assert_kept(text: &str, what: &str, secret: &[u8]) {
    let mut hex = String::new();
    secret.iter().for_each(|byte| write!(hex, "{byte:02x}").unwrap());
    let list: Vec<String> = secret.iter().take(12).map(ToString::to_string).collect();
    let mut forms = vec![
        hex.to_uppercase(),
        hex,
        list.join(", "),
        STANDARD_NO_PAD.encode(secret),
        URL_SAFE_NO_PAD.encode(secret),
    ];
    forms.extend(std::str::from_utf8(secret).map(str::to_owned));
    for form in forms {
        assert!(form.len() >= 8, "{what}: too short to look for");
        assert!(!text.contains(&form), "{what} was logged as {form}");
    }
}
