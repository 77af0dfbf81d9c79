//! Where a password or access token comes from, and the type that holds it. Never shows, logs or stores it.

use core::fmt;
use core::time::Duration;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use thiserror::Error;
use tokio::io::AsyncReadExt;
use zeroize::Zeroizing;

/// Rights that nobody but a password file's owner may have.
const OWNER_ONLY: u32 = 0o077;

/// systemd keeps credentials in a folder that only the service can enter, owned by root with an access list
/// for the service's user; the list shows as the group's right to read (mode 0440).
const OWNER_AND_LIST: u32 = 0o037;

/// Longest password or token accepted. Real bearer tokens reach some 4 kB.
const SECRET_MAX_BYTES: u64 = 16 * 1024;

/// Where the password comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SecretSource {
    /// There is none: servers without a login, and local delivery.
    #[default]
    None,
    /// A file that only its owner may read (mode 0600 or 0400). One trailing line end is not part of it.
    File(PathBuf),
    /// An environment variable of this name.
    Env(String),
    /// A file of this name in `$CREDENTIALS_DIRECTORY`, which systemd fills (`LoadCredential=`).
    Credential(String),
    /// A program and its arguments, run without a shell, that prints an access token; the login then uses
    /// XOAUTH2. It has 30 s.
    TokenCommand(Vec<String>),
}

/// A password or token in memory. It is overwritten when dropped and cannot be printed.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes over a text.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself, for the one place that sends it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The password or token cannot be had.
#[derive(Debug, Error)]
pub enum SecretError {
    /// No source is configured but the server wants a login.
    #[error("no password is configured for the mail login: use --password-file")]
    Missing,
    /// The file cannot be read.
    #[error("cannot read the password file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Others could read it.
    #[error("password file {} is readable by others: expected mode 0600, found {mode:04o}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The environment lacks the variable.
    #[error("environment variable {name} is not set")]
    NoVariable {
        /// The variable.
        name: String,
    },
    /// The token program failed.
    #[error("token command {program} failed: {why}")]
    Command {
        /// The program, without arguments, which may be secret.
        program: String,
        /// What happened.
        why: String,
    },
    /// The secret is empty, too long or not text.
    #[error("the secret from {from} is unusable: expected 1 to 16384 bytes of text in one line")]
    Unusable {
        /// Where it came from.
        from: String,
    },
}

impl SecretSource {
    /// Fetches the secret. Called once per login, so that a changed file or token is used at once.
    ///
    /// # Errors
    /// It is missing, readable by others, empty, or the token program failed or took too long.
    pub(crate) async fn load(&self) -> Result<Secret, SecretError> {
        match self {
            Self::None => Err(SecretError::Missing),
            Self::File(path) => read_file(path, OWNER_ONLY),
            Self::Env(name) => match std::env::var(name) {
                Ok(text) => checked(Zeroizing::new(text), &format!("environment variable {name}")),
                Err(_) => Err(SecretError::NoVariable { name: name.clone() }),
            },
            Self::Credential(name) => match std::env::var_os("CREDENTIALS_DIRECTORY") {
                Some(folder) => read_file(&Path::new(&folder).join(name), OWNER_AND_LIST),
                None => Err(SecretError::NoVariable { name: "CREDENTIALS_DIRECTORY".to_owned() }),
            },
            Self::TokenCommand(words) => run(words, Duration::from_secs(30)).await,
        }
    }

    /// True if the secret is an access token for XOAUTH2.
    pub(crate) fn is_token(&self) -> bool {
        matches!(self, Self::TokenCommand(_))
    }
}

