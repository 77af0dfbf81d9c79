//! What `agent.toml` may say, and how it is told what is wrong.

use super::*;
use shared::UnixMillis;
use shared::error::chain;
use shared::keys::{OpeningKey, SigningKey};
use shared::message::{Budget, Hours};
use shared::trust::Trust;

fn text() -> String {
    let invitation = Invitation {
        agent: AgentId::parse("A1").unwrap(),
        mail: MailAddress::parse("a1@lab.test").unwrap(),
        classes: vec![Label::lossy("office-gateway")],
        manager: MailAddress::parse("manager@lab.test").unwrap(),
        trust: Trust::new(
            1,
            UnixMillis(0),
            vec![SigningKey::from_seed(&[1; 32]).verifying_key()],
            vec![SigningKey::from_seed(&[3; 32]).verifying_key()],
            1,
            OpeningKey::from_seed(&[2; 32]).sealing_key(),
        ),
        secret: [0; 32].into(),
        created: UnixMillis(0),
        expires: UnixMillis(1),
    };
    let choices = Choices {
        send: "spool:/tmp/post".to_owned(),
        receive: "spool:/tmp/post".to_owned(),
        ca: None,
        password_file: None,
        root: "/opt/box".into(),
    };
    new_text(&invitation, choices)
}

fn error(text: &str) -> String {
    chain(&parse(Path::new("agent.toml"), text).err().unwrap())
}

#[test]
fn a_new_configuration_reads_back() {
    let config = parse(Path::new("agent.toml"), &text()).unwrap_or_else(|err| panic!("{err}"));
    assert_eq!(config.agent.as_str(), "A1");
    assert_eq!((config.poll, config.mail.junk), (POLL_DEFAULT, JunkPolicy::Delete));
    assert_eq!(config.bill, BillDays::default());
}

#[test]
fn every_default_in_a_new_configuration_can_be_taken_out_of_its_comment() {
    let (head, settings) = text().split_once('\n').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let open = format!("{head}\n{}", settings.replace("\n# ", "\n"));
    let config = parse(Path::new("agent.toml"), &open).unwrap_or_else(|err| panic!("{err}"));
    assert_eq!(config.script_timeout, SCRIPT_TIMEOUT_DEFAULT);
    assert_eq!((config.rules, config.keep_free_bytes), (Rules::default(), 16 * 1024 * 1024));
    assert_eq!((config.lease_mode, config.restart_command.len()), (0o700, 2));
    assert_eq!(config.bill, BillDays { days: [1].into(), utc_offset_minutes: 0 });
}

#[test]
fn an_unknown_key_is_an_error_with_its_line() {
    let err = error(&format!("pol = \"5m\"\n{}", text()));
    assert!(err.contains("line 1") && err.contains("pol"), "{err}");
}

#[test]
fn a_bad_value_names_its_setting() {
    for (line, setting) in [
        ("poll = \"5\"", "poll"),
        ("poll = \"0s\"", "poll"),
        ("junk = \"burn\"", "junk"),
        ("tls = \"maybe\"", "tls"),
        ("restart_limit = \"soon\"", "restart_limit"),
        ("restart_command = [\"\"]", "restart_command"),
        ("lease_max = \"0s\"", "lease_max"),
        ("lease_mode = \"0077\"", "lease_mode"),
        ("keep_free = \"16\"", "keep_free"),
        ("bill_days = [1, 32]", "bill_days"),
        ("bill_utc_offset = \"9\"", "bill_utc_offset"),
        ("password_env = \"A\"\npassword_file = \"b\"", "password_file"),
    ] {
        let err = error(&format!("{line}\n{}", text()));
        assert!(err.contains(&format!("\"{setting}\"")), "{err}");
    }
    let err = error(&text().replacen("spool:/tmp/post", "smtp://user@mail.test", 1));
    assert!(err.contains("send") && err.contains("expected"), "{err}");
}

#[test]
fn a_budget_has_bytes_or_hours() {
    let with = |table: &str| format!("{}\n[budget]\n{table}\n", text());
    let config = with("month = \"50 MiB\"\nhours = \"22:00-05:00\"\nutc_offset = \"+09:00\"");
    let budget = parse(Path::new("agent.toml"), &config).unwrap().rules.budget.unwrap();
    let hours = Some(Hours { from: 1_320, until: 300 });
    let month_bytes = Some(50 * 1024 * 1024);
    assert_eq!(budget, Budget { day_bytes: None, month_bytes, hours, utc_offset_minutes: 540 });
    for (table, why) in [
        ("", "expected day, month or hours"),
        ("day = \"1\"", "budget.day"),
        ("day = \"100 KiB\"", "at least \"512 KiB\""),
        ("hours = \"22-5\"", "budget.hours"),
        ("hours = \"22:00-05:00\"\nutc_offset = \"9\"", "budget.utc_offset"),
        ("week = \"1 MiB\"", "week"),
    ] {
        let err = error(&with(table));
        assert!(err.contains(why), "{err}");
    }
}

#[test]
fn the_rom_version_comes_from_os_release_or_a_plain_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("f");
    for (content, expected) in [
        ("ID=debian\nVERSION_ID=\"13\"\n", "13"),
        ("1.5.08\n", "1.5.08"),
        ("NAME=Arch\nID=arch\n", "unknown"),
        ("", "unknown"),
    ] {
        std::fs::write(&file, content).unwrap();
        assert_eq!(rom_version_in(&file).as_str(), expected);
    }
    assert_eq!(rom_version_in(&folder.path().join("none")).as_str(), "unknown");
}

#[test]
fn a_second_mailbox_has_the_login_of_the_first_unless_it_says_otherwise() {
    let parsed = |table: &str| {
        let text = format!("password_env = \"FIRST\"\n{}\n[fallback_inbox]\n{table}", text());
        parse(Path::new("agent.toml"), &text).unwrap_or_else(|err| panic!("{err}"))
    };
    let same = parsed("receive = \"imaps://spare@lab.test/INBOX\"\n").fallback_inbox.unwrap();
    assert!(matches!(same.secret, mailio::SecretSource::Env(name) if name == "FIRST"));
    let other = parsed("receive = \"imaps://spare@lab.test/INBOX\"\npassword_file = \"/p\"\n");
    assert!(matches!(other.fallback_inbox.unwrap().secret, mailio::SecretSource::File(_)));
    assert!(matches!(other.mail.secret, mailio::SecretSource::Env(_)));
    let err = error(&format!("{}\n[fallback_inbox]\nreceive = \"nowhere\"\n", text()));
    assert!(err.contains("receive"), "{err}");
}
