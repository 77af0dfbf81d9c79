//! `bundle build --from`: makes deltas from older bundles. What a delta is, is `shared::bundle`'s.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Seek as _, SeekFrom};
use std::path::Path;

use shared::bundle::spec::SourceFile;
use shared::bundle::{
    BaseFile, BundleReader, BundleSpec, Delta, Entry, Manifest, ModuleEntry, PackError, pack_delta,
    successors,
};
use shared::limits::DELTAS_MAX_COUNT;
use tempfile::TempDir;

use super::args::BundleBuild;
use super::bundle::pack_failed;
use super::fail::{Fail, OrFail as _, cannot_write};
use super::files::{PlainFolder, folder_of};
use super::inspect::bundle_failed;
use super::show;

/// Deltas, and their payloads in the same order.
pub(crate) type Made = (Vec<Delta>, Vec<File>);

/// Makes a delta from each of the older bundles that the command names.
pub(crate) fn make(
    args: &BundleBuild,
    (spec, folder): (&BundleSpec, &PlainFolder),
    manifest: &Manifest,
    level: i32,
) -> Result<Made, Fail> {
    if args.from.len() > DELTAS_MAX_COUNT {
        return Err(Fail::usage(format!(
            "--from is given {} times, expected at most {DELTAS_MAX_COUNT}",
            args.from.len()
        )));
    }
    let mut made = (Vec::new(), Vec::new());
    for path in &args.from {
        let older = Older::unpack(path, manifest, &args.output)?;
        let payload = tempfile::tempfile_in(folder_of(&args.output));
        let mut payload = BufWriter::new(payload.map_err(|err| cannot_write(err, &args.output))?);
        let sources = sources(spec);
        let delta = pack_delta(
            manifest,
            &older.manifest.software_version,
            level,
            &mut |module| older.file(module),
            &mut |entry| {
                let source = match entry {
                    Entry::Script(_) => spec.script.as_ref(),
                    Entry::Module(module) => sources.get(module.name.as_str()).copied(),
                };
                let source = source.ok_or(io::ErrorKind::NotFound)?;
                folder.file(&source.path)
            },
            &mut payload,
        );
        let Some(delta) = delta.map_err(|err| pack_failed(err, &args.output))? else {
            show::say(&format!("{}: no delta from it is smaller than the bundle.", path.display()))?;
            continue;
        };
        let mut payload = payload.into_inner().map_err(|err| cannot_write(err.into_error(), &args.output))?;
        payload.seek(SeekFrom::Start(0)).map_err(|err| cannot_write(err, &args.output))?;
        made.0.push(delta);
        made.1.push(payload);
    }
    let mut with_deltas = manifest.clone();
    with_deltas.deltas.clone_from(&made.0);
    with_deltas.check().map_err(|err| pack_failed(PackError::Manifest(err), &args.output))?;
    Ok(made)
}

fn sources(spec: &BundleSpec) -> BTreeMap<&str, &SourceFile> {
    spec.modules.iter().map(|module| (module.name.as_str(), &module.file)).collect()
}

/// An older bundle, with those of its files unpacked that a delta can be made from.
struct Older {
    manifest: Manifest,
    /// Names of modules with what the manifest says of them and the names of their files.
    files: BTreeMap<String, (ModuleEntry, String)>,
    folder: TempDir,
}

impl Older {
    fn unpack(path: &Path, manifest: &Manifest, output: &Path) -> Result<Self, Fail> {
        let file = File::open(path).or_usage(format!("cannot read the older bundle {}", path.display()))?;
        let failed = |err| bundle_failed(err, path);
        let bundle = BundleReader::open(BufReader::new(file)).map_err(failed)?;
        // Who has signed it says nothing: an agent that has other files does not take the delta.
        let bundle = bundle.inspect_unverified().map_err(failed)?;
        let old = bundle.manifest().clone();
        let wanted = successors(&old, manifest);
        let folder = tempfile::tempdir_in(folder_of(output)).map_err(|err| cannot_write(err, output))?;
        let mut files = BTreeMap::new();
        bundle
            .unpack(&mut |entry, from| {
                if let Entry::Module(module) = entry
                    && wanted.contains_key(module.name.as_str())
                {
                    let name = files.len().to_string();
                    io::copy(from, &mut File::create_new(folder.path().join(&name))?)?;
                    files.insert(module.name.to_string(), (module.clone(), name));
                }
                Ok(())
            })
            .map_err(failed)?;
        Ok(Self { manifest: old, files, folder })
    }

    fn file(&self, module: &ModuleEntry) -> io::Result<Option<BaseFile>> {
        let Some((entry, name)) = self.files.get(module.name.as_str()) else { return Ok(None) };
        let content = fs::read(self.folder.path().join(name))?;
        Ok(Some(BaseFile { entry: entry.clone(), content }))
    }
}