fn read_file(path: &Path, forbidden: u32) -> Result<Secret, SecretError> {
    let failed = |source| SecretError::Read { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(failed)?;
    // Asked of the open file, so that it cannot be swapped in between.
    let mode = file.metadata().map_err(failed)?.mode() & 0o7777;
    if mode & forbidden != 0 {
        return Err(SecretError::Open { path: path.to_owned(), mode });
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
    file.take(SECRET_MAX_BYTES.saturating_add(2)).read_to_end(&mut bytes).map_err(failed)?;
    let from = format!("file {}", path.display());
    let text = String::from_utf8(core::mem::take(&mut *bytes));
    checked(Zeroizing::new(text.map_err(|_| SecretError::Unusable { from: from.clone() })?), &from)
}

fn checked(text: Zeroizing<String>, from: &str) -> Result<Secret, SecretError> {
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    let too_long = u64::try_from(line.len()).unwrap_or(u64::MAX) > SECRET_MAX_BYTES;
    if line.is_empty() || too_long || line.contains(['\0', '\r', '\n']) {
        return Err(SecretError::Unusable { from: from.to_owned() });
    }
    Ok(Secret::new(line.to_owned()))
}

async fn run(words: &[String], limit: Duration) -> Result<Secret, SecretError> {
    let (program, args) = words.split_first().ok_or(SecretError::Missing)?;
    let failed = |why: String| SecretError::Command { program: program.clone(), why };
    let mut child = tokio::process::Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|err| failed(err.to_string()))?;
    let stdout = child.stdout.take();
    let work = async {
        let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
        if let Some(stdout) = stdout {
            stdout.take(SECRET_MAX_BYTES.saturating_add(2)).read_to_end(&mut bytes).await?;
        }
        Ok::<_, io::Error>((bytes, child.wait().await?))
    };
    let (mut bytes, status) = match tokio::time::timeout(limit, work).await {
        Ok(done) => done.map_err(|err| failed(err.to_string()))?,
        Err(_) => return Err(failed(format!("no answer within {} s", limit.as_secs()))),
    };
    if !status.success() {
        return Err(failed(status.to_string()));
    }
    let text = String::from_utf8(core::mem::take(&mut *bytes));
    let from = format!("command {program}");
    checked(Zeroizing::new(text.map_err(|_| SecretError::Unusable { from: from.clone() })?), &from)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file(text: &str, mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        file
    }

    #[tokio::test]
    async fn a_password_file_must_be_private_and_loses_its_line_end() {
        let private = file("pass word\n", 0o600);
        let secret = SecretSource::File(private.path().into()).load().await.unwrap();
        assert_eq!(secret.expose(), "pass word");
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        let open = file("x", 0o640);
        let err = SecretSource::File(open.path().into()).load().await.unwrap_err().to_string();
        assert!(err.contains("expected mode 0600, found 0640"), "{err}");
    }

    #[test]
    fn a_credential_may_be_readable_by_the_access_list_of_its_service_and_by_nobody_else() {
        for (mode, fine) in [(0o400, true), (0o440, true), (0o460, false), (0o444, false)] {
            let credential = file("x", mode);
            assert_eq!(read_file(credential.path(), OWNER_AND_LIST).is_ok(), fine, "{mode:o}");
            assert_eq!(read_file(credential.path(), OWNER_ONLY).is_ok(), mode == 0o400, "{mode:o}");
        }
    }

    #[tokio::test]
    async fn empty_or_many_lined_secrets_are_refused() {
        for text in ["", "\n", "a\nb\n", "a\0"] {
            let file = file(text, 0o600);
            let got = SecretSource::File(file.path().into()).load().await;
            assert!(matches!(got, Err(SecretError::Unusable { .. })), "{text:?}");
        }
    }

    #[tokio::test]
    async fn a_token_command_is_run_without_a_shell_and_with_a_limit() {
        let echo = SecretSource::TokenCommand(vec!["echo".into(), "$HOME".into()]);
        assert_eq!(echo.load().await.unwrap().expose(), "$HOME");
        let bad = SecretSource::TokenCommand(vec!["false".into()]);
        assert!(matches!(bad.load().await, Err(SecretError::Command { .. })));
        let slow = run(&["sleep".into(), "60".into()], Duration::from_millis(50)).await.unwrap_err();
        assert!(slow.to_string().contains("no answer within"), "{slow}");
    }
}
