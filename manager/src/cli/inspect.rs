//! `bundle inspect`: what is in a bundle file, and who signed it. Also the summary that `bundle build` and
//! `campaign start` print.

use std::fs::File;
use std::io::{self, BufReader, Read as _};
use std::path::{Path, PathBuf};

use manager_core::delta::DeltaFacts;
use manager_core::parts::{Heads, carriage};
use serde_json::{Value, json};
use shared::bundle::{BundleError, BundleReader, FileEntry, Form, Manifest};
use shared::keys::VerifyingKey;
use shared::limits::{CHUNK_BYTES, MAIL_MAX_DEFAULT_BYTES, TRUST_MAX_BYTES};
use shared::time::format_duration;
use shared::trust::Trust;
use shared::{Digest, Hasher, KeyId};

use super::args::BundleInspect;
use super::fail::{Done, Fail, Kind, OrFail as _, Outcome};
use super::show::{Colour, Listing, cell, paint_stdout};
use super::{firmware_inspect, open, show};

/// What is known of a bundle's signature.
#[derive(Clone, Debug)]
pub(crate) enum Signature {
    /// By these release keys of ours, and that is enough.
    Good(Vec<KeyId>),
    /// By some release keys of ours: so many, and so many must.
    TooFew(Vec<KeyId>, u8),
    /// Only by keys that this manager does not know.
    Unknown(Vec<KeyId>),
    /// There are no keys to compare with: no home was given.
    NotChecked(Vec<KeyId>),
}

/// A bundle file that was read to its end.
pub(crate) struct Looked {
    pub(crate) path: PathBuf,
    pub(crate) manifest: Manifest,
    pub(crate) signature: Signature,
    /// Size in full, without deltas.
    pub(crate) bytes: u64,
    /// Digest of that: what the bundle is known by.
    pub(crate) digest: Digest,
    /// The deltas that the file holds.
    pub(crate) deltas: Vec<DeltaFacts>,
    /// Size and digest of the file.
    pub(crate) file: (u64, Digest),
}

pub(crate) fn inspect(home: Option<&Path>, args: &BundleInspect) -> Outcome {
    let known = match home {
        Some(_) => Some(open::home(home)?.trust().map_err(open::home_failed)?),
        None => None,
    };
    let looked = look(&args.file, known.as_ref().map_or((&[], 1), signing))?;
    if args.format.json {
        show::print_json(&looked.json())?;
    } else {
        show::print(&looked.summary())?;
        show::print(&format!("\n{}", looked.modules()))?;
        show::print(&firmware_inspect::text(&looked.manifest))?;
    }
    Ok(match looked.signature {
        Signature::Good(_) | Signature::NotChecked(_) => Done::All,
        Signature::Unknown(_) | Signature::TooFew(..) => Done::Partly,
    })
}

/// Release keys, and how many of them must sign.
pub(crate) type Known<'k> = (&'k [VerifyingKey], u8);

/// What a manager knows.
pub(crate) fn signing(trust: &Trust) -> Known<'_> {
    (&trust.release_keys, trust.threshold)
}

/// Reads a bundle file to its end and checks all of it that can be checked without unpacking.
pub(crate) fn look(path: &Path, known: Known<'_>) -> Result<Looked, Fail> {
    let file = File::open(path).or_usage(format!("cannot read the bundle {}", path.display()))?;
    if file.metadata().is_ok_and(|m| m.is_dir()) {
        return Err(Fail::usage(format!("{} is a folder, expected a bundle file", path.display()))
            .next("`mailfleet bundle build DIR -o FILE.mfb` makes a bundle of a folder"));
    }
    look_into(path, file, known).map_err(|err| bundle_failed(err, path))
}

fn look_into(path: &Path, file: File, (keys, threshold): Known<'_>) -> Result<Looked, BundleError> {
    let whole = digest(&file, u64::MAX).map_err(BundleError::Read)?;
    let reader = BundleReader::open(BufReader::new(&file))?;
    let signers = reader.signers();
    let claims_ours = keys.iter().any(|key| signers.contains(&key.key_id()));
    let (mut bundle, signature) = if claims_ours {
        // A signature in our key's name that does not fit is an altered bundle, not a stranger's.
        let bundle = reader.verify(keys, 1)?;
        let signers = bundle.signers().to_vec();
        let enough = signers.len() >= usize::from(threshold);
        (bundle, if enough { Signature::Good(signers) } else { Signature::TooFew(signers, threshold) })
    } else if keys.is_empty() {
        (reader.inspect_unverified()?, Signature::NotChecked(signers))
    } else {
        (reader.inspect_unverified()?, Signature::Unknown(signers))
    };
    bundle.check_payload()?;
    let manifest = bundle.manifest().clone();
    let bytes = bundle.form_bytes(Form::Full).unwrap_or(whole.0);
    // What was mailed in full names its deltas and does not hold them.
    let has_deltas = whole.0 > bytes;
    let deltas =
        if has_deltas { DeltaFacts::all(&manifest, |form| bundle.form_bytes(form)) } else { Vec::new() };
    let digest = if has_deltas { digest(&file, bytes).map_err(BundleError::Read)?.1 } else { whole.1 };
    Ok(Looked { path: path.to_owned(), manifest, signature, bytes, digest, deltas, file: whole })
}

