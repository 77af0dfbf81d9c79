//! One POP3 connection: single commands, answers of many lines, and what is asked of a mailbox. The login is in
//! `login`, what is done with mails in `inbox`.

use core::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use zeroize::Zeroizing;

use crate::error::{MailError, NetError};
use crate::line::{LINE_MAX_BYTES, line};
use crate::net::{Duplex, Peer, Stream, broken, limited};
use crate::pop3::unstuff::Unstuffer;
use crate::settings::Timeouts;
use crate::text::{SERVER_TEXT_MAX_BYTES, clean_bytes};
use crate::url::TlsMode;

/// Mails of one mailbox: a list of more is no list.
const MAILS_MAX_COUNT: u32 = 1_000_000;

/// A list of them: number, blank, ID of at most 70 characters, line end.
const LIST_MAX_BYTES: u64 = 80_000_000;

/// RFC 1939 says 70 characters; some servers take more.
const ID_MAX_BYTES: usize = 200;

/// Bytes for which one more limit of time is given.
const PER_LIMIT_BYTES: u64 = 256 * 1024;

/// What is still read after the part that was wanted, to keep the connection: a mail's last lines.
const REST_MAX_BYTES: u64 = 64 * 1024;

/// A connection, logged in or on its way there.
pub(crate) struct Session<S: Duplex = Stream> {
    io: BufReader<S>,
    pub(crate) host: String,
    pub(crate) timeouts: Timeouts,
    /// In upper case; `None` if the server does not know the question.
    pub(crate) capabilities: Option<Vec<String>>,
}

/// What a server answers first.
pub(crate) enum Answer {
    /// `+OK`.
    Ok,
    /// `-ERR` and its reason.
    Refused(String),
    /// `+`: it waits for more.
    Go,
}

/// How an answer of many lines ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It was read to its end.
    Whole,
    /// There was enough, and a long rest was left: the connection is out of step.
    Enough,
    /// It was longer than allowed: the connection is out of step.
    Cut,
}

impl Session {
    /// Connects and reads the greeting; after STLS there is none.
    pub(crate) async fn open(peer: &Peer<'_>, tls: TlsMode) -> Result<Self, MailError> {
        let mut stream = peer.connect().await?;
        if tls == TlsMode::Implicit {
            stream = peer.secure(stream).await?;
        }
        let mut session = Self::greeted(stream, peer.host, peer.timeouts).await?;
        if tls == TlsMode::StartTls {
            let untrusted = |text: String| {
                let source = std::io::Error::other(text);
                MailError::Tls(NetError::Tls { host: peer.host.to_owned(), source })
            };
            match session.command("STLS", "STLS").await {
                Ok(()) => {}
                Err(MailError::Refused { text, .. }) => {
                    return Err(untrusted(format!("expected the server to offer STLS, it says {text}")));
                }
                Err(err) => return Err(err),
            }
            // What came before the handshake is an injection.
            if !session.io.buffer().is_empty() {
                return Err(untrusted("the server sent data before the TLS handshake".to_owned()));
            }
            let stream = peer.secure(session.io.into_inner()).await?;
            session.io = BufReader::new(stream);
        }
        Ok(session)
    }
}

impl<S: Duplex> Session<S> {
    /// Reads the greeting of a server.
    pub(crate) async fn greeted(stream: S, host: &str, timeouts: Timeouts) -> Result<Self, MailError> {
        let io = BufReader::new(stream);
        let mut session = Self { io, host: host.to_owned(), timeouts, capabilities: None };
        match session.answer("greeting", timeouts.greeting).await? {
            Answer::Ok => Ok(session),
            Answer::Refused(text) => Err(session.refused("greeting", text)),
            Answer::Go => Err(session.odd("greeting", "+OK", "+")),
        }
    }

