//! Writes an [`Outgoing`] as mail text (PROTOCOL 10.1), in chunks, so that a large attachment is never in memory as a whole.
//! Reads the attached file; sends nothing.
//!
//! ```text
//! From, To, Subject "mailfleet … [<32 hex>]", Date, Message-ID <hex@domain>, In-Reply-To, References,
//! Auto-Submitted, X-Auto-Response-Suppress: All, Precedence: bulk,
//! X-Mailfleet: v1; id=<32 hex>; size=<attachment bytes>
//! multipart/mixed
//!   text/plain                 the note
//!   application/octet-stream   the attachment, base64 at 76 columns, name <hex>.bin
//! ```
//! A mail without an attachment is for people: the note as text/plain, with HTML beside it if there is any
//! (multipart/alternative), none of the X-Mailfleet and bulk headers, no ID in the subject.
//!
//! Only CRLF line ends and 7-bit characters, no line above 998: nothing for a relay to mend. The name has
//! no suffix that archive filters know. Why not lettre's or another builder: they hold the mail in memory
//! at least twice (lettre's line-end fixer is quadratic), and the shape never varies.

use std::fs::File;
use std::io::{self, Read, Seek as _};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use shared::UnixMillis;

use crate::outgoing::{Attachment, AutoKind, Outgoing};
use crate::text::{clean, clean_line};

/// Attachment bytes per chunk: whole lines of 57 bytes, so that no base64 group spans two chunks. One chunk
/// is 64,038 bytes of mail.
const CHUNK_LINES: usize = 821;
const LINE_BYTES: usize = 57;
const NOTE_MAX_BYTES: usize = 2_000;
const NOTE_MAX_LINES: usize = 100;
const TEXT_MAX_BYTES: usize = 100_000;
const TEXT_MAX_LINES: usize = 5_000;

/// A subject for people: the name of a site and a version in full, and a token behind them.
const PEOPLE_SUBJECT_MAX_BYTES: usize = 400;

impl Outgoing {
    /// Exact size of the composed mail in bytes, without the dots that SMTP adds.
    ///
    /// # Errors
    /// The attached file cannot be asked.
    pub fn mail_bytes(&self) -> io::Result<u64> {
        let size = self.attachment.len_bytes()?;
        let len = |text: String| u64::try_from(text.len()).unwrap_or(u64::MAX);
        let text = size.div_ceil(3).saturating_mul(4);
        let ends = size.div_ceil(57).saturating_mul(2);
        Ok(len(head(self, size)).saturating_add(text).saturating_add(ends).saturating_add(len(tail(self))))
    }

    /// The composed mail, piece by piece, each at most 64 KiB. File reads block; they are short and local.
    ///
    /// # Errors
    /// The attached file cannot be opened. The iterator itself fails if the file cannot be read or is not as
    /// long as it was: a mail that says a wrong size is never finished.
    pub fn chunks(&self) -> io::Result<Chunks> {
        let size = self.attachment.len_bytes()?;
        let (start, file) = match &self.attachment {
            Attachment::Bytes(bytes) => (bytes.clone(), None),
            Attachment::HeadAndFile { head, file } => (head.clone(), Some((File::open(file)?, u64::MAX))),
            Attachment::HeadAndSlice { head, file, from, bytes } => {
                let mut file = File::open(file)?;
                file.seek(io::SeekFrom::Start(*from))?;
                (head.clone(), Some((file, *bytes)))
            }
            Attachment::Nothing | Attachment::Html(_) => (Vec::new(), None),
        };
        let (file, most_bytes) = file.map_or((None, 0), |(file, most)| (Some(file), most));
        Ok(Chunks {
            head: Some(head(self, size)),
            source: Box::new(io::Cursor::new(start).chain(Source(file).take(most_bytes))),
            left_bytes: size,
            tail: Some(tail(self)),
        })
    }
}

/// The pieces of one mail; see [`Outgoing::chunks`].
pub struct Chunks {
    head: Option<String>,
    source: Box<dyn Read + Send + Sync>,
    left_bytes: u64,
    tail: Option<String>,
}

struct Source(Option<File>);

impl Read for Source {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.as_mut().map_or(Ok(0), |file| file.read(buf))
    }
}

impl Iterator for Chunks {
    type Item = io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.tail.as_ref()?;
        let mut out = self.head.take().map_or_else(Vec::new, String::into_bytes);
        if self.left_bytes > 0
            && let Err(err) = self.lines(&mut out)
        {
            self.tail = None;
            return Some(Err(err));
        }
        if self.left_bytes == 0 {
            // A small mail is one chunk, and so one write and one packet.
            match (self.at_end(), self.tail.take()) {
                (Ok(()), Some(tail)) => out.extend_from_slice(tail.as_bytes()),
                (Err(err), _) => return Some(Err(err)),
                (Ok(()), None) => return None,
            }
        }
        Some(Ok(out))
    }
}

impl Chunks {
    fn lines(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        let full = CHUNK_LINES.saturating_mul(LINE_BYTES);
        let want = usize::try_from(self.left_bytes).unwrap_or(usize::MAX).min(full);
        let mut raw = vec![0u8; want];
        self.source.read_exact(&mut raw)?;
        self.left_bytes = self.left_bytes.saturating_sub(u64::try_from(want).unwrap_or(u64::MAX));
        let mut line = String::with_capacity(80);
        for group in raw.chunks(LINE_BYTES) {
            line.clear();
            STANDARD.encode_string(group, &mut line);
            line.push_str("\r\n");
            out.extend_from_slice(line.as_bytes());
        }
        Ok(())
    }

    fn at_end(&mut self) -> io::Result<()> {
        match self.source.read(&mut [0u8; 1])? {
            0 => Ok(()),
            _ => Err(io::Error::other("the attached file grew while it was sent")),
        }
    }
}

