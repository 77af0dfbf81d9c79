//! Wishes: small files in which a person at the site says that an update is to be put off or cancelled. What of it is granted
//! is the core's; who writes them is `defer` and `cancel`, beside an agent that runs or not.
//!
//! ```text
//! <home>/wishes/ORDER.toml
//!     order = "0123456789abcdef0123456789abcdef"
//!     by = "tanaka"
//!     put_off_until = "2026-11-21T22:00:00Z"    # or cancel = true
//! ```
//!
//! The agent removes each when its state says what became of it. What is no wish is removed too, with a warning.

mod devices;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use agent_core::{Want, Wish};
use serde::{Deserialize, Serialize};
use shared::error::{chain, quoted};
use shared::{EnvelopeId, Label, UnixMillis};

use crate::files::{read_shared, remove_if_there, write_readable};
use crate::limits::{LEASE_NAMES_MAX_COUNT, WISH_FILE_MAX_BYTES, WISHES_MAX_COUNT};

const EXTENSION: &str = ".toml";

/// What a warning repeats of a file that is no wish.
const ERROR_MAX_CHARS: usize = 80;

/// The folder of wishes.
#[derive(Clone, Debug)]
pub struct Wishes(PathBuf);

/// A wish as its file says it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    order: String,
    by: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    put_off_until: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    cancel: bool,
}

impl Wishes {
    /// That of an agent with this home.
    #[must_use]
    pub fn in_home(home: &Path) -> Self {
        Self(home.join("wishes"))
    }

    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// All wishes that can be read.
    #[must_use]
    pub fn read(&self) -> Vec<Wish> {
        self.orders().into_iter().filter_map(|order| self.read_one(order).ok()).collect()
    }

    /// The same, for who acts on them; what is no wish is removed.
    #[must_use]
    pub fn attend(&self) -> Vec<Wish> {
        let mut wishes = vec![];
        for order in self.orders() {
            match self.read_one(order) {
                Ok(wish) => wishes.push(wish),
                Err(err) if err.kind() == io::ErrorKind::NotFound => {}
                Err(err) => {
                    tracing::warn!(%order, err = chain(&err), "A file is no wish and is removed");
                    if let Err(err) = self.forget(order) {
                        tracing::warn!(%order, %err, "It cannot be removed");
                    }
                }
            }
        }
        wishes
    }

    /// Whatever there are files about.
    fn orders(&self) -> Vec<EnvelopeId> {
        let Ok(entries) = std::fs::read_dir(&self.0) else { return vec![] };
        let names = entries
            .take(LEASE_NAMES_MAX_COUNT)
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let orders = names.filter_map(|name| EnvelopeId::parse_hex(name.strip_suffix(EXTENSION)?).ok());
        let mut orders: Vec<EnvelopeId> = orders.collect();
        orders.sort();
        orders.truncate(WISHES_MAX_COUNT);
        orders
    }

    fn read_one(&self, order: EnvelopeId) -> io::Result<Wish> {
        let folder = File::open(&self.0)?;
        let (text, _) = read_shared(&folder, &format!("{order}{EXTENSION}"), WISH_FILE_MAX_BYTES)?;
        parse(order, &text)
    }

    /// Writes a wish down; it takes the place of an older one for the same order.
    ///
    /// # Errors
    /// The folder cannot be used.
    pub fn put(&self, wish: &Wish) -> io::Result<()> {
        let (put_off_until, cancel) = match wish.want {
            Want::PutOff(until) => (Some(until.to_string()), false),
            Want::Cancel => (None, true),
        };
        let written =
            Written { order: wish.order.to_string(), by: wish.by.to_string(), put_off_until, cancel };
        // Plain strings always have a TOML form.
        let text = toml::to_string(&written).unwrap_or_default();
        write_readable(&self.path(wish.order), text.as_bytes())
    }

    /// Removes what is wished of an order.
    ///
    /// # Errors
    /// The folder cannot be used.
    pub fn forget(&self, order: EnvelopeId) -> io::Result<()> {
        remove_if_there(&self.path(order))
    }

    fn path(&self, order: EnvelopeId) -> PathBuf {
        self.0.join(format!("{order}{EXTENSION}"))
    }
}

