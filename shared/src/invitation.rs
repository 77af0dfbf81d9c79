//! The invitation file: how an agent learns whom to trust. It travels outside the mail (a stick, an
//! installer's hands), so it is a text that a person can read, with a checksum against slips of the hand.
//!
//! ```toml
//! # mailfleet invitation. Keep it secret: whoever holds it can enrol as this agent, once.
//! format = 1
//! agent = "A0001"
//! mail = "agent0001@lab.test"
//! classes = ["office-gateway"]
//! manager = "manager@lab.test"
//! trust_version = 1
//! trust_made = "1795000000000"
//! order_keys = ["ed25519:…"]
//! release_keys = ["ed25519:…"]
//! release_threshold = 1
//! seal_key = "x25519:…"
//! secret = "…"
//! created = "2026-11-21T06:10:00Z"
//! expires = "2026-12-21T06:10:00Z"
//! checksum = "…"
//! ```
//!
//! The checksum is no protection against a forger, who could make a whole new file: what protects is the
//! way by which the file comes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::address::MailAddress;
use crate::error::{TomlFault, quoted};
use crate::hex;
use crate::id::{AgentId, Digest, Label};
use crate::keys::{SealingKey, VerifyingKey};
use crate::limits::INVITATION_MAX_BYTES;
use crate::time::UnixMillis;
use crate::trust::Trust;

/// A checked invitation.
#[derive(Clone, PartialEq, Eq)]
pub struct Invitation {
    /// The agent that is invited.
    pub agent: AgentId,
    /// Where it reads its mail.
    pub mail: MailAddress,
    /// The classes it belongs to.
    pub classes: Vec<Label>,
    /// Where its reports go.
    pub manager: MailAddress,
    /// Whom it is to believe.
    pub trust: Trust,
    /// The one-time secret.
    pub secret: Zeroizing<[u8; 32]>,
    /// When it was made.
    pub created: UnixMillis,
    /// Until when it can be used.
    pub expires: UnixMillis,
}

impl core::fmt::Debug for Invitation {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Invitation")
            .field("agent", &self.agent)
            .field("mail", &self.mail)
            .finish_non_exhaustive()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    format: u8,
    agent: String,
    mail: String,
    #[serde(default)]
    classes: Vec<String>,
    manager: String,
    trust_version: u32,
    trust_made: String,
    order_keys: Vec<String>,
    release_keys: Vec<String>,
    release_threshold: u8,
    seal_key: String,
    secret: String,
    created: String,
    expires: String,
    checksum: String,
}

const HEAD: &str = "# mailfleet invitation. Keep it secret: whoever holds it can enrol as this agent, once.\n\
     # Use it on the box: mailfleet-agent enrol FILE --send URL --receive URL\n";

impl Invitation {
    /// The file's text.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut raw = Raw {
            format: 1,
            agent: self.agent.to_string(),
            mail: self.mail.to_string(),
            classes: self.classes.iter().map(Label::to_string).collect(),
            manager: self.manager.to_string(),
            trust_version: self.trust.version,
            trust_made: self.trust.made.0.to_string(),
            order_keys: self.trust.order_keys.iter().map(VerifyingKey::to_text).collect(),
            release_keys: self.trust.release_keys.iter().map(VerifyingKey::to_text).collect(),
            release_threshold: self.trust.threshold,
            seal_key: self.trust.seal_key.to_text(),
            secret: STANDARD.encode(*self.secret),
            created: self.created.to_string(),
            expires: self.expires.to_string(),
            checksum: String::new(),
        };
        raw.checksum = raw.checksum();
        Zeroizing::new(format!("{HEAD}{}", toml::to_string(&raw).unwrap_or_default()))
    }

    /// Reads the file's text.
    ///
    /// # Errors
    /// Too large, not an invitation, cut off or altered, or a value that is not allowed.
    pub fn parse(text: &str) -> Result<Self, InvitationError> {
        if text.len() as u64 > INVITATION_MAX_BYTES {
            return Err(InvitationError::TooLarge { found: text.len() });
        }
        let raw: Raw = toml::from_str(text).map_err(|err| {
            let TomlFault { line, problem, .. } = TomlFault::of(text, &err);
            InvitationError::NotAnInvitation { line, problem }
        })?;
        if raw.format != 1 {
            return Err(InvitationError::Format { found: raw.format });
        }
        let found = raw.checksum();
        if found != raw.checksum {
            return Err(InvitationError::Altered { expected: quoted(&raw.checksum, 64), found });
        }
        let secret = Zeroizing::new(STANDARD.decode(&raw.secret).unwrap_or_default());
        let secret: [u8; 32] =
            secret.as_slice().try_into().map_err(|_| bad("secret", "expected 32 bytes in base64"))?;
        Ok(Self {
            agent: AgentId::parse(&raw.agent).map_err(|e| bad("agent", e))?,
            mail: MailAddress::parse(&raw.mail).map_err(|e| bad("mail", e))?,
            classes: raw
                .classes
                .iter()
                .map(|c| Label::parse(c))
                .collect::<Result<_, _>>()
                .map_err(|e| bad("classes", e))?,
            manager: MailAddress::parse(&raw.manager).map_err(|e| bad("manager", e))?,
            trust: raw.trust()?,
            secret: Zeroizing::new(secret),
            created: UnixMillis::parse(&raw.created).map_err(|e| bad("created", e))?,
            expires: UnixMillis::parse(&raw.expires).map_err(|e| bad("expires", e))?,
        })
    }
}

