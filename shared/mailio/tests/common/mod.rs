//! A scripted server on loopback, and what the tests of this folder share.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

pub mod imap;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mailio::{Attachment, AutoKind, MailSettings, Outgoing, ReceiveUrl, SendUrl, Timeouts};
use shared::{EnvelopeId, MailAddress, UnixMillis};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What the server heard: commands, and mails as `MAIL-TEXT …`.
pub type Log = Arc<Mutex<Vec<String>>>;

/// One connection of the scripted server.
pub struct Conn {
    tcp: TcpStream,
    buffer: Vec<u8>,
    pub log: Log,
    /// Reads that brought bytes: with one write per command and TCP_NODELAY, one per command.
    pub reads: usize,
}

impl Conn {
    pub async fn say(&mut self, text: &str) {
        let _gone = self.tcp.write_all(text.as_bytes()).await;
    }

    pub async fn say_bytes(&mut self, bytes: &[u8]) {
        let _gone = self.tcp.write_all(bytes).await;
    }

    /// The next line without its end; `None` when the client is gone.
    pub async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.buffer.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=at).collect();
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                self.log.lock().unwrap().push(line.clone());
                return Some(line);
            }
            let mut buf = [0u8; 65_536];
            let n = self.tcp.read(&mut buf).await.ok()?;
            if n == 0 {
                return None;
            }
            self.reads += 1;
            self.buffer.extend_from_slice(&buf[..n]);
        }
    }

    /// What came, as it came.
    pub async fn bytes(&mut self) -> Option<Vec<u8>> {
        if self.buffer.is_empty() {
            let mut buf = [0u8; 65_536];
            let n = self.tcp.read(&mut buf).await.ok()?;
            self.buffer.extend_from_slice(&buf[..n]);
        }
        let bytes = std::mem::take(&mut self.buffer);
        (!bytes.is_empty()).then_some(bytes)
    }

    /// Waits until the client hangs up.
    pub async fn hang(&mut self) {
        while self.line().await.is_some() {}
    }
}

/// Starts a server that runs `script` for each connection, numbered from 0.
pub async fn serve<F, Fut>(script: F) -> (u16, Log)
where
    F: Fn(usize, Conn) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let log: Log = Arc::default();
    let kept = log.clone();
    tokio::spawn(async move {
        for n in 0.. {
            let (tcp, _) = listener.accept().await.unwrap();
            tcp.set_nodelay(true).unwrap();
            let conn = Conn { tcp, buffer: Vec::new(), log: kept.clone(), reads: 0 };
            tokio::spawn(script(n, conn));
        }
    });
    (port, log)
}

/// What the scripted SMTP server does at a step.
pub enum Act {
    /// What a good server says.
    Usual,
    Say(String),
    /// Nothing, until the client hangs up.
    Hang,
    /// Hangs up.
    Drop,
}

pub fn say(text: &str) -> Act {
    Act::Say(format!("{text}\r\n"))
}

/// A good SMTP server but for what `act` says. Steps: `greeting`, each command line, `body` (the first line
/// of a mail), `dot`.
pub async fn smtp(mut conn: Conn, ehlo: &[&str], act: impl Fn(&str) -> Act + Send) {
    let mut step = "greeting".to_owned();
    loop {
        let usual = match step.split(' ').next().unwrap() {
            "greeting" => "220 hello\r\n".to_owned(),
            "EHLO" => {
                let lines: Vec<_> = std::iter::once(&"me").chain(ehlo).collect();
                let last = lines.len() - 1;
                let form =
                    |(n, l): (usize, &&&str)| format!("250{}{l}\r\n", if n == last { ' ' } else { '-' });
                lines.iter().enumerate().map(form).collect()
            }
            "AUTH" => "235 2.7.0 welcome\r\n".to_owned(),
            "DATA" => "354 go\r\n".to_owned(),
            "QUIT" => "221 bye\r\n".to_owned(),
            "body" => String::new(),
            _ => "250 2.0.0 ok\r\n".to_owned(),
        };
        let (data, quit) = (step == "DATA", step == "QUIT");
        match act(&step) {
            Act::Usual => conn.say(&usual).await,
            Act::Say(text) => conn.say(&text).await,
            Act::Hang => return conn.hang().await,
            Act::Drop => return,
        }
        if quit {
            return;
        }
        if data && matches!(act(&step), Act::Usual) {
            match act("body") {
                Act::Usual => {}
                Act::Say(text) => conn.say(&text).await,
                Act::Hang => std::future::pending().await,
                Act::Drop => {
                    let _first = conn.line().await;
                    return;
                }
            }
            let mut mail = String::from("MAIL-TEXT ");
            loop {
                let Some(line) = conn.line().await else { return };
                conn.log.lock().unwrap().pop();
                if line == "." {
                    break;
                }
                mail.push_str(line.strip_prefix('.').unwrap_or(&line));
                mail.push_str("\r\n");
            }
            conn.log.lock().unwrap().push(mail);
            step = "dot".to_owned();
            continue;
        }
        let Some(line) = conn.line().await else { return };
        step = line;
    }
}

pub fn address(text: &str) -> MailAddress {
    MailAddress::parse(text).unwrap()
}

/// A short limit: ends a silent step soon, while a busy test machine still keeps up with the other steps.
pub const SHORT: Duration = Duration::from_millis(700);

pub fn settings(send: &str, receive: &str) -> MailSettings {
    let mut settings = MailSettings::new(
        address("manager@lab.test"),
        SendUrl::parse(send).unwrap(),
        ReceiveUrl::parse(receive).unwrap(),
    );
    settings.timeouts = Timeouts::all(Duration::from_secs(10));
    settings.mail_max_bytes = 100_000_000;
    settings
}

pub fn mail(to: &[&str], payload: &[u8]) -> Outgoing {
    Outgoing {
        from: address("manager@lab.test"),
        to: to.iter().map(|a| address(a)).collect(),
        envelope: EnvelopeId([7; 16]),
        subject: "test".into(),
        note: "A test.".into(),
        date: UnixMillis(1_795_000_000_000),
        in_reply_to: None,
        auto: AutoKind::Generated,
        attachment: Attachment::Bytes(payload.to_vec()),
    }
}

/// A password file that only its owner may read.
pub fn secret_file(folder: &Path, text: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.join("password");
    std::fs::write(&path, format!("{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// Waits for a condition, up to ten seconds.
pub async fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = std::time::Instant::now();
    while !condition() {
        assert!(started.elapsed() < Duration::from_secs(10), "waited too long until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub fn heard(log: &Log) -> Vec<String> {
    log.lock().unwrap().clone()
}

pub fn count(log: &Log, prefix: &str) -> usize {
    heard(log).iter().filter(|l| l.starts_with(prefix)).count()
}

/// A new authority and a certificate for `name`, made by the openssl command: (CA file, cert, key).
pub fn certificates(folder: &Path, name: &str) -> (PathBuf, PathBuf, PathBuf) {
    let script = format!(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -keyout ca.key -out ca.crt \
         -subj /CN=ca -addext basicConstraints=critical,CA:TRUE && \
         openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout s.key -out s.csr -subj /CN=s && \
         printf 'subjectAltName={name}\\nbasicConstraints=critical,CA:FALSE\\n' > ext && \
         openssl x509 -req -in s.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -out s.crt -extfile ext"
    );
    let out = Command::new("sh").args(["-ec", &script]).current_dir(folder).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    (folder.join("ca.crt"), folder.join("s.crt"), folder.join("s.key"))
}
