//! The manager's folder: where its files are, its keys, and the lock that keeps a second daemon out.
//!
//! ```text
//! HOME/manager.toml   configuration          HOME/order*.key   sign orders (0600)
//! HOME/store.db       everything known       HOME/open*.key    open reports (0600)
//! HOME/bundles/       bundle files           HOME/release.key  signs bundles (0600); may be kept elsewhere
//! HOME/bodies/        sealed bodies          HOME/trust        the trust statements in force, oldest first
//! HOME/daemon.lock    held by the daemon; its text is the daemon's process ID
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use mailio::config::ConfigError;
use rustix::fs::FlockOperation;
use shared::Digest;
use shared::keys::{KeyError, OpeningKey, SealingKey, SigningKey, VerifyingKey};
use shared::trust::{Statement, Trust, TrustError, introduction};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::config::Config;
use crate::system::{now, random, write_whole};

/// A manager's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    dir: PathBuf,
}

/// A home that cannot be used. All of these are for the operator to mend.
#[derive(Debug, Error)]
pub enum HomeError {
    /// No manager lives there.
    #[error("{} is not the home of a manager: expected {} in it; make one with: mailfleet init", .0.display(), CONFIG)]
    NotAHome(PathBuf),
    /// A manager lives there already.
    #[error("{} is the home of a manager already: nothing was changed", .0.display())]
    Taken(PathBuf),
    /// A file or folder cannot be read or written.
    #[error("cannot use {}", .0.display())]
    Io(PathBuf, #[source] io::Error),
    /// A key file that others can read.
    #[error("{} can be read by others (mode {mode:03o}), expected 600: chmod 600 it, and ask who read it", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A key file that holds no key.
    #[error("{} holds no usable key", .0.display())]
    Key(PathBuf, #[source] KeyError),
    /// The statements in the file `trust` do not follow from each other.
    #[error("{} is damaged", .0.display())]
    Trust(PathBuf, #[source] TrustError),
    /// The trust names a key whose secret half is not in the home.
    #[error("{} trusts the {what} key {id}, and no file {pattern} in the home holds its secret half", path.display())]
    NoSecret {
        /// The file with the trust.
        path: PathBuf,
        /// Which kind of key.
        what: &'static str,
        /// The key.
        id: String,
        /// Where it should be.
        pattern: &'static str,
    },
    /// The configuration cannot be used.
    #[error("the configuration cannot be used")]
    Config(#[source] ConfigError),
    /// Another daemon works here.
    #[error("another mailfleet works on {} (process {pid}): only one may", dir.display())]
    Locked {
        /// The home.
        dir: PathBuf,
        /// The holder's process ID, as its lock file says.
        pid: String,
    },
}

const CONFIG: &str = "manager.toml";
const TRUST: &str = "trust";
const KEY_FILE_MAX_BYTES: u64 = 4096;

/// The manager's secret keys but the release keys, and what its agents are to trust.
#[derive(Debug)]
pub struct Keys {
    /// Signs orders: the first order key of the trust.
    pub order: SigningKey,
    /// Open reports: the trust's opening key first, then those before it, for reports that are still on their way.
    pub open: Vec<OpeningKey>,
    /// What agents are to trust now.
    pub trust: Trust,
    /// The statements that stand before an envelope, so that any agent can follow.
    pub introduction: Vec<u8>,
}

impl Home {
    /// The home in `dir`, where `init` has made one.
    ///
    /// # Errors
    /// None is there.
    pub fn open(dir: &Path) -> Result<Self, HomeError> {
        let home = Self { dir: dir.to_owned() };
        if home.config_path().is_file() { Ok(home) } else { Err(HomeError::NotAHome(dir.to_owned())) }
    }

    /// Makes a home: folders, keys, and last its configuration, so that a half-made home is not taken for one.
    ///
    /// # Errors
    /// One is there already, or a file cannot be written.
    pub fn create(dir: &Path, config_text: &str) -> Result<Self, HomeError> {
        let home = Self { dir: dir.to_owned() };
        if home.config_path().exists() {
            return Err(HomeError::Taken(dir.to_owned()));
        }
        for folder in [home.dir.clone(), home.bundles(), home.bodies()] {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&folder)
                .map_err(|err| HomeError::Io(folder.clone(), err))?;
        }
        let order = SigningKey::from_seed(&Zeroizing::new(random()));
        let open = OpeningKey::from_seed(&Zeroizing::new(random()));
        let release = SigningKey::from_seed(&Zeroizing::new(random()));
        home.write_once("order.key", &order.to_secret_text())?;
        home.write_once("open.key", &open.to_secret_text())?;
        home.write_once("release.key", &release.to_secret_text())?;
        // A retry after a cut-off `init` keeps the keys that are there, so the public half is read back.
        let release = home.release_key(None)?;
        let order = home.secret("order.key", SigningKey::parse_secret_text)?;
        let open = home.secret("open.key", OpeningKey::parse_secret_text)?;
        let orders = vec![order.verifying_key()];
        let trust = Trust::new(1, now(), orders, vec![release.verifying_key()], 1, open.sealing_key());
        let mut statement = Statement::unsigned(&trust);
        statement.sign(&release);
        home.write_bytes(TRUST, &statement.to_bytes())?;
        home.write(CONFIG, config_text)?;
        Ok(home)
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The configuration file.
    #[must_use]
    pub fn config_path(&self) -> PathBuf {
        self.dir.join(CONFIG)
    }

    /// The database file.
    #[must_use]
    pub fn store_path(&self) -> PathBuf {
        self.dir.join("store.db")
    }

    /// The folder of bundle files.
    #[must_use]
    pub fn bundles(&self) -> PathBuf {
        self.dir.join("bundles")
    }

    /// The folder of sealed bodies.
    #[must_use]
    pub fn bodies(&self) -> PathBuf {
        self.dir.join("bodies")
    }

    /// Reads the configuration.
    ///
    /// # Errors
    /// It cannot be read or used.
    pub fn config(&self) -> Result<Config, HomeError> {
        Config::load(&self.config_path()).map_err(HomeError::Config)
    }

    /// Reads the keys.
    ///
    /// # Errors
    /// A key file is missing, exposed, or holds no key; the trust is damaged.
    pub fn keys(&self) -> Result<Keys, HomeError> {
        let chain = self.trust_chain()?;
        let trust = self.follow(&chain)?;
        let missing =
            |what, id: String, pattern| HomeError::NoSecret { path: self.trust_path(), what, id, pattern };
        let orders = self.secrets("order", SigningKey::parse_secret_text)?;
        let signs = trust.order_keys.first();
        let order = orders.into_iter().find(|key| signs == Some(&key.verifying_key())).ok_or_else(|| {
            missing("order", signs.map(|key| key.key_id().to_string()).unwrap_or_default(), "order*.key")
        })?;
        let mut open = self.secrets("open", OpeningKey::parse_secret_text)?;
        open.sort_by_key(|key| key.sealing_key() != trust.seal_key);
        if open.first().is_none_or(|key| key.sealing_key() != trust.seal_key) {
            return Err(missing("opening", short_id(&trust.seal_key), "open*.key"));
        }
        Ok(Keys { order, open, introduction: introduction(&chain), trust })
    }

    /// What agents are to trust now. Needs no secret.
    ///
    /// # Errors
    /// The file is missing, or its statements do not follow from each other.
    pub fn trust(&self) -> Result<Trust, HomeError> {
        self.follow(&self.trust_chain()?)
    }

    /// Puts a statement into force that enough release keys have signed. The caller holds the home's lock.
    ///
    /// # Errors
    /// It does not follow from the trust in force, or the file cannot be written.
    pub fn accept(&self, statement: &Statement) -> Result<Trust, HomeError> {
        let mut chain = self.trust_chain()?;
        let known = self.follow(&chain)?;
        let trust = statement.accept(&known).map_err(|err| HomeError::Trust(self.trust_path(), err))?;
        chain.push(statement.clone());
        let bytes: Vec<u8> = chain.iter().flat_map(Statement::to_bytes).collect();
        self.write_bytes(TRUST, &bytes)?;
        Ok(trust)
    }

    /// Makes a new order key and keeps it. It signs nothing before the trust names it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn new_order_key(&self) -> Result<VerifyingKey, HomeError> {
        let key = SigningKey::from_seed(&Zeroizing::new(random()));
        let public = key.verifying_key();
        self.write(&format!("order-{}.key", public.key_id()), &key.to_secret_text())?;
        Ok(public)
    }

    /// Makes a new opening key and keeps it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn new_opening_key(&self) -> Result<SealingKey, HomeError> {
        let key = OpeningKey::from_seed(&Zeroizing::new(random()));
        let public = key.sealing_key();
        self.write(&format!("open-{}.key", short_id(&public)), &key.to_secret_text())?;
        Ok(public)
    }

    fn trust_path(&self) -> PathBuf {
        self.dir.join(TRUST)
    }

    fn trust_chain(&self) -> Result<Vec<Statement>, HomeError> {
        let path = self.trust_path();
        let bytes = fs::read(&path).map_err(|err| HomeError::Io(path.clone(), err))?;
        Statement::read_all(&bytes).map_err(|err| HomeError::Trust(path, err))
    }

    fn follow(&self, chain: &[Statement]) -> Result<Trust, HomeError> {
        let damaged = |err| HomeError::Trust(self.trust_path(), err);
        let (first, later) = chain.split_first().ok_or_else(|| damaged(TrustError::Truncated))?;
        let first = first.inspect_unverified().map_err(damaged)?;
        later.iter().try_fold(first, |known, statement| statement.accept(&known)).map_err(damaged)
    }

    /// The keys in the files `prefix*.key`.
    fn secrets<K>(&self, prefix: &str, parse: fn(&str) -> Result<K, KeyError>) -> Result<Vec<K>, HomeError> {
        let io_error = |err| HomeError::Io(self.dir.clone(), err);
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(io_error)? {
            let name = entry.map_err(io_error)?.file_name();
            names.extend(name.into_string().ok().filter(|n| n.starts_with(prefix) && n.ends_with(".key")));
        }
        names.sort();
        names.iter().map(|name| self.secret(name, parse)).collect()
    }

    fn secret<K>(&self, name: &str, parse: fn(&str) -> Result<K, KeyError>) -> Result<K, HomeError> {
        let path = self.dir.join(name);
        let text = self.read_secret(&path)?;
        parse(&text).map_err(|err| HomeError::Key(path, err))
    }

    /// The secret release key: the home's, or the one in `file`. The daemon never needs it (PROTOCOL 2.1).
    ///
    /// # Errors
    /// The file is missing, exposed, or holds no key.
    pub fn release_key(&self, file: Option<&Path>) -> Result<SigningKey, HomeError> {
        let path = file.map_or_else(|| self.dir.join("release.key"), Path::to_owned);
        let text = self.read_secret(&path)?;
        SigningKey::parse_secret_text(&text).map_err(|err| HomeError::Key(path, err))
    }

    /// Takes the home's lock for as long as the value lives.
    ///
    /// # Errors
    /// Another process holds it.
    pub fn lock(&self) -> Result<HomeLock, HomeError> {
        let path = self.dir.join("daemon.lock");
        let io_error = |err| HomeError::Io(path.clone(), err);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(io_error)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut pid = String::new();
                // Only a hint for a person; a holder that has just started may not have written it yet.
                let _ = (&mut file).take(32).read_to_string(&mut pid);
                let pid = if pid.trim().is_empty() { "unknown".to_owned() } else { pid.trim().to_owned() };
                return Err(HomeError::Locked { dir: self.dir.clone(), pid });
            }
            Err(err) => return Err(io_error(err.into())),
        }
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(io_error)?;
        Ok(HomeLock { _file: file })
    }

