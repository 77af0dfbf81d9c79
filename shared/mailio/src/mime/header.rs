//! Header fields, collected line by line with a bound. Knows folding and parameters, not what fields mean.

use crate::error::ContentError;
use crate::mime::HEADER_MAX_BYTES;

/// Longest field kept, unfolded. Longer ones are cut, which is fine for the few that are read.
const FIELD_MAX_BYTES: usize = 4096;

/// The fields of one header block, names in lower case, values unfolded, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    fields: Vec<(String, Vec<u8>)>,
    seen_bytes: usize,
}

impl Headers {
    /// Reads a whole block; stops at the first empty line.
    ///
    /// # Errors
    /// More than [`HEADER_MAX_BYTES`].
    pub fn parse(block: &[u8]) -> Result<Self, ContentError> {
        let mut headers = Self::default();
        for line in block.split(|b| *b == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                break;
            }
            headers.line(line)?;
        }
        Ok(headers)
    }

    /// Takes the next line, without its end.
    ///
    /// # Errors
    /// More than [`HEADER_MAX_BYTES`] in sum.
    pub fn line(&mut self, line: &[u8]) -> Result<(), ContentError> {
        self.seen_bytes = self.seen_bytes.saturating_add(line.len()).saturating_add(2);
        if self.seen_bytes > HEADER_MAX_BYTES {
            return Err(ContentError::HeadersTooLarge);
        }
        if line.first().is_some_and(|b| matches!(b, b' ' | b'\t')) {
            if let Some((_, value)) = self.fields.last_mut() {
                let room = FIELD_MAX_BYTES.saturating_sub(value.len());
                value.extend(line.iter().take(room));
            }
            return Ok(());
        }
        // A line without a colon is no field; mbox "From " lines and damage are passed over.
        if let Some(colon) = line.iter().position(|b| *b == b':') {
            let (name, value) = line.split_at(colon);
            let name = String::from_utf8_lossy(name.trim_ascii()).to_ascii_lowercase();
            let value = value.get(1..).unwrap_or_default().trim_ascii_start();
            self.fields.push((name, value.iter().take(FIELD_MAX_BYTES).copied().collect()));
        }
        Ok(())
    }

    /// The first field of this lower-case name, as text, trimmed.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<String> {
        let (_, value) = self.fields.iter().find(|(n, _)| n == name)?;
        Some(String::from_utf8_lossy(value).trim().to_owned())
    }

    /// The first field of this lower-case name, as bytes.
    #[must_use]
    pub fn raw(&self, name: &str) -> Option<&[u8]> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_slice())
    }

    /// Content type in lower case, such as `text/plain`; that is also the default.
    #[must_use]
    pub fn content_type(&self) -> String {
        let field = self.field("content-type").unwrap_or_default();
        let kind = field.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if kind.is_empty() { "text/plain".to_owned() } else { kind }
    }

    /// A parameter of a field, such as `boundary` of `content-type`.
    #[must_use]
    pub fn parameter(&self, field: &str, name: &str) -> Option<String> {
        parameter(&self.field(field)?, name)
    }
}

/// The value of `name=` in a field, quoted or not.
fn parameter(field: &str, name: &str) -> Option<String> {
    let mut rest = field.split_once(';')?.1;
    // Each round takes one parameter off; the field is bounded, so this ends soon.
    loop {
        let (key, value) = rest.split_once('=')?;
        let key = key.rsplit(';').next().unwrap_or_default().trim();
        let value = value.trim_start();
        let (found, tail) = match value.strip_prefix('"') {
            Some(quoted) => unquote(quoted),
            None => match value.split_once(';') {
                Some((found, tail)) => (found.trim().to_owned(), tail),
                None => (value.trim().to_owned(), ""),
            },
        };
        if key.eq_ignore_ascii_case(name) {
            return Some(found);
        }
        rest = tail;
    }
}

fn unquote(quoted: &str) -> (String, &str) {
    let mut out = String::new();
    let mut chars = quoted.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            '\\' => out.extend(chars.next()),
            c => out.push(c),
        }
    }
    (out, chars.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folded_fields_and_quoted_parameters_are_read() {
        let block = b"Subject: a\r\n b\r\nContent-Type: Multipart/Mixed; x=1;\n\tboundary=\"a;b\\\"c\"; y=z\r\n\r\nbody: x";
        let headers = Headers::parse(block).unwrap();
        assert_eq!(headers.field("subject").unwrap(), "a b");
        assert_eq!(headers.content_type(), "multipart/mixed");
        assert_eq!(headers.parameter("content-type", "boundary").unwrap(), "a;b\"c");
        assert_eq!(headers.parameter("content-type", "y").unwrap(), "z");
        assert_eq!(headers.parameter("content-type", "z"), None);
        assert_eq!(headers.field("body"), None);
    }

    #[test]
    fn a_header_block_has_a_bound_and_a_long_field_is_cut() {
        let long = format!("a: {}\r\n", "x".repeat(10_000));
        assert_eq!(Headers::parse(long.as_bytes()).unwrap().field("a").unwrap().len(), FIELD_MAX_BYTES);
        assert_eq!(Headers::parse(long.repeat(7).as_bytes()), Err(ContentError::HeadersTooLarge));
    }
}
