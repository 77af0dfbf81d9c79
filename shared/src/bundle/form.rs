//! The forms in which a bundle is mailed: in full, or as one of its deltas (PROTOCOL 6.9). Cuts them out of the file that was built.

use std::io::{self, Chain, Cursor, Read, Seek, SeekFrom, Take};

use super::read::{BundleError, VerifiedBundle};
use super::{DELTA_MAGIC, Delta};
use crate::id::{Digest, Hasher};
use crate::limits::CHUNK_BYTES;

/// What of a bundle is here, or is to be mailed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// Every module's file.
    Full,
    /// The delta of this number, from 0, in the manifest's order.
    Delta(u8),
}

/// The bytes of a form: what stands before its payload, and the payload.
pub type FormReader<R> = Chain<Cursor<Vec<u8>>, Take<R>>;

impl<R: Read + Seek> VerifiedBundle<R> {
    /// The delta that this is, if it is one.
    #[must_use]
    pub fn delta(&self) -> Option<&Delta> {
        match self.form {
            Form::Full => None,
            Form::Delta(number) => self.manifest().deltas.get(usize::from(number)),
        }
    }

    /// Size of a form; `None`: the bundle has no such delta.
    #[must_use]
    pub fn form_bytes(&self, form: Form) -> Option<u64> {
        let head = self.head.len() as u64;
        Some(match form {
            Form::Full => head.saturating_add(self.manifest().payload_bytes),
            Form::Delta(number) => {
                let delta = self.manifest().deltas.get(usize::from(number))?;
                // The magic, and which of the deltas it is.
                let more = (DELTA_MAGIC.len() as u64).saturating_add(1);
                head.saturating_add(more).saturating_add(delta.payload_bytes)
            }
        })
    }

    /// Where a form's payload is in the file that was built.
    fn payload_of(&self, form: Form) -> Option<(u64, u64)> {
        let (full, deltas) = (self.manifest().payload_bytes, &self.manifest().deltas);
        let Form::Delta(number) = form else { return Some((self.payload_at, full)) };
        let delta = deltas.get(usize::from(number))?;
        let before = deltas.iter().take(usize::from(number));
        let begin = self.payload_at.saturating_add(full);
        Some((before.fold(begin, |at, delta| at.saturating_add(delta.payload_bytes)), delta.payload_bytes))
    }

    /// A form of the bundle, cut out of the file that was built.
    ///
    /// # Errors
    /// There is no such delta, or the reader failed.
    pub fn into_form(mut self, form: Form) -> Result<FormReader<R>, BundleError> {
        let missing = BundleError::NoSuchDelta { found: self.manifest().deltas.len() };
        let Some((at, bytes)) = self.payload_of(form).filter(|_| self.form == Form::Full) else {
            return Err(missing);
        };
        let before = match form {
            Form::Full => self.head,
            Form::Delta(number) => [DELTA_MAGIC.as_slice(), &[number], &self.head].concat(),
        };
        self.from.seek(SeekFrom::Start(at)).map_err(BundleError::Read)?;
        Ok(Cursor::new(before).chain(self.from.take(bytes)))
    }

    /// Compares all payloads that are here with their signed digests, without decompressing them. Behind that of a form nothing
    /// follows; behind the full one of a file that was built, the deltas' payloads do.
    ///
    /// # Errors
    /// One is another, or the reader failed.
    pub fn check_payload(&mut self) -> Result<(), BundleError> {
        self.from.seek(SeekFrom::Start(self.payload_at)).map_err(BundleError::Read)?;
        let manifest = self.manifest();
        let mut expected = match self.delta() {
            Some(delta) => vec![(delta.payload_bytes, delta.payload_digest)],
            None => vec![(manifest.payload_bytes, manifest.payload_digest)],
        };
        if self.form == Form::Full {
            expected.extend(manifest.deltas.iter().map(|delta| (delta.payload_bytes, delta.payload_digest)));
        }
        let count = expected.len();
        for (place, (bytes, digest)) in (1..).zip(expected) {
            let found = digest_of(&mut self.from, bytes)?;
            // What is mailed in full ends before the deltas.
            if found.0 == 0 && place == 2 {
                return Ok(());
            }
            // One byte more than signed tells an appended tail from the right end.
            let tail = if place == count { digest_of(&mut self.from, 1)?.0 } else { 0 };
            if found != (bytes, digest) || tail > 0 {
                return Err(BundleError::Payload {
                    expected_bytes: bytes,
                    expected: digest,
                    found_bytes: found.0.saturating_add(tail),
                    found: found.1,
                });
            }
        }
        Ok(())
    }
}

fn digest_of(from: &mut impl Read, bytes: u64) -> Result<(u64, Digest), BundleError> {
    let mut hasher = Hasher::default();
    let mut buffer = vec![0u8; CHUNK_BYTES];
    let mut piece = from.take(bytes);
    loop {
        let n = match piece.read(&mut buffer) {
            Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
            read => read.map_err(BundleError::Read)?,
        };
        if n == 0 {
            return Ok((hasher.len(), hasher.finish()));
        }
        hasher.update(buffer.get(..n).unwrap_or_default());
    }
}