    fn write(&self, name: &str, text: &str) -> Result<(), HomeError> {
        self.write_bytes(name, text.as_bytes())
    }

    fn write_bytes(&self, name: &str, bytes: &[u8]) -> Result<(), HomeError> {
        let path = self.dir.join(name);
        write_whole(&path, bytes).map_err(|err| HomeError::Io(path, err))
    }

    fn write_once(&self, name: &str, secret: &Zeroizing<String>) -> Result<(), HomeError> {
        if self.dir.join(name).exists() { Ok(()) } else { self.write(name, secret) }
    }

    #[allow(clippy::unused_self, reason = "reads a file of the home or one that stands for it")]
    fn read_secret(&self, path: &Path) -> Result<Zeroizing<String>, HomeError> {
        let io_error = |err| HomeError::Io(path.to_owned(), err);
        let file = File::open(path).map_err(io_error)?;
        let mode = file.metadata().map_err(io_error)?.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(HomeError::Exposed { path: path.to_owned(), mode });
        }
        let mut text = Zeroizing::new(String::new());
        file.take(KEY_FILE_MAX_BYTES).read_to_string(&mut text).map_err(io_error)?;
        Ok(text)
    }
}

/// Names an opening key in file names and messages.
fn short_id(key: &SealingKey) -> String {
    Digest::of(&key.to_bytes()).to_hex().chars().take(16).collect()
}

/// The right to work on a home. Given back when dropped, and by the system when the process dies.
#[derive(Debug)]
pub struct HomeLock {
    _file: File,
}
