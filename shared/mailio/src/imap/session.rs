//! From nothing to a selected folder: connect, TLS, greeting, login, SELECT. What is done with mails is in
//! `folder`.

use core::time::Duration;

use async_imap::imap_proto::{Capability, MailboxDatum, Response, ResponseCode, Status};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::error::{MailError, NetError, Turn};
use crate::imap::command::{Allow, Wire, odd};
use crate::net::{Duplex, Peer, Stream};
use crate::secret::Secret;
use crate::settings::Timeouts;
use crate::text::contains_ignore_case;
use crate::url::TlsMode;

/// A logged-in connection with a selected folder.
pub(crate) struct Session<S: Duplex = Stream> {
    pub(crate) wire: Wire<S>,
    capabilities: Vec<String>,
    pub(crate) compressed: bool,
    pub(crate) exists: u32,
    pub(crate) uid_validity: u32,
    /// 0 if the server does not say.
    pub(crate) uid_next: u32,
}

impl Session {
    /// Connects and reads the greeting; after STARTTLS there is none.
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
            match session.wire.run("STARTTLS", "STARTTLS", Allow::SMALL, |_| Ok(())).await {
                Ok(()) => {}
                Err(MailError::Refused { text, .. }) => {
                    return Err(untrusted(format!("expected the server to offer STARTTLS, it says {text}")));
                }
                Err(err) => return Err(err),
            }
            let stream = peer.secure(session.wire.into_stream()).await?;
            session.wire = Wire::new(stream, peer.host, peer.timeouts.command);
        }
        Ok(session)
    }

    /// Compresses the connection (RFC 4978), if the server offers it and does not refuse it after all.
    pub(crate) async fn compress(mut self, limit: Duration) -> Result<Self, MailError> {
        if !self.can("COMPRESS=DEFLATE") {
            return Ok(self);
        }
        match self.wire.run("COMPRESS", "COMPRESS DEFLATE", Allow::SMALL, |_| Ok(())).await {
            Ok(()) => {}
            Err(MailError::Refused { text, .. }) => {
                tracing::debug!(host = %self.wire.host, text, "the connection stays as it is");
                return Ok(self);
            }
            Err(err) => return Err(err),
        }
        let host = self.wire.host.clone();
        self.wire = Wire::new(self.wire.into_stream().deflated(), &host, limit);
        self.compressed = true;
        Ok(self)
    }
}

