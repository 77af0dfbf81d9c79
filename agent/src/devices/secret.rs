//! Communities and passwords of devices, from a file, the standard input or the environment. Never from an argument: those
//! everybody can read who can list processes.

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::exit::Usage;
use crate::limits::DEVICE_SECRET_MAX_BYTES;

/// The secret of a file, else of a variable; `None` if neither is there. "-" is a line of the standard input.
///
/// # Errors
/// The file cannot be read, others can read it too, or it holds no secret.
pub(crate) fn read(file: Option<&PathBuf>, variable: &str) -> Result<Option<String>, Usage> {
    match file {
        Some(file) if file.as_os_str() == "-" => {
            let mut line = String::new();
            std::io::stdin()
                .read_line(&mut line)
                .map_err(|err| Usage(format!("the standard input: {err}")))?;
            checked(&line, "the standard input").map(Some)
        }
        Some(file) => read_file(file).map(Some),
        None => match std::env::var(variable) {
            Ok(text) => checked(&text, variable).map(Some),
            Err(_) => Ok(None),
        },
    }
}

fn read_file(path: &Path) -> Result<String, Usage> {
    let name = path.display().to_string();
    let cannot = |err| Usage(format!("cannot read {name}: {err}"));
    let file = std::fs::File::open(path).map_err(cannot)?;
    let metadata = file.metadata().map_err(cannot)?;
    let mode = metadata.permissions().mode() & 0o777;
    if metadata.is_file() && mode & 0o077 != 0 {
        return Err(Usage(format!("{name} is readable by others: expected mode 0600, found {mode:04o}")));
    }
    let mut text = String::new();
    file.take(DEVICE_SECRET_MAX_BYTES.saturating_add(1)).read_to_string(&mut text).map_err(cannot)?;
    checked(&text, &name)
}

fn checked(text: &str, from: &str) -> Result<String, Usage> {
    let secret = text.trim_end_matches(['\r', '\n']);
    let fits = (1..=DEVICE_SECRET_MAX_BYTES).contains(&(secret.len() as u64));
    if !fits || secret.contains(char::is_control) {
        let why = format!(
            "the secret from {from} is unusable: expected 1 to {DEVICE_SECRET_MAX_BYTES} bytes of text in one line"
        );
        return Err(Usage(why));
    }
    Ok(secret.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_others_can_read_holds_no_secret() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("community");
        std::fs::write(&file, "private\r\n").unwrap();
        let mode = |mode| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        mode(0o600);
        assert_eq!(read(Some(&file), "NONE").unwrap().as_deref(), Some("private"));
        mode(0o640);
        assert!(read(Some(&file), "NONE").unwrap_err().to_string().contains("found 0640"));
        mode(0o600);
        for bad in [String::new(), "\n".to_owned(), "two\nlines".to_owned(), "x".repeat(5_000)] {
            std::fs::write(&file, &bad).unwrap();
            assert!(read(Some(&file), "NONE").unwrap_err().to_string().contains("unusable"), "{bad:.20}");
        }
        assert!(read(None, "MAILFLEET_NO_SUCH_VARIABLE").unwrap().is_none());
    }
}
