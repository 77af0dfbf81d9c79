//! Envelopes: the head as it comes, the header below its signature, the body below its encryption.

use std::io::Read as _;
use std::sync::LazyLock;

use aead_stream::EncryptorBE32;
use aes_gcm::Aes256Gcm;
use shared::envelope::{ContentKey, EnvelopeError, Header, MAGIC, RawHead, check_body, open_body};
use shared::limits::{
    CHUNK_BYTES, HEADER_MAX_BYTES, INTRODUCTION_MAX_COUNT, MESSAGE_MAX_BYTES, PARTS_MAX_COUNT,
    SLOTS_MAX_COUNT,
};
use shared::message::encode;
use shared::{Digest, EnvelopeId, UnixMillis};

use crate::harness::{opening_key, sender_key, take, told};

/// Bytes of a head beside its header.
const HEAD_BYTES: usize = 88;

/// A whole attachment, as an agent takes it: trust statements, head, slot, body, message.
pub(crate) fn head(data: &[u8]) -> bool {
    let mut rest = data;
    let (statements, raw) = match RawHead::read_introduced(&mut rest) {
        Ok(read) => read,
        Err(err) => {
            told(&err);
            assert!(!err.is_local(), "bytes in memory can always be read");
            return false;
        }
    };
    assert!(statements.len() <= INTRODUCTION_MAX_COUNT, "{} statements", statements.len());
    let used = data.len().saturating_sub(rest.len());
    let introduced = statements.iter().map(|statement| statement.to_bytes().len()).sum::<usize>();
    let head = used.saturating_sub(introduced);
    assert!(head <= HEAD_BYTES.saturating_add(HEADER_MAX_BYTES), "{head} bytes read of a head");
    if let Err(err) = raw.decode_unverified() {
        told(&err);
    }
    let key = sender_key().verifying_key();
    match raw.verify(&key).and_then(|header| open(&raw, &header, rest)) {
        Ok(()) => true,
        Err(err) => {
            told(&err);
            false
        }
    }
}

fn open(raw: &RawHead, header: &Header, body: &[u8]) -> Result<(), EnvelopeError> {
    check_body(header, &mut &*body)?;
    let key = header.open_slot(&opening_key(), raw.sender())?;
    let (message, mut payload) = open_body(header, &key, body)?;
    let mut rest = Vec::new();
    payload.read_to_end(&mut rest).map_err(EnvelopeError::Read)?;
    assert!(message.len().saturating_add(rest.len()) < body.len(), "more plain text than ciphertext");
    Ok(())
}

/// The CBOR of a header, signed by the harness.
pub(crate) fn header(data: &[u8]) -> bool {
    let unsigned = head_of(data, &[0; 64]);
    let Ok(raw) = RawHead::read(&mut unsigned.as_slice()) else {
        assert!(data.len() > HEADER_MAX_BYTES, "a head of the right form is read");
        return false;
    };
    let header = match raw.decode_unverified() {
        Ok(header) => header,
        Err(err) => {
            told(&err);
            return false;
        }
    };
    let key = sender_key();
    assert!(matches!(raw.verify(&key.verifying_key()), Err(EnvelopeError::Signature)));
    // What the signature covers: sender, length, header.
    let covered = unsigned.get(8..data.len().saturating_add(20)).unwrap_or_default();
    let signature = key.sign("mailfleet/envelope/v1", covered);
    let signed = head_of(data, &signature);
    let verified = RawHead::read(&mut signed.as_slice()).and_then(|raw| raw.verify(&key.verifying_key()));
    assert_eq!(verified.ok().as_ref(), Some(&header), "signed and unsigned headers read the same");
    holds(&header);
    let again = RawHead::read(&mut head_of(&encode(&header), &[0; 64]).as_slice());
    assert_eq!(again.and_then(|raw| raw.decode_unverified()).ok().as_ref(), Some(&header), "reads back");
    if let Err(err) = open(&raw, &header, data) {
        told(&err);
    }
    true
}

// PROTOCOL 3.1, 3.7, 3.8: what a reader may rely on.
fn holds(header: &Header) {
    assert!((1..=SLOTS_MAX_COUNT).contains(&header.recipient_count()));
    assert!((1..=PARTS_MAX_COUNT).contains(&header.parts.len()));
    assert_eq!(header.parts.iter().map(|part| part.bytes).sum::<u64>(), header.body_bytes);
    let several = header.parts.len() > 1;
    assert!(!several || header.parts.iter().all(|part| part.bytes > 0), "a part without a byte");
    assert!(header.created < header.expires);
}

fn head_of(header: &[u8], signature: &[u8; 64]) -> Vec<u8> {
    let length = u32::try_from(header.len()).unwrap_or(u32::MAX).to_be_bytes();
    let sender = sender_key().verifying_key().key_id().0;
    [MAGIC.as_slice(), &sender, &length, header, signature, &[0; 4]].concat()
}

/// Key of every body here.
const KEY: [u8; 32] = [4; 32];

