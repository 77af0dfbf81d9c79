//! What a person has written: the first text of a mail, decoded, bounded. Reads plain text; of a mail that is HTML only, its text.
//! Does not know what the words mean.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use encoding_rs::Encoding;

use crate::error::ContentError;
use crate::mime::header::Headers;
use crate::mime::walk::{Sink, Walker};

/// Text kept of one part, before it is decoded: a person's answer comes first.
const TEXT_MAX_BYTES: usize = 64 * 1024;

/// Mail programs differ in their padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The text of a mail; empty if it has none.
///
/// # Errors
/// The mail's structure is refused.
pub fn text(mail: &[u8]) -> Result<String, ContentError> {
    let mut walker = Walker::new(Texts::default());
    walker.push(mail)?;
    let (texts, _) = walker.finish()?;
    Ok(match (texts.plain, texts.html) {
        (Some(plain), _) => plain.decoded(),
        (None, Some(html)) => without_tags(&html.decoded()),
        (None, None) => String::new(),
    })
}

#[derive(Default)]
struct Part {
    encoding: String,
    charset: String,
    bytes: Vec<u8>,
}

impl Part {
    fn of(headers: &Headers) -> Self {
        Self {
            encoding: headers.field("content-transfer-encoding").unwrap_or_default().to_ascii_lowercase(),
            charset: headers.parameter("content-type", "charset").unwrap_or_default(),
            bytes: Vec::new(),
        }
    }

    fn decoded(&self) -> String {
        let bytes = match self.encoding.as_str() {
            "base64" => from_base64(&self.bytes),
            "quoted-printable" => from_quoted(&self.bytes),
            _ => self.bytes.clone(),
        };
        let charset = Encoding::for_label(self.charset.trim().as_bytes()).unwrap_or(encoding_rs::UTF_8);
        charset.decode(&bytes).0.into_owned()
    }
}

/// As much as can be read: a text that was cut ends inside a group.
fn from_base64(text: &[u8]) -> Vec<u8> {
    let mut text: Vec<u8> = text.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
    text.truncate(text.len().saturating_sub(text.len().checked_rem(4).unwrap_or(0)));
    BASE64.decode(&text).unwrap_or_default()
}

/// RFC 2045 §6.7; what is no escape stays as it is.
fn from_quoted(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'=' {
            out.push(*first);
            continue;
        }
        match after {
            [b'\r', b'\n', tail @ ..] | [b'\n', tail @ ..] => rest = tail,
            [high, low, tail @ ..] => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    out.push(high.wrapping_shl(4) | low);
                    rest = tail;
                }
                _ => out.push(b'='),
            },
            _ => out.push(b'='),
        }
    }
    out
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// Tags out, line breaks in: enough to find an answer in the first line of an HTML mail.
fn without_tags(html: &str) -> String {
    const BREAKS: [&str; 8] = ["br", "/p", "/div", "/tr", "p", "div", "blockquote", "/li"];
    const HIDDEN: [&str; 3] = ["style", "script", "head"];
    let mut out = String::new();
    let mut rest = html;
    while let Some((text, after)) = rest.split_once('<') {
        out.push_str(text);
        let (tag, tail) = after.split_once('>').unwrap_or((after, ""));
        let tag = tag
            .split([' ', '\n', '\r', '\t'])
            .next()
            .unwrap_or_default()
            .trim_end_matches('/')
            .to_ascii_lowercase();
        rest = tail;
        if BREAKS.contains(&tag.as_str()) {
            out.push('\n');
        }
        if tag == "blockquote" {
            out.push_str("> ");
        }
        if HIDDEN.contains(&tag.as_str()) {
            let close = format!("</{tag}");
            let end = tail.to_ascii_lowercase().find(&close);
            rest = end.and_then(|at| tail.get(at..)).unwrap_or_default();
        }
    }
    out.push_str(rest);
    let plain = [("&nbsp;", " "), ("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&amp;", "&")];
    plain.iter().fold(out, |text, (entity, is)| text.replace(entity, is))
}

#[derive(Default)]
struct Texts {
    plain: Option<Part>,
    html: Option<Part>,
    in_plain: bool,
}

