//! What has changed in one file: made by whoever builds a bundle, read by an agent that has the older file (PROTOCOL 6.10).
//!
//! ```text
//! patch  = five lengths of columns (4 bytes each, big-endian) ‖ the columns ‖ bytes
//! column = numbers, seven bits in a byte, the lowest first, the high bit set in all but the last byte:
//!   copied     step by step: so many bytes are made from the older file's, from where it is read
//!   inserted   and so many follow that are new
//!   moved      and so far does the place in the older file move then; 2n forwards, 2n - 1 backwards
//!   same       of all copied bytes in a row, so many are as they were,
//!   changed    and so many after them have a byte of the patch added
//! bytes  = what is added to changed bytes, and what is inserted, in the new file's order
//! ```
//!
//! The method is bsdiff's: programs that were built anew differ in addresses all over, by few different amounts. Here it is in columns,
//! because those compress better, and in an order in which the new file is written from its beginning to its end with
//! little memory. Compression is the payload's. Not here: whether the older file is the right one, and whether what comes out is
//! (`read`).

use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

use crate::limits::PATCH_COLUMNS_MAX_BYTES;

const COLUMNS: usize = 5;

/// Bytes before the columns.
pub(super) const LENGTHS_BYTES: usize = COLUMNS * 4;

/// Makes the patch from `old` to `new`. `None`: it would break a limit. Takes about seventeen bytes of memory for each of `old`.
#[must_use]
pub fn make(old: &[u8], new: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    if old == new {
        let len = u64::try_from(new.len()).ok()?;
        plain.extend_from_slice(&[len.to_le_bytes(), [0; 8], [0; 8]].concat());
        plain.resize(plain.len().checked_add(new.len())?, 0);
    } else {
        // Writing into memory cannot fail.
        bsdiff::diff(old, new, &mut plain).ok()?;
    }
    let mut maker = Maker::default();
    let mut rest = plain.as_slice();
    while !rest.is_empty() {
        rest = maker.step(rest)?;
    }
    maker.finish()
}

#[derive(Default)]
struct Maker {
    columns: [Vec<u8>; COLUMNS],
    bytes: Vec<u8>,
    /// The run that is open: bytes that are the same, and after them changed.
    run: (u64, u64),
}

impl Maker {
    /// Takes one step of bsdiff's: three numbers, what is added, what is inserted. Gives what follows.
    fn step<'p>(&mut self, plain: &'p [u8]) -> Option<&'p [u8]> {
        let (copied, rest) = number(plain)?;
        let (inserted, rest) = number(rest)?;
        let (moved, rest) = number(rest)?;
        let (added, rest) = rest.split_at_checked(usize::try_from(copied).ok()?)?;
        let (new, rest) = rest.split_at_checked(usize::try_from(inserted).ok()?)?;
        let way = moved.unsigned_abs().checked_mul(2)?;
        let moved = if moved < 0 { way.checked_sub(1)? } else { way };
        let numbers = [u64::try_from(copied).ok()?, u64::try_from(inserted).ok()?, moved];
        for (column, n) in self.columns.iter_mut().zip(numbers) {
            put(column, n);
        }
        for byte in added {
            self.add(*byte)?;
        }
        self.bytes.extend_from_slice(new);
        Some(rest)
    }

    fn add(&mut self, byte: u8) -> Option<()> {
        if byte != 0 {
            self.run.1 = self.run.1.checked_add(1)?;
            self.bytes.push(byte);
            return Some(());
        }
        if self.run.1 > 0 {
            self.close_run();
        }
        self.run.0 = self.run.0.checked_add(1)?;
        Some(())
    }

    fn close_run(&mut self) {
        let [.., same, changed] = &mut self.columns;
        put(same, self.run.0);
        put(changed, self.run.1);
        self.run = (0, 0);
    }

    fn finish(mut self) -> Option<Vec<u8>> {
        self.close_run();
        let columns = self.columns.concat();
        if columns.len() > PATCH_COLUMNS_MAX_BYTES {
            return None;
        }
        let mut patch = Vec::new();
        for column in &self.columns {
            patch.extend_from_slice(&u32::try_from(column.len()).ok()?.to_be_bytes());
        }
        patch.extend_from_slice(&columns);
        patch.extend_from_slice(&self.bytes);
        Some(patch)
    }
}

/// A number of bsdiff's: 64 bits, the lowest byte first, the highest bit a sign.
fn number(plain: &[u8]) -> Option<(i64, &[u8])> {
    let (bytes, rest) = plain.split_first_chunk::<8>()?;
    let raw = u64::from_le_bytes(*bytes);
    let amount = i64::try_from(raw & (u64::MAX >> 1)).ok()?;
    Some((if raw >> 63 == 1 { amount.checked_neg()? } else { amount }, rest))
}

