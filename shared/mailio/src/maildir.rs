//! Maildirs (<https://cr.yp.to/proto/maildir.html>): one folder, or a spool with one per address. They are
//! the mail system of the quickstart and of simulated fleets, and of sites with a shared disk.
//!
//! Makes no claim on locking: `tmp`, `fsync`, `rename` is the whole protocol, as Maildir intends.

pub(crate) mod deliver;
pub(crate) mod read;

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use shared::MailAddress;

/// Folder for junk below a Maildir.
pub(crate) const JUNK: &str = ".mailfleet-junk";

/// Where an address has its Maildir in a spool. Lower case, because mail systems fold it; `/` and `%`, which
/// addresses may hold, as hexadecimal.
pub(crate) fn of_address(spool: &Path, address: &MailAddress) -> PathBuf {
    let name = address.as_str().to_ascii_lowercase();
    spool.join(name.replace('%', "%25").replace('/', "%2F"))
}

/// Makes the folders of a Maildir, readable by its owner alone.
pub(crate) fn create(folder: &Path) -> io::Result<()> {
    for sub in ["tmp", "new", "cur"] {
        DirBuilder::new().recursive(true).mode(0o700).create(folder.join(sub))?;
    }
    Ok(())
}
