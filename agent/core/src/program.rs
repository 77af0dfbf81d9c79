//! The program that this agent runs as, and what it takes to be replaced by another one (PROTOCOL 6.7, 6.8). The shell
//! has looked; what follows from it is `install::prove`'s.

use shared::message::Refusal;
use shared::{Digest, Label, ModulePath};

use crate::facts::Module;

/// Exit code with which a program that is on trial says that it works here. Agents of different versions say it to
/// each other: it never changes.
pub const EXIT_PROVEN: i32 = 77;

/// The program that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Digest of its file.
    pub digest: Digest,
    /// Where its file is below the root, if it is there: whoever starts it will start whatever is there then.
    pub file: Option<ModulePath>,
    /// Where its file is, in words.
    pub place: Label,
}

impl Default for Program {
    /// A program of which nothing is known.
    fn default() -> Self {
        Self { digest: Digest::of(&[]), file: None, place: Label::lossy("an unknown place") }
    }
}

impl Program {
    /// Whether this module's file is what runs.
    pub(crate) fn is(&self, module: &Module) -> bool {
        self.digest == module.digest
    }

    /// Why this module cannot take its place, if so. An agent at another path would be switched, reported as
    /// installed, and never run.
    pub(crate) fn refusal(&self, module: &Module) -> Option<Refusal> {
        if self.is(module) || self.file.as_ref() == Some(&module.path) {
            return None;
        }
        let text = format!("it runs from {}, start it from {} below the root", self.place, module.path);
        Some(Refusal::OtherAgent(Label::lossy(&text)))
    }
}
