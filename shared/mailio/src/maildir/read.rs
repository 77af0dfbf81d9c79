//! Reads a Maildir as a [`crate::Mailbox`] sees it. Ignores `tmp`, dot files, folders and links; follows a
//! mail that another program moved from `new` to `cur`.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::error::{ContentError, FetchError, MailError};
use crate::mailbox::{Found, MailKey};
use crate::maildir::{JUNK, create};
use crate::mime::HEADER_MAX_BYTES;
use crate::mime::header::Headers;

const READ_BYTES: usize = 64 * 1024;

/// One Maildir.
pub(crate) struct Folder {
    path: PathBuf,
}

impl Folder {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The oldest mails, at most `max`; the folder is made if it is not there.
    pub(crate) fn look(&self, max: usize) -> Result<Vec<Found>, MailError> {
        create(&self.path).map_err(|err| self.failed("making", err))?;
        // Only the oldest are kept while listing, so that a million files need no memory.
        let mut oldest: BTreeSet<(u64, String, PathBuf)> = BTreeSet::new();
        for sub in ["new", "cur"] {
            let entries =
                std::fs::read_dir(self.path.join(sub)).map_err(|err| self.failed("listing", err))?;
            for entry in entries {
                let entry = entry.map_err(|err| self.failed("listing", err))?;
                let Some(name) = mail_name(&entry) else { continue };
                let base = base(&name).to_owned();
                oldest.insert((seconds(&base), base, entry.path()));
                if oldest.len() > max {
                    oldest.pop_last();
                }
            }
        }
        let mut found = Vec::with_capacity(oldest.len());
        for (_, base, path) in oldest {
            match header_block(&path) {
                Ok((size, headers)) => found.push(Found::read(MailKey::file(base), size, &headers)),
                // Another program took it in between.
                Err(err) if err.kind() == io::ErrorKind::NotFound => {}
                Err(err) => return Err(self.failed("reading a mail of", err)),
            }
        }
        Ok(found)
    }

    /// Reads a mail piece by piece; `push` returns false when it has enough.
    pub(crate) async fn read(
        &self,
        key: &MailKey,
        size_max_bytes: u64,
        push: &mut (dyn FnMut(&[u8]) -> Result<bool, FetchError> + Send),
    ) -> Result<(), FetchError> {
        let path = self.find(key.as_file()?).map_err(|err| self.failed("listing", err))?;
        let mut file =
            File::open(path.ok_or(FetchError::Gone)?).map_err(|err| self.failed("opening a mail of", err))?;
        let size = file.metadata().map_err(|err| self.failed("reading a mail of", err))?.len();
        if size > size_max_bytes {
            return Err(ContentError::TooLarge { limit_bytes: size_max_bytes }.into());
        }
        let mut buf = vec![0u8; READ_BYTES];
        loop {
            let count = file.read(&mut buf).map_err(|err| self.failed("reading a mail of", err))?;
            let bytes = buf.get(..count).unwrap_or_default();
            if bytes.is_empty() || !push(bytes)? {
                return Ok(());
            }
            tokio::task::yield_now().await;
        }
    }

    /// Deletes a mail; one that is gone does no harm.
    pub(crate) fn delete(&self, key: &MailKey) -> Result<(), MailError> {
        let path = self.find(key.as_file()?).map_err(|err| self.failed("listing", err))?;
        match path.map_or(Ok(()), std::fs::remove_file) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => Err(self.failed("deleting a mail of", err)),
            _ => Ok(()),
        }
    }

    /// Moves a mail to the junk folder.
    pub(crate) fn aside(&self, key: &MailKey) -> Result<(), MailError> {
        let name = key.as_file()?;
        let Some(path) = self.find(name).map_err(|err| self.failed("listing", err))? else { return Ok(()) };
        let junk = self.path.join(JUNK).join("cur");
        let moved = DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&junk)
            .and_then(|()| std::fs::rename(path, junk.join(name)));
        moved.map_err(|err| self.failed("setting aside a mail of", err))
    }

    pub(crate) fn probe(&self) -> Result<String, MailError> {
        create(&self.path).map_err(|err| self.failed("making", err))?;
        Ok(format!("Maildir {} is there", self.path.display()))
    }

    /// Where a mail is now: in `new`, or in `cur` with whatever flags.
    fn find(&self, name: &str) -> io::Result<Option<PathBuf>> {
        for sub in ["new", "cur"] {
            let path = self.path.join(sub).join(name);
            if path.symlink_metadata().is_ok_and(|m| m.is_file()) {
                return Ok(Some(path));
            }
        }
        for entry in std::fs::read_dir(self.path.join("cur"))? {
            let entry = entry?;
            if mail_name(&entry).is_some_and(|n| base(&n) == name) {
                return Ok(Some(entry.path()));
            }
        }
        Ok(None)
    }

    fn failed(&self, doing: &str, err: io::Error) -> MailError {
        MailError::io(format!("{doing} Maildir {}", self.path.display()), err)
    }
}

// Names that are not UTF-8, or could leave the folder, are not ours to touch.
fn mail_name(entry: &std::fs::DirEntry) -> Option<String> {
    let name = entry.file_name().into_string().ok()?;
    let plain = !name.starts_with('.') && entry.file_type().is_ok_and(|t| t.is_file());
    plain.then_some(name)
}

/// The unique part, without `:2,flags`.
fn base(name: &str) -> &str {
    name.split(':').next().unwrap_or(name)
}

/// Delivery time in a Maildir name; what has none comes last.
fn seconds(base: &str) -> u64 {
    base.split('.').next().and_then(|s| s.parse().ok()).unwrap_or(u64::MAX)
}

fn header_block(path: &Path) -> io::Result<(u64, Headers)> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    let mut block = Vec::new();
    let most = u64::try_from(HEADER_MAX_BYTES).unwrap_or(u64::MAX);
    file.take(most).read_to_end(&mut block)?;
    // A block that is cut or too large still has its first fields; the class then follows from those.
    Ok((size, Headers::parse(&block).unwrap_or_default()))
}