impl Sink for Texts {
    type Error = ContentError;

    fn part(&mut self, headers: &Headers, _depth: usize) -> Result<bool, ContentError> {
        let attached = headers.field("content-disposition").unwrap_or_default().to_ascii_lowercase();
        if attached.starts_with("attachment") {
            return Ok(false);
        }
        match headers.content_type().as_str() {
            "text/plain" if self.plain.is_none() => {
                self.in_plain = true;
                self.plain = Some(Part::of(headers));
                Ok(true)
            }
            "text/html" if self.html.is_none() => {
                self.in_plain = false;
                self.html = Some(Part::of(headers));
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), ContentError> {
        let part = if self.in_plain { &mut self.plain } else { &mut self.html };
        if let Some(part) = part {
            let room = TEXT_MAX_BYTES.saturating_sub(part.bytes.len());
            part.bytes.extend(bytes.iter().take(room));
        }
        Ok(())
    }

    fn end(&mut self, _whole: bool) -> Result<(), ContentError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mail(kind: &str, encoding: &str, body: &[u8]) -> Vec<u8> {
        let head = format!(
            "From: a@b.test\r\nContent-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
        );
        [head.as_bytes(), body].concat()
    }

    #[test]
    fn replies_are_read_as_mail_programs_write_them() {
        let cases: [(&str, &str, &[u8], &str); 6] = [
            ("text/plain", "7bit", b"YES\r\n", "YES\r\n"),
            ("text/plain; charset=utf-8", "base64", b"44Gv44GE\r\n44CC\r\n", "はい。"),
            ("text/plain; charset=\"iso-2022-jp\"", "7bit", b"\x1b$B$O$$\x1b(B\r\n", "はい\r\n"),
            ("text/plain; charset=iso-8859-1", "quoted-printable", b"Sch=F6n=\r\n!\r\n", "Schön!\r\n"),
            ("text/plain; charset=utf-8", "quoted-printable", b"a=3D=ZZ=", "a==ZZ="),
            ("text/plain; charset=klingon", "8bit", "ä".as_bytes(), "ä"),
        ];
        for (kind, encoding, body, expected) in cases {
            assert_eq!(text(&mail(kind, encoding, body)).unwrap(), expected, "{kind} {encoding}");
        }
    }

    #[test]
    fn plain_text_is_taken_before_html_and_html_without_its_tags() {
        let parts = "--x\r\nContent-Type: text/html\r\n\r\n<p>NO</p>\r\n\
                     --x\r\nContent-Type: text/plain\r\n\r\nYES\r\n--x--\r\n";
        let both = mail("multipart/alternative; boundary=x", "7bit", parts.as_bytes());
        assert_eq!(text(&both).unwrap().trim(), "YES");
        let html = b"<html><head><style>p { x: 1 }</style></head><body><div>LATER&nbsp;2026-12-01</div>\
                     <blockquote class=q>may it be installed?</blockquote></body></html>";
        let only = text(&mail("text/html; charset=utf-8", "7bit", html)).unwrap();
        assert_eq!(only.lines().map(str::trim).find(|line| !line.is_empty()), Some("LATER 2026-12-01"));
        assert!(only.contains("> may it be installed?"), "{only}");
    }

    #[test]
    fn an_attached_text_is_no_answer_and_a_huge_one_is_cut() {
        let parts =
            "--x\r\nContent-Type: text/plain\r\nContent-Disposition: attachment\r\n\r\nYES\r\n--x--\r\n";
        assert_eq!(text(&mail("multipart/mixed; boundary=x", "7bit", parts.as_bytes())).unwrap(), "");
        let huge = "x".repeat(1_000_000);
        assert_eq!(text(&mail("text/plain", "7bit", huge.as_bytes())).unwrap().len(), TEXT_MAX_BYTES);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400), html in any::<bool>()) {
            let kind = if html { "text/html" } else { "text/plain; charset=shift_jis" };
            for encoding in ["base64", "quoted-printable", "8bit"] {
                let _ = text(&mail(kind, encoding, &bytes));
            }
            let _ = text(&bytes);
        }
    }
}
