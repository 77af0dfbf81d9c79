//! The agent's own secret keys: made at enrolment and when the manager asks for new ones, kept in files that only the
//! owner can read. Which of them is used for what is the core's to say.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use agent_core::{KeyName, OwnKeys};
use shared::EnvelopeId;
use shared::envelope::{ContentKey, EnvelopeError, Header};
use shared::error::chain;
use shared::keys::{KeyError, OpeningKey, SigningKey};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::files::{random, remove_if_there, sync_folder, write_whole};
use crate::home::Home;

/// One pair.
pub(crate) struct Pair {
    /// Signs reports.
    pub(crate) sign: SigningKey,
    /// Opens orders.
    pub(crate) open: OpeningKey,
}

/// All pairs that are of use.
pub(crate) struct Keys {
    home: Home,
    pairs: BTreeMap<KeyName, Pair>,
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

impl Pair {
    fn random() -> Self {
        let seeds = (Zeroizing::new(random::<32>()), Zeroizing::new(random::<32>()));
        Self { sign: SigningKey::from_seed(&seeds.0), open: OpeningKey::from_seed(&seeds.1) }
    }

    fn save(&self, home: &Home, name: KeyName) -> Result<(), KeyFileError> {
        for (path, text) in [
            (home.sign_key(name), self.sign.to_secret_text()),
            (home.open_key(name), self.open.to_secret_text()),
        ] {
            let line = Zeroizing::new(format!("{}\n", *text));
            write_whole(&path, line.as_bytes()).map_err(|err| KeyFileError::Io(path, err))?;
        }
        Ok(())
    }

    fn load(home: &Home, name: KeyName) -> Result<Self, KeyFileError> {
        let (sign, open) = (home.sign_key(name), home.open_key(name));
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

impl Keys {
    /// Draws the keys of the enrolment and writes them.
    pub(crate) fn create(home: &Home) -> Result<Self, KeyFileError> {
        let pair = Pair::random();
        pair.save(home, KeyName::First)?;
        Ok(Self { home: home.clone(), pairs: BTreeMap::from([(KeyName::First, pair)]) })
    }

    /// Reads the keys that the state names. Without the current ones nothing works; of the others, an agent does what it
    /// can.
    pub(crate) fn load(home: &Home, own: &OwnKeys) -> Result<Self, KeyFileError> {
        let mut pairs = BTreeMap::from([(own.current, Pair::load(home, own.current)?)]);
        for name in own.all().filter(|name| *name != own.current) {
            match Pair::load(home, name) {
                Ok(pair) => {
                    pairs.insert(name, pair);
                }
                Err(KeyFileError::Io(_, err)) if err.kind() == io::ErrorKind::NotFound => {
                    if own.next.map(KeyName::Later) == Some(name) {
                        tracing::error!(?name, "The keys that the manager was told of are gone");
                    }
                }
                Err(err) => tracing::error!(err = chain(&err), "Keys beside the current ones are of no use"),
            }
        }
        Ok(Self { home: home.clone(), pairs })
    }

    /// The pair of this name.
    pub(crate) fn pair(&self, name: KeyName) -> Option<&Pair> {
        self.pairs.get(&name)
    }

    /// Makes the pair of this name unless it is there. Durable when this returns (PROTOCOL 13.1).
    pub(crate) fn make(&mut self, order: EnvelopeId) -> Result<&Pair, KeyFileError> {
        let name = KeyName::Later(order);
        let pair = match self.pairs.remove(&name).map_or_else(|| Pair::load(&self.home, name), Ok) {
            Ok(pair) => pair,
            // Half a pair was never spoken of. Any other trouble is not met with other keys: the manager may know these.
            Err(KeyFileError::Io(_, err)) if err.kind() == io::ErrorKind::NotFound => {
                let pair = Pair::random();
                pair.save(&self.home, name)?;
                pair
            }
            Err(err) => return Err(err),
        };
        let pair = self.pairs.entry(name).or_insert(pair);
        // Whoever wrote the names may have died before they were safe.
        let folder = self.home.path();
        sync_folder(folder).map_err(|err| KeyFileError::Io(folder.to_owned(), err))?;
        Ok(pair)
    }

    /// Removes a pair.
    pub(crate) fn drop_pair(&mut self, name: KeyName) -> io::Result<()> {
        self.pairs.remove(&name);
        remove_if_there(&self.home.sign_key(name))?;
        remove_if_there(&self.home.open_key(name))?;
        sync_folder(self.home.path())
    }

    /// Removes the files of all other keys, and what writing them has left over.
    pub(crate) fn tidy(&self, own: &OwnKeys) -> io::Result<()> {
        let named: Vec<PathBuf> =
            own.all().flat_map(|name| [self.home.sign_key(name), self.home.open_key(name)]).collect();
        for entry in std::fs::read_dir(self.home.path())? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let is_key = name.starts_with("key.") || name.starts_with("key-");
            let ours = [".sign", ".open", ".sign.tmp", ".open.tmp"].iter().any(|end| name.ends_with(end));
            if is_key && ours && !named.contains(&path) {
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// Opens the slot that is for one of our keys, and says for which.
    pub(crate) fn open_slot(
        &self,
        header: &Header,
        sender: shared::KeyId,
    ) -> Result<(ContentKey, KeyName), EnvelopeError> {
        for (name, pair) in &self.pairs {
            match header.open_slot(&pair.open, sender) {
                Err(EnvelopeError::NotForUs) => {}
                other => return other.map(|key| (key, *name)),
            }
        }
        Err(EnvelopeError::NotForUs)
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
