//! One SMTP connection: greeting, EHLO, STARTTLS, AUTH, and single commands. What a mail needs is in
//! `transaction`. A session that met any error is dropped by its owner, never used again.

use core::future::poll_fn;
use core::pin::Pin;
use core::task::Poll;
use core::time::Duration;
use std::borrow::Cow;

use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::commands::{Auth, Ehlo, Quit, Starttls};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::{Category, Code, Detail, Response, Severity};
use tokio::io::{AsyncBufRead as _, AsyncWriteExt, BufReader};
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::error::{NetError, SendError};
use crate::net::{Duplex, Peer, Stream, broken, limited};
use crate::outgoing::Why;
use crate::secret::Secret;
use crate::settings::Timeouts;
use crate::smtp::ehlo::Offers;
use crate::smtp::reply::Reply;
use crate::url::TlsMode;

/// A connection that is ready for a mail.
pub(crate) struct Session<S = Stream> {
    io: BufReader<S>,
    pub(crate) host: String,
    pub(crate) timeouts: Timeouts,
    pub(crate) offers: Offers,
    /// Mails sent so far.
    pub(crate) mails_count: usize,
    /// When the last transaction ended.
    pub(crate) idle_since: Instant,
}

impl Session {
    /// Connects, secures, and greets with `name`.
    pub(crate) async fn open(peer: &Peer<'_>, tls: TlsMode, name: &str) -> Result<Self, SendError> {
        let mut stream = peer.connect().await?;
        if tls == TlsMode::Implicit {
            stream = peer.secure(stream).await?;
        }
        let mut session = Self::greeted(stream, peer.host, peer.timeouts, name).await?;
        if tls == TlsMode::StartTls {
            session = session.starttls(peer).await?;
            session.ehlo(name).await?;
        }
        Ok(session)
    }

    async fn starttls(mut self, peer: &Peer<'_>) -> Result<Self, SendError> {
        let untrusted = |text: &str| {
            let source = std::io::Error::other(text.to_owned());
            SendError::Tls(NetError::Tls { host: peer.host.to_owned(), source })
        };
        // Somebody on the path can strip the offer; going on in clear would give the password away.
        if !self.offers.has("STARTTLS") {
            return Err(untrusted("expected the server to offer STARTTLS, found no such offer"));
        }
        let reply = self.command("STARTTLS", &Starttls.to_string()).await?;
        if reply.code != 220 {
            return Err(untrusted(&format!("STARTTLS was refused: {}", reply.why())));
        }
        // Replies that came before the handshake are an injection (CVE-2011-0411 and kin).
        if !self.io.buffer().is_empty() {
            return Err(untrusted("the server sent data before the TLS handshake"));
        }
        let stream = peer.secure(self.io.into_inner()).await?;
        Ok(Self { io: BufReader::new(stream), offers: Offers::default(), ..self })
    }
}

impl<S: Duplex> Session<S> {
    /// Reads the greeting of a server and greets it with `name`.
    pub(crate) async fn greeted(
        stream: S,
        host: &str,
        timeouts: Timeouts,
        name: &str,
    ) -> Result<Self, SendError> {
        let mut session = Self {
            io: BufReader::new(stream),
            host: host.to_owned(),
            timeouts,
            offers: Offers::default(),
            mails_count: 0,
            idle_since: Instant::now(),
        };
        let greeting = session.reply("greeting", timeouts.greeting).await?;
        if greeting.code != 220 {
            return Err(session.refused("greeting", &greeting));
        }
        session.ehlo(name).await?;
        Ok(session)
    }

    async fn ehlo(&mut self, name: &str) -> Result<(), SendError> {
        let hello = Ehlo::new(ClientId::Domain(name.to_owned())).to_string();
        let reply = self.command("EHLO", &hello).await?;
        if reply.code != 250 {
            return Err(self.refused("EHLO", &reply));
        }
        self.offers = Offers::read(&reply);
        Ok(())
    }

