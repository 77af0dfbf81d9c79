//! Takes the attachment out of one of our mails while it is being downloaded: the first
//! `application/octet-stream` part, decoded, into any writer. Strict about base64 and ends, because what it
//! writes is joined and hashed by others; tolerant about everything around it.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::error::{ContentError, FetchError};
use crate::mime::classify::Marker;
use crate::mime::header::Headers;
use crate::mime::walk::{Sink, Walker};

/// Base64 characters decoded at a time.
const BLOCK_BYTES: usize = 8 * 1024;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extracted {
    /// Bytes written.
    pub bytes: u64,
    /// The marker of the mail itself, if it has one.
    pub marker: Option<Marker>,
}

/// Push-based extractor.
pub struct Extractor<'w> {
    walker: Walker<Taker<'w>>,
}

impl<'w> Extractor<'w> {
    /// Writes at most `limit_bytes` of attachment to `out`.
    pub fn new(limit_bytes: u64, out: &'w mut (dyn Write + Send)) -> Self {
        Self { walker: Walker::new(Taker::new(limit_bytes, out)) }
    }

    /// Takes the next bytes of the mail.
    ///
    /// # Errors
    /// The content is refused, or the writer failed.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), FetchError> {
        self.walker.push(bytes)
    }

    /// True once the attachment's end was seen: the rest of the mail need not be read.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.walker.sink().is_done()
    }

    /// Decoded bytes so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.walker.sink().written_bytes
    }

    /// The mail is over.
    ///
    /// # Errors
    /// No attachment, a truncated one, or not the size that the marker says.
    pub fn finish(self) -> Result<Extracted, FetchError> {
        let (taker, top) = self.walker.finish()?;
        let marker = top.as_ref().and_then(|h| Marker::parse(&h.field("x-mailfleet")?));
        let bytes = taker.written_bytes;
        match taker.found {
            Found::Nothing => Err(ContentError::NoAttachment.into()),
            Found::Inside | Found::Cut => Err(ContentError::Truncated { at_bytes: bytes }.into()),
            Found::Whole => match marker.and_then(|m| m.attachment_bytes) {
                Some(expected) if expected != bytes => {
                    Err(ContentError::WrongSize { expected_bytes: expected, found_bytes: bytes }.into())
                }
                _ => Ok(Extracted { bytes, marker }),
            },
        }
    }
}

enum Found {
    Nothing,
    Inside,
    Whole,
    Cut,
}

struct Taker<'w> {
    out: &'w mut (dyn Write + Send),
    limit_bytes: u64,
    written_bytes: u64,
    block: Vec<u8>,
    padded: bool,
    found: Found,
}

impl<'w> Taker<'w> {
    fn new(limit_bytes: u64, out: &'w mut (dyn Write + Send)) -> Self {
        let block = Vec::with_capacity(BLOCK_BYTES);
        Self { out, limit_bytes, written_bytes: 0, block, padded: false, found: Found::Nothing }
    }

    fn bad(&self) -> FetchError {
        ContentError::BadBase64 { at_bytes: self.written_bytes }.into()
    }

    fn flush(&mut self) -> Result<(), FetchError> {
        let bytes = STANDARD.decode(&self.block).map_err(|_| self.bad())?;
        self.block.clear();
        let sum = self.written_bytes.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        if sum > self.limit_bytes {
            return Err(ContentError::TooLarge { limit_bytes: self.limit_bytes }.into());
        }
        self.out.write_all(&bytes).map_err(FetchError::Output)?;
        self.written_bytes = sum;
        Ok(())
    }
}

impl Sink for Taker<'_> {
    type Error = FetchError;

    fn part(&mut self, headers: &Headers, _depth: usize) -> Result<bool, FetchError> {
        if !matches!(self.found, Found::Nothing) || headers.content_type() != "application/octet-stream" {
            return Ok(false);
        }
        let encoding = headers.field("content-transfer-encoding").unwrap_or_default();
        if !encoding.eq_ignore_ascii_case("base64") {
            let found = crate::text::clean(&encoding, 40);
            return Err(ContentError::Encoding { found }.into());
        }
        self.found = Found::Inside;
        Ok(true)
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), FetchError> {
        for b in bytes.iter().filter(|b| !b.is_ascii_whitespace()) {
            // Nothing may follow the padding's group.
            let group_open = self.block.len().checked_rem(4) != Some(0);
            if self.padded && !(group_open && *b == b'=') {
                return Err(self.bad());
            }
            self.padded |= *b == b'=';
            self.block.push(*b);
            if self.block.len() >= BLOCK_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn end(&mut self, whole: bool) -> Result<(), FetchError> {
        if !whole {
            self.found = Found::Cut;
            return Ok(());
        }
        self.flush()?;
        self.out.flush().map_err(FetchError::Output)?;
        self.found = Found::Whole;
        Ok(())
    }

    fn is_done(&self) -> bool {
        matches!(self.found, Found::Whole)
    }
}

#[cfg(test)]
#[path = "extract_tests.rs"]
mod tests;
