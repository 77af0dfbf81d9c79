//! Errors as text for people: the chain of causes is written once, where the error is shown.

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AgentId, Label, MailAddress, ModulePath, SoftwareVersion, UnixMillis};

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
