//! Behaviour of sealed mail, rule by rule of PROTOCOL 3 and 4.

use std::io::Read as _;

use proptest::prelude::*;
use rand_core::{Infallible, TryCryptoRng, TryRng};

use super::*;
use crate::keys::OpeningKey;
use crate::spans::{Span, Spans};

/// Counts up: good enough to test with, and the test vectors of PROTOCOL.md need it.
struct CountingRng(u8);

impl TryRng for CountingRng {
    type Error = Infallible;
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut b = [0; 4];
        self.try_fill_bytes(&mut b)?;
        Ok(u32::from_le_bytes(b))
    }
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut b = [0; 8];
        self.try_fill_bytes(&mut b)?;
        Ok(u64::from_le_bytes(b))
    }
    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
        for byte in dst {
            *byte = self.0;
            self.0 = self.0.wrapping_add(1);
        }
        Ok(())
    }
}
impl TryCryptoRng for CountingRng {}

fn sender() -> SigningKey {
    SigningKey::from_seed(&[1; 32])
}

fn box_key(n: u8) -> OpeningKey {
    OpeningKey::from_seed(&[n; 32])
}

fn new_small() -> NewSmall {
    NewSmall { id: EnvelopeId([9; 16]), created: UnixMillis(1_000), expires: UnixMillis(2_000), sequence: 7 }
}

fn seal(message: &[u8], recipients: &[u8]) -> Vec<u8> {
    let recipients: Vec<_> = recipients.iter().map(|n| box_key(*n).sealing_key()).collect();
    seal_small(&new_small(), message, &recipients, &sender(), &mut CountingRng(0)).unwrap()
}

fn open(mut attachment: &[u8], ours: &OpeningKey) -> Result<Vec<u8>, EnvelopeError> {
    let head = RawHead::read(&mut attachment)?;
    let header = head.verify(&sender().verifying_key())?;
    check_body(&header, &mut { attachment })?;
    let key = header.open_slot(ours, head.sender())?;
    let (message, mut payload) = open_body(&header, &key, attachment)?;
    let mut rest = Vec::new();
    payload.read_to_end(&mut rest).map_err(EnvelopeError::Read)?;
    assert!(rest.is_empty());
    Ok(message)
}

#[test]
fn each_recipient_opens_it_and_nobody_else() {
    let attachment = seal(b"hello", &[2, 3]);
    assert_eq!(open(&attachment, &box_key(2)).unwrap(), b"hello");
    assert_eq!(open(&attachment, &box_key(3)).unwrap(), b"hello");
    assert!(matches!(open(&attachment, &box_key(4)), Err(EnvelopeError::NotForUs)));
}

#[test]
fn every_altered_byte_of_an_envelope_is_noticed() {
    let attachment = seal(b"hello", &[2]);
    for at in 0..attachment.len() {
        let mut altered = attachment.clone();
        altered[at] ^= 1;
        assert!(open(&altered, &box_key(2)).is_err(), "byte {at}");
    }
}

#[test]
fn every_truncation_and_every_tail_is_noticed() {
    let attachment = seal(b"hello", &[2]);
    for len in 0..attachment.len() {
        assert!(open(&attachment[..len], &box_key(2)).is_err(), "cut at {len}");
    }
    let longer = [attachment.as_slice(), b"disclaimer"].concat();
    assert!(matches!(open(&longer, &box_key(2)), Err(EnvelopeError::BodyDigest { .. })));
}

#[test]
fn an_envelope_of_another_sender_is_refused_before_its_header_is_read() {
    let recipients = [box_key(2).sealing_key()];
    let other = SigningKey::from_seed(&[5; 32]);
    let attachment = seal_small(&new_small(), b"x", &recipients, &other, &mut CountingRng(0)).unwrap();
    assert!(matches!(open(&attachment, &box_key(2)), Err(EnvelopeError::OtherSender { .. })));
    // The forger names the right sender but cannot sign for it.
    let mut forged = attachment;
    forged[8..16].copy_from_slice(&sender().verifying_key().key_id().0);
    assert!(matches!(open(&forged, &box_key(2)), Err(EnvelopeError::Signature)));
}