    /// Sends a line in one write and reads the first line of its answer.
    pub(crate) async fn ask(&mut self, phase: &'static str, text: &str) -> Result<Answer, MailError> {
        let text = Zeroizing::new(format!("{text}\r\n"));
        let stream = self.io.get_mut();
        let work = async {
            stream.write_all(text.as_bytes()).await?;
            stream.flush().await
        };
        let limit = self.timeouts.command;
        limited(&self.host, phase, limit, work).await?.map_err(|err| broken(&self.host, phase, err))?;
        self.answer(phase, limit).await
    }

    /// [`Session::ask`]; anything but `+OK` is an error.
    pub(crate) async fn command(&mut self, phase: &'static str, text: &str) -> Result<(), MailError> {
        match self.ask(phase, text).await? {
            Answer::Ok => Ok(()),
            Answer::Refused(text) => Err(self.refused(phase, text)),
            Answer::Go => Err(self.odd(phase, "+OK or -ERR", "+")),
        }
    }

    async fn answer(&mut self, phase: &'static str, limit: Duration) -> Result<Answer, MailError> {
        let read = limited(&self.host, phase, limit, line(&mut self.io)).await?;
        let line = read.map_err(|err| broken(&self.host, phase, err))?;
        let line = line.trim_ascii_end();
        let word = line.split(|b| *b == b' ').next().unwrap_or_default();
        let text = || clean_bytes(line.get(word.len()..).unwrap_or_default(), SERVER_TEXT_MAX_BYTES);
        match word {
            b"+OK" => Ok(Answer::Ok),
            b"-ERR" => Ok(Answer::Refused(text())),
            b"+" => Ok(Answer::Go),
            _ => Err(self.odd(phase, "+OK or -ERR", &clean_bytes(line, 80))),
        }
    }

    /// Shows an answer's lines, which follow its first one, to `push`, which returns false when it has enough.
    pub(crate) async fn body<E: From<MailError>>(
        &mut self,
        phase: &'static str,
        max_bytes: u64,
        push: &mut (dyn FnMut(&[u8]) -> Result<bool, E> + Send),
    ) -> Result<Ended, E> {
        // A server that says a byte in each limit and never ends is as bad as a silent one.
        let limits = max_bytes.div_ceil(PER_LIMIT_BYTES).saturating_add(2);
        let whole = self.timeouts.command.saturating_mul(u32::try_from(limits).unwrap_or(u32::MAX));
        let host = self.host.clone();
        match limited(&host, phase, whole, self.unhurried(phase, max_bytes, push)).await {
            Ok(ended) => ended,
            Err(late) => Err(E::from(late.into())),
        }
    }

    async fn unhurried<E: From<MailError>>(
        &mut self,
        phase: &'static str,
        max_bytes: u64,
        push: &mut (dyn FnMut(&[u8]) -> Result<bool, E> + Send),
    ) -> Result<Ended, E> {
        let (mut unstuffer, mut out) = (Unstuffer::new(), Vec::new());
        let (mut left_bytes, mut wants_more) = (max_bytes, true);
        while !unstuffer.is_over() {
            let more = limited(&self.host, phase, self.timeouts.command, self.io.fill_buf());
            let more = more.await.map_err(|late| E::from(late.into()))?;
            let more = more.map_err(|err| E::from(broken(&self.host, phase, err).into()))?;
            if more.is_empty() {
                let end = NetError::Closed { host: self.host.clone(), phase, text: String::new() };
                return Err(E::from(end.into()));
            }
            out.clear();
            let taken = unstuffer.take(more, &mut out);
            self.io.consume(taken);
            if wants_more && !out.is_empty() {
                wants_more = push(&out)?;
                if !wants_more {
                    left_bytes = left_bytes.min(REST_MAX_BYTES);
                }
            }
            left_bytes = left_bytes.saturating_sub(u64::try_from(taken).unwrap_or(u64::MAX));
            if left_bytes == 0 && !unstuffer.is_over() {
                return Ok(if wants_more { Ended::Cut } else { Ended::Enough });
            }
        }
        Ok(Ended::Whole)
    }

