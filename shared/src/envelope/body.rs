//! The body of an envelope: one message and its payload, encrypted once for all recipients in STREAM
//! chunks, so that a box with little memory can open any size.
//!
//! ```text
//! plain  = length of message, 4 bytes big-endian ‖ message (CBOR) ‖ payload (a bundle, or nothing)
//! cipher = AES-256-GCM STREAM (BE32: nonce = 7 zero bytes ‖ chunk index, 4 bytes ‖ last-chunk flag, 1 byte)
//!          over plain in chunks of 65,536 bytes, each followed by its tag of 16 bytes; the last chunk may be
//!          shorter, and is there even if it is empty
//! ```
//!
//! Why the nonce may be constant: a content key encrypts exactly one body, ever (PROTOCOL 4.2). The same body
//! goes out again under new headers, as the same bytes.

use core::fmt;
use std::io::{self, Read, Write};

use aead_stream::{DecryptorBE32, EncryptorBE32};
use aes_gcm::Aes256Gcm;
use zeroize::{Zeroize as _, ZeroizeOnDrop};

use super::EnvelopeError;
use super::header::{Header, PartInfo, read_exact};
use crate::id::{Digest, Hasher};
use crate::keys::labelled;
use crate::limits::{CHUNK_BYTES, MESSAGE_MAX_BYTES};

const TAG_BYTES: usize = 16;
const NONCE: [u8; 7] = [0; 7];

/// Key of one body: 32 random bytes.
#[derive(Clone, PartialEq, Eq, ZeroizeOnDrop)]
pub struct ContentKey([u8; 32]);

impl ContentKey {
    /// The key of these random bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(super) fn from_vec(mut bytes: Vec<u8>) -> Option<Self> {
        let key = bytes.as_slice().try_into().ok().map(Self);
        bytes.zeroize();
        key
    }

    /// The bytes: to keep the key beside its body until every recipient has it.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(super) fn commitment(&self) -> Digest {
        Digest::of(&labelled("mailfleet/content-key/v1", &self.0))
    }
}

impl fmt::Debug for ContentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ContentKey(secret)")
    }
}

/// Size and digest of a sealed body's ciphertext.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealedBody {
    /// Bytes of ciphertext.
    pub bytes: u64,
    /// SHA-256 of the ciphertext.
    pub digest: Digest,
}

/// Encrypts a message and its payload. Holds one chunk in memory.
///
/// # Errors
/// The payload cannot be read, the output not written, or the body has more than 2^32 chunks.
pub fn seal_body(
    key: &ContentKey,
    message: &[u8],
    payload: &mut impl Read,
    out: &mut impl Write,
) -> io::Result<SealedBody> {
    let length = u32::try_from(message.len()).map_err(|_| io::Error::other("message too large"))?;
    let prefix = length.to_be_bytes();
    let mut plain = prefix.as_slice().chain(message).chain(payload);
    let mut encryptor = EncryptorBE32::<Aes256Gcm>::new(&key.0.into(), &NONCE.into());
    let mut hasher = Hasher::default();
    let mut write = |chunk: &[u8], hasher: &mut Hasher| {
        hasher.update(chunk);
        out.write_all(chunk)
    };
    let failed = |_| io::Error::other("cannot encrypt");

    let mut chunk = read_chunk(&mut plain, CHUNK_BYTES)?;
    loop {
        // A chunk is the last one if nothing follows it, which only reading on can tell.
        let next = if chunk.len() == CHUNK_BYTES { read_chunk(&mut plain, CHUNK_BYTES)? } else { Vec::new() };
        if next.is_empty() {
            encryptor.encrypt_last_in_place(b"", &mut chunk).map_err(failed)?;
            write(&chunk, &mut hasher)?;
            break;
        }
        encryptor.encrypt_next_in_place(b"", &mut chunk).map_err(failed)?;
        write(&chunk, &mut hasher)?;
        chunk = next;
    }
    let bytes = hasher.len();
    Ok(SealedBody { bytes, digest: hasher.finish() })
}

/// Compares the ciphertext with the header, before anything of it is decrypted (PROTOCOL 4.3).
///
/// # Errors
/// Another length or digest, or the reader failed.
pub fn check_body(header: &Header, from: &mut impl Read) -> Result<(), EnvelopeError> {
    check_part(&PartInfo { bytes: header.body_bytes, digest: header.body_digest }, from)
}

