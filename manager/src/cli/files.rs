//! Files, read and written with care: whole or not at all, no larger than expected, and inside a folder that
//! somebody else may have filled with links.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, openat, statat};
use shared::ModulePath;
use tempfile::NamedTempFile;

use super::fail::{Fail, OrFail as _};

/// Reads a text file of at most `max_bytes`.
pub(crate) fn read_text(path: &Path, what: &str, max_bytes: u64) -> Result<String, Fail> {
    let failed = || format!("cannot read {what} {}", path.display());
    let mut text = String::new();
    let file = File::open(path).or_usage(failed())?;
    let n = file.take(max_bytes.saturating_add(1)).read_to_string(&mut text).or_usage(failed())?;
    if n as u64 > max_bytes {
        return Err(Fail::usage(format!(
            "{what} {} is too large: expected at most {max_bytes} bytes",
            path.display()
        )));
    }
    Ok(text)
}

/// How the names of half-written files begin.
const TEMPORARY: &str = ".mailfleet-";

/// A half-written file that is older than this has nobody who writes it.
const LEFTOVER_AGE: Duration = Duration::from_secs(3600);

/// Removes what killed commands have left half-written in a folder. What cannot be removed stays.
pub(crate) fn clear_leftovers(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(TEMPORARY));
        let modified = entry.metadata().ok().filter(fs::Metadata::is_file).and_then(|m| m.modified().ok());
        let age = modified.and_then(|at| at.elapsed().ok());
        if ours && age.is_some_and(|age| age > LEFTOVER_AGE) {
            // Only room is at stake.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// A file that appears under its name only when it is complete and on the disk.
pub(crate) struct NewFile {
    temp: NamedTempFile,
    path: PathBuf,
}

impl NewFile {
    /// Begins a file with these permission bits.
    pub(crate) fn create(path: &Path, mode: u32) -> io::Result<Self> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(TEMPORARY).permissions(fs::Permissions::from_mode(mode));
        let temp = builder.tempfile_in(folder_of(path)).map_err(without_temporary_path)?;
        Ok(Self { temp, path: path.to_owned() })
    }

    /// Where to write.
    pub(crate) fn file(&mut self) -> &mut File {
        self.temp.as_file_mut()
    }

    /// Makes it appear, replacing what has its name.
    pub(crate) fn finish(self) -> io::Result<()> {
        self.temp.as_file().sync_all()?;
        self.temp.persist(&self.path).map_err(|err| err.error)?;
        // The name itself is safe only when the folder is on the disk.
        File::open(folder_of(&self.path))?.sync_all()
    }
}

/// The name of a temporary file tells the user nothing; the error that the system gave does.
fn without_temporary_path(err: io::Error) -> io::Error {
    match err.to_string().split_once(" at path ") {
        Some((text, _)) => io::Error::new(err.kind(), text.to_owned()),
        None => err,
    }
}

/// Writes a whole file or nothing, but leaves the sync to [`sync_filesystem`].
pub(crate) fn write_unsynced(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut new = NewFile::create(path, mode)?;
    new.file().write_all(bytes)?;
    new.temp.persist(&new.path).map(drop).map_err(|err| err.error)
}

/// Puts everything that was written on the disk of `path` on it for good.
pub(crate) fn sync_filesystem(path: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(File::open(folder_of(path))?)?)
}

/// The folder that holds `path`.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A folder from which plain files are opened by checked paths; links are refused at every step, so that a
/// bundle holds what lies in its folder and nothing else.
pub(crate) struct PlainFolder {
    root: File,
}

impl PlainFolder {
    /// Opens the folder itself, which may be reached through a link: the user named it.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = i32::try_from(OFlags::DIRECTORY.bits()).unwrap_or(0);
        Ok(Self { root: fs::OpenOptions::new().read(true).custom_flags(flags).open(path)? })
    }

    /// Opens a plain file below the folder.
    pub(crate) fn file(&self, path: &ModulePath) -> io::Result<File> {
        let mut folder = self.root.try_clone()?;
        let mut names = path.as_str().split('/').peekable();
        while let Some(name) = names.next() {
            let found = FileType::from_raw_mode(statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode);
            let expected = if names.peek().is_some() { FileType::Directory } else { FileType::RegularFile };
            if found != expected {
                return Err(io::Error::other(format!(
                    "{name} is {}, expected {}",
                    type_name(found),
                    type_name(expected)
                )));
            }
            // NOFOLLOW: nobody slips a link in between. NONBLOCK: nor a pipe that never answers.
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            folder = File::from(openat(&folder, name, flags, Mode::empty())?);
        }
        if folder.metadata()?.is_file() {
            Ok(folder)
        } else {
            Err(io::Error::other("it changed while it was opened, expected a plain file"))
        }
    }
}

fn type_name(file_type: FileType) -> &'static str {
    match file_type {
        FileType::RegularFile => "a plain file",
        FileType::Directory => "a folder",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a pipe",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        FileType::Unknown => "of an unknown type",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_finished_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let mut new = NewFile::create(&path, 0o600).unwrap();
        new.file().write_all(b"half").unwrap();
        drop(new);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let mut new = NewFile::create(&path, 0o600).unwrap();
        new.file().write_all(b"whole").unwrap();
        new.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn only_old_half_written_files_are_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let old = std::time::SystemTime::now() - LEFTOVER_AGE * 2;
        for (name, aged) in [(".mailfleet-a", true), (".mailfleet-b", false), ("A1.invite", true)] {
            let file = File::create(dir.path().join(name)).unwrap();
            if aged {
                file.set_modified(old).unwrap();
            }
        }
        clear_leftovers(dir.path());
        assert!(!dir.path().join(".mailfleet-a").exists());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn links_pipes_and_folders_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("sub/file"), b"x").unwrap();
        std::os::unix::fs::symlink("file", dir.path().join("sub/link")).unwrap();
        std::os::unix::fs::symlink("sub", dir.path().join("linked")).unwrap();
        let folder = PlainFolder::open(dir.path()).unwrap();
        let open = |path| folder.file(&ModulePath::parse(path).unwrap()).map(drop).map_err(|e| e.to_string());
        assert_eq!(open("sub/file"), Ok(()));
        assert_eq!(open("sub/link").unwrap_err(), "link is a symbolic link, expected a plain file");
        assert_eq!(open("linked/file").unwrap_err(), "linked is a symbolic link, expected a folder");
        assert_eq!(open("sub").unwrap_err(), "sub is a folder, expected a plain file");
        assert!(open("sub/none").unwrap_err().contains("No such file"));
    }
}
