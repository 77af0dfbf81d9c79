//! A firmware image as it is read to be sent: once, from its beginning to its end, in pieces. Its last piece comes only if the
//! whole is what was signed.

use std::io::SeekFrom;
use std::path::Path;

use shared::{Digest, Hasher};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use super::Package;

/// An open image.
pub(crate) struct Image {
    file: File,
    bytes: u64,
    digest: Digest,
    read: Hasher,
    sent: u64,
}

impl Image {
    /// Opens it.
    ///
    /// # Errors
    /// It is not there, or not of the size that was signed.
    pub(super) async fn open(path: &Path, package: &Package<'_>) -> Result<Self, String> {
        let cannot = |err: std::io::Error| format!("cannot read {}: {err}", path.display());
        let file = File::open(path).await.map_err(cannot)?;
        let found = file.metadata().await.map_err(cannot)?.len();
        if found != package.bytes || found == 0 {
            return Err(format!("{} has {found} bytes, expected {}", path.display(), package.bytes));
        }
        Ok(Self { file, bytes: found, digest: package.digest, read: Hasher::default(), sent: 0 })
    }

    /// Its size.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes that have left.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// So many have left.
    pub(super) fn left(&mut self, count: usize) {
        self.sent = self.sent.saturating_add(count as u64);
    }

    /// The next piece, of at most so many bytes; `None` at the end.
    ///
    /// # Errors
    /// It cannot be read, or with its last piece it is not what was signed.
    pub(super) async fn next(&mut self, most: usize) -> Result<Option<Vec<u8>>, String> {
        let rest = self.bytes.saturating_sub(self.read.len());
        let count = usize::try_from(rest).unwrap_or(usize::MAX).min(most);
        if count == 0 {
            return Ok(None);
        }
        let mut piece = vec![0; count];
        let changed = |err| format!("the image changed while it was sent: {err}");
        self.file.read_exact(&mut piece).await.map_err(changed)?;
        self.read.update(&piece);
        if self.read.len() == self.bytes && self.read.clone().finish() != self.digest {
            return Err("the image changed while it was sent: it is not what was signed".to_owned());
        }
        Ok(Some(piece))
    }

    /// Back to its beginning, for somebody who asks for it again.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) async fn again(&mut self) -> Result<(), String> {
        self.file.seek(SeekFrom::Start(0)).await.map_err(|err| format!("cannot read the image: {err}"))?;
        (self.read, self.sent) = (Hasher::default(), 0);
        Ok(())
    }

    /// Whether the whole file is what was signed; afterwards it is at its beginning.
    ///
    /// # Errors
    /// It is not.
    pub(super) async fn verify(&mut self, most: usize) -> Result<(), String> {
        self.again().await?;
        while self.next(most).await?.is_some() {}
        self.again().await
    }
}
