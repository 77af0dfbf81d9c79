//! How a body is cut into parts, each small enough for one mail (PROTOCOL 17). Every mail of a part has the whole signed
//! header, so each is authenticated by itself and none has to come first.

use std::io::{self, Read};

use super::body::SealedBody;
use super::header::PartInfo;
use crate::id::Hasher;
use crate::limits::{CHUNK_BYTES, PARTS_MAX_COUNT};
use crate::spans::Span;

/// The index of a mail that has the header alone (PROTOCOL 17.6).
pub(super) const HEAD_ALONE: u32 = u32::MAX;

/// What an attachment brings of its envelope's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Brings {
    /// All of it.
    Whole,
    /// These bytes, which have this size and digest.
    Part(Span, PartInfo),
    /// Nothing: whoever lacks something of the body is to ask for it.
    Nothing,
}

/// The parts of one body, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut(Vec<PartInfo>);

impl Cut {
    /// The body as it is, in one part.
    #[must_use]
    pub fn whole(body: SealedBody) -> Self {
        Self(vec![PartInfo { bytes: body.bytes, digest: body.digest }])
    }

    /// Cuts a body into parts of `part_bytes`; the last may be shorter. Reads it once, in constant memory.
    ///
    /// # Errors
    /// It cannot be read, is empty, or would be more than [`PARTS_MAX_COUNT`] parts.
    pub fn of(from: &mut impl Read, part_bytes: u64) -> io::Result<Self> {
        let mut parts = Vec::new();
        let mut buffer = vec![0u8; CHUNK_BYTES];
        loop {
            let mut part = from.take(part_bytes);
            let mut hasher = Hasher::default();
            loop {
                let n = match part.read(&mut buffer) {
                    Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
                    other => other?,
                };
                if n == 0 {
                    break;
                }
                hasher.update(buffer.get(..n).unwrap_or_default());
            }
            if hasher.is_empty() {
                break;
            }
            if parts.len() >= PARTS_MAX_COUNT {
                return Err(io::Error::other("a body that needs more parts than an envelope may have"));
            }
            parts.push(PartInfo { bytes: hasher.len(), digest: hasher.finish() });
        }
        if parts.is_empty() {
            return Err(io::Error::other("a body without a byte, or parts without one"));
        }
        Ok(Self(parts))
    }

    /// How many parts.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The part that has this byte: its index and its span.
    #[must_use]
    pub fn part_with(&self, byte: u64) -> Option<(u32, Span)> {
        let spans = spans_of(&self.0).zip(0u32..);
        spans.map(|(span, index)| (index, span)).find(|(_, span)| span.from <= byte && byte < span.until)
    }

    pub(super) fn parts(&self) -> &[PartInfo] {
        &self.0
    }
}

/// Where each part lies in the body.
pub(super) fn spans_of(parts: &[PartInfo]) -> impl Iterator<Item = Span> {
    parts.iter().scan(0u64, |at, part| {
        let from = *at;
        *at = from.saturating_add(part.bytes);
        Some(Span { from, until: *at })
    })
}
