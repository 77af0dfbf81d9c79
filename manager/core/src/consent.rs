//! Whether the person who administers a site wants an update (N8): what was asked, what a reply means. Reads no mail: the shell
//! gives the sender, the headers that matter, and the text.

mod reply;

use minicbor::{Decode, Encode};
use shared::UnixMillis;

pub use reply::{TOKEN_CHARS, token_in, understand};

/// How far the question to a target's administrator is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Consent {
    /// Asked then.
    #[n(0)]
    Asked(#[n(0)] UnixMillis),
    /// The answer was yes.
    #[n(1)]
    Given(#[n(0)] UnixMillis),
    /// The answer was "later".
    #[n(2)]
    Later(#[n(0)] UnixMillis),
}

/// What an administrator wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The update.
    Yes,
    /// The update, and every later one without being asked.
    Always,
    /// Not the update.
    No,
    /// The update, from then on.
    Later(UnixMillis),
}

/// What a person reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Language {
    /// English.
    #[default]
    English,
    /// Japanese.
    Japanese,
}

impl Language {
    /// All with their names (RFC 5646).
    pub const ALL: [(Self, &'static str); 2] = [(Self::English, "en"), (Self::Japanese, "ja")];

    /// Its name in the store, JSON and tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(language, _)| *language == self).map_or("", |(_, name)| name)
    }

    /// The one of a name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name)| *name == text).map(|(language, _)| *language)
    }
}

/// What the registry knows without asking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Each update is asked for.
    #[default]
    Ask,
    /// Updates are wanted (the automatic-update flag of N1).
    Always,
    /// Updates are not wanted, unless the operator names the agent.
    Never,
}

impl Standing {
    /// All with their names.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Ask, "ask"), (Self::Always, "always"), (Self::Never, "never")];

    /// Its name in the store, JSON and tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(standing, _)| *standing == self).map_or("", |(_, name)| name)
    }

    /// The one of a name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name)| *name == text).map(|(standing, _)| *standing)
    }
}
