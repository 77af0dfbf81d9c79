//! Runs each script `fixtures/golden/*.cmds` and compares what it prints with `*.out`. `UPDATE_GOLDEN=1`
//! writes the `.out` files anew; look at the difference before you commit it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]
#![allow(clippy::arithmetic_side_effects, reason = "a test may overflow and fail")]

mod transcript;

use std::fs;

use transcript::fixtures;

macro_rules! golden {
    ($($name:ident)*) => {
        $(#[test] fn $name() { play(stringify!($name)); })*

        #[test]
        fn every_script_is_played_by_a_test() {
            let mut listed = vec![$(stringify!($name).to_owned()),*];
            listed.sort();
            assert_eq!(scripts(), listed, "a .cmds file without a test, or the other way round");
        }
    };
}

golden! {
    agents
    bad_bundles
    build_and_inspect
    campaign
    doctor
    help
    import
    keys
    usage
}

fn scripts() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(fixtures().join("golden"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "cmds"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().replace('-', "_"))
        .collect();
    names.sort();
    names
}

fn play(test: &str) {
    let dir = tempfile::tempdir().unwrap();
    transcript::play(&fixtures().join("golden"), &test.replace('_', "-"), dir.path());
}
