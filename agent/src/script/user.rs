//! The users of the box: the one that scripts run as, if it is another one than the agent's, and names. Reads the box's own list: a user that
//! is known only over the network would be unknown when an update is needed most.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::limits::PASSWD_MAX_BYTES;

const PASSWD: &str = "/etc/passwd";

/// A user of the box.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ScriptUser {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) home: PathBuf,
}

/// Scripts cannot be run as this user.
#[derive(Debug, Error)]
pub(crate) enum UserError {
    /// Nobody of that name.
    #[error("script_user: expected a user in {PASSWD}, found \"{0}\"")]
    Unknown(String),
    /// Only root can run programs as somebody else.
    #[error("script_user: only root can run scripts as \"{name}\" (user {uid}), the agent is user {own}")]
    NotRoot {
        /// The user.
        name: String,
        /// Its number.
        uid: u32,
        /// The agent's.
        own: u32,
    },
    /// The list cannot be read.
    #[error("cannot read {PASSWD}")]
    Read(#[source] std::io::Error),
}

impl ScriptUser {
    /// Finds a user and makes sure that this process may become it.
    pub(crate) fn find(name: &str) -> Result<Self, UserError> {
        let user = in_list(Path::new(PASSWD), name)?;
        let own = rustix::process::geteuid().as_raw();
        if own != 0 && own != user.uid {
            return Err(UserError::NotRoot { name: user.name, uid: user.uid, own });
        }
        Ok(user)
    }
}

/// The name of a user, if the box's own list has it.
pub(crate) fn name_of(uid: u32) -> Option<String> {
    let text = read_list(Path::new(PASSWD)).ok()?;
    let has_number = |line: &&str| line.split(':').nth(2).and_then(|field| field.parse().ok()) == Some(uid);
    text.lines().find(has_number)?.split(':').next().map(str::to_owned)
}

fn read_list(list: &Path) -> std::io::Result<String> {
    let mut text = Vec::new();
    std::fs::File::open(list)?.take(PASSWD_MAX_BYTES).read_to_end(&mut text)?;
    // Names of people may be in any encoding.
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn in_list(list: &Path, name: &str) -> Result<ScriptUser, UserError> {
    let text = read_list(list).map_err(UserError::Read)?;
    text.lines().find_map(|line| user_in(line, name)).ok_or_else(|| UserError::Unknown(name.to_owned()))
}

/// `name:x:uid:gid:who:home:shell`
fn user_in(line: &str, name: &str) -> Option<ScriptUser> {
    let mut fields = line.split(':');
    if name.is_empty() || fields.next()? != name {
        return None;
    }
    let (uid, gid, home) = (fields.nth(1)?, fields.next()?, fields.nth(1)?);
    Some(ScriptUser {
        name: name.to_owned(),
        uid: uid.parse().ok()?,
        gid: gid.parse().ok()?,
        home: home.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_its_whole_name() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("passwd");
        std::fs::write(&list, b"root:x:0:0:r\xfft:/root:/bin/sh\n\nboxer:x:7:8:B:/home/boxer:/bin/sh\nx:y\n")
            .unwrap();
        let found = in_list(&list, "boxer").unwrap();
        assert_eq!((found.uid, found.gid, found.home), (7, 8, "/home/boxer".into()));
        for unknown in ["box", "", "x", "nobody:x"] {
            let err = in_list(&list, unknown).unwrap_err().to_string();
            assert!(err.contains("script_user") && err.contains("expected a user"), "{err}");
        }
    }
}