/// Reads the text of a wish's file.
///
/// # Errors
/// It is no wish, or one about another order than the file is named after.
pub fn parse(order: EnvelopeId, text: &str) -> io::Result<Wish> {
    let written: Written =
        toml::from_str(text).map_err(|err| io::Error::other(quoted(err.message(), ERROR_MAX_CHARS)))?;
    if EnvelopeId::parse_hex(&written.order) != Ok(order) {
        let found = quoted(&written.order, ERROR_MAX_CHARS);
        return Err(io::Error::other(format!("expected the order \"{order}\", found \"{found}\"")));
    }
    let want = match (written.put_off_until, written.cancel) {
        (Some(until), false) => Want::PutOff(UnixMillis::parse(&until).map_err(io::Error::other)?),
        (None, true) => Want::Cancel,
        _ => return Err(io::Error::other("expected one of \"put_off_until\" and \"cancel\"")),
    };
    Ok(Wish { order, by: Label::lossy(&written.by), want })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::private_folder;

    fn folder() -> (tempfile::TempDir, Wishes) {
        let folder = tempfile::tempdir().unwrap();
        let wishes = Wishes::in_home(folder.path());
        private_folder(wishes.folder()).unwrap();
        (folder, wishes)
    }

    fn wish(n: u8, want: Want) -> Wish {
        Wish { order: EnvelopeId([n; 16]), by: Label::lossy("tanaka \"t\""), want }
    }

    #[test]
    fn a_wish_reads_back_until_it_is_forgotten_and_a_newer_one_takes_its_place() {
        let (_folder, wishes) = folder();
        assert_eq!(wishes.read(), []);
        let put_off = wish(1, Want::PutOff(UnixMillis(1_795_000_000_000)));
        wishes.put(&wish(1, Want::Cancel)).unwrap();
        wishes.put(&put_off).unwrap();
        wishes.put(&wish(2, Want::Cancel)).unwrap();
        assert_eq!(wishes.read(), [put_off, wish(2, Want::Cancel)]);
        wishes.forget(EnvelopeId([1; 16])).unwrap();
        wishes.forget(EnvelopeId([1; 16])).unwrap();
        assert_eq!(wishes.read(), [wish(2, Want::Cancel)]);
    }

    #[test]
    fn what_is_no_wish_is_removed_and_what_is_not_named_like_one_stays() {
        let (_folder, wishes) = folder();
        wishes.put(&wish(1, Want::Cancel)).unwrap();
        let good = std::fs::read_to_string(wishes.path(EnvelopeId([1; 16]))).unwrap();
        let put = |n: u8, text: &[u8]| std::fs::write(wishes.path(EnvelopeId([n; 16])), text).unwrap();
        put(2, good.as_bytes());
        put(3, b"");
        put(4, &[0xff; 100]);
        put(5, format!("{}#{}", good.replace("01", "05"), "x".repeat(2_000)).as_bytes());
        put(6, good.replace("01", "06").replace("cancel = true", "").as_bytes());
        put(7, (good.replace("01", "07") + "put_off_until = \"2026-11-21\"\n").as_bytes());
        put(8, (good.replace("01", "08") + "x = 1\n").as_bytes());
        std::fs::write(wishes.folder().join("notes.toml"), &good).unwrap();
        let files = || std::fs::read_dir(wishes.folder()).unwrap().count();
        assert_eq!((wishes.read(), files()), (vec![wish(1, Want::Cancel)], 9));
        assert_eq!((wishes.attend(), files()), (vec![wish(1, Want::Cancel)], 2));
    }

    #[test]
    fn what_is_wrong_with_a_wish_is_said_without_the_characters_that_drive_a_terminal() {
        for text in ["order = \"\\u001b[2J\"\nby = \"x\"\ncancel = true\n", "order = \"\u{1b}[2J\n"] {
            let err = parse(EnvelopeId([1; 16]), text).unwrap_err().to_string();
            assert!(!err.is_empty() && !err.contains(char::is_control), "{err:?}");
        }
    }

    #[test]
    fn no_more_wishes_are_read_than_the_limit() {
        let (_folder, wishes) = folder();
        for n in 0..u8::try_from(WISHES_MAX_COUNT).unwrap() + 5 {
            wishes.put(&wish(n, Want::Cancel)).unwrap();
        }
        assert_eq!(wishes.read().len(), WISHES_MAX_COUNT);
    }
}
