//! Tests of the mail URLs: what is accepted, what is refused with which words.

use proptest::prelude::*;

use super::*;

fn smtp(text: &str) -> (String, u16, TlsMode, Option<String>) {
    match SendUrl::parse(text).unwrap() {
        SendUrl::Smtp { host, port, tls, user } => (host, port, tls, user),
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_scheme_has_its_port_and_protection() {
    let user = Some("box".to_owned());
    assert_eq!(smtp("smtps://box@Mail.test"), ("mail.test".into(), 465, TlsMode::Implicit, user.clone()));
    assert_eq!(smtp("smtp+starttls://box@h"), ("h".into(), 587, TlsMode::StartTls, user.clone()));
    assert_eq!(smtp("smtp://127.0.0.1:2525"), ("127.0.0.1".into(), 2525, TlsMode::None, None));
    assert_eq!(smtp("smtp://[::1]:25").0, "::1");
    let imap = |host: &str, port, tls, folder: &str| ReceiveUrl::Imap {
        host: host.into(),
        port,
        tls,
        user: "box".into(),
        folder: folder.into(),
    };
    assert_eq!(ReceiveUrl::parse("imaps://box@h"), Ok(imap("h", 993, TlsMode::Implicit, "INBOX")));
    assert_eq!(ReceiveUrl::parse("imaps://box@h:1/A%20b"), Ok(imap("h", 1, TlsMode::Implicit, "A b")));
    assert_eq!(ReceiveUrl::parse("imap+starttls://box@h/"), Ok(imap("h", 143, TlsMode::StartTls, "INBOX")));
    let pop3 = |port, tls| ReceiveUrl::Pop3 { host: "h".into(), port, tls, user: "box".into() };
    assert_eq!(ReceiveUrl::parse("pop3s://box@h"), Ok(pop3(995, TlsMode::Implicit)));
    assert_eq!(ReceiveUrl::parse("pop3+starttls://box@h/"), Ok(pop3(110, TlsMode::StartTls)));
    assert_eq!(ReceiveUrl::parse("pop3://box@h:1100"), Ok(pop3(1100, TlsMode::None)));
    assert!(ReceiveUrl::parse("imap://box@::1").unwrap_err().to_string().contains("in [ ]"));
    assert_eq!(SendUrl::parse("sendmail:"), Ok(SendUrl::Sendmail { program: "/usr/sbin/sendmail".into() }));
    assert_eq!(SendUrl::parse("maildir:/a b"), Ok(SendUrl::Maildir("/a b".into())));
    assert_eq!(SendUrl::parse("spool:///var/x"), Ok(SendUrl::Spool("/var/x".into())));
}

#[test]
fn a_user_may_be_a_whole_address_plain_or_encoded() {
    assert_eq!(smtp("smtps://box@site.test@mail.test").3.as_deref(), Some("box@site.test"));
    assert_eq!(smtp("smtps://box%40site.test@mail.test").3.as_deref(), Some("box@site.test"));
}

#[test]
fn a_password_is_refused_and_never_repeated() {
    for text in [
        "smtps://box:hunter2@h",
        "smtps://box@x:hunter2@h",
        "imaps://box:hunter2@h/INBOX",
        "foo://box:hunter2@h",
        "smtps:box:hunter2@h",
        "smtps://box:hunter2/x@h",
        "smtps://box:12/hunter2@h",
        "imaps://box:h:hunter2/x@h/INBOX",
    ] {
        let send = SendUrl::parse(text).map_err(|e| e.to_string());
        let receive = ReceiveUrl::parse(text).map_err(|e| e.to_string());
        for err in [send.unwrap_err(), receive.unwrap_err()] {
            assert!(!err.contains("hunter2"), "{text}: {err}");
        }
    }
    let err = SendUrl::parse("smtps://box:hunter2@h").unwrap_err();
    assert_eq!(err.to_string(), "passwords never stand in URLs: use --password-file");
}

#[test]
fn a_bad_url_is_told_what_is_wrong_with_it() {
    for (text, words) in [
        ("", "starts with smtps://"),
        ("mail.test", "starts with smtps://"),
        ("http://x", "found \"http\""),
        ("smtps:h", "//"),
        ("smtps://", "host"),
        ("smtps://h:0", "port"),
        ("smtps://h:65536", "port"),
        ("smtps://h:x", "port"),
        ("smtps://@h", "user"),
        ("smtps://%zz@h", "user"),
        ("smtps://%0d%0a@h", "user"),
        ("smtps://h/INBOX", "path"),
        ("smtps://h?x", "'?'"),
        ("smtps://a b", "host"),
        ("smtps://[::1", "']'"),
        ("maildir:relative", "absolute"),
        ("sendmail:x", "absolute"),
    ] {
        let err = SendUrl::parse(text).unwrap_err().to_string();
        assert!(err.contains(words), "{text}: {err}");
    }
    for (text, words) in [
        ("imaps://h", "user"),
        ("pop3s://h", "user"),
        ("pop3s://box@h/INBOX", "no folders"),
        ("pop://box@h", "pop3s://"),
        ("imaps://box@h/a%0d%0ab", "folder"),
        ("imaps://box@h/Entw%C3%BCrfe", "folder"),
        ("smtps://h", "imaps://"),
    ] {
        let err = ReceiveUrl::parse(text).unwrap_err().to_string();
        assert!(err.contains(words), "{text}: {err}");
    }
}

proptest! {
    #[test]
    fn a_written_url_reads_back(user in "[a-zA-Z0-9@/%+.: -]{1,20}", host in "[a-z][a-z0-9.-]{0,20}", port in 1u16..) {
        let url = SendUrl::Smtp { host: host.clone(), port, tls: TlsMode::Implicit, user: Some(user.clone()) };
        prop_assert_eq!(SendUrl::parse(&url.to_string()), Ok(url));
        let url = ReceiveUrl::Imap { host, port, tls: TlsMode::StartTls, user, folder: "A/b c".into() };
        prop_assert_eq!(ReceiveUrl::parse(&url.to_string()), Ok(url));
    }

    #[test]
    fn no_text_makes_the_parsers_panic(text in "\\PC{0,60}") {
        let _ = SendUrl::parse(&text);
        let _ = ReceiveUrl::parse(&text);
    }
}