#[test]
fn a_recipient_cannot_pass_the_envelope_on_under_its_own_name() {
    // A box that knows the content key re-signs the same body: the slot's binding to the sender breaks.
    let attachment = seal(b"order", &[2, 3]);
    let head = RawHead::read(&mut attachment.as_slice()).unwrap();
    let header = head.verify(&sender().verifying_key()).unwrap();
    let thief = SigningKey::from_seed(&[6; 32]);
    assert!(matches!(
        header.open_slot(&box_key(2), thief.verifying_key().key_id()),
        Err(EnvelopeError::Slot)
    ));
}

#[test]
fn the_same_box_has_another_hint_in_every_envelope() {
    let recipients = [box_key(2).sealing_key()];
    let hints: Vec<_> = [1u8, 2]
        .map(|n| {
            let new = NewSmall { id: EnvelopeId([n; 16]), ..new_small() };
            let a = seal_small(&new, b"x", &recipients, &sender(), &mut CountingRng(0)).unwrap();
            format!("{:?}", RawHead::read(&mut a.as_slice()).unwrap().decode_unverified().unwrap())
        })
        .into_iter()
        .collect();
    assert_ne!(hints[0], hints[1]);
    assert!(!hints[0].contains("SealingKey"));
}

#[test]
fn the_bound_of_the_header_is_checked_before_it_is_read() {
    let mut attachment = seal(b"x", &[2]);
    attachment[16..20].copy_from_slice(&u32::MAX.to_be_bytes());
    assert!(matches!(RawHead::read(&mut attachment.as_slice()), Err(EnvelopeError::HeaderTooLarge { .. })));
}

#[test]
fn an_envelope_needs_recipients_but_not_too_many() {
    let none = seal_small(&new_small(), b"x", &[], &sender(), &mut CountingRng(0));
    assert!(matches!(none, Err(SealError::Recipients { found: 0 })));
}

#[test]
fn a_truncated_stream_of_whole_chunks_does_not_pass_as_complete() {
    // PROTOCOL 4.1: the last chunk carries a flag in its nonce: cutting the body at a chunk border is noticed even by
    // the cipher alone.
    let key = ContentKey::from_bytes([3; 32]);
    let payload = vec![5u8; 3 * crate::limits::CHUNK_BYTES];
    let mut body = Vec::new();
    let sealed = seal_body(&key, b"m", &mut payload.as_slice(), &mut body).unwrap();
    let cut = 2 * (crate::limits::CHUNK_BYTES + 16);
    let new = NewHeader {
        id: EnvelopeId([1; 16]),
        created: UnixMillis(1),
        expires: UnixMillis(2),
        sequence: 1,
        body: SealedBody { bytes: cut as u64, ..sealed },
    };
    let head = seal_head(&new, &key, &[box_key(2).sealing_key()], &sender(), &mut CountingRng(0)).unwrap();
    let header = RawHead::read(&mut head.as_slice()).unwrap().verify(&sender().verifying_key()).unwrap();
    let (_, mut reader) = open_body(&header, &key, &body[..cut]).unwrap();
    assert!(reader.read_to_end(&mut Vec::new()).is_err());
}

