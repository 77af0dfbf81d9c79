//! A mail server that speaks just enough IMAP for the agent, and misbehaves as told.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::common::World;

/// What is in the mailbox.
pub enum Mail {
    Whole(Vec<u8>),
    /// Begins like this, goes on with base64 for ever, and says that it is this large.
    Endless(Vec<u8>, u64),
}

/// What the server does instead of answering a command.
#[derive(Clone)]
pub enum Trick {
    /// The right answer, one byte in each of these times.
    Drip(Duration),
    /// Words without end, one line in each of these times.
    Chat(Duration),
    /// This text again and again, as fast as it is taken.
    Flood(String),
    /// Of a mail, never more than one byte at a time.
    Crumbs(Duration),
}

/// The server; it ends with the test.
pub struct Imap {
    port: u16,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    mails: BTreeMap<u32, Mail>,
    next_uid: u32,
    trick: Option<(&'static str, Trick)>,
    sent_bytes: u64,
}

impl Imap {
    /// Starts it and makes it the agent's mailbox. Reports still go to the spool.
    pub fn before(w: &World) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self { port: listener.local_addr().unwrap().port(), state: Arc::default() };
        let state = Arc::clone(&server.state);
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let (connection, state) = (connection.unwrap(), Arc::clone(&state));
                // The client is free to hang up at any time.
                std::thread::spawn(move || drop(talk(connection, &state)));
            }
        });
        let password = w.folder.path().join("password");
        std::fs::write(&password, "hunter2\n").unwrap();
        std::fs::set_permissions(&password, std::fs::Permissions::from_mode(0o600)).unwrap();
        let config = w.home().join("agent.toml");
        let old = std::fs::read_to_string(&config).unwrap();
        let mut new = format!("password_file = \"{}\"\n", password.display());
        for line in old.lines() {
            let receive = format!("receive = \"imap://box@127.0.0.1:{}/INBOX\"", server.port);
            new.push_str(if line.starts_with("receive = ") { &receive } else { line });
            new.push('\n');
        }
        std::fs::write(config, new).unwrap();
        server
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn deliver(&self, mail: Mail) {
        let mut state = self.state();
        state.next_uid += 1;
        let uid = state.next_uid;
        state.mails.insert(uid, mail);
    }

    /// From now on, commands that begin like this are answered like this.
    pub fn misbehave(&self, command: &'static str, trick: Trick) {
        self.state().trick = Some((command, trick));
    }

    pub fn behave(&self) {
        self.state().trick = None;
    }

    /// Mails that are there.
    pub fn unread(&self) -> usize {
        self.state().mails.len()
    }

    /// Bytes said so far.
    pub fn sent_bytes(&self) -> u64 {
        self.state().sent_bytes
    }
}

fn talk(connection: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    connection.set_nodelay(true)?;
    let mut lines = BufReader::new(connection.try_clone()?).lines();
    let mut out = connection;
    say(&mut out, state, "greeting", b"* OK hello\r\n")?;
    while let Some(line) = lines.next().transpose()? {
        let Some((tag, command)) = line.split_once(' ') else { continue };
        let crumbs = match &state.lock().unwrap().trick {
            Some((at, Trick::Crumbs(pause))) if command.starts_with(at) => Some(*pause),
            _ => None,
        };
        std::thread::sleep(crumbs.unwrap_or_default());
        let mut answer = answer(&mut state.lock().unwrap(), command, crumbs.is_some());
        answer.extend(format!("{tag} OK done\r\n").bytes());
        say(&mut out, state, command, &answer)?;
    }
    Ok(())
}

