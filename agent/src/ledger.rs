//! The state on the disk: whole, summed, and with the copy before it. What the state means is the core's.
//!
//! ```text
//! offset  size  field
//! 0       8     magic "MFAGENT1"
//! 8       32    SHA-256 of the rest
//! 40      …     State, as the core encodes it
//! ```
//!
//! Why not a database: it is one value, always written whole; a reader must find the newest whole one after
//! any crash. Why keep `state.prev`: flash that loses power while it writes can damage a block that was
//! written long ago.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use agent_core::{State, StateError};
use shared::Digest;
use thiserror::Error;

use crate::files::{remove_if_there, write_whole};

const MAGIC: &[u8; 8] = b"MFAGENT1";

/// Far more than any state: 4,000 modules and a full outbox of version reports stay below.
const STATE_MAX_BYTES: u64 = 256 * 1024 * 1024;

/// The state that was read.
#[derive(Debug)]
pub struct Loaded {
    /// The state.
    pub state: State,
    /// The newest file was damaged and the copy before it taken: why.
    pub recovered: Option<String>,
}

/// The state cannot be read or written.
#[derive(Debug, Error)]
pub enum LedgerError {
    /// There is none.
    #[error("no agent is enrolled here: expected {} (mailfleet-agent enrol FILE.invite makes it)", .0.display())]
    Missing(PathBuf),
    /// Neither the state nor the copy before it is whole.
    #[error(
        "the state file {} is damaged ({newest}) and so is the copy before it ({older}): put back a copy of both \
         files, or move the home folder away and enrol again with a new invitation",
        path.display()
    )]
    Damaged {
        /// The state file.
        path: PathBuf,
        /// What is wrong with it.
        newest: String,
        /// What is wrong with the copy.
        older: String,
    },
    /// Written by a later program.
    #[error("the state file {} is of a later mailfleet-agent: expected this program or an older one to have written it", .0.display())]
    Later(PathBuf, #[source] StateError),
    /// The disk failed.
    #[error("cannot save the state in {}", .0.display())]
    Write(PathBuf, #[source] io::Error),
}

fn previous(path: &Path) -> PathBuf {
    path.with_added_extension("prev")
}

/// Makes a state durable.
///
/// # Errors
/// The disk failed; the state from before is still there.
pub fn save(path: &Path, state: &[u8]) -> Result<(), LedgerError> {
    let failed = |err| LedgerError::Write(path.to_owned(), err);
    let bytes = summed(state);
    // The name `state` is there at every moment: the copy is a second name of the same file.
    if path.exists() {
        let previous = previous(path);
        remove_if_there(&previous).map_err(failed)?;
        if fs::hard_link(path, &previous).is_err() {
            let copied = fs::copy(path, &previous).and_then(|_| fs::File::open(&previous)?.sync_all());
            copied.map_err(failed)?;
        }
    }
    write_whole(path, &bytes).map_err(failed)
}

/// Reads the newest whole state.
///
/// # Errors
/// There is none, it is damaged and so is the copy before it, or a later program has written it.
pub fn load(path: &Path) -> Result<Loaded, LedgerError> {
    let older = previous(path);
    if !path.exists() && !older.exists() {
        return Err(LedgerError::Missing(path.to_owned()));
    }
    let newest = match read(path) {
        Ok(state) => return Ok(Loaded { state, recovered: None }),
        // An old program must not go on with an old copy as if it were the newest.
        Err(Unreadable::Later(err)) => return Err(LedgerError::Later(path.to_owned(), err)),
        Err(Unreadable::Because(why)) => why,
    };
    match read(&older) {
        Ok(state) => Ok(Loaded { state, recovered: Some(newest) }),
        Err(Unreadable::Later(err)) => Err(LedgerError::Later(older, err)),
        Err(Unreadable::Because(why)) => {
            Err(LedgerError::Damaged { path: path.to_owned(), newest, older: why })
        }
    }
}

/// Bytes of a state file that cannot be gone on with.
#[derive(Debug)]
pub enum Unreadable {
    /// Written by a later program.
    Later(StateError),
    /// Damaged: why.
    Because(String),
}

/// The file of a state.
#[must_use]
pub fn summed(state: &[u8]) -> Vec<u8> {
    [MAGIC.as_slice(), &Digest::of(state).0, state].concat()
}

fn read(path: &Path) -> Result<State, Unreadable> {
    let because = |err: io::Error| Unreadable::Because(err.to_string());
    let mut bytes = Vec::new();
    fs::File::open(path).map_err(because)?.take(STATE_MAX_BYTES).read_to_end(&mut bytes).map_err(because)?;
    decode(&bytes)
}

/// Reads the bytes of a state file.
///
/// # Errors
/// Damaged, or of a later program.
pub fn decode(bytes: &[u8]) -> Result<State, Unreadable> {
    let wrong = |why: &str| Unreadable::Because(why.to_owned());
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| wrong("it does not begin with \"MFAGENT1\""))?;
    let (sum, body) = rest.split_at_checked(32).ok_or_else(|| wrong("it is cut off"))?;
    if Digest::of(body).0 != sum {
        return Err(wrong("its checksum does not match"));
    }
    State::decode(body).map_err(|err| match err {
        StateError::Format { .. } => Unreadable::Later(err),
        StateError::Decode(_) | StateError::Empty => Unreadable::Because(shared::error::chain(&err)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::keys::{OpeningKey, SigningKey};
    use shared::message::EnrolRequest;
    use shared::trust::Trust;
    use shared::{AgentId, Label, MailAddress, UnixMillis};

    fn state(invited: i64) -> State {
        let key = |n| SigningKey::from_seed(&[n; 32]).verifying_key();
        let seal = OpeningKey::from_seed(&[3; 32]).sealing_key();
        let trust = Trust::new(1, UnixMillis(0), vec![key(1)], vec![key(2)], 1, seal);
        let request = EnrolRequest {
            agent: AgentId::parse("A1").unwrap(),
            secret: [0; 32],
            sign_key: [0; 32],
            seal_key: [0; 32],
            mail: MailAddress::parse("a@b.test").unwrap(),
            agent_version: Label::lossy("1"),
        };
        State::enrolling(request, UnixMillis(invited), trust)
    }

    #[test]
    fn a_damaged_state_is_replaced_by_the_copy_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        assert!(matches!(load(&path), Err(LedgerError::Missing(_))));
        save(&path, &state(1).encode()).unwrap();
        save(&path, &state(2).encode()).unwrap();
        assert_eq!(load(&path).unwrap().state, state(2));
        let mut bytes = fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(&path, bytes).unwrap();
        let loaded = load(&path).unwrap();
        assert_eq!(loaded.state, state(1));
        assert!(loaded.recovered.unwrap().contains("checksum"));
    }

    #[test]
    fn two_damaged_copies_are_an_error_that_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        fs::write(&path, b"").unwrap();
        let err = load(&path).err().unwrap().to_string();
        assert!(err.contains("state") && err.contains("enrol again"), "{err}");
    }

    #[test]
    fn a_state_of_a_later_program_is_not_replaced_by_an_older_copy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        save(&path, &state(1).encode()).unwrap();
        save(&path, &[99]).unwrap();
        assert!(matches!(load(&path), Err(LedgerError::Later(..))));
    }
}