/// The mails of a body that is cut into parts of so many bytes, and the body.
fn in_parts(payload: &[u8], part_bytes: u64, recipients: &[u8]) -> (Vec<Vec<u8>>, Vec<u8>) {
    let key = ContentKey::from_bytes([3; 32]);
    let mut body = Vec::new();
    let sealed = seal_body(&key, b"message", &mut &*payload, &mut body).unwrap();
    let new = NewHeader {
        id: EnvelopeId([9; 16]),
        created: UnixMillis(1),
        expires: UnixMillis(2),
        sequence: 7,
        body: sealed,
    };
    let cut = Cut::of(&mut body.as_slice(), part_bytes).unwrap();
    let recipients: Vec<_> = recipients.iter().map(|n| box_key(*n).sealing_key()).collect();
    let mut byte = 0;
    let mut mails = Vec::new();
    while let Some((index, span)) = cut.part_with(byte) {
        let head =
            seal_part_head(&new, (&cut, Some(index)), &key, &recipients, &sender(), &mut CountingRng(0))
                .unwrap();
        let [from, until] = [span.from, span.until].map(|at| usize::try_from(at).unwrap());
        mails.push([&head, &body[from..until]].concat());
        byte = span.until;
    }
    assert_eq!(mails.len(), cut.count());
    (mails, body)
}

/// What one mail of a part brings, checked as a receiver does.
fn take_part(mut mail: &[u8], ours: &OpeningKey) -> Result<(Header, Span, Vec<u8>), EnvelopeError> {
    let head = RawHead::read(&mut mail)?;
    let header = head.verify(&sender().verifying_key())?;
    header.open_slot(ours, head.sender())?;
    let Brings::Part(span, info) = head.brings(&header)? else { panic!("not a part") };
    check_part(&info, &mut { mail })?;
    Ok((header, span, mail.to_vec()))
}

#[test]
fn every_altered_byte_cut_or_tail_of_a_part_is_noticed_by_itself() {
    let (mails, _) = in_parts(&[5; 300], 150, &[2]);
    let mail = &mails[1];
    assert!(take_part(mail, &box_key(2)).is_ok());
    assert!(matches!(take_part(mail, &box_key(4)), Err(EnvelopeError::NotForUs)));
    for at in 0..mail.len() {
        let mut altered = mail.clone();
        altered[at] ^= 1;
        assert!(take_part(&altered, &box_key(2)).is_err(), "byte {at}");
        assert!(take_part(&mail[..at], &box_key(2)).is_err(), "cut at {at}");
    }
    let longer = [mail.as_slice(), b"disclaimer"].concat();
    assert!(matches!(take_part(&longer, &box_key(2)), Err(EnvelopeError::BodyDigest { .. })));
}

#[test]
fn a_part_in_another_ones_place_or_beyond_the_last_is_refused() {
    let (mails, _) = in_parts(&[5; 300], 150, &[2]);
    let index = |mail: &[u8]| RawHead::read(&mut { mail }).unwrap().to_bytes().len() - 4;
    for (place, fits) in [(0u32, false), (1, true), (2, false), (3, false), (4_095, false)] {
        let mut moved = mails[1].clone();
        let at = index(&moved);
        moved[at..at + 4].copy_from_slice(&place.to_be_bytes());
        assert_eq!(take_part(&moved, &box_key(2)).is_ok(), fits, "as part {place}");
    }
    // A body in one part has no head alone.
    let mut whole = seal(b"hello", &[2]);
    let at = index(&whole);
    whole[at..at + 4].copy_from_slice(&u32::MAX.to_be_bytes());
    assert!(matches!(open(&whole, &box_key(2)), Err(EnvelopeError::Contradiction { .. })));
}

#[test]
fn a_head_alone_says_what_there_is_and_brings_nothing() {
    let (mails, body) = in_parts(&[5; 300], 150, &[2]);
    let mut head = RawHead::read(&mut mails[0].as_slice()).unwrap().to_bytes();
    let at = head.len() - 4;
    head[at..].copy_from_slice(&u32::MAX.to_be_bytes());
    let raw = RawHead::read(&mut head.as_slice()).unwrap();
    let header = raw.verify(&sender().verifying_key()).unwrap();
    assert_eq!(raw.brings(&header).unwrap(), Brings::Nothing);
    assert_eq!((header.body_bytes, header.body_digest), (body.len() as u64, Digest::of(&body)));
    assert!(matches!(header.in_one_part(), Err(EnvelopeError::ManyParts { found: 3 })));
}

