//! One IMAP command and its answer: sent in one write, read to the tagged line, whose status is checked.

use core::time::Duration;
use std::io;

use async_imap::Client;
use async_imap::imap_proto::{Response, Status};
use service::panics::caught_while;
use tokio::io::{AsyncWriteExt, BufWriter};
use zeroize::Zeroizing;

use crate::error::{MailError, NetError};
use crate::guarded::Guarded;
use crate::net::{Duplex, broken, limited};
use crate::text::{SERVER_TEXT_MAX_BYTES, clean};

/// Budget of a command that answers a few lines.
const SMALL_BYTES: u64 = 256 * 1024;

/// Responses to one command.
const RESPONSES_MAX: usize = 20_000;

/// The wire: async-imap's reader over our guarded stream.
pub(crate) struct Wire<S: Duplex> {
    client: Client<BufWriter<Guarded<S>>>,
    pub(crate) host: String,
    limit: Duration,
    tag: u32,
}

/// What a command may bring.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allow {
    pub(crate) literal_bytes: u64,
    pub(crate) total_bytes: u64,
}

impl Allow {
    pub(crate) const SMALL: Self = Self { literal_bytes: 4_096, total_bytes: SMALL_BYTES };
}

impl<S: Duplex> Wire<S> {
    pub(crate) fn new(stream: S, host: &str, limit: Duration) -> Self {
        let client = Client::new(BufWriter::with_capacity(8 * 1024, Guarded::new(stream)));
        Self { client, host: host.to_owned(), limit, tag: 0 }
    }

    /// Gives the stream back, for STARTTLS. Bytes that async-imap has read ahead are lost with its buffer,
    /// which is what an injected plaintext reply deserves.
    pub(crate) fn into_stream(self) -> S {
        self.client.into_inner().into_inner().into_inner()
    }

    /// Allows the next answer its size.
    pub(crate) fn allow(&mut self, allow: Allow) {
        self.client.get_mut().get_mut().allow(allow.literal_bytes, allow.total_bytes);
    }

