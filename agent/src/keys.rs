//! The agent's own secret keys: made once at enrolment, kept in files that only the owner can read.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use shared::keys::{KeyError, OpeningKey, SigningKey};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::files::{random, write_whole};
use crate::home::Home;

/// Both keys.
pub(crate) struct Keys {
    /// Signs reports.
    pub(crate) sign: SigningKey,
    /// Opens orders.
    pub(crate) open: OpeningKey,
}

/// A key file that cannot be used.
#[derive(Debug, Error)]
pub(crate) enum KeyFileError {
    /// Not readable or writable.
    #[error("cannot use the key file {}", .0.display())]
    Io(PathBuf, #[source] io::Error),
    /// Others can read it.
    #[error("key file {} is open to others: expected mode 0600, found {:04o}", .0.display(), .1)]
    Open(PathBuf, u32),
    /// Not a key.
    #[error("key file {} holds no key", .0.display())]
    NotAKey(PathBuf, #[source] KeyError),
}

impl Keys {
    /// Draws new keys and writes them.
    pub(crate) fn create(home: &Home) -> Result<Self, KeyFileError> {
        let seeds = (Zeroizing::new(random::<32>()), Zeroizing::new(random::<32>()));
        let keys = Self { sign: SigningKey::from_seed(&seeds.0), open: OpeningKey::from_seed(&seeds.1) };
        for (path, text) in
            [(home.sign_key(), keys.sign.to_secret_text()), (home.open_key(), keys.open.to_secret_text())]
        {
            let line = Zeroizing::new(format!("{}\n", *text));
            write_whole(&path, line.as_bytes()).map_err(|err| KeyFileError::Io(path, err))?;
        }
        Ok(keys)
    }

    /// Reads the keys.
    pub(crate) fn load(home: &Home) -> Result<Self, KeyFileError> {
        let (sign, open) = (home.sign_key(), home.open_key());
        let sign_text = read(&sign)?;
        let open_text = read(&open)?;
        Ok(Self {
            sign: SigningKey::parse_secret_text(sign_text.trim())
                .map_err(|err| KeyFileError::NotAKey(sign, err))?,
            open: OpeningKey::parse_secret_text(open_text.trim())
                .map_err(|err| KeyFileError::NotAKey(open, err))?,
        })
    }
}

fn read(path: &Path) -> Result<Zeroizing<String>, KeyFileError> {
    let failed = |err| KeyFileError::Io(path.to_owned(), err);
    let mode = std::fs::metadata(path).map_err(failed)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Open(path.to_owned(), mode));
    }
    std::fs::read_to_string(path).map(Zeroizing::new).map_err(failed)
}