#[test]
fn a_body_is_not_cut_into_nothing_or_into_too_much() {
    let body = vec![1; crate::limits::PARTS_MAX_COUNT + 1];
    assert!(Cut::of(&mut body.as_slice(), 1).is_err());
    assert!(Cut::of(&mut body.as_slice(), 0).is_err());
    assert!(Cut::of(&mut io::empty(), 10).is_err());
    assert_eq!(Cut::of(&mut body.as_slice(), 2).unwrap().count(), 2_049);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn parts_in_any_order_and_from_different_cuts_are_the_body_again(
        len in 1usize..200_000,
        parts in 2u64..12,
        other in 2u64..12,
        order in any::<proptest::sample::Index>(),
    ) {
        let payload: Vec<u8> = (0..len).map(|i| u8::try_from(i % 251).unwrap()).collect();
        let size = |parts: u64| (len as u64 + 40).div_ceil(parts);
        let (mails, body) = in_parts(&payload, size(parts), &[2, 3]);
        let (others, _) = in_parts(&payload, size(other), &[3]);
        let mut all: Vec<_> = mails.into_iter().chain(others).collect();
        let place = order.index(all.len());
        all.rotate_left(place);
        let mut joined = vec![0; body.len()];
        let mut held = Spans::default();
        let mut last = None;
        for mail in &all {
            let (header, span, bytes) = take_part(mail, &box_key(3)).unwrap();
            let at = usize::try_from(span.from).unwrap();
            joined[at..at + bytes.len()].copy_from_slice(&bytes);
            prop_assert!(held.add(span));
            last = Some(header);
        }
        prop_assert!(held.missing(body.len() as u64).is_empty());
        let header = last.unwrap();
        check_body(&header, &mut joined.as_slice()).unwrap();
        let key = header.open_slot(&box_key(3), sender().verifying_key().key_id()).unwrap();
        let (message, mut reader) = open_body(&header, &key, joined.as_slice()).unwrap();
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).unwrap();
        prop_assert_eq!((message.as_slice(), rest), (&b"message"[..], payload));
    }

    #[test]
    fn any_message_and_payload_read_back(
        message in proptest::collection::vec(any::<u8>(), 0..300),
        extra in 0usize..200_000,
        border in -2i64..3,
    ) {
        // Around chunk borders too: that is where off-by-one lives.
        let chunk = i64::try_from(crate::limits::CHUNK_BYTES).unwrap();
        let prefix = i64::try_from(message.len()).unwrap() + 4;
        let len = if extra % 2 == 0 { extra } else { usize::try_from(chunk - prefix + border).unwrap() };
        let payload: Vec<u8> = (0..len).map(|i| u8::try_from(i % 251).unwrap()).collect();
        let key = ContentKey::from_bytes([3; 32]);
        let mut body = Vec::new();
        let sealed = seal_body(&key, &message, &mut payload.as_slice(), &mut body).unwrap();
        prop_assert_eq!(sealed.bytes, body.len() as u64);
        let new = NewHeader {
            id: EnvelopeId([1; 16]), created: UnixMillis(1), expires: UnixMillis(2), sequence: 1, body: sealed,
        };
        let head = seal_head(&new, &key, &[box_key(2).sealing_key()], &sender(), &mut CountingRng(0)).unwrap();
        let raw = RawHead::read(&mut head.as_slice()).unwrap();
        let header = raw.verify(&sender().verifying_key()).unwrap();
        check_body(&header, &mut body.as_slice()).unwrap();
        let opened = header.open_slot(&box_key(2), raw.sender()).unwrap();
        let (got, mut reader) = open_body(&header, &opened, body.as_slice()).unwrap();
        prop_assert_eq!(got, message);
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).unwrap();
        prop_assert_eq!(rest, payload);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut framed = MAGIC.to_vec();
        framed.extend_from_slice(&bytes);
        for input in [bytes, framed] {
            if let Ok(head) = RawHead::read(&mut input.as_slice()) {
                let _ = head.decode_unverified();
                let _ = head.verify(&sender().verifying_key());
            }
        }
    }
}