/// Size and digest of a file's first bytes, at most so many.
fn digest(mut file: &File, most: u64) -> io::Result<(u64, Digest)> {
    io::Seek::rewind(&mut file)?;
    let mut hasher = Hasher::default();
    let mut buffer = vec![0u8; CHUNK_BYTES];
    let mut limited = file.take(most);
    loop {
        let n = limited.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        hasher.update(buffer.get(..n).unwrap_or_default());
    }
    io::Seek::rewind(&mut file)?;
    Ok((hasher.len(), hasher.finish()))
}

pub(crate) fn bundle_failed(err: BundleError, path: &Path) -> Fail {
    let kind = if err.is_local() { Kind::Outside } else { Kind::Usage };
    Fail::of(kind, err, format!("{} is not a whole bundle", path.display()))
        .next("copy it again from where it was built, or build it again with `mailfleet bundle build`")
}

impl Looked {
    /// A few lines for people.
    pub(crate) fn summary(&self) -> String {
        let manifest = &self.manifest;
        let list = |items: Vec<String>, none: &str| match items.is_empty() {
            true => none.to_owned(),
            false => items.join(", "),
        };
        let lines = [
            ("Bundle", self.path.display().to_string()),
            ("Software Version", manifest.software_version.to_string()),
            ("Goes over", list(manifest.from.iter().map(ToString::to_string).collect(), "any version")),
            ("Classes", list(manifest.classes.iter().map(ToString::to_string).collect(), "all")),
            ("Settle time", manifest.settle().map_or("not set (10m)".to_owned(), format_duration)),
            ("Script", manifest.script.map_or("none".to_owned(), |script| show::size(script.bytes))),
            ("Modules", manifest.modules.len().to_string()),
            ("Size", self.size_text()),
            ("Digest", self.digest.to_string()),
            ("Built", manifest.created.to_string()),
            ("Signature", self.signature.text()),
            ("As a mail", self.mail_text()),
        ];
        let lines = lines.into_iter().map(|(name, value)| (name.to_owned(), value));
        let lines = lines.chain(self.delta_lines());
        lines.map(|(name, value)| format!("{name:<18}{value}\n")).collect()
    }

    /// What agents get that have an older bundle.
    fn delta_lines(&self) -> impl Iterator<Item = (String, String)> {
        self.deltas.iter().filter_map(|facts| {
            let delta = self.manifest.deltas.get(usize::from(facts.number))?;
            let percent = facts.bytes.saturating_mul(100).checked_div(self.bytes).unwrap_or(0);
            let patched = show::count(delta.patches.len(), "module");
            let text =
                format!("from {}: {} ({percent} %), {patched} patched", delta.base, show::size(facts.bytes));
            Some(("Delta".to_owned(), text))
        })
    }

    fn size_text(&self) -> String {
        let (from, to) = (self.manifest.unpacked_bytes, self.bytes);
        let percent = to.saturating_mul(100).checked_div(from).unwrap_or(0);
        let compression = self.manifest.compression;
        format!("{} -> {} ({percent} %, {compression})", show::size(from), show::size(to))
    }

    /// Size of the mail that carries it, with room for a full list of recipients.
    pub(crate) fn mail_bytes(&self) -> u64 {
        mail_bytes(self.bytes, 50)
    }

    fn mail_text(&self) -> String {
        let (found, limit) = (self.mail_bytes(), MAIL_MAX_DEFAULT_BYTES);
        if found <= limit {
            return format!("{}, within the usual limit of {}", show::size(found), show::size(limit));
        }
        let course = match mails(self.bytes, 50, limit) {
            Some(parts) => format!("goes in {parts} parts"),
            None => "too large to be mailed".to_owned(),
        };
        let text = format!("{}, over the usual limit of {}: {course}", show::size(found), show::size(limit));
        paint_stdout(Colour::Yellow, &text)
    }

    fn modules(&self) -> String {
        let mut listing = Listing::new(&["~MODULE", "VERSION", "DATE", "KIND", "MODE", ">SIZE", "~PATH"]);
        for m in &self.manifest.modules {
            let plain = |text: String| cell(text, Colour::Plain);
            listing.row(vec![
                plain(m.name.to_string()),
                plain(m.version.to_string()),
                plain(m.date.to_string()),
                plain(m.kind.to_string()),
                plain(format!("{:04o}", m.mode)),
                plain(show::size(m.file.bytes)),
                plain(m.path.to_string()),
            ]);
        }
        listing.text()
    }