fn put(column: &mut Vec<u8>, mut n: u64) {
    loop {
        let low = u8::try_from(n & 0x7f).unwrap_or_default();
        n >>= 7;
        if n == 0 {
            return column.push(low);
        }
        column.push(low | 0x80);
    }
}

/// Reads the new file from the older one and a patch, from its beginning to its end. Holds the columns in memory, which are bounded,
/// and no file. Whatever the patch says, nothing but the older file is read and nothing is computed but this: what comes out has
/// to be compared with what was signed, and to be cut off where that ends.
pub struct Patched<'r> {
    old: BufReader<&'r mut dyn OldFile>,
    patch: &'r mut dyn Read,
    columns: [Column; COLUMNS],
    copy: u64,
    insert: u64,
    /// The move that comes after this step.
    moved: u64,
    same: u64,
    changed: u64,
    is_over: bool,
}

/// A file that a patch is applied to.
pub trait OldFile: Read + Seek {}

impl<F: Read + Seek> OldFile for F {}

impl<'r> Patched<'r> {
    /// Reads the columns.
    ///
    /// # Errors
    /// The patch is cut off or over a limit, or one of the readers failed.
    pub fn new(old: &'r mut dyn OldFile, patch: &'r mut dyn Read) -> io::Result<Self> {
        let mut lengths = [0u8; LENGTHS_BYTES];
        patch.read_exact(&mut lengths)?;
        let (lengths, _) = lengths.as_chunks::<4>();
        let lengths: Vec<u64> = lengths.iter().map(|length| u64::from(u32::from_be_bytes(*length))).collect();
        if lengths.iter().fold(0u64, |sum, length| sum.saturating_add(*length))
            > PATCH_COLUMNS_MAX_BYTES as u64
        {
            return Err(bad("the columns of a patch are too long"));
        }
        let mut columns = <[Column; COLUMNS]>::default();
        for (column, length) in columns.iter_mut().zip(lengths) {
            if (&mut *patch).take(length).read_to_end(&mut column.bytes)? as u64 != length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        old.seek(SeekFrom::Start(0))?;
        let old = BufReader::new(old);
        Ok(Self { old, patch, columns, copy: 0, insert: 0, moved: 0, same: 0, changed: 0, is_over: false })
    }

    /// Goes on to the next step that has something to read.
    fn next_step(&mut self) -> io::Result<()> {
        while self.copy == 0 && self.insert == 0 && !self.is_over {
            let [copied, inserted, moved, ..] = &mut self.columns;
            if copied.is_over() {
                self.is_over = true;
                return Ok(());
            }
            let way = i64::try_from(self.moved.div_ceil(2)).map_err(|_| bad("a patch leads too far"))?;
            let way = if self.moved & 1 == 1 { way.saturating_neg() } else { way };
            self.old.seek_relative(way)?;
            (self.copy, self.insert, self.moved) = (copied.next()?, inserted.next()?, moved.next()?);
        }
        Ok(())
    }

    /// Opens the next run of bytes that are the same or changed.
    fn next_run(&mut self) -> io::Result<()> {
        while self.same == 0 && self.changed == 0 {
            let [.., same, changed] = &mut self.columns;
            (self.same, self.changed) = (same.next()?, changed.next()?);
        }
        Ok(())
    }

    fn copy(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.next_run()?;
        let is_same = self.same > 0;
        let run = if is_same { &mut self.same } else { &mut self.changed };
        let there = self.old.fill_buf()?;
        let most = usize::try_from((*run).min(self.copy)).unwrap_or(usize::MAX);
        let n = there.len().min(most).min(into.len());
        let (Some(from), Some(to)) = (there.get(..n).filter(|from| !from.is_empty()), into.get_mut(..n))
        else {
            return Err(bad("a patch leads past the older file's end"));
        };
        if is_same {
            to.copy_from_slice(from);
        } else {
            self.patch.read_exact(to)?;
            for (to, from) in to.iter_mut().zip(from) {
                *to = to.wrapping_add(*from);
            }
        }
        self.old.consume(n);
        *run = run.saturating_sub(n as u64);
        self.copy = self.copy.saturating_sub(n as u64);
        Ok(n)
    }

    fn insert(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.insert).unwrap_or(usize::MAX).min(into.len());
        let n = self.patch.read(into.get_mut(..most).unwrap_or_default())?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.insert = self.insert.saturating_sub(n as u64);
        Ok(n)
    }
}

impl Read for Patched<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.next_step()?;
        if self.is_over || into.is_empty() {
            return Ok(0);
        }
        if self.copy > 0 { self.copy(into) } else { self.insert(into) }
    }
}

/// Numbers that are read one after the other.
#[derive(Default)]
struct Column {
    bytes: Vec<u8>,
    at: usize,
}

