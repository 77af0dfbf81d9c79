//! Errors as text for people: the chain of causes is written once, where the error is shown, and what stands in a file of
//! settings is not repeated.

use core::ops::Range;

use thiserror::Error;

/// An error with its causes, in one line.
#[must_use]
pub fn chain(err: &dyn core::error::Error) -> String {
    let mut text = err.to_string();
    let mut cause = err.source();
    while let Some(err) = cause {
        text.push_str(": ");
        text.push_str(&err.to_string());
        cause = err.source();
    }
    text
}

/// The start of a text that is not what was expected, for the error that says so: at most `max_chars`
/// characters. Those that could drive a terminal or turn a line of a log around are shown as U+FFFD.
#[must_use]
pub fn quoted(text: &str, max_chars: usize) -> String {
    let drives = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().take(max_chars).map(|c| if drives(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// What is wrong with a text of TOML, and where. Nothing of the text's values is in it: a password may stand in the very line.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}, column {column}: {problem}")]
pub struct TomlFault {
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    /// What was expected. Names of keys are in it.
    pub problem: String,
}

impl TomlFault {
    /// What the reader of `text` says of it.
    #[must_use]
    pub fn of(text: &str, err: &toml::de::Error) -> Self {
        let Range { start, .. } = err.span().unwrap_or(0..0);
        let before = text.get(..start).unwrap_or_default();
        let line = before.matches('\n').count().saturating_add(1);
        let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()).saturating_add(1);
        Self { line, column, problem: without_value(&err.message().replace('\n', ", ")) }
    }
}

/// "invalid type: integer `4711`, expected a string" without the value.
fn without_value(message: &str) -> String {
    for kind in ["invalid type", "invalid value", "unknown variant"] {
        let Some(rest) = message.strip_prefix(kind) else { continue };
        // What was expected stands last, and is never made of the value.
        let Some((found, expected)) = rest.rsplit_once(", expected ") else { return kind.to_owned() };
        let what = found.split(['`', '"']).next().unwrap_or_default().trim_end();
        return format!("{kind}{what}, expected {expected}");
    }
    message.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AgentId, Label, MailAddress, ModulePath, SoftwareVersion, UnixMillis};
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Settings {
        #[expect(dead_code, reason = "only read")]
        password: String,
        driver: Option<Driver>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Driver {
        Snmp,
        Host,
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_with_its_place_and_without_what_stands_there() {
        let good = r#"password = "x""#;
        for (text, place, problem) in [
            ("# first\npassword = 47114711", "line 2, column 12", "integer, expected a string"),
            ("password = 4711.4711", "line 1, column 12", "floating point, expected a string"),
            ("password = s4711", "line 1, column 12", ""),
            ("password = \"s4711", "line 1, column", ""),
            ("password = \"s4711\" x", "line 1, column", ""),
            ("password = \"\\q4711\"", "line 1, column", ""),
            ("é = 1\npassword = \"s4711\"", "line 1, column 1", ""),
            ("password = \"s4711\"\npassword = \"s4711\"", "line 2, column 1", ""),
            ("password = [\"s4711\"]", "line 1, column 12", "sequence, expected a string"),
            ("password = \"s4711\"\npasword = \"s4711\"", "line 2, column 1", "unknown field `pasword`"),
            ("password = \"x\"\ndriver = \"s4711\"", "line 2, column 10", "expected `snmp` or `host`"),
        ] {
            let err = toml::from_str::<Settings>(text).unwrap_err();
            let fault = TomlFault::of(text, &err).to_string();
            assert!(fault.starts_with(place) && fault.contains(problem), "{text}: {fault}");
            assert!(!fault.contains("4711"), "{text}: {fault}");
        }
        assert!(toml::from_str::<Settings>(good).is_ok());
        assert!(matches!(
            toml::from_str("password = \"\"\ndriver = \"host\""),
            Ok(Settings { driver: Some(Driver::Host), .. })
        ));
        assert!(matches!(
            toml::from_str("password = \"\"\ndriver = \"snmp\""),
            Ok(Settings { driver: Some(Driver::Snmp), .. })
        ));
    }

    #[test]
    fn a_value_cannot_pass_for_what_was_expected() {
        let message = "invalid type: string \"a, expected b\", expected a boolean";
        assert_eq!(without_value(message), "invalid type: string, expected a boolean");
        assert_eq!(without_value("invalid value: s4711"), "invalid value");
        assert_eq!(
            without_value("unknown field `pol`, expected `poll`"),
            "unknown field `pol`, expected `poll`"
        );
    }

    #[test]
    fn what_an_error_repeats_of_a_strangers_text_cannot_drive_a_terminal() {
        let bad = "\u{1b}[2J\r\n\u{202e}x";
        let texts = [
            AgentId::parse(bad).unwrap_err().to_string(),
            Label::parse(bad).unwrap_err().to_string(),
            MailAddress::parse(bad).unwrap_err().to_string(),
            ModulePath::parse(bad).unwrap_err().to_string(),
            SoftwareVersion::parse(bad).unwrap_err().to_string(),
            UnixMillis::parse(bad).unwrap_err().to_string(),
            crate::time::parse_duration(bad).unwrap_err().to_string(),
        ];
        for text in texts {
            assert!(text.contains("\u{fffd}[2J\u{fffd}\u{fffd}\u{fffd}x"), "{text:?}");
        }
        assert_eq!(quoted("ééé", 2), "éé");
    }
}
