//! `bundle build`: opens the files of a bundle's folder, has them packed and signed, and puts the result in
//! place as a whole. What a bundle is, and whether it is right, is `shared::bundle`'s.

use std::fs::File;
use std::io::{self, BufWriter, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use mailfleet::system::now;
use shared::bundle::spec::SourceFile;
use shared::bundle::{BundleReader, BundleSpec, Compression, Effort, Manifest, PackError, pack, write_head};
use shared::keys::SigningKey;
use shared::limits::{BUNDLE_TOML_MAX_BYTES, BUNDLE_UNPACKED_MAX_BYTES};

use super::args::{BundleBuild, BundleSign, CompressionArg};
use super::fail::{Done, Fail, Kind, Next as _, OrFail as _, Outcome, cannot_write};
use super::files::{NewFile, PlainFolder, folder_of, read_text};
use super::inspect::{self, Signature};
use super::progress::bytes_bar;
use super::{bundle_delta, open, show};

/// Bad files named in one go.
const PROBLEMS_SHOWN: usize = 20;

/// Threads that compress at most.
const THREADS_MAX: usize = 8;

/// Longest key file: one line of text and a comment or two.
const KEY_FILE_MAX_BYTES: u64 = 16 * 1024;

pub(crate) fn build(home: Option<&Path>, args: &BundleBuild) -> Outcome {
    let (compression, level) = compression(args)?;
    let key = release_key(home, args.release_key.as_deref())?;
    let folder = PlainFolder::open(&args.dir)
        .or_usage(format!("cannot open the bundle's folder {}", args.dir.display()))?;
    let toml = args.dir.join("bundle.toml");
    let text = read_text(&toml, "the bundle's description", BUNDLE_TOML_MAX_BYTES)?;
    let spec = BundleSpec::parse(&text).or_usage(format!("{} is not right", toml.display()))?;
    let total = check_files(&folder, &spec, &toml)?;

    let bar = bytes_bar("packing", total);
    let payload = tempfile::tempfile_in(folder_of(&args.output));
    let mut payload = BufWriter::new(payload.map_err(|err| cannot_write(err, &args.output))?);
    let manifest = pack(
        &spec,
        compression,
        Effort { level, threads: threads() },
        now(),
        &mut |source| folder.file(&source.path),
        &mut payload,
        &mut |bytes| bar.inc(bytes),
    );
    bar.finish_and_clear();
    let mut manifest = manifest.map_err(|err| pack_failed(err, &args.output))?;
    let mut payload = payload.into_inner().map_err(|err| cannot_write(err.into_error(), &args.output))?;
    payload.seek(SeekFrom::Start(0)).map_err(|err| cannot_write(err, &args.output))?;
    let (deltas, others) = bundle_delta::make(args, (&spec, &folder), &manifest, level)?;
    manifest.deltas = deltas;
    let payloads = core::iter::once(payload).chain(others).collect();
    write_bundle(&args.output, &manifest, payloads, &key)?;

    // What is printed is what a reader finds in the file, not what was meant to be written.
    let looked = inspect::look(&args.output, (&[key.verifying_key()], 1))?;
    debug_assert!(matches!(looked.signature, Signature::Good(_)), "just signed");
    show::print(&looked.summary())?;
    Ok(Done::All)
}

/// One for each core; each holds some windows of the payload.
fn threads() -> u32 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    u32::try_from(cores.min(THREADS_MAX)).unwrap_or(1)
}

fn compression(args: &BundleBuild) -> Result<(Compression, i32), Fail> {
    let (compression, range, default) = match args.compression {
        CompressionArg::Zstd => (Compression::Zstd, 1..=22, 19),
        CompressionArg::Deflate => (Compression::Deflate, 1..=9, 9),
    };
    let level = args.level.unwrap_or(default);
    if range.contains(&level) {
        return Ok((compression, level));
    }
    Err(Fail::usage(format!(
        "--level {level}: expected {} to {} for {compression}",
        range.start(),
        range.end()
    )))
}