impl Column {
    fn is_over(&self) -> bool {
        self.at >= self.bytes.len()
    }

    fn next(&mut self) -> io::Result<u64> {
        let mut n = 0u64;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = *self.bytes.get(self.at).ok_or(io::ErrorKind::UnexpectedEof)?;
            self.at = self.at.saturating_add(1);
            n |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or_default();
            if byte & 0x80 == 0 {
                return Ok(n);
            }
        }
        Err(bad("a number of a patch is too long"))
    }
}

fn bad(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    fn apply(old: &[u8], patch: &[u8], limit: u64) -> io::Result<Vec<u8>> {
        let (mut old, mut patch) = (Cursor::new(old), patch);
        let mut new = Vec::new();
        Patched::new(&mut old, &mut patch)?.take(limit).read_to_end(&mut new)?;
        Ok(new)
    }

    /// A file that is like another one: some bytes changed, pieces moved, left out and put in.
    fn like(old: &[u8], edits: &[(u8, usize, Vec<u8>)]) -> Vec<u8> {
        let mut new = old.to_vec();
        for (kind, at, bytes) in edits {
            let at = at % new.len().max(1);
            match kind % 4 {
                0 => drop(new.splice(at..at, bytes.iter().copied())),
                1 => drop(new.drain(at..new.len().min(at + bytes.len()))),
                2 => new.rotate_left(at),
                _ => new
                    .iter_mut()
                    .skip(at)
                    .step_by(7)
                    .zip(bytes)
                    .for_each(|(b, add)| *b = b.wrapping_add(*add)),
            }
        }
        new
    }

    fn edits() -> impl Strategy<Value = Vec<(u8, usize, Vec<u8>)>> {
        let bytes = proptest::collection::vec(any::<u8>(), 0..40);
        proptest::collection::vec((any::<u8>(), 0usize..3_000, bytes), 0..8)
    }

    proptest! {
        #[test]
        fn any_file_comes_back_from_any_other_and_their_patch(
            old in proptest::collection::vec(any::<u8>(), 0..2_000),
            new in proptest::collection::vec(any::<u8>(), 0..2_000),
        ) {
            let patch = make(&old, &new).unwrap();
            prop_assert_eq!(apply(&old, &patch, u64::MAX).unwrap(), new);
        }

        #[test]
        fn a_file_like_the_older_one_comes_back(
            old in proptest::collection::vec(any::<u8>(), 1..3_000),
            edits in edits(),
        ) {
            let new = like(&old, &edits);
            let patch = make(&old, &new).unwrap();
            prop_assert_eq!(apply(&old, &patch, u64::MAX).unwrap(), new);
        }

        #[test]
        fn whatever_a_patch_says_the_end_comes_or_an_error(
            old in proptest::collection::vec(any::<u8>(), 0..300),
            lengths in proptest::array::uniform5(0u8..12),
            rest in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let lengths: Vec<u8> = lengths.iter().flat_map(|n| u32::from(*n).to_be_bytes()).collect();
            if let Ok(new) = apply(&old, &[lengths, rest].concat(), 10_000) {
                prop_assert!(new.len() <= 10_000);
            }
        }
    }

    #[test]
    fn a_file_that_did_not_change_needs_a_few_bytes() {
        let file = vec![7u8; 1_000_000];
        let patch = make(&file, &file).unwrap();
        assert!(patch.len() < 40, "{} bytes", patch.len());
        assert_eq!(apply(&file, &patch, u64::MAX).unwrap(), file);
    }

    #[test]
    fn a_patch_that_is_cut_off_brings_no_whole_file() {
        let old: Vec<u8> = (0..5_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let new = like(&old, &[(0, 1_000, vec![9; 30]), (3, 4_000, vec![1; 200])]);
        let patch = make(&old, &new).unwrap();
        for len in 0..patch.len() {
            assert!(!apply(&old, &patch[..len], u64::MAX).is_ok_and(|made| made == new), "cut at {len}");
        }
    }

    #[test]
    fn a_patch_of_another_file_makes_something_else_or_an_error() {
        let (old, new) = (vec![1u8; 500], [vec![1u8; 250], vec![2; 250]].concat());
        let patch = make(&old, &new).unwrap();
        assert!(apply(&[3; 500], &patch, 1_000).is_ok_and(|made| made != new));
        assert!(apply(&[1; 10], &patch, 1_000).is_err());
    }

    #[test]
    fn columns_that_claim_too_much_are_refused_before_they_are_read() {
        let claim = u32::try_from(PATCH_COLUMNS_MAX_BYTES).unwrap() + 1;
        let patch = [claim.to_be_bytes().to_vec(), vec![0; 16]].concat();
        assert_eq!(apply(b"", &patch, 10).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
