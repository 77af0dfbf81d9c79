//! Hearing of new mail at once (RFC 2177), on the connection that the last look has left. Says only that it is time to
//! look; what is there, the look finds out.
//!
//! What servers do (each by a test of `tests/imap_idle.rs`): they refuse, or never say `+`; they tell of a mail before
//! `+`, or in the answer to another command; they tell of mails that are not there; they stop telling, or hang up, or
//! routers between forget the connection, without a word. So callers also poll, a mail is asked after before each IDLE,
//! IDLE is begun anew often, and a connection that soon ends is left alone until the next poll.

use core::time::Duration;

use async_imap::imap_proto::{MailboxDatum, Response, Status};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::error::{MailError, NetError};
use crate::imap::command::Allow;
use crate::imap::session::Session;
use crate::net::{Duplex, Stream, limited};
use crate::settings::Timeouts;
use crate::text::{SERVER_TEXT_MAX_BYTES, clean};

/// The server's `+`, and its answer to DONE, if the limit of a command is not shorter. One that is slower is dead, or
/// does not mean it.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);

/// No IDLE lasts as long; the limits that count are the callers'.
const LISTEN_LIMIT: Duration = Duration::from_secs(29 * 60);

/// A connection that lasts less than this is not replaced before the next poll: some servers hang up at once, always.
const STEADY: Duration = Duration::from_secs(60);

/// A session that listens, in a task of its own: whoever waits for news may stop waiting at any point, and the server
/// still hears whole commands.
pub(crate) struct Idling {
    task: JoinHandle<Option<(Session, Instant)>>,
    stop: Option<oneshot::Sender<()>>,
    bell: watch::Receiver<bool>,
    pace: Pace,
}

/// How long the steps of an IDLE may take.
#[derive(Clone, Copy, Debug)]
struct Pace {
    answer: Duration,
    anew: Duration,
}

impl Idling {
    /// Listens for more mails than the `known` ones.
    pub(crate) fn begin(session: Session, folder: String, known: u32, timeouts: Timeouts) -> Self {
        let (ring, bell) = watch::channel(false);
        let (stop, stopped) = oneshot::channel();
        let pace = Pace { answer: timeouts.command.min(ANSWER_LIMIT), anew: timeouts.idle };
        let task = tokio::spawn(listen(session, folder, known, pace, ring, stopped));
        Self { task, stop: Some(stop), bell, pace }
    }

    /// Completes when it is time to look; never, if the connection was lost too soon.
    pub(crate) async fn rung(&mut self) {
        if self.bell.wait_for(|rung| *rung).await.is_err() {
            core::future::pending::<()>().await;
        }
    }

    /// Ends it. The session, and when it was last heard, if it still answers.
    pub(crate) async fn end(mut self) -> Option<(Session, Instant)> {
        drop(self.stop.take());
        // Two answers may be outstanding: to IDLE and to DONE.
        tokio::time::timeout(self.pace.answer.saturating_mul(3), &mut self.task).await.ok()?.ok()?
    }
}

impl Drop for Idling {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen(
    mut session: Session<Stream>,
    folder: String,
    known: u32,
    pace: Pace,
    ring: watch::Sender<bool>,
    mut stop: oneshot::Receiver<()>,
) -> Option<(Session, Instant)> {
    let began = Instant::now();
    let heard = session.hear_of(&folder, known, pace, &mut stop).await;
    let news = match &heard {
        Ok(heard) => *heard == Heard::News,
        Err(err) => {
            tracing::debug!(host = %session.wire.host, %err, "no news of mail any more");
            began.elapsed() >= STEADY
        }
    };
    if news {
        ring.send_replace(true);
    }
    match heard {
        // It does not want to, and is in step all the same.
        Ok(_) | Err(MailError::Refused { .. }) => Some((session, Instant::now())),
        Err(_) => None,
    }
}

/// Why the listening ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    /// There is more mail.
    News,
    /// It has lasted long enough.
    Nothing,
    /// It was told to stop.
    Stopped,
}

