//! The chain of the audit log: each row holds a digest of itself and of the row before it, so that a row that is altered, taken out
//! or put in breaks every digest after it. Only the newest digest has to be kept elsewhere to notice rows cut off at the end.

use core::fmt;

use shared::{Digest, Hasher, UnixMillis};

/// What is hashed before the first row.
const LABEL: &[u8] = b"mailfleet/audit/v1";

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// 1, 2, 3 …
    pub number: u64,
    /// When.
    pub at: UnixMillis,
    /// Who: a user of this computer, the daemon, an administrator by mail.
    pub who: String,
    /// What, in a sentence.
    pub what: String,
    /// The digest that is kept with it.
    pub digest: Digest,
}

/// Where a chain is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// The rows do not count from 1 without a gap.
    Number {
        /// The number that should be there.
        expected: u64,
        /// The number that is there.
        found: u64,
    },
    /// This row, or the digest with it, is not the one that was written.
    Altered(u64),
}

impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number { expected, found } => write!(f, "row {expected} is missing, row {found} follows"),
            Self::Altered(number) => write!(f, "row {number} is not the one that was written"),
        }
    }
}

/// The digest of a row that comes after one with this digest; `None`: it is the first.
#[must_use]
pub fn seal(previous: Option<Digest>, number: u64, at: UnixMillis, who: &str, what: &str) -> Digest {
    let mut hasher = Hasher::default();
    let texts: [&[u8]; 2] = [who.as_bytes(), what.as_bytes()];
    hasher.update(LABEL);
    hasher.update(&previous.map_or([0; 32], |digest| digest.0));
    hasher.update(&number.to_be_bytes());
    hasher.update(&at.0.to_be_bytes());
    for text in texts {
        // With its length, so that no border between two texts can move.
        hasher.update(&u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
        hasher.update(text);
    }
    hasher.finish()
}

/// Follows a chain row by row.
#[derive(Clone, Copy, Debug, Default)]
pub struct Chain {
    number: u64,
    digest: Option<Digest>,
}

impl Chain {
    /// Takes the next row.
    ///
    /// # Errors
    /// It does not follow.
    pub fn follow(&mut self, entry: &Entry) -> Result<(), Break> {
        let expected = self.number.saturating_add(1);
        if entry.number != expected {
            return Err(Break::Number { expected, found: entry.number });
        }
        if seal(self.digest, entry.number, entry.at, &entry.who, &entry.what) != entry.digest {
            return Err(Break::Altered(entry.number));
        }
        *self = Self { number: entry.number, digest: Some(entry.digest) };
        Ok(())
    }

    /// How many rows have followed, and the digest of the last.
    #[must_use]
    pub fn head(&self) -> (u64, Option<Digest>) {
        (self.number, self.digest)
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn log(rows: u64) -> Vec<Entry> {
        let mut previous = None;
        (1..=rows)
            .map(|number| {
                let at = UnixMillis(i64::try_from(number).unwrap_or(0));
                let (who, what) = ("root".to_owned(), format!("campaign {number} started"));
                let digest = seal(previous, number, at, &who, &what);
                previous = Some(digest);
                Entry { number, at, who, what, digest }
            })
            .collect()
    }

    fn verified(rows: &[Entry]) -> Result<Chain, Break> {
        rows.iter().try_fold(Chain::default(), |mut chain, row| chain.follow(row).map(|()| chain))
    }

    #[test]
    fn rows_as_they_were_written_follow_each_other() {
        let rows = log(5);
        assert_eq!(verified(&rows).map(|chain| chain.head()), Ok((5, Some(rows[4].digest))));
        assert_eq!(verified(&[]).map(|chain| chain.head()), Ok((0, None)));
    }

    proptest! {
        #[test]
        fn a_row_that_is_altered_taken_out_put_in_or_moved_is_found(at in 0usize..4, how in 0u8..6) {
            let mut rows = log(5);
            match how {
                0 => rows[at].what.push('!'),
                1 => rows[at].who = "nobody".to_owned(),
                2 => rows[at].at = UnixMillis(99),
                3 => drop(rows.remove(at)),
                4 => rows.swap(at, at + 1),
                _ => {
                    let copy = rows[at].clone();
                    rows.insert(at, copy);
                }
            }
            prop_assert!(verified(&rows).is_err());
        }

        #[test]
        fn text_does_not_move_between_fields(who in "[a-c]{0,3}", what in "[a-c]{0,3}") {
            let moved = seal(None, 1, UnixMillis(0), &format!("{who}{what}"), "");
            prop_assert_eq!(seal(None, 1, UnixMillis(0), &who, &what) == moved, what.is_empty());
        }
    }
}
