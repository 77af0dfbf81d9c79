//! Makes text of strangers safe to show and to log: bounded, without control characters. Decides nothing.

/// Longest text of a server that is kept, in bytes.
pub(crate) const SERVER_TEXT_MAX_BYTES: usize = 300;

/// `text` cut to `max_bytes` at a character border, control characters as spaces, ends trimmed.
pub(crate) fn clean(text: &str, max_bytes: usize) -> String {
    clean_line(text, max_bytes).trim().to_owned()
}

/// [`clean`] for a line of a text that people read: it keeps its indentation.
pub(crate) fn clean_line(text: &str, max_bytes: usize) -> String {
    let mut out = String::new();
    for c in text.chars().map(|c| if is_unsafe(c) { ' ' } else { c }) {
        if out.len().saturating_add(c.len_utf8()) > max_bytes {
            break;
        }
        out.push(c);
    }
    out
}

// Direction overrides can turn a log line around on the screen.
fn is_unsafe(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// [`clean`] for bytes that may not be UTF-8.
pub(crate) fn clean_bytes(bytes: &[u8], max_bytes: usize) -> String {
    let head = bytes.get(..max_bytes.saturating_mul(2)).unwrap_or(bytes);
    clean(&String::from_utf8_lossy(head), max_bytes)
}

/// True if `haystack` contains `needle`, letters of either case.
pub(crate) fn contains_ignore_case(haystack: &str, needle: &str) -> bool {
    haystack.to_ascii_lowercase().contains(&needle.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_a_server_cannot_break_lines_or_grow() {
        assert_eq!(clean("a\r\nb\u{1b}[31m", 100), "a  b [31m");
        assert_eq!(clean(&"é".repeat(500), 301).len(), 300);
        assert_eq!(clean("x\u{202e}y", 10), "x y");
    }
}