/// A header whose body is set by each input.
static HEADER: LazyLock<Option<Header>> = LazyLock::new(|| {
    use shared::envelope::{NewHeader, SealedBody, seal_head};
    let new = NewHeader {
        id: EnvelopeId([5; 16]),
        created: UnixMillis(1),
        expires: UnixMillis(2),
        sequence: 1,
        body: SealedBody { bytes: 0, digest: Digest::of(b"") },
    };
    let recipients = [opening_key().sealing_key()];
    let mut rng = crate::harness::Counting::default();
    let head = seal_head(&new, &ContentKey::from_bytes(KEY), &recipients, &sender_key(), &mut rng).ok()?;
    RawHead::read(&mut head.as_slice()).ok()?.decode_unverified().ok()
});

/// What happens to the ciphertext on its way, although its header says the same of it: a sender may lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tamper {
    Nothing,
    Flip,
    Cut,
    Append,
    AllOfIt,
}

/// Zeros behind an input: some, or so many that a chunk's end is near.
fn zeros(choice: u8) -> usize {
    let choice = usize::from(choice);
    match choice.checked_sub(240) {
        None => choice,
        Some(far @ 0..8) => CHUNK_BYTES.saturating_sub(far.saturating_mul(16)),
        Some(farther) => CHUNK_BYTES.saturating_mul(2).saturating_sub(farther.saturating_mul(16)),
    }
}

/// A body: `mode, zeros appended, place of the damage (4)`, then the plain text, or the ciphertext itself.
pub(crate) fn body(mut data: &[u8]) -> bool {
    let [mode] = take::<1>(&mut data);
    let [choice] = take::<1>(&mut data);
    let place = usize::try_from(u32::from_be_bytes(take(&mut data))).unwrap_or_default();
    let tamper = match mode % 5 {
        0 => Tamper::Nothing,
        1 => Tamper::Flip,
        2 => Tamper::Cut,
        3 => Tamper::Append,
        _ => Tamper::AllOfIt,
    };
    let plain = [data, vec![0; zeros(choice)].as_slice()].concat();
    let mut cipher = if tamper == Tamper::AllOfIt { plain.clone() } else { sealed(&plain) };
    let at = place.checked_rem(cipher.len()).unwrap_or_default();
    match tamper {
        Tamper::Nothing | Tamper::AllOfIt => {}
        Tamper::Flip => cipher.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1),
        Tamper::Cut => cipher.truncate(at),
        Tamper::Append => cipher.push(0),
    }
    let Some(mut header) = HEADER.clone() else { return false };
    header.body_bytes = cipher.len() as u64;
    header.body_digest = Digest::of(&cipher);
    assert!(check_body(&header, &mut cipher.as_slice()).is_ok(), "a body is the one of its own digest");
    header.body_digest.0 = [0; 32];
    assert!(check_body(&header, &mut cipher.as_slice()).is_err(), "and of no other");

    let (read, ended) = read_all(&header, &cipher);
    if tamper != Tamper::Nothing {
        assert!(!ended, "a damaged body ends with an error");
        assert!(tamper == Tamper::AllOfIt || after_length(&plain).starts_with(&read), "only what was sealed");
        return false;
    }
    let length =
        plain.first_chunk::<4>().map(|n| usize::try_from(u32::from_be_bytes(*n)).unwrap_or_default());
    let fits = length.is_some_and(|n| n <= MESSAGE_MAX_BYTES && n <= after_length(&plain).len());
    assert_eq!(ended, fits, "a sound body opens if its message is whole");
    assert!(!fits || read == after_length(&plain), "all that was sealed");
    fits
}

fn after_length(plain: &[u8]) -> &[u8] {
    plain.get(4..).unwrap_or_default()
}

/// Message and payload as far as they open, and whether they end well.
fn read_all(header: &Header, cipher: &[u8]) -> (Vec<u8>, bool) {
    match open_body(header, &ContentKey::from_bytes(KEY), cipher) {
        Ok((mut read, mut payload)) => {
            let ended = payload.read_to_end(&mut read).is_ok();
            (read, ended)
        }
        Err(err) => {
            told(&err);
            assert!(!err.is_local(), "bytes in memory can always be read: {err:?}");
            (Vec::new(), false)
        }
    }
}

/// PROTOCOL 4: STREAM over any plain text, also one whose message length is a lie.
fn sealed(plain: &[u8]) -> Vec<u8> {
    let mut encryptor = EncryptorBE32::<Aes256Gcm>::new(&KEY.into(), &[0; 7].into());
    let mut out = Vec::new();
    let mut rest = plain;
    while let Some((chunk, more)) = rest.split_at_checked(CHUNK_BYTES).filter(|(_, more)| !more.is_empty()) {
        let mut chunk = chunk.to_vec();
        let done = encryptor.encrypt_next_in_place(b"", &mut chunk);
        assert!(done.is_ok(), "a chunk can be encrypted");
        out.append(&mut chunk);
        rest = more;
    }
    let mut last = rest.to_vec();
    let done = encryptor.encrypt_last_in_place(b"", &mut last);
    assert!(done.is_ok(), "a chunk can be encrypted");
    out.append(&mut last);
    out
}
