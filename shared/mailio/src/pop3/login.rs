//! The login of a POP3 session: XOAUTH2 with a token, else PLAIN, else USER and PASS.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::error::{MailError, Turn};
use crate::net::Duplex;
use crate::pop3::session::{Answer, Session};
use crate::secret::Secret;

/// Reasons of RFC 2449 and 3206 that say that the server or another session, not the password, is at fault.
const PASSING: [&str; 4] = ["[IN-USE]", "[LOGIN-DELAY]", "[SYS/TEMP]", "[AUTH-TEMP]"];

impl<S: Duplex> Session<S> {
    /// Logs in, and asks what is offered to one who has.
    pub(crate) async fn login(&mut self, user: &str, secret: &Secret, token: bool) -> Result<(), MailError> {
        self.ask_capabilities().await?;
        let word = secret.expose();
        let refused = |session: &Self, text: String, turn| MailError::AuthRefused {
            host: session.host.clone(),
            user: user.to_owned(),
            text,
            turn,
        };
        let (mechanism, answer) = if token {
            ("XOAUTH2", Zeroizing::new(format!("user={user}\x01auth=Bearer {word}\x01\x01")))
        } else {
            ("PLAIN", Zeroizing::new(format!("\0{user}\0{word}")))
        };
        let said = if self.offers_sasl(mechanism) {
            self.auth(mechanism, &answer).await?
        } else if token {
            let text = "the server offers no login by XOAUTH2".to_owned();
            return Err(refused(self, text, Turn::Operator));
        } else if user.contains(['\r', '\n', '\0']) || word.contains(['\r', '\n', '\0']) {
            return Err(refused(self, "user or password has a line end".to_owned(), Turn::Operator));
        } else {
            match self.ask("login", &format!("USER {user}")).await? {
                Answer::Ok => self.ask("login", &Zeroizing::new(format!("PASS {word}"))).await?,
                other => other,
            }
        };
        match said {
            Answer::Ok => {}
            Answer::Refused(text) => {
                let passing = PASSING.iter().any(|code| text.to_ascii_uppercase().starts_with(code));
                let turn = if passing { Turn::RetryLater } else { Turn::Operator };
                return Err(refused(self, text, turn));
            }
            Answer::Go => return Err(self.odd("login", "+OK or -ERR", "+")),
        }
        self.ask_capabilities().await
    }

    fn offers_sasl(&self, mechanism: &str) -> bool {
        let mut lines = self.capabilities.iter().flatten().filter(|line| line.starts_with("SASL "));
        lines.any(|line| line.split(' ').any(|word| word == mechanism))
    }

    /// The answer goes out on its own: with the command, a long token would be longer than RFC 5034 allows.
    async fn auth(&mut self, mechanism: &str, answer: &str) -> Result<Answer, MailError> {
        let answer = Zeroizing::new(STANDARD.encode(answer.as_bytes()));
        match self.ask("login", &format!("AUTH {mechanism}")).await? {
            Answer::Go => {}
            other => return Ok(other),
        }
        match self.ask("login", &answer).await? {
            // The reason of a refused token, in base64; the empty answer asks for the refusal itself.
            Answer::Go => self.ask("login", "").await,
            other => Ok(other),
        }
    }
}