fn boundary(mail: &Outgoing) -> String {
    // Known from the ID, yet not the ID itself, which stands in the subject. '=' and '_' cannot begin a
    // base64 line together with "--".
    format!("=_mf{}_part", mail.envelope.to_hex().chars().rev().collect::<String>())
}

fn head(mail: &Outgoing, size: u64) -> String {
    let id = mail.envelope;
    let to = match mail.to.as_slice() {
        [one] => one.to_string(),
        _ => "undisclosed-recipients:;".to_owned(),
    };
    let auto = match mail.auto {
        AutoKind::Generated => "auto-generated",
        AutoKind::Replied => "auto-replied",
    };
    let thread = match (mail.in_reply_to, mail.to.first()) {
        (Some(old), Some(peer)) => {
            // The answered mail came from the peer, so its Message-ID has the peer's domain.
            let old = format!("<{old}@{}>", peer.domain());
            format!("In-Reply-To: {old}\r\nReferences: {old}\r\n")
        }
        _ => String::new(),
    };
    let first = format!(
        "From: {from}\r\nTo: {to}\r\nSubject: {subject}\r\nDate: {date}\r\nMessage-ID: <{id}@{domain}>\r\n\
         {thread}Auto-Submitted: {auto}\r\nX-Auto-Response-Suppress: All\r\n",
        from = mail.from,
        subject = subject(mail),
        date = rfc2822(mail.date),
        domain = mail.from.domain(),
    );
    let boundary = boundary(mail);
    if mail.attachment.is_for_people() {
        let plain = text_part("plain", &mail.note);
        let Attachment::Html(html) = &mail.attachment else {
            return format!("{first}MIME-Version: 1.0\r\n{plain}");
        };
        return format!(
            "{first}MIME-Version: 1.0\r\nContent-Type: multipart/alternative;\r\n boundary=\"{boundary}\"\r\n\r\n\
             --{boundary}\r\n{plain}--{boundary}\r\n{}--{boundary}--\r\n",
            text_part("html", html)
        );
    }
    let (encoding, note) = note(&mail.note, NOTE_MAX_BYTES, NOTE_MAX_LINES);
    format!(
        "{first}Precedence: bulk\r\nX-Mailfleet: v1; id={id}; size={size}\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/mixed;\r\n boundary=\"{boundary}\"\r\n\r\n\
         --{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n\
         {note}\r\n--{boundary}\r\nContent-Type: application/octet-stream; name=\"{id}.bin\"\r\n\
         Content-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=\"{id}.bin\"\r\n\r\n",
    )
}

fn text_part(kind: &str, text: &str) -> String {
    let (encoding, text) = note(text, TEXT_MAX_BYTES, TEXT_MAX_LINES);
    format!(
        "Content-Type: text/{kind}; charset=utf-8\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n{text}\r\n"
    )
}

fn tail(mail: &Outgoing) -> String {
    match mail.attachment {
        Attachment::Nothing | Attachment::Html(_) => String::new(),
        Attachment::Bytes(_) | Attachment::HeadAndFile { .. } | Attachment::HeadAndSlice { .. } => {
            format!("--{}--\r\n", boundary(mail))
        }
    }
}

fn rfc2822(date: UnixMillis) -> String {
    let time = jiff::Timestamp::from_second(date.0.div_euclid(1000)).unwrap_or_default();
    let printed = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_string(&time);
    // Years beyond 9999 have no form; the date is for people and filters only.
    printed.unwrap_or_else(|_| "Thu, 1 Jan 1970 00:00:00 +0000".to_owned()).replace("-0000", "+0000")
}

fn subject(mail: &Outgoing) -> String {
    if mail.attachment.is_for_people() {
        return encoded_words(&format!("mailfleet: {}", clean(&mail.subject, PEOPLE_SUBJECT_MAX_BYTES)));
    }
    let words = clean(&mail.subject, 120);
    let words = words.strip_prefix("mailfleet").map_or(words.as_str(), str::trim_start);
    // The ID stands on a line of its own: a relay may refold long subjects anywhere but inside a word.
    format!("mailfleet {}\r\n [{}]", encoded_words(words), mail.envelope)
}

/// RFC 2047: text beyond ASCII as base64 words, each at most 75 characters.
fn encoded_words(text: &str) -> String {
    if text.is_ascii() && !text.contains("=?") {
        return text.to_owned();
    }
    let mut words: Vec<String> = Vec::new();
    let mut piece = String::new();
    for c in text.chars() {
        if piece.len().saturating_add(c.len_utf8()) > 42 {
            words.push(core::mem::take(&mut piece));
        }
        piece.push(c);
    }
    words.push(piece);
    let encoded: Vec<_> = words.iter().map(|w| format!("=?utf-8?B?{}?=", STANDARD.encode(w))).collect();
    encoded.join("\r\n ")
}

fn note(text: &str, max_bytes: usize, max_lines: usize) -> (&'static str, String) {
    let mut lines = Vec::new();
    let mut left = max_bytes;
    for line in text.lines() {
        let line = clean_line(line, left.min(900)).trim_end().to_owned();
        left = left.saturating_sub(line.len().saturating_add(2));
        lines.push(line);
        if left == 0 || lines.len() >= max_lines {
            break;
        }
    }
    let text = lines.join("\r\n");
    if text.is_ascii() {
        return ("7bit", text);
    }
    let encoded = STANDARD.encode(text);
    let mut out = String::new();
    for (at, c) in encoded.chars().enumerate() {
        if at > 0 && at.checked_rem(76) == Some(0) {
            out.push_str("\r\n");
        }
        out.push(c);
    }
    ("base64", out)
}

#[cfg(test)]
#[path = "compose_tests.rs"]
mod tests;