    /// What the server offers now; none is known if it does not know the question.
    pub(crate) async fn ask_capabilities(&mut self) -> Result<(), MailError> {
        self.capabilities = match self.ask("CAPA", "CAPA").await? {
            Answer::Ok => {
                let mut found = Vec::new();
                self.lines("CAPA", 64 * 1024, &mut |line| {
                    found.push(line.to_ascii_uppercase());
                    Ok(())
                })
                .await?;
                Some(found)
            }
            Answer::Refused(_) => None,
            Answer::Go => return Err(self.odd("CAPA", "+OK or -ERR", "+")),
        };
        Ok(())
    }

    /// True if the server says that it offers this, in upper case.
    pub(crate) fn can(&self, name: &str) -> bool {
        let first = |line: &String| line.split(' ').next() == Some(name);
        self.capabilities.as_ref().is_some_and(|lines| lines.iter().any(first))
    }

    /// Numbers of the mails and what the server says of each: its ID (UIDL) or its size (LIST).
    pub(crate) async fn list(
        &mut self,
        what: &'static str,
        each: &mut (dyn FnMut(u32, &str) + Send),
    ) -> Result<(), MailError> {
        self.command(what, what).await?;
        let host = self.host.clone();
        let mut count = 0u32;
        self.lines(what, LIST_MAX_BYTES, &mut |line| {
            count = count.saturating_add(1);
            // Some servers say more behind a size.
            let mut words = line.split_ascii_whitespace();
            let number = words.next().and_then(|n| n.parse().ok()).filter(|n| *n > 0);
            match (number, words.next()) {
                (Some(number), Some(word)) if count <= MAILS_MAX_COUNT && is_id(word) => {
                    each(number, word);
                    Ok(())
                }
                _ => Err(odd(&host, what, "the number and ID or size of a mail", line)),
            }
        })
        .await
    }

    async fn lines(
        &mut self,
        phase: &'static str,
        max_bytes: u64,
        each: &mut (dyn FnMut(&str) -> Result<(), MailError> + Send),
    ) -> Result<(), MailError> {
        let (host, mut line) = (self.host.clone(), Vec::new());
        let mut push = |bytes: &[u8]| {
            for b in bytes {
                if *b == b'\n' {
                    each(&String::from_utf8_lossy(line.trim_ascii()))?;
                    line.clear();
                } else if line.len() < LINE_MAX_BYTES {
                    line.push(*b);
                } else {
                    return Err(odd(&host, phase, "a line that ends", "more than 4096 bytes"));
                }
            }
            Ok(true)
        };
        match self.body(phase, max_bytes, &mut push).await? {
            Ended::Whole => Ok(()),
            Ended::Enough | Ended::Cut => {
                Err(self.odd(phase, "a list that ends", &format!("more than {max_bytes} bytes")))
            }
        }
    }

    /// Says goodbye; what was deleted is deleted now.
    pub(crate) async fn quit(mut self, limit: Duration) -> Result<(), MailError> {
        let host = self.host.clone();
        limited(&host, "QUIT", limit, self.command("QUIT", "QUIT")).await?
    }

    fn refused(&self, command: &'static str, text: String) -> MailError {
        MailError::Refused { host: self.host.clone(), command, text }
    }

    /// A protocol error.
    pub(crate) fn odd(&self, phase: &'static str, expected: &'static str, found: &str) -> MailError {
        odd(&self.host, phase, expected, found)
    }
}

fn odd(host: &str, phase: &'static str, expected: &'static str, found: &str) -> MailError {
    let found = clean_bytes(found.as_bytes(), 160);
    NetError::Protocol { host: host.to_owned(), phase, expected, found }.into()
}

fn is_id(word: &str) -> bool {
    word.len() <= ID_MAX_BYTES && word.bytes().all(|b| b.is_ascii_graphic())
}
