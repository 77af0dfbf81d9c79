//! `doctor`: looks at everything a manager needs, says what it finds in one line each, and what to do about
//! it. Changes nothing. The looks themselves are in `checks`.

use std::path::Path;

use serde_json::json;

use super::args::Doctor;
use super::fail::{Done, Kind, Outcome};
use super::show::{Colour, paint_stdout};
use super::{checks, open, show};

/// How well one thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Ok,
    Warn,
    Fail(Kind),
}

/// One line of the result.
#[derive(Clone, Debug)]
pub(crate) struct Check {
    pub(crate) name: &'static str,
    pub(crate) level: Level,
    /// What was found, and where it is not well what was expected.
    pub(crate) text: String,
    /// What to do, where it is not well.
    pub(crate) next: Option<String>,
}

impl Check {
    pub(crate) fn ok(name: &'static str, text: impl Into<String>) -> Self {
        Self { name, level: Level::Ok, text: text.into(), next: None }
    }

    pub(crate) fn warn(name: &'static str, text: impl Into<String>, next: impl Into<String>) -> Self {
        Self { name, level: Level::Warn, text: text.into(), next: Some(next.into()) }
    }

    pub(crate) fn fail(
        kind: Kind,
        name: &'static str,
        text: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        let next = Some(next.into()).filter(|next| !next.is_empty());
        Self { name, level: Level::Fail(kind), text: text.into(), next }
    }

    fn word(&self) -> &'static str {
        match self.level {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Fail(_) => "fail",
        }
    }

    fn line(&self) -> String {
        let colour = match self.level {
            Level::Ok => Colour::Green,
            Level::Warn => Colour::Yellow,
            Level::Fail(_) => Colour::Red,
        };
        let word = paint_stdout(colour, &format!("{:<5}", self.word()));
        let next = self.next.as_ref().map(|next| format!("; to do: {next}")).unwrap_or_default();
        format!("{word} {:<14} {}{next}", self.name, show::harmless(&self.text))
    }
}

pub(crate) fn doctor(home: Option<&Path>, args: &Doctor) -> Outcome {
    let path = open::home_path(home)?;
    let mut found = Vec::new();
    checks::all(&path, &mut |check| {
        // A line as soon as it is known: a probe of a silent server takes a while.
        if !args.format.json {
            show::say(&check.line())?;
        }
        found.push(check);
        Ok(())
    })?;
    let done = verdict(&found);
    if args.format.json {
        let checks: Vec<_> = found
            .iter()
            .map(|c| json!({"check": c.name, "level": c.word(), "text": c.text, "to_do": c.next}))
            .collect();
        show::print_json(&json!({"ok": done == Done::All, "checks": checks}))?;
    }
    Ok(done)
}

/// A wrong setting explains an unreachable server, so it decides the exit code.
fn verdict(found: &[Check]) -> Done {
    let any = |kind| found.iter().any(|check| check.level == Level::Fail(kind));
    if any(Kind::Usage) {
        Done::Wrong
    } else if any(Kind::Outside) {
        Done::Unreachable
    } else {
        Done::All
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_alone_is_no_failure_and_a_wrong_setting_outweighs_an_unreachable_server() {
        let warn = Check::warn("clock", "behind", "set it");
        let outside = Check::fail(Kind::Outside, "imap", "no answer", "wait");
        let usage = Check::fail(Kind::Usage, "keys", "readable by all", "chmod");
        assert_eq!(verdict(std::slice::from_ref(&warn)), Done::All);
        assert_eq!(verdict(&[warn.clone(), outside.clone()]), Done::Unreachable);
        assert_eq!(verdict(&[warn, outside, usage]), Done::Wrong);
    }

    #[test]
    fn each_check_is_one_line() {
        let line = Check::warn("clock", "behind", "set it").line();
        assert_eq!(line, "warn  clock          behind; to do: set it");
    }
}
