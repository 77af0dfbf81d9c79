//! Readings that a bill can be proved with: each is one observation of one device, signed by its agent and chained to
//! the one before by its digest. Whoever holds the bytes can show what the agent has said, and that nothing was taken out
//! or put in between.
//!
//! An agent that runs out of room drops old readings; the next one kept still names the digest of the one before it, so
//! the gap shows. An agent that has lost its chain begins another one, with another number.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use minicbor::{Decode, Encode};
use thiserror::Error;

use crate::bounded;
use crate::device::{DeviceName, Observation};
use crate::id::{AgentId, Digest, Label};
use crate::keys::{BadSignature, SigningKey, VerifyingKey};
use crate::limits::{
    ANOMALIES_MAX_COUNT, READING_MAX_BYTES, READINGS_MAX_COUNT, READINGS_PACKED_MAX_BYTES,
    READINGS_UNPACKED_MAX_BYTES,
};
use crate::message::ReadingMark;

/// What is signed (PROTOCOL 2.2).
const LABEL: &str = "mailfleet/reading/v1";

/// One observation of one device, in its place in the agent's chain.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Reading {
    /// Whose reading it is.
    #[n(0)]
    pub agent: AgentId,
    /// Its place.
    #[n(1)]
    pub mark: ReadingMark,
    /// Digest of the reading before it; of the first one: all zero.
    #[n(2)]
    pub previous: Digest,
    /// The device.
    #[n(3)]
    pub device: DeviceName,
    /// What was seen.
    #[n(4)]
    pub seen: Observation,
    /// What does not follow from the reading before it. Marked, never smoothed.
    #[cbor(n(5), decode_with = "bounded::list::<_, _, ANOMALIES_MAX_COUNT>")]
    pub anomalies: Vec<Anomaly>,
}

/// Something that does not follow from the device's reading before.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Anomaly {
    /// What is wrong.
    #[n(0)]
    pub kind: AnomalyKind,
    /// Which counter, with its labels; empty: the device.
    #[n(1)]
    pub counter: Label,
    /// What it was before.
    #[n(2)]
    pub before: Label,
}

/// What does not follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum AnomalyKind {
    /// A counter is smaller than before, and was so twice.
    #[n(0)]
    Backwards,
    /// A counter of 32 bits has passed its end.
    #[n(1)]
    Wrapped,
    /// A counter rose faster than any device of its kind can work.
    #[n(2)]
    Jump,
    /// Another device answers under the name.
    #[n(3)]
    Swapped,
    /// A device of the same serial number answers under another name too.
    #[n(4)]
    SerialTwice,
}

impl AnomalyKind {
    /// The name in files and tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Backwards => "backwards",
            Self::Wrapped => "wrapped",
            Self::Jump => "jump",
            Self::Swapped => "swapped",
            Self::SerialTwice => "serial-twice",
        }
    }
}

/// A reading as its agent has signed it. The bytes are kept as they are: only they can be verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedReading {
    bytes: Vec<u8>,
    signature: [u8; 64],
}