/// The release key in this file, or else in the home.
pub(crate) fn release_key(home: Option<&Path>, file: Option<&Path>) -> Result<SigningKey, Fail> {
    let Some(path) = file else {
        let home = open::home(home)
            .next("name the release key with --release-key FILE, or the manager's home with --home DIR")?;
        return home.release_key(None).map_err(open::home_failed).next(
            "the release key is made by `mailfleet init`; if it was moved offline, build there with \
             --release-key FILE",
        );
    };
    let mode = path.metadata().map_or(0, |m| m.permissions().mode() & 0o777);
    if mode & 0o077 != 0 {
        return Err(Fail::usage(format!(
            "{} can be read by others (mode {mode:03o}), expected 600",
            path.display()
        ))
        .next("chmod 600 it, and think who may have read it"));
    }
    let text = read_text(path, "the release key", KEY_FILE_MAX_BYTES)?;
    let line = text.lines().map(str::trim).find(|l| !l.is_empty() && !l.starts_with('#')).unwrap_or_default();
    SigningKey::parse_secret_text(line).or_usage(format!("{} is not a release key", path.display()))
}

/// Adds a signature to a bundle. The new file stands in the old one's place as a whole.
pub(crate) fn sign(home: Option<&Path>, args: &BundleSign) -> Outcome {
    let key = release_key(home, args.release_key.as_deref())?;
    let path = &args.file;
    // Whoever signs has seen that it is whole.
    inspect::look(path, (&[], 1))?;
    let bad = || format!("{} is no bundle that can be signed", path.display());
    let file = File::open(path).or_usage(bad())?;
    let reader = BundleReader::open(io::BufReader::new(file)).or_usage(bad())?;
    let (head, mut payload) = reader.signed_also_by(&key).or_usage(bad())?;
    let mut write = || {
        let mut new = NewFile::create(path, 0o644)?;
        new.file().write_all(&head)?;
        io::copy(&mut payload, new.file())?;
        new.finish()
    };
    write().map_err(|err| cannot_write(err, path))?;
    let id = key.verifying_key().key_id();
    show::print(&inspect::look(path, (&[], 1))?.summary())?;
    show::say(&format!("Signed by {id} too."))?;
    Ok(Done::All)
}

/// Opens every file once before the work begins: all that is wrong is named at once, and the size is known.
fn check_files(folder: &PlainFolder, spec: &BundleSpec, toml: &Path) -> Result<u64, Fail> {
    let script = spec.script.iter().map(|source| ("the script".to_owned(), source));
    let modules = spec.modules.iter().map(|m| (format!("module \"{}\"", m.name), &m.file));
    let mut total = 0u64;
    let mut problems = Vec::new();
    for (what, source) in script.chain(modules) {
        match folder.file(&source.path).and_then(|file| file.metadata()) {
            Ok(metadata) => total = total.saturating_add(metadata.len()),
            Err(err) => problems.push(problem(&what, source, &err)),
        }
    }
    if total > BUNDLE_UNPACKED_MAX_BYTES {
        problems.push(format!(
            "the files are {} in all, expected at most {}",
            show::size(total),
            show::size(BUNDLE_UNPACKED_MAX_BYTES)
        ));
    }
    if problems.is_empty() {
        return Ok(total);
    }
    let more = problems.len().saturating_sub(PROBLEMS_SHOWN);
    problems.truncate(PROBLEMS_SHOWN);
    if more > 0 {
        problems.push(format!("and {more} more"));
    }
    let list: String = problems.iter().map(|p| format!("\n  {p}")).collect();
    Err(Fail::usage(format!("{} names files that cannot be packed:{list}", toml.display())))
}

fn problem(what: &str, source: &SourceFile, err: &io::Error) -> String {
    let why = if err.kind() == io::ErrorKind::NotFound { "no such file".to_owned() } else { err.to_string() };
    format!("line {}: {what}: {}: {why}", source.line, source.path)
}

pub(crate) fn pack_failed(err: PackError, output: &Path) -> Fail {
    match err {
        PackError::Write(err) => cannot_write(err, output),
        PackError::Read { .. }
        | PackError::ReadAgain { .. }
        | PackError::Changed { .. }
        | PackError::Manifest(_)
        | PackError::ManifestTooLarge { .. }
        | PackError::Keys { .. } => Fail::of(Kind::Usage, err, format!("cannot build {}", output.display())),
    }
}

fn write_bundle(path: &Path, manifest: &Manifest, payloads: Vec<File>, key: &SigningKey) -> Result<(), Fail> {
    let head = write_head(manifest, &[key]).map_err(|err| pack_failed(err, path))?;
    let write = || {
        let mut new = NewFile::create(path, 0o644)?;
        new.file().write_all(&head)?;
        for mut payload in payloads {
            io::copy(&mut payload, new.file())?;
        }
        new.finish()
    };
    write().map_err(|err| cannot_write(err, path))
}
