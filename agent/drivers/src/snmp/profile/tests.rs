//! Profiles: ours are sound, a user's come first, and what is wrong in one is named.

use std::collections::BTreeSet;

use super::names::{LABELS, NAMES};
use super::*;

fn error(text: &str) -> String {
    shared::error::chain(&Profiles::read([("mine.toml", text)]).unwrap_err())
}

#[test]
fn ours_are_read_and_each_names_a_maker() {
    let profiles = Profiles::read([]).unwrap();
    assert_eq!(profiles.0.len(), BUILT_IN.len());
    for profile in &profiles.0 {
        assert!(profile.vendor.is_some() && profile.class.is_some(), "{profile:?}");
    }
}

#[test]
fn no_counter_of_ours_is_named_twice() {
    for profile in &Profiles::read([]).unwrap().0 {
        let mut seen = BTreeSet::new();
        let single = profile.counters.iter().map(|rule| (&rule.name, &rule.labels));
        for (name, labels) in single {
            assert!(
                seen.insert((name.0.clone(), labels.0.clone())),
                "{:?}: {name:?} {labels:?}",
                profile.vendor
            );
        }
        for table in &profile.tables {
            let keys: BTreeSet<_> = table.rows.iter().map(|row| &row.key).collect();
            assert_eq!(keys.len(), table.rows.len(), "{:?}", profile.vendor);
        }
    }
}

#[test]
fn the_description_has_every_name_and_label() {
    let text = include_str!("../../../profiles/README.md");
    for word in NAMES.iter().chain(LABELS.iter().map(|(key, _)| key)) {
        assert!(text.contains(&format!("`{word}`")), "{word} is not described");
    }
}

#[test]
fn the_example_in_the_description_is_a_profile() {
    let text = include_str!("../../../profiles/README.md");
    let example = text.split("```toml").nth(1).unwrap().split("```").next().unwrap();
    let profiles = Profiles::read([("example.toml", example)]).unwrap();
    let id = Oid::parse("1.3.6.1.4.1.99999.7").unwrap();
    assert_eq!(profiles.find(Some(&id), &[]).unwrap().vendor.as_deref(), Some("Maker"));
}

#[test]
fn a_users_profile_comes_before_ours_and_the_longer_prefix_before_both() {
    let mine = "vendor = \"Mine\"\n[match]\nobject_ids = [\"1.3.6.1.4.1.367\"]\n";
    let longer = "vendor = \"Longer\"\n[match]\nobject_ids = [\"1.3.6.1.4.1.367.1\"]\n";
    let find = |users: &[(&str, &str)], id: &str| {
        let profiles = Profiles::read(users.iter().copied()).unwrap();
        let id = Oid::parse(id).unwrap();
        profiles.find(Some(&id), &[]).and_then(|profile| profile.vendor.clone()).unwrap()
    };
    assert_eq!(find(&[], "1.3.6.1.4.1.367.1.1"), "Ricoh");
    assert_eq!(find(&[("a", mine)], "1.3.6.1.4.1.367.1.1"), "Mine");
    assert_eq!(find(&[("a", mine), ("b", longer)], "1.3.6.1.4.1.367.1.1"), "Longer");
    assert_eq!(find(&[("a", mine), ("b", longer)], "1.3.6.1.4.1.367.2"), "Mine");
}

#[test]
fn a_maker_is_known_by_a_word_or_by_what_only_it_has() {
    let profiles = Profiles::read([]).unwrap();
    let net_snmp = Oid::parse("1.3.6.1.4.1.8072.3.2.10").unwrap();
    let by_word = profiles.find(Some(&net_snmp), &["SHARP MX-1".to_owned()]).unwrap();
    assert_eq!(by_word.vendor.as_deref(), Some("Sharp"));
    assert!(profiles.find(Some(&net_snmp), &["Linux".to_owned()]).is_none());
    let serial = Oid::parse("1.3.6.1.4.1.1347.43.5.1.1.28.1").unwrap();
    let by_presence = profiles.find_by_presence(|oid| *oid == serial).unwrap();
    assert_eq!(by_presence.vendor.as_deref(), Some("Kyocera"));
}

#[test]
fn what_is_wrong_is_named_with_file_and_line() {
    let head = "vendor = \"Mine\"\n[match]\nobject_ids = [\"1.3.6.1.4.1.99999\"]\n";
    for (rest, words) in [
        ("[supplys]\n", vec!["line 4", "supplys"]),
        ("[[counter]]\noid = \"1.3.x\"\nname = \"pages\"\n", vec!["line 5", "1.3.x"]),
        ("[[counter]]\noid = \"1.3.6\"\nname = \"sides\"\n", vec!["line 6", "sides", "pages"]),
        (
            "[[counter]]\noid = \"1.3.6\"\nname = \"pages\"\nlabels = { color = \"mono\" }\n",
            vec!["line 7", "color", "colour"],
        ),
        (
            "[[counter]]\noid = \"1.3.6\"\nname = \"pages\"\nlabels = { colour = \"grey\" }\n",
            vec!["line 7", "grey", "mono"],
        ),
        ("[[counter]]\noid = \"1.3.6\"\nname = \"pages\"\nunit = \"sheet\"\n", vec!["line 7", "sheet"]),
        ("[supplies]\nwaste = \"full\"\n", vec!["line 5", "`remaining` or `used`"]),
    ] {
        let err = error(&format!("{head}{rest}"));
        assert!(err.contains("mine.toml"), "{err}");
        assert!(words.iter().all(|word| err.contains(word)), "{rest}: {err}");
    }
    assert!(error("vendor = \"Mine\"\n").contains("matches nothing"));
    assert!(error(&"#".repeat(PROFILE_MAX_BYTES + 1)).contains("expected at most"));
}