/// Readings that cannot be used.
#[derive(Debug, Error)]
pub enum ReadingError {
    /// Not a reading.
    #[error("not a reading of this version")]
    Decode(#[source] minicbor::decode::Error),
    /// Too large, too many, cut off, or not compressed as it should be.
    #[error("packed readings: {0}")]
    Packed(&'static str),
    /// The compressed stream is broken.
    #[error("packed readings are damaged")]
    Inflate(#[source] std::io::Error),
}

impl SignedReading {
    /// Signs a reading.
    #[must_use]
    pub fn sign(reading: &Reading, key: &SigningKey) -> Self {
        // Encoding into memory cannot fail: minicbor's `Vec` writer is infallible.
        let bytes = minicbor::to_vec(reading).unwrap_or_default();
        let signature = key.sign(LABEL, &bytes);
        Self { bytes, signature }
    }

    /// A reading as it was kept.
    #[must_use]
    pub fn from_parts(bytes: Vec<u8>, signature: [u8; 64]) -> Self {
        Self { bytes, signature }
    }

    /// The signed bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The signature.
    #[must_use]
    pub fn signature(&self) -> &[u8; 64] {
        &self.signature
    }

    /// What the next reading names as the one before it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }

    /// Reads it, without believing it.
    ///
    /// # Errors
    /// Not a reading, or bytes after it.
    pub fn read(&self) -> Result<Reading, ReadingError> {
        let mut decoder = minicbor::Decoder::new(&self.bytes);
        let reading = decoder.decode().map_err(ReadingError::Decode)?;
        if decoder.position() != self.bytes.len() {
            return Err(ReadingError::Packed("bytes after a reading's end"));
        }
        Ok(reading)
    }

    /// Whether this key has signed it.
    ///
    /// # Errors
    /// It has not.
    pub fn verify(&self, key: &VerifyingKey) -> Result<(), BadSignature> {
        key.verify(LABEL, &self.bytes, &self.signature)
    }

    /// As it lies in a file and in a report: length, bytes, signature.
    #[must_use]
    pub fn framed(&self) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend_from_slice(&self.bytes);
        framed.extend_from_slice(&self.signature);
        framed
    }
}

/// Reads the next framed reading; `None` at the end.
///
/// # Errors
/// Cut off, or too large.
pub fn read_framed(from: &mut impl Read) -> Result<Option<SignedReading>, ReadingError> {
    let mut length = [0; 4];
    let mut got = 0;
    while let Some(rest) = length.get_mut(got..).filter(|rest| !rest.is_empty()) {
        match from.read(rest).map_err(ReadingError::Inflate)? {
            0 if got == 0 => return Ok(None),
            0 => return Err(ReadingError::Packed("cut off")),
            n => got = got.saturating_add(n),
        }
    }
    let length = u64::from(u32::from_be_bytes(length));
    if length > READING_MAX_BYTES {
        return Err(ReadingError::Packed("a reading is too large"));
    }
    // As large as it says, which is little: a vector that grows takes up to twice as much, and a report has 20,000.
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    from.by_ref().take(length).read_to_end(&mut bytes).map_err(ReadingError::Inflate)?;
    let mut signature = [0; 64];
    if bytes.len() as u64 != length || from.read_exact(&mut signature).is_err() {
        return Err(ReadingError::Packed("cut off"));
    }
    Ok(Some(SignedReading { bytes, signature }))
}

/// Packs readings for a report.
#[derive(Debug)]
pub struct Packer {
    to: DeflateEncoder<Vec<u8>>,
    unpacked: u64,
    count: usize,
}

impl Default for Packer {
    fn default() -> Self {
        Self { to: DeflateEncoder::new(Vec::new(), Compression::best()), unpacked: 0, count: 0 }
    }
}

impl Packer {
    /// Takes the next reading if there is room for it; false: the report is full.
    ///
    /// # Errors
    /// Never on memory, but the stream's type has them.
    pub fn push(&mut self, reading: &SignedReading) -> std::io::Result<bool> {
        let framed = reading.framed();
        let unpacked = self.unpacked.saturating_add(framed.len() as u64);
        // What was put in and has not come out yet is bounded by what it would be uncompressed.
        let packed = self.to.get_ref().len().saturating_add(framed.len()).saturating_add(PENDING_MAX_BYTES);
        let fits = unpacked <= READINGS_UNPACKED_MAX_BYTES && packed <= READINGS_PACKED_MAX_BYTES;
        if !fits || self.count >= READINGS_MAX_COUNT {
            return Ok(false);
        }
        self.to.write_all(&framed)?;
        self.unpacked = unpacked;
        self.count = self.count.saturating_add(1);
        Ok(true)
    }

    /// The packed bytes.
    ///
    /// # Errors
    /// Never on memory, but the stream's type has them.
    pub fn finish(self) -> std::io::Result<Vec<u8>> {
        self.to.finish()
    }
}

/// What a deflate stream may hold back: its window and pending block, with room.
const PENDING_MAX_BYTES: usize = 256 * 1024;

/// Unpacks the readings of a report, in their order. Nobody has verified them.
///
/// # Errors
/// More than a report may hold, cut off, or damaged.
pub fn unpack(packed: &[u8]) -> Result<Vec<SignedReading>, ReadingError> {
    let mut stream = DeflateDecoder::new(packed).take(READINGS_UNPACKED_MAX_BYTES);
    let mut readings = Vec::new();
    while let Some(reading) = read_framed(&mut stream)? {
        if readings.len() >= READINGS_MAX_COUNT {
            return Err(ReadingError::Packed("too many readings"));
        }
        readings.push(reading);
    }
    if stream.limit() == 0 {
        return Err(ReadingError::Packed("too large"));
    }
    Ok(readings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::DeviceClass;
    use crate::time::UnixMillis;

    fn reading(index: u64, previous: Digest) -> Reading {
        Reading {
            agent: AgentId::parse("A1").unwrap(),
            mark: ReadingMark { chain: 7, index },
            previous,
            device: DeviceName::parse("mfp").unwrap(),
            seen: Observation::of(DeviceClass::Mfp, UnixMillis(i64::try_from(index).unwrap())),
            anomalies: vec![],
        }
    }

    fn chain(count: u64) -> Vec<SignedReading> {
        let key = SigningKey::from_seed(&[1; 32]);
        let mut previous = Digest([0; 32]);
        (1..=count)
            .map(|index| {
                let signed = SignedReading::sign(&reading(index, previous), &key);
                previous = signed.digest();
                signed
            })
            .collect()
    }

    fn packed(readings: &[SignedReading]) -> Vec<u8> {
        let mut packer = Packer::default();
        assert!(readings.iter().all(|reading| packer.push(reading).unwrap()));
        packer.finish().unwrap()
    }

    #[test]
    fn readings_come_out_as_they_were_signed() {
        let readings = chain(100);
        let out = unpack(&packed(&readings)).unwrap();
        assert_eq!(out, readings);
        let key = SigningKey::from_seed(&[1; 32]).verifying_key();
        assert!(out.iter().all(|one| one.verify(&key).is_ok()));
        assert_eq!(out[1].read().unwrap().previous, out[0].digest());
        let other = SigningKey::from_seed(&[2; 32]).verifying_key();
        assert!(out[0].verify(&other).is_err());
    }

    #[test]
    fn every_altered_byte_of_a_reading_shows() {
        let signed = &chain(1)[0];
        let key = SigningKey::from_seed(&[1; 32]).verifying_key();
        for at in 0..signed.bytes.len() {
            let mut bytes = signed.bytes.clone();
            bytes[at] ^= 1;
            assert!(SignedReading::from_parts(bytes, signed.signature).verify(&key).is_err(), "byte {at}");
        }
    }

    #[test]
    fn packed_readings_that_are_cut_or_endless_are_refused() {
        let whole = packed(&chain(50));
        for end in [1, whole.len() / 2, whole.len() - 1] {
            assert!(unpack(&whole[..end]).is_err(), "{end}");
        }
        assert!(unpack(&[]).is_err(), "an empty deflate stream is none");
        let mut bomb = DeflateEncoder::new(Vec::new(), Compression::best());
        for _ in 0..1_100 {
            bomb.write_all(&[0; 16 * 1024]).unwrap();
        }
        assert!(unpack(&bomb.finish().unwrap()).is_err());
        let huge = [u8::MAX; 4];
        assert!(matches!(read_framed(&mut &huge[..]), Err(ReadingError::Packed("a reading is too large"))));
    }

    #[test]
    fn a_full_report_takes_no_more() {
        let mut packer = Packer::default();
        let one = &chain(1)[0];
        let taken = (0..=READINGS_MAX_COUNT).take_while(|_| packer.push(one).unwrap()).count();
        assert_eq!(taken, READINGS_MAX_COUNT);
        let bytes = packer.finish().unwrap();
        assert!(bytes.len() <= READINGS_PACKED_MAX_BYTES);
        assert_eq!(unpack(&bytes).unwrap().len(), taken);
    }
}
