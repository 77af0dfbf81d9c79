//! Measures deltas of real files: `delta OLD NEW` builds a bundle of NEW with a delta from one of OLD, applies it, and prints what is
//! mailed, how long it takes, and the most memory that applying has needed. `scripts/bench` compares that with other tools.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a tool for measuring")]

use std::fs::File;
use std::io::{self, BufReader, Cursor, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use shared::UnixMillis;
use shared::bundle::{
    BaseFile, BundleReader, BundleSpec, Compression, Entry, Form, Manifest, OldFile, pack, pack_delta,
    write_head,
};
use shared::keys::SigningKey;

/// As `bundle build` compresses.
const LEVEL: i32 = 19;

fn main() {
    let args: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    match args.as_slice() {
        [old, new] => measure(old, new),
        [old, delta, out] => apply(old, delta, out),
        _ => panic!("expected OLD NEW, or OLD DELTA OUT"),
    }
}

fn pack_one(file: &Path, payload: &mut File) -> Manifest {
    let toml = "software_version = \"1.0-0\"\n[[module]]\nname = \"program\"\nversion = \"1\"\ndate = \"2026-01-01\"\n\
                file = \"program\"\npath = \"program\"\nmode = \"0755\"\nkind = \"on-demand\"\n";
    let spec = BundleSpec::parse(toml).unwrap();
    let open = &mut |_: &_| File::open(file);
    pack(&spec, Compression::Zstd, LEVEL, UnixMillis(0), open, payload, &mut |_| {}).unwrap()
}

fn measure(old: &Path, new: &Path) {
    let folder = std::env::temp_dir().join(format!("mailfleet-delta-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let create = |name: &str| File::create_new(folder.join(name)).unwrap();
    let base = pack_one(old, &mut create("old"));
    let mut built = create("payload");
    let mut manifest = pack_one(new, &mut built);
    let began = Instant::now();
    let mut payload = Vec::new();
    let delta = pack_delta(
        &manifest,
        &base.software_version,
        LEVEL,
        &mut |_| {
            Ok(Some(BaseFile { entry: base.modules.first().unwrap().clone(), content: std::fs::read(old)? }))
        },
        &mut |_| File::open(new),
        &mut payload,
    );
    let made = began.elapsed();
    let delta = delta.unwrap().expect("no delta is smaller than the file");
    let (patch_bytes, payload_bytes) = (delta.patches.first().unwrap().bytes, delta.payload_bytes);
    manifest.deltas.push(delta);
    let mut bundle = write_head(&manifest, &[&SigningKey::from_seed(&[1; 32])]).unwrap();
    drop(built);
    bundle.extend(std::fs::read(folder.join("payload")).unwrap());
    bundle.extend(payload);
    let bundle = BundleReader::open(Cursor::new(bundle)).unwrap().inspect_unverified().unwrap();
    let sizes = [Form::Full, Form::Delta(0)].map(|form| bundle.form_bytes(form).unwrap());
    io::copy(&mut bundle.into_form(Form::Delta(0)).unwrap(), &mut create("delta")).unwrap();
    println!(
        "new {} full {} delta {} patch {patch_bytes} payload {payload_bytes} make_s {:.2}",
        new.metadata().unwrap().len(),
        sizes[0],
        sizes[1],
        made.as_secs_f64()
    );
    io::stdout().flush().unwrap();
    // Its memory is its own only in a process of its own.
    let (delta, out) = (folder.join("delta"), folder.join("out"));
    let status = Command::new(std::env::current_exe().unwrap()).args([old, &delta, &out]).status().unwrap();
    assert!(status.success() && std::fs::read(&out).unwrap() == std::fs::read(new).unwrap());
    std::fs::remove_dir_all(&folder).unwrap();
}

fn apply(old: &Path, delta: &Path, out: &Path) {
    let began = Instant::now();
    let file = BufReader::new(File::open(delta).unwrap());
    let bundle = BundleReader::open(file).unwrap().inspect_unverified().unwrap();
    let mut out = File::create_new(out).unwrap();
    let mut open = |_: &_| -> io::Result<Box<dyn OldFile>> { Ok(Box::new(File::open(old)?)) };
    let mut take = |_: Entry<'_>, from: &mut dyn io::Read| io::copy(from, &mut out).map(drop);
    bundle.unpack_over(&mut open, &mut take).unwrap();
    let took = began.elapsed();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim();
    println!("apply_s {:.3} peak {peak} of {} bytes", took.as_secs_f64(), out.stream_position().unwrap());
}