/// Compares a part of the ciphertext with the header, before anything of it is kept (PROTOCOL 17.3).
///
/// # Errors
/// Another length or digest, or the reader failed.
pub fn check_part(part: &PartInfo, from: &mut impl Read) -> Result<(), EnvelopeError> {
    let mut hasher = Hasher::default();
    // One byte more than signed tells an appended tail from the right end.
    let mut limited = from.take(part.bytes.saturating_add(1));
    let mut buffer = vec![0u8; CHUNK_BYTES];
    loop {
        let n = read_some(&mut limited, &mut buffer).map_err(EnvelopeError::Read)?;
        if n == 0 {
            break;
        }
        hasher.update(buffer.get(..n).unwrap_or_default());
    }
    let found_bytes = hasher.len();
    let found = hasher.finish();
    if found_bytes == part.bytes && found == part.digest {
        return Ok(());
    }
    Err(EnvelopeError::BodyDigest { expected_bytes: part.bytes, expected: part.digest, found_bytes, found })
}

/// Decrypts: the message, and a reader of the payload that hands out only authenticated bytes and fails at
/// the first chunk that is not. Call [`check_body`] first.
///
/// # Errors
/// A chunk does not decrypt, the message is too long or cut off, or the reader failed.
pub fn open_body<R: Read>(
    header: &Header,
    key: &ContentKey,
    from: R,
) -> Result<(Vec<u8>, PayloadReader<R>), EnvelopeError> {
    let mut reader = PayloadReader {
        decryptor: Some(DecryptorBE32::<Aes256Gcm>::new(&key.0.into(), &NONCE.into())),
        from: from.take(header.body_bytes),
        next_cipher: Vec::new(),
        plain: Vec::new(),
        at: 0,
        index: 0,
    };
    reader.next_cipher =
        read_chunk(&mut reader.from, CHUNK_BYTES.saturating_add(TAG_BYTES)).map_err(EnvelopeError::Read)?;
    let mut length = [0u8; 4];
    reader.read_plain(&mut length, "message length")?;
    let n = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    // PROTOCOL 4.4
    if n > MESSAGE_MAX_BYTES {
        return Err(EnvelopeError::MessageTooLarge { found: n });
    }
    let mut message = vec![0u8; n];
    reader.read_plain(&mut message, "message")?;
    Ok((message, reader))
}

/// Plaintext of a payload, decrypted chunk by chunk.
pub struct PayloadReader<R> {
    /// Taken by the last chunk.
    decryptor: Option<DecryptorBE32<Aes256Gcm>>,
    from: io::Take<R>,
    /// The chunk to decrypt next, read ahead to know whether it is the last.
    next_cipher: Vec<u8>,
    plain: Vec<u8>,
    at: usize,
    index: u32,
}

impl<R: Read> PayloadReader<R> {
    fn read_plain(&mut self, into: &mut [u8], place: &'static str) -> Result<(), EnvelopeError> {
        let result = read_exact(self, into, place);
        let Err(EnvelopeError::Read(io)) = &result else { return result };
        if io.get_ref().is_some_and(|inner| inner.is::<BadChunk>()) {
            return Err(EnvelopeError::Chunk { index: self.index });
        }
        result
    }

    /// Decrypts the next chunk into `plain`; leaves it empty at the end.
    fn advance(&mut self) -> io::Result<()> {
        self.plain.clear();
        self.at = 0;
        let Some(mut decryptor) = self.decryptor.take() else { return Ok(()) };
        let bad = |_| io::Error::new(io::ErrorKind::InvalidData, BadChunk);
        let following = read_chunk(&mut self.from, CHUNK_BYTES.saturating_add(TAG_BYTES))?;
        let mut chunk = core::mem::replace(&mut self.next_cipher, following);
        if self.next_cipher.is_empty() {
            decryptor.decrypt_last_in_place(b"", &mut chunk).map_err(bad)?;
        } else {
            decryptor.decrypt_next_in_place(b"", &mut chunk).map_err(bad)?;
            self.decryptor = Some(decryptor);
            self.index = self.index.saturating_add(1);
        }
        self.plain = chunk;
        Ok(())
    }
}

impl<R: Read> Read for PayloadReader<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        while self.at >= self.plain.len() {
            if self.decryptor.is_none() {
                return Ok(0);
            }
            self.advance()?;
        }
        let available = self.plain.get(self.at..).unwrap_or_default();
        let n = available.len().min(into.len());
        into.iter_mut().zip(available).for_each(|(to, from)| *to = *from);
        self.at = self.at.saturating_add(n);
        Ok(n)
    }
}

impl<R> fmt::Debug for PayloadReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PayloadReader(chunk {})", self.index)
    }
}

/// The error inside an [`io::Error`] when a chunk does not decrypt.
#[derive(Debug, thiserror::Error)]
#[error("a chunk of the body does not decrypt")]
pub(super) struct BadChunk;

/// Reads up to `limit` bytes; fewer only at the end.
fn read_chunk(from: &mut impl Read, limit: usize) -> io::Result<Vec<u8>> {
    let mut chunk = Vec::with_capacity(limit.saturating_add(TAG_BYTES));
    from.take(limit as u64).read_to_end(&mut chunk)?;
    Ok(chunk)
}

fn read_some(from: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    loop {
        match from.read(into) {
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
