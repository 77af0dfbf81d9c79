//! Compressed IMAP connections (RFC 4978), by a scripted server: the same mails as ever, and nothing that a server can
//! do with them makes an empty mailbox or fills the memory.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::io::Write as _;
use std::time::{Duration, Instant};

use common::imap::{World, answer, world};
use common::*;
use flate2::write::{DeflateDecoder, DeflateEncoder};
use mailio::{Disposal, FetchError, MailError, MailSettings, Mailbox, SecretSource, Timeouts};

const OFFERS: &str = "IMAP4rev1 AUTH=PLAIN SASL-IR UIDPLUS MOVE COMPRESS=DEFLATE";

#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Honest,
    Refuse,
    /// Says OK and goes on in clear.
    Forget,
    /// Gives a gigabyte where a list is due; on the line it is one megabyte.
    BombInList,
    /// The same where a mail is due.
    BombInMail,
    /// Ends the stream of compressed bytes in the middle of an answer.
    End,
}

/// What a server says once both sides compress.
struct Squeezed {
    conn: Conn,
    encoder: DeflateEncoder<Vec<u8>>,
    decoder: DeflateDecoder<Vec<u8>>,
}

impl Squeezed {
    async fn line(&mut self) -> Option<String> {
        loop {
            let heard = self.decoder.get_mut();
            if let Some(at) = heard.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = heard.drain(..=at).collect();
                let line = String::from_utf8(line).unwrap().trim_end().to_owned();
                self.conn.log.lock().unwrap().push(line.clone());
                return Some(line);
            }
            let bytes = self.conn.bytes().await?;
            self.decoder.write_all(&bytes).unwrap();
            self.decoder.flush().unwrap();
        }
    }

    async fn say(&mut self, bytes: &[u8]) {
        self.encoder.write_all(bytes).unwrap();
        self.encoder.flush().unwrap();
        let bytes = std::mem::take(self.encoder.get_mut());
        self.conn.say_bytes(&bytes).await;
    }
}

async fn server(mut conn: Conn, world: World, way: Way) {
    conn.say("* OK hello\r\n").await;
    loop {
        let Some(line) = conn.line().await else { return };
        let (tag, command) = line.split_once(' ').unwrap();
        let compresses = command == "COMPRESS DEFLATE";
        if compresses && way == Way::Refuse {
            conn.say(&format!("{tag} NO [COMPRESSIONACTIVE] by TLS\r\n")).await;
            continue;
        }
        conn.say_bytes(&answer(&world, command)).await;
        conn.say(&format!("{tag} OK done\r\n")).await;
        if compresses && way != Way::Forget {
            break;
        }
        if compresses {
            return conn.say("* OK in clear\r\n").await;
        }
    }
    let encoder = DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    let mut both = Squeezed { conn, encoder, decoder: DeflateDecoder::new(Vec::new()) };
    while let Some(line) = both.line().await {
        let (tag, command) = line.split_once(' ').unwrap();
        let bomb = match way {
            Way::BombInList => command.starts_with("FETCH"),
            Way::BombInMail => command.contains("BODY.PEEK[]"),
            Way::Honest | Way::Refuse | Way::Forget | Way::End => false,
        };
        if bomb {
            both.say(b"* 1 FETCH (UID 100 BODY[]<0> {1000000000}\r\n").await;
            for _ in 0..1_000 {
                both.say(&vec![b'x'; 1_000_000]).await;
            }
            return;
        }
        if way == Way::End && command.starts_with("FETCH") {
            both.encoder.write_all(b"* 1 FETCH (UID 100 RFC822.SIZE 9").unwrap();
            let bytes = both.encoder.finish().unwrap();
            both.conn.say_bytes(&bytes).await;
            return both.conn.hang().await;
        }
        both.say(&answer(&world, command)).await;
        both.say(format!("{tag} OK done\r\n").as_bytes()).await;
    }
}

struct Lab {
    _folder: tempfile::TempDir,
    mailbox: Mailbox,
    log: Log,
}

async fn lab(count: usize, way: Way, change: impl Fn(&mut MailSettings)) -> Lab {
    let world = World { capabilities: OFFERS, ..world(count) };
    let (port, log) = serve(move |_, conn| server(conn, world.clone(), way)).await;
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings("maildir:/nowhere", &format!("imap://box@127.0.0.1:{port}/INBOX"));
    settings.secret = SecretSource::File(secret_file(folder.path(), "hunter2"));
    change(&mut settings);
    Lab { _folder: folder, mailbox: Mailbox::new(settings), log }
}

fn said(log: &Log, command: &str) -> bool {
    heard(log).iter().any(|line| line.ends_with(command))
}

async fn whole_round(lab: &mut Lab) {
    let found = lab.mailbox.look(10).await.unwrap();
    assert_eq!(found.len(), 3);
    for (n, mail) in found.iter().enumerate() {
        let mut out = Vec::new();
        lab.mailbox.fetch(&mail.key, 100, &mut out).await.unwrap();
        assert_eq!(out, format!("payload {n}").as_bytes());
    }
    lab.mailbox.dispose(&[(found[0].key.clone(), Disposal::Done)]).await.unwrap();
    assert!(said(&lab.log, "UID EXPUNGE 100"));
}

#[tokio::test]
async fn a_compressed_connection_gives_the_same_mails() {
    let mut lab = lab(3, Way::Honest, |_| {}).await;
    whole_round(&mut lab).await;
    assert!(said(&lab.log, "COMPRESS DEFLATE"));
}

#[tokio::test]
async fn without_the_server_s_or_the_operator_s_wish_it_stays_as_it_is() {
    let mut refused = lab(3, Way::Refuse, |_| {}).await;
    whole_round(&mut refused).await;
    let mut unwanted = lab(3, Way::Forget, |settings| settings.extensions.compress = false).await;
    whole_round(&mut unwanted).await;
    assert!(!said(&unwanted.log, "COMPRESS DEFLATE"));
}

#[tokio::test]
async fn a_stream_that_is_none_or_ends_is_an_error_and_no_empty_mailbox() {
    for way in [Way::Forget, Way::End] {
        let short = |settings: &mut MailSettings| settings.timeouts = Timeouts::all(SHORT);
        let mut lab = lab(3, way, short).await;
        let looked = lab.mailbox.look(10).await;
        assert!(looked.is_err(), "{way:?}: {looked:?}");
    }
}

#[tokio::test]
async fn a_bomb_is_refused_before_it_is_inflated() {
    let began = Instant::now();
    let mut bombed = lab(1, Way::BombInList, |_| {}).await;
    let err = bombed.mailbox.look(10).await.unwrap_err();
    assert!(matches!(err, MailError::Protocol(_)), "{err:?}");
    let mut lab = lab(1, Way::BombInMail, |_| {}).await;
    let key = lab.mailbox.look(10).await.unwrap()[0].key.clone();
    let err = lab.mailbox.fetch(&key, 100_000_000, &mut Vec::new()).await.unwrap_err();
    assert!(matches!(err, FetchError::Transport(MailError::Protocol(_))), "{err:?}");
    // On a busy machine the server's own packing takes half a minute; without an end it would be a gigabyte of letters.
    assert!(began.elapsed() < Duration::from_secs(120), "{:?}", began.elapsed());
}
