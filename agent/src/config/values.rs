//! Forms of values that only `agent.toml` has: sizes and modes.

use thiserror::Error;

/// A text that should have been a size.
#[derive(Debug, Error)]
#[error("expected a size such as \"16 MiB\" (B, KiB, MiB, GiB), found \"{0}\"")]
pub(super) struct SizeError(String);

/// A text that should have been a folder's mode.
#[derive(Debug, Error)]
#[error("expected the mode of a folder that its owner can use, such as \"0700\" or \"1777\", found \"{0}\"")]
pub(super) struct ModeError(String);

/// Reads `16 MiB`: a whole number and one unit.
pub(super) fn size(text: &str) -> Result<u64, SizeError> {
    let err = || SizeError(text.chars().take(64).collect());
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(err)?;
    let (number, unit) = text.split_at(digits);
    let unit_bytes = match unit.trim() {
        "B" => 1,
        "KiB" => 1024,
        "MiB" => 1024 * 1024,
        "GiB" => 1024 * 1024 * 1024,
        _ => return Err(err()),
    };
    number.parse().ok().and_then(|n: u64| n.checked_mul(unit_bytes)).ok_or_else(err)
}

/// Reads `0700` or `1777`.
pub(super) fn folder_mode(text: &str) -> Result<u32, ModeError> {
    let found = u32::from_str_radix(text, 8).ok().filter(|mode| mode & !0o1777 == 0 && mode & 0o700 == 0o700);
    found.filter(|_| text.len() <= 4).ok_or_else(|| ModeError(text.chars().take(64).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_need_a_number_and_a_unit() {
        assert_eq!(
            (size("16 MiB").unwrap(), size("0 B").unwrap(), size("2KiB").unwrap()),
            (16 << 20, 0, 2048)
        );
        for bad in ["", "16", "MiB", "1.5 MiB", "-1 MiB", "16 MB", "99999999999 GiB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_folder_mode_leaves_its_owner_in() {
        assert_eq!((folder_mode("0700").unwrap(), folder_mode("1777").unwrap()), (0o700, 0o1777));
        for bad in ["", "700x", "0077", "4755", "00700", "0999"] {
            assert!(folder_mode(bad).is_err(), "{bad}");
        }
    }
}
