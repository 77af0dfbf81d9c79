//! Bundles that are wrong: every folder in `fixtures/bundles` is built, every altered or cut bundle is
//! noticed. The texts of the errors are in `fixtures/golden/bad-bundles.out`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]
#![allow(clippy::arithmetic_side_effects, reason = "a test may overflow and fail")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/bundles")
}

fn mailfleet(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mailfleet")).args(args).current_dir(dir).env_clear().output().unwrap()
}

fn with_key() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let key = "ed25519-secret:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n";
    fs::write(dir.path().join("release.key"), key).unwrap();
    fs::set_permissions(dir.path().join("release.key"), fs::Permissions::from_mode(0o600)).unwrap();
    dir
}

fn build(dir: &Path, from: &Path) -> Output {
    mailfleet(
        dir,
        &["bundle", "build", from.to_str().unwrap(), "-o", "x.mfb", "--release-key", "release.key"],
    )
}

#[test]
fn only_folders_with_a_version_in_their_name_are_good_bundles() {
    let golden = fs::read_to_string(fixtures().join("../golden/bad-bundles.cmds")).unwrap();
    let mut good = 0;
    for entry in fs::read_dir(fixtures()).unwrap() {
        let (dir, folder) = (with_key(), entry.unwrap().path());
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let output = build(dir.path(), &folder);
        let stderr = String::from_utf8(output.stderr).unwrap();
        if name.bytes().any(|b| b.is_ascii_digit()) {
            assert_eq!(output.status.code(), Some(0), "{name}: {stderr}");
            good += 1;
            continue;
        }
        assert_eq!(output.status.code(), Some(2), "{name}: {stderr}");
        assert!(stderr.contains("bundle.toml"), "{name}: {stderr}");
        assert!(stderr.contains("line "), "{name}: {stderr}");
        assert!(!dir.path().join("x.mfb").exists(), "{name}");
        assert!(golden.contains(&format!("/{name} ")), "{name} is not in bad-bundles.cmds");
    }
    assert!(good >= 1);
}

#[test]
fn every_cut_and_every_altered_byte_of_a_bundle_is_noticed() {
    let dir = with_key();
    assert!(build(dir.path(), &fixtures().join("office-gateway-1.0.02")).status.success());
    let whole = fs::read(dir.path().join("x.mfb")).unwrap();
    let bad = dir.path().join("bad.mfb");
    let inspect = |what: &str| {
        let output = mailfleet(dir.path(), &["bundle", "inspect", "bad.mfb"]);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(!stderr.contains("panicked"), "{what}: {stderr}");
        (output.status.code(), stderr)
    };
    for at in [0, 7, 8, 11, 12, 40, 200, whole.len() / 2, whole.len() - 1] {
        fs::write(&bad, &whole[..at]).unwrap();
        let (code, stderr) = inspect("cut");
        assert_eq!(code, Some(2), "cut at {at}: {stderr}");
        assert!(stderr.contains("bad.mfb is not a whole bundle"), "cut at {at}: {stderr}");
    }
    // In the magic, the lengths, and the payload; the manifest itself is covered by the signature, which
    // needs a home's keys (cli_home.rs).
    for at in [0, 8, 9, whole.len() / 2, whole.len() - 1] {
        let mut altered = whole.clone();
        altered[at] ^= 0x20;
        fs::write(&bad, &altered).unwrap();
        let (code, stderr) = inspect("altered");
        assert_eq!(code, Some(2), "altered at {at}: {stderr}");
    }
}

#[test]
fn a_symbolic_link_to_the_folder_itself_is_followed_because_the_user_named_it() {
    let dir = with_key();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(fixtures().canonicalize().unwrap().join("office-gateway-1.0.02"), &link)
        .unwrap();
    assert!(build(dir.path(), &link).status.success());
}

#[test]
fn a_bundle_over_the_mail_limit_is_built_with_a_warning() {
    let dir = with_key();
    let folder = dir.path().join("big");
    fs::create_dir_all(&folder).unwrap();
    // Noise that does not compress: a counter through a mixing function.
    let noise: Vec<u8> = (0u64..1_200_000)
        .flat_map(|n| {
            n.wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(29)
                .wrapping_mul(0xbf58_476d_1ce4_e5b9)
                .to_le_bytes()
        })
        .collect();
    fs::write(folder.join("firmware"), noise).unwrap();
    let toml = "software_version = \"2.0.00-0\"\n[[module]]\nname = \"firmware\"\nversion = \"2\"\n\
                date = \"2026-01-01\"\nfile = \"firmware\"\npath = \"share/firmware\"\nmode = \"0644\"\nkind = \"data\"\n";
    fs::write(folder.join("bundle.toml"), toml).unwrap();
    let output = mailfleet(
        dir.path(),
        &["bundle", "build", "big", "-o", "x.mfb", "--release-key", "release.key", "--level", "1"],
    );
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    assert!(stdout.contains("over the usual limit of 10.2 MB"), "{stdout}");
}