    /// Shows the next response to `read` (its type has no public name, so it cannot be returned). The end of
    /// the connection is an error, as are panics of its parser beyond those that [`Guarded`] keeps from it.
    pub(crate) async fn next<T>(
        &mut self,
        phase: &'static str,
        limit: Duration,
        read: impl FnOnce(&Response<'_>) -> T,
    ) -> Result<T, NetError> {
        let read_response = async {
            let panicked = || io::Error::new(io::ErrorKind::InvalidData, "the IMAP parser panicked");
            caught_while(self.client.read_response()).await.unwrap_or_else(|| Err(panicked()))
        };
        match limited(&self.host, phase, limit, read_response).await? {
            Ok(Some(response)) => Ok(read(response.parsed())),
            Ok(None) => Err(NetError::Closed { host: self.host.clone(), phase, text: String::new() }),
            // Parse errors quote the whole buffer, which may be a mail.
            Err(err) if matches!(err.kind(), io::ErrorKind::Other | io::ErrorKind::InvalidData) => {
                Err(NetError::Protocol {
                    host: self.host.clone(),
                    phase,
                    expected: "an IMAP response",
                    found: clean(&err.to_string(), 160),
                })
            }
            Err(err) => Err(broken(&self.host, phase, err)),
        }
    }

    /// Sends a line in one write.
    pub(crate) async fn send(&mut self, phase: &'static str, line: &str) -> Result<(), NetError> {
        let line = Zeroizing::new(format!("{line}\r\n"));
        let writer = self.client.get_mut();
        let work = async {
            writer.write_all(line.as_bytes()).await?;
            writer.flush().await
        };
        limited(&self.host, phase, self.limit, work).await?.map_err(|err| broken(&self.host, phase, err))
    }

    /// A tag that no other command has.
    pub(crate) fn next_tag(&mut self) -> String {
        self.tag = self.tag.wrapping_add(1);
        format!("m{}", self.tag)
    }

    /// Runs a command: `each` sees every untagged response. Answers NO and BAD are errors.
    pub(crate) async fn run(
        &mut self,
        name: &'static str,
        line: &str,
        allow: Allow,
        each: impl FnMut(&Response<'_>) -> Result<(), MailError> + Send,
    ) -> Result<(), MailError> {
        self.dialogue(name, line, Vec::new(), allow, each).await
    }

    /// How long a whole answer may take: a server that says a word in each limit and never ends is as bad as a
    /// silent one. One limit for its first response, and one for each 256 KiB that it may bring.
    fn answer_limit(&self, allow: Allow) -> Duration {
        let windows = allow.total_bytes.div_ceil(SMALL_BYTES).saturating_add(1);
        self.limit.saturating_mul(u32::try_from(windows).unwrap_or(u32::MAX))
    }

    /// [`Wire::run`] with answers to the server's `+`, in their order; further `+` get an empty line.
    pub(crate) async fn dialogue(
        &mut self,
        name: &'static str,
        line: &str,
        answers: Vec<Zeroizing<String>>,
        allow: Allow,
        each: impl FnMut(&Response<'_>) -> Result<(), MailError> + Send,
    ) -> Result<(), MailError> {
        let (host, limit) = (self.host.clone(), self.answer_limit(allow));
        limited(&host, name, limit, self.unhurried(name, line, answers, allow, each)).await?
    }

    async fn unhurried(
        &mut self,
        name: &'static str,
        line: &str,
        answers: Vec<Zeroizing<String>>,
        allow: Allow,
        mut each: impl FnMut(&Response<'_>) -> Result<(), MailError> + Send,
    ) -> Result<(), MailError> {
        self.allow(allow);
        let tag = self.next_tag();
        self.send(name, &Zeroizing::new(format!("{tag} {line}"))).await?;
        let mut answers = answers.into_iter();
        for _ in 0..RESPONSES_MAX {
            let host = self.host.clone();
            let step = self.next(name, self.limit, |r| step(r, &tag, name, host, &mut each)).await??;
            match step {
                Step::Done => return Ok(()),
                Step::Answer => {
                    let answer = answers.next().unwrap_or_default();
                    self.send(name, &answer).await?;
                }
                Step::More => {}
            }
        }
        Err(self.odd(name, "an end of the answer", &format!("more than {RESPONSES_MAX} responses")))
    }

    /// A protocol error.
    pub(crate) fn odd(&self, phase: &'static str, expected: &'static str, found: &str) -> MailError {
        odd(&self.host, phase, expected, found)
    }
}

enum Step {
    Done,
    Answer,
    More,
}

fn step(
    response: &Response<'_>,
    tag: &str,
    name: &'static str,
    host: String,
    each: &mut (impl FnMut(&Response<'_>) -> Result<(), MailError> + Send),
) -> Result<Step, MailError> {
    match response {
        Response::Done { tag: found, status, outcome } if found.0 == tag => {
            if matches!(status, Status::Ok) {
                return each(response).map(|()| Step::Done);
            }
            let code = outcome.code.as_ref().map(|c| format!("[{c:?}] ")).unwrap_or_default();
            let words = outcome.information.as_deref().unwrap_or("no reason given");
            let text = clean(&format!("{code}{words}"), SERVER_TEXT_MAX_BYTES);
            Err(MailError::Refused { host, command: name, text })
        }
        Response::Continue(_) => Ok(Step::Answer),
        Response::Data { status: Status::Bye, outcome } if name != "LOGOUT" => {
            let text = clean(outcome.information.as_deref().unwrap_or_default(), SERVER_TEXT_MAX_BYTES);
            Err(NetError::Closed { host, phase: name, text }.into())
        }
        // Stray tagged lines of other commands prove nothing about this one; the rest is untagged.
        other => each(other).map(|()| Step::More),
    }
}

/// A protocol error, where the wire is in use.
pub(crate) fn odd(host: &str, phase: &'static str, expected: &'static str, found: &str) -> MailError {
    let found = clean(found, 160);
    NetError::Protocol { host: host.to_owned(), phase, expected, found }.into()
}
