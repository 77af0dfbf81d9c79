//! The clock, the random generator and durable files: what the shell takes from the system in one place.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rand_core::{Rng as _, UnwrapErr};
use shared::{EnvelopeId, UnixMillis};

/// The manager's clock.
#[must_use]
pub fn now() -> UnixMillis {
    let millis = |d: std::time::Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
    UnixMillis(match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(after) => millis(after),
        Err(before) => millis(before.duration()).saturating_neg(),
    })
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
    rng().fill_bytes(&mut bytes);
    bytes
}

/// A new envelope's identity.
#[must_use]
pub fn new_envelope_id() -> EnvelopeId {
    EnvelopeId(random())
}

/// Puts `bytes` at `path`, readable by the owner only: temporary file, sync, rename, sync of the folder. A
/// reader sees the old file or the new one.
///
/// # Errors
/// The file cannot be written; what was there before stays.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_added_extension("tmp");
    if let Err(err) = fs::remove_file(&temporary)
        && err.kind() != io::ErrorKind::NotFound
    {
        return Err(err);
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    drop(file);
    if let Err(err) = written.and_then(|()| fs::rename(&temporary, path)) {
        // The half-written file is of no use; the error that matters is the first.
        let _ = fs::remove_file(&temporary);
        return Err(err);
    }
    sync_parent(path)
}

/// Makes the names in the folder of `path` durable.
///
/// # Errors
/// The folder cannot be opened or synced.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

/// Who runs this command, for the audit log: the user who has logged in, and the one that he has become if that is another.
#[must_use]
pub fn who() -> String {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let is = rustix::process::getuid().as_raw();
    let login =
        fs::read_to_string("/proc/self/loginuid").ok().and_then(|text| text.trim().parse::<u32>().ok());
    match login.filter(|uid| *uid != u32::MAX && *uid != is) {
        Some(login) => format!("{} as {}", user_name(&passwd, login), user_name(&passwd, is)),
        None => user_name(&passwd, is),
    }
}

fn user_name(passwd: &str, uid: u32) -> String {
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| format!("uid {uid}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_named_as_the_computer_names_him() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nops:x:1001:1001::/home/ops:/bin/sh\n";
        assert_eq!(user_name(passwd, 0), "root");
        assert_eq!(user_name(passwd, 1001), "ops");
        assert_eq!(user_name(passwd, 7), "uid 7");
        assert!(!who().is_empty());
    }
}