    fn json(&self) -> Value {
        let file = |f: &FileEntry| json!({"bytes": f.bytes, "sha256": f.digest.to_hex()});
        let m = &self.manifest;
        let texts = |items: Vec<String>| Value::from(items);
        json!({
            "software_version": m.software_version.as_str(),
            "from": texts(m.from.iter().map(ToString::to_string).collect()),
            "classes": texts(m.classes.iter().map(ToString::to_string).collect()),
            "settle": m.settle().map(format_duration),
            "script": m.script.as_ref().map(file),
            "modules": m.modules.iter().map(|module| json!({
                "name": module.name.as_str(),
                "version": module.version.as_str(),
                "date": module.date.as_str(),
                "kind": module.kind.to_string(),
                "mode": format!("{:04o}", module.mode),
                "path": module.path.as_str(),
                "bytes": module.file.bytes,
                "sha256": module.file.digest.to_hex(),
            })).collect::<Vec<_>>(),
            "firmware": firmware_inspect::json(m),
            "compression": m.compression.to_string(),
            "unpacked_bytes": m.unpacked_bytes,
            "payload_bytes": m.payload_bytes,
            "bundle_bytes": self.bytes,
            "file_bytes": self.file.0,
            "deltas": self.deltas.iter().filter_map(|facts| {
                let delta = m.deltas.get(usize::from(facts.number))?;
                Some(json!({
                    "from": delta.base.as_str(),
                    "bytes": facts.bytes,
                    "modules": delta.patches.iter().map(|p| json!({
                        "name": p.module.as_str(),
                        "from_version": p.base_version.as_str(),
                        "from_sha256": p.base.digest.to_hex(),
                        "patch_bytes": p.bytes,
                    })).collect::<Vec<_>>(),
                }))
            }).collect::<Vec<_>>(),
            "mail_bytes": self.mail_bytes(),
            "sha256": self.digest.to_hex(),
            "created": m.created.to_string(),
            "signature": self.signature.word(),
            "signed_by": texts(self.signature.keys().iter().map(ToString::to_string).collect()),
        })
    }
}

/// Size of a sealed bundle: sealing adds 16 bytes to each chunk; the message before the bundle is far below a kilobyte.
fn body_bytes(bundle_bytes: u64) -> u64 {
    let chunks = bundle_bytes.div_ceil(CHUNK_BYTES as u64).saturating_add(1);
    bundle_bytes.saturating_add(chunks.saturating_mul(16)).saturating_add(1024)
}

/// Size of the mail that carries a bundle, with a slot of 96 bytes for each recipient.
pub(crate) fn mail_bytes(bundle_bytes: u64, recipients: usize) -> u64 {
    let slots = (recipients as u64).saturating_mul(96);
    let attachment = body_bytes(bundle_bytes).saturating_add(slots).saturating_add(1024);
    shared::limits::mail_bytes_for_attachment(attachment)
}

/// How many mails of at most so many bytes carry a bundle to one batch of recipients; `None`: it cannot be cut so small.
pub(crate) fn mails(bundle_bytes: u64, recipients: usize, mail_max_bytes: u64) -> Option<u64> {
    let heads = Heads { recipients, introduction_bytes: TRUST_MAX_BYTES };
    let body = body_bytes(bundle_bytes);
    // One that fits by the simpler reckoning goes whole.
    if mail_bytes(bundle_bytes, recipients) <= mail_max_bytes {
        return Some(1);
    }
    carriage(body, mail_max_bytes, heads).map(|carriage| carriage.mails(body).max(2))
}

impl Signature {
    fn text(&self) -> String {
        let names = |keys: &[KeyId]| keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        match self {
            Self::Good(keys) => {
                let word = if keys.len() == 1 { "key" } else { "keys" };
                paint_stdout(Colour::Green, &format!("good, by release {word} {}", names(keys)))
            }
            Self::TooFew(keys, needed) => {
                let text = format!(
                    "by {} only, expected {needed} release keys: `mailfleet bundle sign` adds one",
                    names(keys)
                );
                paint_stdout(Colour::Yellow, &text)
            }
            Self::Unknown(keys) => {
                let text = format!("by unknown keys only ({}): agents will refuse it", names(keys));
                paint_stdout(Colour::Red, &text)
            }
            Self::NotChecked(keys) => {
                format!("not checked, claims to be by {} (--home tells which keys are known)", names(keys))
            }
        }
    }

    fn word(&self) -> &'static str {
        match self {
            Self::Good(_) => "good",
            Self::TooFew(..) => "too-few",
            Self::Unknown(_) => "unknown-key",
            Self::NotChecked(_) => "not-checked",
        }
    }

    fn keys(&self) -> Vec<KeyId> {
        match self {
            Self::Good(keys) | Self::TooFew(keys, _) | Self::Unknown(keys) | Self::NotChecked(keys) => {
                keys.clone()
            }
        }
    }
}