    /// Logs in.
    pub(crate) async fn login(&mut self, user: &str, secret: &Secret, token: bool) -> Result<(), SendError> {
        let refused = |why| SendError::AuthRefused { host: self.host.clone(), user: user.to_owned(), why };
        let Some(mechanism) = self.offers.mechanism(token) else {
            let wanted = if token { "XOAUTH2" } else { "PLAIN or LOGIN" };
            let text = format!("expected AUTH {wanted}, found \"{}\"", self.offers.auth_text());
            return Err(refused(Why { code: Some(504), enhanced: None, text }));
        };
        let credentials = Credentials::new(user.to_owned(), secret.expose().to_owned());
        let unusable = |_| refused(Why::local("the server's challenge makes no sense"));
        let first = Auth::new(mechanism, credentials.clone(), None).map_err(unusable)?;
        let mut line = Zeroizing::new(first.to_string());
        // LOGIN has two challenges; more than four answers lead nowhere.
        for _ in 0..4 {
            let reply = self.command("AUTH", &line).await?;
            let refused =
                |why| SendError::AuthRefused { host: self.host.clone(), user: user.to_owned(), why };
            match reply.code {
                235 => return Ok(()),
                334 if token => {
                    // The reason in base64; the empty answer asks for the final refusal.
                    line = Zeroizing::new("\r\n".to_owned());
                }
                334 => {
                    let code =
                        Code::new(Severity::PositiveIntermediate, Category::Unspecified3, Detail::Four);
                    let next = Auth::new_from_response(
                        mechanism,
                        credentials.clone(),
                        &Response::new(code, reply.lines),
                    );
                    let next =
                        next.map_err(|_| refused(Why::local("the server's challenge makes no sense")))?;
                    line = Zeroizing::new(next.to_string());
                }
                _ => return Err(refused(reply.why())),
            }
        }
        Err(SendError::AuthRefused {
            host: self.host.clone(),
            user: user.to_owned(),
            why: Why::local("the server asks without end"),
        })
    }

    /// Sends one command (or several, pipelined) in one write and reads the first reply.
    pub(crate) async fn command(&mut self, phase: &'static str, text: &str) -> Result<Reply, NetError> {
        self.write(phase, text.as_bytes(), self.timeouts.command).await?;
        self.reply(phase, self.timeouts.command).await
    }

    /// Reads the next reply. A 421 always ends the connection.
    pub(crate) async fn reply(&mut self, phase: &'static str, limit: Duration) -> Result<Reply, NetError> {
        let reply = Reply::read(&mut self.io, &self.host, phase, limit).await?;
        if reply.code == 421 {
            return Err(NetError::Closed { host: self.host.clone(), phase, text: reply.why().to_string() });
        }
        Ok(reply)
    }

    /// Writes in one go.
    pub(crate) async fn write(
        &mut self,
        phase: &'static str,
        bytes: &[u8],
        limit: Duration,
    ) -> Result<(), NetError> {
        let stream = self.io.get_mut();
        let work = async {
            stream.write_all(bytes).await?;
            stream.flush().await
        };
        limited(&self.host, phase, limit, work).await?.map_err(|err| broken(&self.host, phase, err))
    }

    /// True if the server has spoken, or hung up, without being asked.
    pub(crate) async fn has_spoken(&mut self) -> bool {
        // Lets the runtime hear of what has come. A timeout of zero would cost each mail a tick of its timers, a millisecond or two.
        tokio::task::yield_now().await;
        poll_fn(|cx| Poll::Ready(Pin::new(&mut self.io).poll_fill_buf(cx).is_ready())).await
    }

    /// Says goodbye, briefly.
    pub(crate) async fn quit(mut self) {
        let limit = self.timeouts.command.min(Duration::from_secs(5));
        if self.write("QUIT", Quit.to_string().as_bytes(), limit).await.is_ok() {
            let _bye = Reply::read(&mut self.io, &self.host, "QUIT", limit).await;
        }
    }

    pub(crate) fn refused(&self, phase: &'static str, reply: &Reply) -> SendError {
        SendError::Refused { host: self.host.clone(), phase, why: reply.why() }
    }

    /// One line for a person.
    pub(crate) fn describe(&self, tls: TlsMode) -> String {
        let tls: Cow<'_, str> = match tls {
            TlsMode::Implicit => "TLS".into(),
            TlsMode::StartTls => "STARTTLS".into(),
            TlsMode::None => "no TLS".into(),
        };
        let size =
            self.offers.size_max_bytes.map_or("of any size".to_owned(), |n| format!("up to {n} bytes"));
        let extra: Vec<_> = ["PIPELINING", "DSN"].into_iter().filter(|k| self.offers.has(k)).collect();
        format!("{}: {tls}, mails {size}, offers {}", self.host, extra.join(" "))
    }
}
