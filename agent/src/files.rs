//! Small steps with files that must survive a power cut: write whole or not at all, sync, pick random bytes.
//! Knows nothing about what the files mean.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rand_core::UnwrapErr;
use rustix::fs::{Mode, OFlags};
use shared::UnixMillis;
use shared::bundle::SPECIAL_MODE_BITS;
use shared::limits::CHUNK_BYTES;

use crate::bent::clock_error_ms;

/// Puts `bytes` at `path`, readable by the owner only: temporary file, sync, rename, sync of the folder.
/// A reader sees the old file or the new one.
///
/// # Errors
/// Any step failed; the old file is still there, or the new one already.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_added_extension("tmp");
    let mut file = create_private(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&temporary, path)?;
    sync_parent(path)
}

/// Creates or empties a file that only its owner can read.
///
/// # Errors
/// The file cannot be made.
pub fn create_private(path: &Path) -> io::Result<File> {
    // A file that is there already keeps its mode, so it goes first.
    remove_if_there(path)?;
    OpenOptions::new().write(true).read(true).create_new(true).mode(0o600).open(path)
}

/// Makes a folder, and those above it, for the owner only.
///
/// # Errors
/// A folder cannot be made.
pub fn private_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Gives a file its mode, all of it: a kernel that leaves set-ID bits out says nothing.
///
/// # Errors
/// The mode cannot be set, or is not the file's after that.
pub fn set_mode(file: &File, mode: u32) -> io::Result<()> {
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    let found = file.metadata()?.permissions().mode() & SPECIAL_MODE_BITS;
    let expected = mode & SPECIAL_MODE_BITS;
    if found == expected {
        return Ok(());
    }
    Err(io::Error::other(format!("expected the mode bits {expected:#o}, the system allows {found:#o}")))
}

/// Makes a folder, and those above it, and their names durable: also that of a folder which is there, for whoever
/// made it may have died before it was.
///
/// # Errors
/// A folder cannot be made or synced.
pub fn durable_folder(path: &Path, mode: u32) -> io::Result<()> {
    let was_there = path.exists();
    let missing: Vec<&Path> = path.ancestors().skip(1).take_while(|above| !above.exists()).collect();
    fs::DirBuilder::new().recursive(true).mode(mode).create(path)?;
    missing.into_iter().try_for_each(sync_parent)?;
    match sync_parent(path) {
        // An older folder in one that this user may not read is for its owner to keep.
        Err(err) if was_there && err.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        other => other,
    }
}

/// Puts `bytes` at `path`, readable by an agent that is another user: whole or not at all. The folder has to be there: a slip in
/// a path must not make another.
///
/// # Errors
/// Any step failed; the old file is still there, or the new one already.
pub fn write_readable(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mode = fs::Permissions::from_mode(0o644);
    let mut file = tempfile::Builder::new().prefix(".").permissions(mode).tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|err| err.error)?;
    sync_parent(path)
}

/// Opens a folder that others may write to: the folder itself, if it is ours and no link.
///
/// # Errors
/// It is not there, a link, or somebody else's.
pub fn open_shared_folder(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let (owner, own) = (folder.metadata()?.uid(), rustix::process::geteuid().as_raw());
    if owner != own && owner != 0 {
        return Err(io::Error::other(format!("the folder belongs to user {owner}, expected {own} or root")));
    }
    Ok(folder)
}

/// Reads a file that somebody else may have put into an open folder, and when it was written.
///
/// # Errors
/// It is no regular file of one name, larger than `most`, or no text.
pub fn read_shared(folder: &File, name: &str, most: u64) -> io::Result<(String, UnixMillis)> {
    // NONBLOCK: a FIFO that someone put there must not stop the agent.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(folder, name, flags, Mode::empty())?);
    let found = file.metadata()?;
    // A second name would make any file of the box that looks like the expected one it.
    if !found.is_file() || found.nlink() != 1 || found.len() > most {
        let why = format!("expected a regular file of one name and at most {most} bytes");
        return Err(io::Error::other(why));
    }
    let mut text = String::new();
    file.take(most).read_to_string(&mut text)?;
    Ok((text, UnixMillis(found.mtime().saturating_mul(1_000))))
}

/// Makes the names in the folder of `path` durable.
///
/// # Errors
/// The folder cannot be synced.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => sync_folder(parent),
        None => Ok(()),
    }
}

/// Makes the names in a folder durable.
///
/// # Errors
/// The folder cannot be synced.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Removes a file; it need not be there.
///
/// # Errors
/// The file cannot be removed.
pub fn remove_if_there(path: &Path) -> io::Result<()> {
    unless_missing(fs::remove_file(path))
}

/// Removes a folder with all in it; it need not be there.
///
/// # Errors
/// The folder cannot be removed.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    unless_missing(fs::remove_dir_all(path))
}

/// Takes "not found" for success.
///
/// # Errors
/// `result`'s, unless it is "not found".
pub fn unless_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Copies in pieces, and tells each piece to `see`. Returns the bytes copied.
///
/// # Errors
/// Reading or writing failed.
pub fn copy_seen(from: &mut dyn Read, to: &mut dyn Write, see: &mut dyn FnMut(&[u8])) -> io::Result<u64> {
    let mut buffer = vec![0u8; CHUNK_BYTES];
    let mut total = 0u64;
    loop {
        let n = match from.read(&mut buffer) {
            Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        let piece = buffer.get(..n).unwrap_or_default();
        if piece.is_empty() {
            return Ok(total);
        }
        see(piece);
        to.write_all(piece)?;
        total = total.saturating_add(piece.len() as u64);
    }
}

/// The box's clock.
#[must_use]
pub fn now() -> UnixMillis {
    let millis = |d: std::time::Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
    let clock = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(after) => millis(after),
        Err(before) => millis(before.duration()).saturating_neg(),
    };
    UnixMillis(clock.saturating_add(clock_error_ms()))
}

/// The system's random generator.
#[must_use]
pub fn rng() -> UnwrapErr<getrandom::SysRng> {
    UnwrapErr(getrandom::SysRng)
}

/// Random bytes.
#[must_use]
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0u8; N];
    rand_core::Rng::fill_bytes(&mut rng(), &mut bytes);
    bytes
}

/// True if the disk is full or the quota used up.
#[must_use]
pub fn is_full(err: &io::Error) -> bool {
    matches!(
        err.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}