enum Said {
    Go,
    Exists(u32),
    Expunge,
    Done,
    Refused(String),
    Bye(String),
    Other,
}

impl<S: Duplex> Session<S> {
    async fn hear_of(
        &mut self,
        folder: &str,
        mut known: u32,
        pace: Pace,
        stop: &mut oneshot::Receiver<()>,
    ) -> Result<Heard, MailError> {
        let validity = self.uid_validity;
        loop {
            // What came since the look, or is told by a server that forgets to say so, is found here.
            self.select(folder).await?;
            if self.exists > known || self.uid_validity != validity {
                return Ok(Heard::News);
            }
            known = self.exists;
            match self.idle(&mut known, pace, stop).await? {
                Heard::Nothing => {}
                heard @ (Heard::News | Heard::Stopped) => return Ok(heard),
            }
        }
    }

    /// One IDLE, from the command to its tagged answer.
    async fn idle(
        &mut self,
        known: &mut u32,
        pace: Pace,
        stop: &mut oneshot::Receiver<()>,
    ) -> Result<Heard, MailError> {
        let tag = self.wire.next_tag();
        self.wire.allow(Allow::SMALL);
        self.wire.send("IDLE", &format!("{tag} IDLE")).await?;
        let host = self.wire.host.clone();
        let mut heard = limited(&host, "IDLE", pace.answer, self.until(&tag, true, known)).await??;
        let anew = tokio::time::sleep(pace.anew);
        tokio::pin!(anew);
        while heard == Heard::Nothing {
            tokio::select! {
                said = self.said(&tag) => if self.counts(said?, known)? { heard = Heard::News; },
                // Also when nobody is there any more who could be told.
                _ = &mut *stop => heard = Heard::Stopped,
                () = &mut anew => break,
            }
        }
        self.wire.send("IDLE", "DONE").await?;
        let late = limited(&host, "DONE", pace.answer, self.until(&tag, false, known)).await??;
        Ok(if late == Heard::News { late } else { heard })
    }

    /// Reads up to the `+`, or up to the tagged answer.
    async fn until(&mut self, tag: &str, go: bool, known: &mut u32) -> Result<Heard, MailError> {
        let mut heard = Heard::Nothing;
        loop {
            match self.said(tag).await? {
                Said::Go if go => return Ok(heard),
                Said::Done if !go => return Ok(heard),
                Said::Done => return Err(self.wire.odd("IDLE", "+", "OK")),
                said => {
                    if self.counts(said, known)? {
                        heard = Heard::News;
                    }
                }
            }
        }
    }

    /// True if there is more mail by what the server has said.
    fn counts(&self, said: Said, known: &mut u32) -> Result<bool, MailError> {
        let host = || self.wire.host.clone();
        match said {
            Said::Exists(count) => return Ok(count > *known),
            Said::Expunge => *known = known.saturating_sub(1),
            Said::Refused(text) => return Err(MailError::Refused { host: host(), command: "IDLE", text }),
            Said::Bye(text) => return Err(NetError::Closed { host: host(), phase: "IDLE", text }.into()),
            Said::Done => return Err(self.wire.odd("IDLE", "news", "OK")),
            Said::Go | Said::Other => {}
        }
        Ok(false)
    }

    async fn said(&mut self, tag: &str) -> Result<Said, MailError> {
        let words = |text: Option<&str>| clean(text.unwrap_or("no reason given"), SERVER_TEXT_MAX_BYTES);
        let said = self.wire.next("IDLE", LISTEN_LIMIT, |response| match response {
            Response::Continue(_) => Said::Go,
            Response::MailboxData(MailboxDatum::Exists(count)) => Said::Exists(*count),
            Response::Expunge(_) => Said::Expunge,
            Response::Done { tag: found, status, outcome } if found.0 == tag => match status {
                Status::Ok => Said::Done,
                _ => Said::Refused(words(outcome.information.as_deref())),
            },
            Response::Data { status: Status::Bye, outcome } => {
                Said::Bye(words(outcome.information.as_deref()))
            }
            _ => Said::Other,
        });
        Ok(said.await?)
    }
}
