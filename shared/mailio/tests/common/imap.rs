//! A scripted IMAP server: a good one, but for what a test lets it do.
#![allow(clippy::cast_possible_truncation, clippy::indexing_slicing, reason = "tests")]

use super::{Act, Conn, mail};

/// A mailbox on the scripted server: mails as (uid, text).
#[derive(Clone)]
pub struct World {
    pub validity: u32,
    pub mails: Vec<(u32, Vec<u8>)>,
    pub capabilities: &'static str,
}

pub fn world(count: usize) -> World {
    let text = |n: usize| -> Vec<u8> {
        let mut mail = mail(&["manager@lab.test"], format!("payload {n}").as_bytes());
        mail.envelope = shared::EnvelopeId([n as u8; 16]);
        mail.chunks().unwrap().flat_map(|c| c.unwrap()).collect()
    };
    World {
        validity: 77,
        mails: (0..count).map(|n| (100 + n as u32 * 2, text(n))).collect(),
        capabilities: "IMAP4rev1 AUTH=PLAIN SASL-IR UIDPLUS MOVE",
    }
}

pub fn numbers(set: &str, all: impl Iterator<Item = u32>) -> Vec<u32> {
    let inside = |n: u32| {
        set.split(',').any(|run| {
            let (a, b) = run.split_once(':').unwrap_or((run, run));
            (a.parse().unwrap()..=b.parse::<u32>().unwrap()).contains(&n)
        })
    };
    all.filter(|n| inside(*n)).collect()
}

/// A good IMAP server but for what `act` says: it sees `greeting` and each command without its tag. `Say`
/// replaces the whole answer; `TAG` in it is the command's tag.
pub async fn imap(mut conn: Conn, world: World, act: impl Fn(&str) -> Act + Send) {
    match act("greeting") {
        Act::Usual => conn.say("* OK hello\r\n").await,
        Act::Say(text) => conn.say(&text).await,
        Act::Hang => return conn.hang().await,
        Act::Drop => return,
    }
    while let Some(line) = conn.line().await {
        let Some((tag, command)) = line.split_once(' ') else { continue };
        match act(command) {
            // Login, password: each a literal that waits for the server.
            Act::Usual if command.starts_with("LOGIN {") || command == "AUTHENTICATE PLAIN" => {
                for _ in 0..if command.starts_with("LOGIN") { 2 } else { 1 } {
                    conn.say("+ go on\r\n").await;
                    let _literal = conn.line().await;
                }
                conn.say(&format!("{tag} OK welcome\r\n")).await;
            }
            Act::Usual => {
                let answer = answer(&world, command);
                conn.say_bytes(&answer).await;
                conn.say(&format!("{tag} OK done\r\n")).await;
            }
            Act::Say(text) => conn.say(&text.replace("TAG", tag)).await,
            Act::Hang => return conn.hang().await,
            Act::Drop => return,
        }
    }
}

pub fn answer(world: &World, command: &str) -> Vec<u8> {
    let words: Vec<&str> = command.split(' ').collect();
    let mut out = Vec::new();
    match words[0] {
        "CAPABILITY" => out.extend(format!("* CAPABILITY {}\r\n", world.capabilities).bytes()),
        "SELECT" => {
            let text =
                format!("* {} EXISTS\r\n* OK [UIDVALIDITY {}] x\r\n", world.mails.len(), world.validity);
            out.extend(text.bytes());
        }
        "FETCH" => {
            let total = world.mails.len() as u32;
            for seq in numbers(words[1], 1..=total) {
                let (uid, mail) = &world.mails[seq as usize - 1];
                out.extend(format!("* {seq} FETCH (UID {uid}").bytes());
                if command.contains("RFC822.SIZE") {
                    out.extend(format!(" RFC822.SIZE {}", mail.len()).bytes());
                }
                if command.contains("HEADER.FIELDS") {
                    let end = mail.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
                    let name = "BODY[HEADER.FIELDS (FROM SUBJECT)]<0>";
                    out.extend(format!(" {name} {{{end}}}\r\n").bytes());
                    out.extend(&mail[..end]);
                }
                out.extend(b")\r\n");
            }
        }
        "UID" if words[1] == "FETCH" => {
            for (seq, (uid, mail)) in world.mails.iter().enumerate() {
                if uid.to_string() != words[2] {
                    continue;
                }
                out.extend(format!("* {} FETCH (UID {uid}", seq + 1).bytes());
                if command.contains("RFC822.SIZE") {
                    out.extend(format!(" RFC822.SIZE {}", mail.len()).bytes());
                }
                if let Some((_, window)) = command.split_once('<') {
                    let (from, len) = window.trim_end_matches(">)").split_once('.').unwrap();
                    let from: usize = from.parse().unwrap();
                    let to = (from + len.parse::<usize>().unwrap()).min(mail.len());
                    let part = &mail[from.min(mail.len())..to.max(from.min(mail.len()))];
                    out.extend(format!(" BODY[]<{from}> {{{}}}\r\n", part.len()).bytes());
                    out.extend(part);
                }
                out.extend(b")\r\n");
            }
        }
        _ => {}
    }
    out
}