/// Says an answer, or what the trick makes of it.
fn say(out: &mut TcpStream, state: &Mutex<State>, command: &str, answer: &[u8]) -> std::io::Result<()> {
    let trick = state.lock().unwrap().trick.clone();
    let mut put = |bytes: &[u8]| {
        state.lock().unwrap().sent_bytes += bytes.len() as u64;
        out.write_all(bytes)
    };
    match trick {
        Some((at, Trick::Drip(pause))) if command.starts_with(at) => {
            for byte in answer {
                std::thread::sleep(pause);
                put(&[*byte])?;
            }
            Ok(())
        }
        Some((at, Trick::Chat(pause))) if command.starts_with(at) => loop {
            std::thread::sleep(pause);
            put(b"* OK still here\r\n")?;
        },
        Some((at, Trick::Flood(text))) if command.starts_with(at) => loop {
            put(text.as_bytes())?;
        },
        _ => put(answer),
    }
}

fn answer(state: &mut State, command: &str, crumbs: bool) -> Vec<u8> {
    let words: Vec<&str> = command.split(' ').collect();
    let mut out = Vec::new();
    match words[..] {
        ["CAPABILITY", ..] => out.extend(b"* CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR UIDPLUS MOVE\r\n"),
        ["SELECT", ..] => {
            let count = state.mails.len();
            out.extend(format!("* {count} EXISTS\r\n* OK [UIDVALIDITY 7] x\r\n").bytes());
        }
        ["FETCH", set, ..] => {
            let (from, to) = set.split_once(':').unwrap_or((set, set));
            let (from, to): (usize, usize) = (from.parse().unwrap(), to.parse().unwrap());
            for (at, (uid, mail)) in state.mails.iter().enumerate().take(to).skip(from - 1) {
                out.extend(row(at + 1, *uid, mail));
            }
        }
        ["UID", "FETCH", uid, ..] => {
            let uid: u32 = uid.parse().unwrap();
            if let Some(mail) = state.mails.get(&uid) {
                out.extend(mail.part(uid, command, crumbs));
            }
        }
        ["UID", "STORE", set, ..] => {
            for run in set.split(',') {
                let (from, to) = run.split_once(':').unwrap_or((run, run));
                let run = from.parse().unwrap()..=to.parse().unwrap();
                state.mails.retain(|uid, _| !run.contains(uid));
            }
        }
        _ => {}
    }
    out
}

fn row(at: usize, uid: u32, mail: &Mail) -> Vec<u8> {
    let bytes = mail.beginning();
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").map_or(bytes.len(), |at| at + 4).min(16_384);
    let size = mail.size();
    let mut out =
        format!("* {at} FETCH (UID {uid} RFC822.SIZE {size} BODY[HEADER.FIELDS (FROM)]<0> {{{end}}}\r\n")
            .into_bytes();
    out.extend(&bytes[..end]);
    out.extend(b")\r\n");
    out
}

impl Mail {
    fn beginning(&self) -> &[u8] {
        match self {
            Self::Whole(bytes) | Self::Endless(bytes, _) => bytes,
        }
    }

    fn size(&self) -> u64 {
        match self {
            Self::Whole(bytes) => bytes.len() as u64,
            Self::Endless(_, claimed) => *claimed,
        }
    }

    fn window(&self, from: usize, length: usize) -> Vec<u8> {
        let bytes = self.beginning();
        let mut out = bytes[from.min(bytes.len())..(from + length).min(bytes.len())].to_vec();
        if let Self::Endless(..) = self {
            out.resize(length, b'A');
        }
        out
    }

    fn part(&self, uid: u32, command: &str, crumbs: bool) -> Vec<u8> {
        let Some((_, window)) = command.split_once('<') else {
            return format!("* 1 FETCH (UID {uid} RFC822.SIZE {})\r\n", self.size()).into_bytes();
        };
        let (from, length) = window.trim_end_matches(">)").split_once('.').unwrap();
        let length = if crumbs { 1 } else { length.parse().unwrap() };
        let part = self.window(from.parse().unwrap(), length);
        let mut out = format!("* 1 FETCH (UID {uid} BODY[]<{from}> {{{}}}\r\n", part.len()).into_bytes();
        out.extend(part);
        out.extend(b")\r\n");
        out
    }
}