impl<S: Duplex> Session<S> {
    /// Reads the greeting of a server.
    pub(crate) async fn greeted(stream: S, host: &str, timeouts: Timeouts) -> Result<Self, MailError> {
        let mut wire = Wire::new(stream, host, timeouts.command);
        wire.allow(Allow::SMALL);
        let greeting = |r: &Response<'_>| match r {
            Response::Data { status: Status::Ok, .. } => None,
            other => Some(format!("{other:?}")),
        };
        if let Some(found) = wire.next("greeting", timeouts.greeting, greeting).await? {
            return Err(wire.odd("greeting", "* OK", &found));
        }
        Ok(Self {
            wire,
            capabilities: Vec::new(),
            compressed: false,
            exists: 0,
            uid_validity: 0,
            uid_next: 0,
        })
    }

    /// True if the server offers this, in upper case.
    pub(crate) fn can(&self, name: &str) -> bool {
        self.capabilities.iter().any(|c| c == name)
    }

    async fn ask_capabilities(&mut self) -> Result<(), MailError> {
        let mut found = Vec::new();
        self.wire
            .run("CAPABILITY", "CAPABILITY", Allow::SMALL, |response| {
                if let Response::Capabilities(list) = response {
                    found.extend(list.iter().take(200).map(name));
                }
                Ok(())
            })
            .await?;
        self.capabilities = found;
        Ok(())
    }

    /// Logs in: XOAUTH2 with a token, else PLAIN, else LOGIN.
    pub(crate) async fn login(&mut self, user: &str, secret: &Secret, token: bool) -> Result<(), MailError> {
        self.ask_capabilities().await?;
        let (line, answers) = self.login_lines(user, secret, token)?;
        let done = self.wire.dialogue("login", &line, answers, Allow::SMALL, |_| Ok(())).await;
        match done {
            Ok(()) => {}
            Err(MailError::Refused { host, text, .. }) => {
                // RFC 5530: these say that the server, not the password, is at fault.
                let passing = ["UNAVAILABLE", "INUSE", "LIMIT", "SERVERBUG", "try again", "too many"];
                let later = passing.iter().any(|word| contains_ignore_case(&text, word));
                let turn = if later { Turn::RetryLater } else { Turn::Operator };
                return Err(MailError::AuthRefused { host, user: user.to_owned(), text, turn });
            }
            Err(err) => return Err(err),
        }
        // More is offered after the login.
        self.ask_capabilities().await
    }

    fn login_lines(
        &self,
        user: &str,
        secret: &Secret,
        token: bool,
    ) -> Result<(Zeroizing<String>, Vec<Zeroizing<String>>), MailError> {
        let refused = |text: &str| MailError::AuthRefused {
            host: self.wire.host.clone(),
            user: user.to_owned(),
            text: text.to_owned(),
            turn: Turn::Operator,
        };
        let word = secret.expose();
        let (mechanism, answer) = if token {
            ("XOAUTH2", Zeroizing::new(format!("user={user}\x01auth=Bearer {word}\x01\x01")))
        } else {
            ("PLAIN", Zeroizing::new(format!("\0{user}\0{word}")))
        };
        if self.can(&format!("AUTH={mechanism}")) {
            let answer = Zeroizing::new(STANDARD.encode(answer.as_bytes()));
            // SASL-IR saves a round trip; without it the answer waits for the server's "+".
            return Ok(if self.can("SASL-IR") {
                (Zeroizing::new(format!("AUTHENTICATE {mechanism} {}", *answer)), Vec::new())
            } else {
                (Zeroizing::new(format!("AUTHENTICATE {mechanism}")), vec![answer])
            });
        }
        if token || self.can("LOGINDISABLED") {
            return Err(refused(&format!("the server offers no login by {mechanism}")));
        }
        if user.contains(['\r', '\n', '\0']) || word.contains(['\r', '\n', '\0']) {
            return Err(refused("user or password has a line end"));
        }
        // Literals need no quoting and take any character.
        let first = Zeroizing::new(format!("LOGIN {{{}}}", user.len()));
        let second = Zeroizing::new(format!("{user} {{{}}}", word.len()));
        Ok((first, vec![second, Zeroizing::new(word.to_owned())]))
    }

    /// Selects the folder, which also brings its present size.
    pub(crate) async fn select(&mut self, folder: &str) -> Result<(), MailError> {
        let (mut exists, mut uid_validity, mut uid_next) = (None, 0, 0);
        let line = format!("SELECT {}", quoted(folder));
        self.wire
            .run("SELECT", &line, Allow::SMALL, |response| {
                match response {
                    Response::MailboxData(MailboxDatum::Exists(n)) => exists = Some(*n),
                    Response::Data { outcome, .. } | Response::Done { outcome, .. } => match &outcome.code {
                        Some(ResponseCode::UidValidity(n)) => uid_validity = *n,
                        Some(ResponseCode::UidNext(n)) => uid_next = *n,
                        _ => {}
                    },
                    _ => {}
                }
                Ok(())
            })
            .await?;
        let host = self.wire.host.clone();
        self.exists = exists.ok_or_else(|| odd(&host, "SELECT", "EXISTS", "none"))?;
        self.uid_validity = uid_validity;
        self.uid_next = uid_next;
        Ok(())
    }

    /// Says goodbye, briefly.
    pub(crate) async fn logout(mut self) {
        let work = self.wire.run("LOGOUT", "LOGOUT", Allow::SMALL, |_| Ok(()));
        let _bye = tokio::time::timeout(Duration::from_secs(5), work).await;
    }
}

fn name(capability: &Capability<'_>) -> String {
    match capability {
        Capability::Imap4rev1 => "IMAP4REV1".to_owned(),
        Capability::Auth(mechanism) => format!("AUTH={}", mechanism.to_ascii_uppercase()),
        Capability::Atom(atom) => atom.to_ascii_uppercase(),
    }
}

/// A quoted string; the URL parser lets only printable ASCII through.
pub(crate) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