impl Raw {
    fn trust(&self) -> Result<Trust, InvitationError> {
        let keys = |setting, texts: &[String]| {
            let parsed: Result<Vec<_>, _> = texts.iter().map(|k| VerifyingKey::parse_text(k)).collect();
            parsed.map_err(|e| bad(setting, e))
        };
        let made = self.trust_made.parse().map_err(|_| bad("trust_made", "expected Unix milliseconds"))?;
        let trust = Trust::new(
            self.trust_version,
            UnixMillis(made),
            keys("order_keys", &self.order_keys)?,
            keys("release_keys", &self.release_keys)?,
            self.release_threshold,
            SealingKey::parse_text(&self.seal_key).map_err(|e| bad("seal_key", e))?,
        );
        trust.check().map_err(|e| bad("trust_version", e))?;
        Ok(trust)
    }

    /// SHA-256 over all values, each with its name and length, so that no two sets of values collide.
    fn checksum(&self) -> String {
        let mut text = Zeroizing::new(String::new());
        let format = self.format.to_string();
        let (version, threshold) = (self.trust_version.to_string(), self.release_threshold.to_string());
        let singles = [
            ("format", &format),
            ("agent", &self.agent),
            ("mail", &self.mail),
            ("manager", &self.manager),
            ("trust_version", &version),
            ("trust_made", &self.trust_made),
            ("release_threshold", &threshold),
            ("seal_key", &self.seal_key),
            ("secret", &self.secret),
            ("created", &self.created),
            ("expires", &self.expires),
        ];
        let classes = self.classes.iter().map(|c| ("class", c));
        let keys = self.release_keys.iter().map(|k| ("release_key", k));
        let orders = self.order_keys.iter().map(|k| ("order_key", k));
        for (name, value) in singles.into_iter().chain(classes).chain(keys).chain(orders) {
            text.push_str(&format!("{name} {} {value}\n", value.len()));
        }
        hex::encode(&Digest::of(text.as_bytes()).0)
    }
}

fn bad(setting: &'static str, why: impl ToString) -> InvitationError {
    InvitationError::Value { setting, why: why.to_string() }
}

/// A file that is not a usable invitation.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvitationError {
    /// Too large.
    #[error("{found} bytes, expected an invitation of at most {INVITATION_MAX_BYTES}")]
    TooLarge {
        /// Its size.
        found: usize,
    },
    /// Not TOML, or other keys.
    #[error("line {line}: not a complete invitation: {problem}")]
    NotAnInvitation {
        /// Line from 1.
        line: usize,
        /// What was found.
        problem: String,
    },
    /// Made by a later program.
    #[error("invitation format {found}, expected 1")]
    Format {
        /// Its format.
        found: u8,
    },
    /// A value was changed or lost.
    #[error(
        "the invitation was altered after it was made (checksum expected {expected}, found {found}); ask for a new one"
    )]
    Altered {
        /// The checksum in the file.
        expected: String,
        /// The checksum of its values.
        found: String,
    },
    /// A value is not allowed.
    #[error("{setting}: {why}")]
    Value {
        /// The setting.
        setting: &'static str,
        /// What is wrong.
        why: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{OpeningKey, SigningKey};

    fn sample() -> Invitation {
        Invitation {
            agent: AgentId::parse("A0001").unwrap(),
            mail: MailAddress::parse("agent0001@lab.test").unwrap(),
            classes: vec![Label::lossy("office-gateway")],
            manager: MailAddress::parse("manager@lab.test").unwrap(),
            trust: Trust::new(
                1,
                UnixMillis(1_795_000_000_123),
                vec![SigningKey::from_seed(&[1; 32]).verifying_key()],
                vec![SigningKey::from_seed(&[2; 32]).verifying_key()],
                1,
                OpeningKey::from_seed(&[3; 32]).sealing_key(),
            ),
            secret: Zeroizing::new([4; 32]),
            created: UnixMillis::parse("2026-11-21T06:10:00Z").unwrap(),
            expires: UnixMillis::parse("2026-12-21T06:10:00Z").unwrap(),
        }
    }

    #[test]
    fn an_invitation_reads_back() {
        assert_eq!(Invitation::parse(&sample().to_text()).unwrap(), sample());
    }

    #[test]
    fn every_altered_value_and_every_truncation_is_noticed() {
        let text = sample().to_text();
        for (from, to) in [
            ("A0001\"", "A0002\""),
            ("agent0001@", "agent0002@"),
            ("2026-12-21", "2036-12-21"),
            ("office", "Office"),
        ] {
            let altered = text.replacen(from, to, 1);
            assert_ne!(altered, *text);
            assert!(matches!(Invitation::parse(&altered), Err(InvitationError::Altered { .. })), "{from}");
        }
        for at in 0..text.len() - 2 {
            assert!(Invitation::parse(&text[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn debug_output_holds_no_secret() {
        assert!(!format!("{:?}", sample()).contains("BAQE"));
    }
}
