//! The manager's folder: where its files are, its keys, and the lock that keeps a second daemon out.
//!
//! ```text
//! HOME/manager.toml   configuration          HOME/order.key    signs orders (0600)
//! HOME/store.db       everything known       HOME/open.key     opens reports (0600)
//! HOME/bundles/       bundle files           HOME/release.key  signs bundles (0600); may be kept elsewhere
//! HOME/bodies/        sealed bodies          HOME/release.pub  public release keys, one a line
//! HOME/daemon.lock    held by the daemon; its text is the daemon's process ID
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use mailio::config::ConfigError;
use rustix::fs::FlockOperation;
use shared::keys::{KeyError, OpeningKey, SigningKey, VerifyingKey};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::config::Config;
use crate::system::{random, write_whole};

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
const KEY_FILE_MAX_BYTES: u64 = 4096;

/// The manager's secret keys but the release key.
#[derive(Debug)]
pub struct Keys {
    /// Signs orders.
    pub order: SigningKey,
    /// Opens reports.
    pub open: OpeningKey,
    /// Bundles signed by one of these can be sent. Their secret halves may be far away.
    pub release: Vec<VerifyingKey>,
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
        let release = home.release_key(None)?.verifying_key();
        home.write("release.pub", &format!("{}\n", release.to_text()))?;
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
    /// A key file is missing, exposed, or holds no key.
    pub fn keys(&self) -> Result<Keys, HomeError> {
        let secret = |name: &str| self.read_secret(&self.dir.join(name));
        let key_error = |name: &str| {
            let path = self.dir.join(name);
            move |err| HomeError::Key(path, err)
        };
        Ok(Keys {
            order: SigningKey::parse_secret_text(&secret("order.key")?).map_err(key_error("order.key"))?,
            open: OpeningKey::parse_secret_text(&secret("open.key")?).map_err(key_error("open.key"))?,
            release: self.release_public_keys()?,
        })
    }

    /// The public release keys.
    ///
    /// # Errors
    /// The file is missing, empty, or holds something else.
    pub fn release_public_keys(&self) -> Result<Vec<VerifyingKey>, HomeError> {
        let path = self.dir.join("release.pub");
        let text = fs::read_to_string(&path).map_err(|err| HomeError::Io(path.clone(), err))?;
        let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
        let keys: Vec<VerifyingKey> = lines
            .map(VerifyingKey::parse_text)
            .collect::<Result<_, _>>()
            .map_err(|err| HomeError::Key(path.clone(), err))?;
        if keys.is_empty() { Err(HomeError::Key(path, KeyError::NotAKey)) } else { Ok(keys) }
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
        let path = self.dir.join(name);
        write_whole(&path, text.as_bytes()).map_err(|err| HomeError::Io(path, err))
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

/// The right to work on a home. Given back when dropped, and by the system when the process dies.
#[derive(Debug)]
pub struct HomeLock {
    _file: File,
}
