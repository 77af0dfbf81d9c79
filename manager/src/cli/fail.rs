//! How a command ends: exit codes, and errors that say what to do next. Each error is sorted by whose turn it
//! is at the place where it happens; there is no default, so that no failure is sorted by accident.

use std::fmt;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use super::show::{Colour, harmless, paint_stderr};

/// How a command ended that was not stopped by an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    /// All is well.
    All,
    /// Done, but something failed that the output names.
    Partly,
    /// The output names a wrong setting or file.
    Wrong,
    /// The output names what is not reachable.
    Unreachable,
    /// The user pressed Ctrl-C while a command waited; what was done is kept.
    Interrupted,
}

impl Done {
    pub(crate) fn code(self) -> ExitCode {
        match self {
            Self::All => ExitCode::SUCCESS,
            Self::Partly => ExitCode::from(1),
            Self::Wrong => ExitCode::from(2),
            Self::Unreachable => ExitCode::from(3),
            // What a shell reports of a program that Ctrl-C ended.
            Self::Interrupted => ExitCode::from(130),
        }
    }
}

/// What a command returns.
pub(crate) type Outcome = Result<Done, Fail>;

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The caller's: wrong usage, a wrong file or setting.
    Usage,
    /// The outside's: mail server, disk, database.
    Outside,
}

/// An error that stops a command.
#[derive(Debug)]
pub(crate) struct Fail {
    kind: Kind,
    err: anyhow::Error,
    next: Option<String>,
}

impl Fail {
    /// The caller can mend this.
    pub(crate) fn usage(text: impl fmt::Display) -> Self {
        Self { kind: Kind::Usage, err: anyhow::Error::msg(text.to_string()), next: None }
    }

    /// An error sorted by hand.
    pub(crate) fn of(kind: Kind, err: impl Into<anyhow::Error>, what: impl fmt::Display) -> Self {
        Self { kind, err: err.into().context(what.to_string()), next: None }
    }

    /// An error that says by itself what failed.
    pub(crate) fn plain(kind: Kind, err: impl Into<anyhow::Error>) -> Self {
        Self { kind, err: err.into(), next: None }
    }

    /// Adds what to do next.
    pub(crate) fn next(mut self, what: impl fmt::Display) -> Self {
        self.next = Some(what.to_string());
        self
    }

    /// Prints the whole chain of causes, once, and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        let mut text = format!("{} {}", paint_stderr(Colour::Red, "error:"), harmless(&self.err.to_string()));
        let mut told = self.err.to_string();
        for cause in self.err.chain().skip(1).map(ToString::to_string) {
            // Some libraries repeat their cause in their own text, or their text in their cause.
            let last = text.rsplit(": ").next().unwrap_or_default();
            if !told.contains(&cause) && !cause.ends_with(last) {
                text.push_str(&format!("\n  because: {}", harmless(&cause)));
                told.push_str(&cause);
            }
        }
        if let Some(next) = &self.next {
            text.push_str(&format!("\n  to do: {next}"));
        }
        // A closed standard error leaves only the exit code to speak.
        let _ = writeln!(io::stderr(), "{}", service::journal::error_text(&text));
        match self.kind {
            Kind::Usage => ExitCode::from(2),
            Kind::Outside => ExitCode::from(3),
        }
    }
}

/// Sorts an error where it happens.
pub(crate) trait OrFail<T> {
    /// The caller can mend this.
    fn or_usage(self, what: impl fmt::Display) -> Result<T, Fail>;
    /// The outside failed.
    fn or_outside(self, what: impl fmt::Display) -> Result<T, Fail>;
}

impl<T, E: Into<anyhow::Error>> OrFail<T> for Result<T, E> {
    fn or_usage(self, what: impl fmt::Display) -> Result<T, Fail> {
        self.map_err(|err| Fail::of(Kind::Usage, err, what))
    }

    fn or_outside(self, what: impl fmt::Display) -> Result<T, Fail> {
        self.map_err(|err| Fail::of(Kind::Outside, err, what))
    }
}

/// Whose turn it is when a file cannot be written where the user said: a wrong place is the user's to mend, a
/// full or failing disk the outside's.
pub(crate) fn cannot_write(err: io::Error, path: &Path) -> Fail {
    let what = format!("cannot write {}", path.display());
    match err.kind() {
        io::ErrorKind::NotFound
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::IsADirectory
        | io::ErrorKind::PermissionDenied => Fail::of(Kind::Usage, err, what)
            .next("name a file in a folder that exists and that you may write to"),
        _ => Fail::of(Kind::Outside, err, what).next("make room on that disk, or name a file on another one"),
    }
}

/// Adds what to do next to a result's error.
pub(crate) trait Next {
    /// Adds what to do next.
    fn next(self, what: impl fmt::Display) -> Self;
}

impl<T> Next for Result<T, Fail> {
    fn next(self, what: impl fmt::Display) -> Self {
        self.map_err(|fail| fail.next(what))
    }
}
