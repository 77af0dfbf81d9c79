//! Parts of orders on the disk (PROTOCOL 17): one file for each body, written where its parts belong, and the head of each
//! order. What of a body is here is not in the file but in the state, which is saved after the bytes are durable.
//!
//! ```text
//! parts/BODY.body    bytes of a sealed body, in their places; the rest is holes
//! parts/ORDER.head   the order's signed head, as it came
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use shared::{Digest, EnvelopeId};

use crate::files::{copy_seen, private_folder, sync_parent, write_whole};

/// The folder.
#[derive(Clone, Debug)]
pub(crate) struct Parts(PathBuf);

impl Parts {
    pub(crate) fn below(home: &Path) -> Self {
        Self(home.join("parts"))
    }

    pub(crate) fn head(&self, order: EnvelopeId) -> PathBuf {
        self.0.join(format!("{order}.head"))
    }

    pub(crate) fn body(&self, body: Digest) -> PathBuf {
        self.0.join(format!("{body}.body"))
    }

    /// Keeps an order's head: durable when this returns.
    pub(crate) fn keep_head(&self, order: EnvelopeId, head: &[u8]) -> io::Result<()> {
        self.create()?;
        let path = self.head(order);
        // Heads of one order differ in nothing that counts here.
        if path.exists() { Ok(()) } else { write_whole(&path, head) }
    }

    /// Puts bytes, which were checked, into their place: durable when this returns. Bytes that are there already are
    /// the same.
    pub(crate) fn keep_bytes(
        &self,
        body: Digest,
        at: u64,
        from: &mut dyn Read,
        see: &mut dyn FnMut(&[u8]),
    ) -> io::Result<()> {
        self.create()?;
        let path = self.body(body);
        let mut file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        file.seek(SeekFrom::Start(at))?;
        copy_seen(from, &mut file, see)?;
        file.sync_all()?;
        sync_parent(&path)
    }

    /// Removes whatever belongs to none of these orders and bodies.
    pub(crate) fn tidy(&self, keep: &[(EnvelopeId, Digest)]) -> io::Result<()> {
        let entries = match fs::read_dir(&self.0) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        for entry in entries {
            let path = entry?.path();
            let kept = keep.iter().any(|(order, body)| path == self.head(*order) || path == self.body(*body));
            if !kept {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// Homes of older versions have no such folder.
    fn create(&self) -> io::Result<()> {
        if self.0.is_dir() {
            return Ok(());
        }
        private_folder(&self.0)?;
        sync_parent(&self.0)
    }
}

/// True if what failed is that a file is not there.
pub(crate) fn is_missing(opened: &io::Result<File>) -> bool {
    opened.as_ref().is_err_and(|err| err.kind() == io::ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    const ORDER: EnvelopeId = EnvelopeId([1; 16]);

    #[test]
    fn parts_come_together_in_any_order_and_twice() {
        let home = tempfile::tempdir().unwrap();
        let parts = Parts::below(home.path());
        let body = Digest::of(b"abcdefg");
        for (at, bytes) in [(4u64, &b"efg"[..]), (0, b"ab"), (2, b"cd"), (0, b"abcd")] {
            parts.keep_bytes(body, at, &mut &*bytes, &mut |_| {}).unwrap();
        }
        assert_eq!(fs::read(parts.body(body)).unwrap(), b"abcdefg");
        let mode = fs::metadata(parts.body(body)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn only_what_is_gathered_stays() {
        let home = tempfile::tempdir().unwrap();
        let parts = Parts::below(home.path());
        parts.tidy(&[]).unwrap();
        let (kept, gone) = (Digest::of(b"kept"), Digest::of(b"gone"));
        for body in [kept, gone] {
            parts.keep_bytes(body, 0, &mut &b"x"[..], &mut |_| {}).unwrap();
        }
        parts.keep_head(ORDER, b"head").unwrap();
        parts.keep_head(EnvelopeId([2; 16]), b"other").unwrap();
        parts.tidy(&[(ORDER, kept)]).unwrap();
        let left = [parts.head(ORDER), parts.body(kept), parts.body(gone), parts.head(EnvelopeId([2; 16]))];
        assert_eq!(left.map(|path| path.exists()), [true, true, false, false]);
    }
}
