//! Tests of the extractor: what relays do to mails, what damage looks like, what bombs cost.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

fn extract(mail: &[u8], limit: u64) -> Result<Vec<u8>, ContentError> {
    let mut out = Vec::new();
    let mut extractor = Extractor::new(limit, &mut out);
    let done = mail.chunks(7).try_for_each(|c| extractor.push(c)).and_then(|()| extractor.finish());
    match done {
        Ok(_) => Ok(out),
        Err(FetchError::Content(err)) => Err(err),
        Err(other) => panic!("{other:?}"),
    }
}

fn mail(part: &str) -> String {
    format!(
        "Content-Type: multipart/mixed; boundary=\"b\"\r\n\r\nhello\r\n--b\r\n\r\nnote\r\n--b\r\n\
         Content-Type: Application/Octet-Stream\r\nContent-Transfer-Encoding: BASE64\r\n\r\n{part}\r\n--b--\r\n"
    )
}

const PART: &str = "cGF5bG9hZCBvZiBieXRlcw==";
const PAYLOAD: &[u8] = b"payload of bytes";

#[test]
fn relays_may_rewrap_reorder_wrap_and_add_words() {
    let plain = mail(PART);
    let rewrapped = mail("cGF5\r\n bG9h\tZCBv\r\n\r\nZiBieXRlcw\r\n==\r\n");
    let disclaimer = format!("{plain}\r\n-- \r\nThis mail is confidential.\r\n--b\r\n\r\nmore\r\n");
    let extra = plain.replace("--b--", "--b\r\nContent-Type: text/plain\r\n\r\nscanned\r\n--b--");
    let note = plain.replace("note", "note\r\n--\r\nDisclaimer -- added --b or so\r\n --b");
    let blanks = plain.replace("--b\r\n", "--b \t\r\n");
    let lf = plain.replace("\r\n", "\n");
    let wrapped = format!(
        "Content-Type: multipart/mixed; boundary=outer\r\nSubject: x\r\n\r\n--outer\r\nContent-Type: text/plain\r\n\
         \r\nExternal mail!\r\n--outer\r\n{plain}--outer--\r\n"
    );
    let single =
        format!("Content-Transfer-Encoding: base64\nContent-Type: application/octet-stream\n\n{PART}\n");
    let one_line = mail(&PART.replace("==", "")).replace("cw\r\n", "cw==\r\n");
    for mail in [plain, rewrapped, disclaimer, extra, note, blanks, lf, wrapped, single, one_line] {
        assert_eq!(extract(mail.as_bytes(), 100).as_deref(), Ok(PAYLOAD), "{mail}");
    }
}

#[test]
fn what_follows_the_attachment_does_not_matter_however_the_download_is_cut() {
    let good = mail(PART).replace("--b--\r\n", "");
    let parts = format!("{good}{}", "--b\r\n\r\nx\r\n".repeat(70));
    let headers = format!("{good}--b\r\nA: {}", "x".repeat(70_000));
    let before = "--b\r\n\r\nx\r\n".repeat(crate::mime::PARTS_MAX - 3);
    let last_part = good.replacen("--b", &format!("{before}--b"), 1) + "--b\r\n";
    for mail in [parts, headers, last_part] {
        for piece in [7, 4096, mail.len()] {
            let mut out = Vec::new();
            let mut extractor = Extractor::new(100, &mut out);
            mail.as_bytes().chunks(piece).try_for_each(|piece| extractor.push(piece)).unwrap();
            assert_eq!(extractor.finish().unwrap().bytes, PAYLOAD.len() as u64, "pieces of {piece}");
        }
    }
}

#[test]
fn base64_in_one_endless_line_is_read() {
    let body = vec![9u8; 3_000_000];
    let mail = mail(&STANDARD.encode(&body));
    assert_eq!(extract(mail.as_bytes(), 3_000_000).unwrap(), body);
}

#[test]
fn damage_is_named() {
    use ContentError::{BadBase64, Encoding, NoAttachment, Truncated};
    let good = mail(PART);
    let cut = good.split_once("--b--").unwrap().0.to_owned();
    type Case = (String, fn(&ContentError) -> bool);
    let cases: Vec<Case> = vec![
        (cut, |e| matches!(e, Truncated { .. })),
        (good.split_once("ieXR").unwrap().0.to_owned(), |e| matches!(e, Truncated { .. })),
        (good.replace("Application/Octet-Stream", "text/html"), |e| *e == NoAttachment),
        (String::new(), |e| *e == NoAttachment),
        ("\r\n\r\n".into(), |e| *e == NoAttachment),
        (good.replace("BASE64", "quoted-printable"), |e| matches!(e, Encoding { .. })),
        (good.replace("bG9h", "bG*h"), |e| matches!(e, BadBase64 { .. })),
        (good.replace("cw==", "cw="), |e| matches!(e, BadBase64 { .. })),
        (good.replace("cw==", "cw==cGF5"), |e| matches!(e, BadBase64 { .. })),
        (good.replace("cw==", "cw==\r\n\r\nConfidential."), |e| matches!(e, BadBase64 { .. })),
    ];
    for (mail, is) in cases {
        let err = extract(mail.as_bytes(), 100).unwrap_err();
        assert!(is(&err), "{err:?}\n{mail}");
    }
    let sized = format!("X-Mailfleet: v1; id={}; size=15\r\n{good}", "0".repeat(32));
    let wrong = ContentError::WrongSize { expected_bytes: 15, found_bytes: 16 };
    assert_eq!(extract(sized.as_bytes(), 100).unwrap_err(), wrong);
    assert_eq!(extract(good.as_bytes(), 15).unwrap_err(), ContentError::TooLarge { limit_bytes: 15 });
}

#[test]
fn a_full_disk_is_not_the_mails_fault() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut full = Full;
    let mut extractor = Extractor::new(100, &mut full);
    assert!(matches!(extractor.push(mail(PART).as_bytes()), Err(FetchError::Output(_))));
}

#[test]
fn bombs_of_thirty_megabytes_are_refused_or_passed_in_linear_time() {
    let started = Instant::now();
    let repeat = |text: &str| text.repeat(30_000_000 / text.len());
    let nested: String =
        (0..100_000).map(|n| format!("Content-Type: multipart/mixed; boundary=b{n}\n\n--b{n}\n")).collect();
    assert_eq!(extract(nested.as_bytes(), 100), Err(ContentError::NestedTooDeep));
    let wide = format!("Content-Type: multipart/mixed; boundary=b\n\n{}", repeat("--b\n\n"));
    assert_eq!(extract(wide.as_bytes(), 100), Err(ContentError::TooManyParts));
    let absent = format!("Content-Type: multipart/mixed; boundary=b\n\n{}", repeat("--absent\n--\n"));
    assert_eq!(extract(absent.as_bytes(), 100), Err(ContentError::NoAttachment));
    let messages = repeat("Content-Type: message/rfc822\n\n");
    assert_eq!(extract(messages.as_bytes(), 100), Err(ContentError::NoAttachment));
    let headers = repeat("A: b\n");
    assert_eq!(extract(headers.as_bytes(), 100), Err(ContentError::HeadersTooLarge));
    let line = "x".repeat(30_000_000);
    assert_eq!(extract(line.as_bytes(), 100), Err(ContentError::HeadersTooLarge));
    // About 4 s without optimisation, all six together.
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let _ = extract(&bytes, 1000);
    }

    #[test]
    fn no_mutation_of_a_mail_makes_it_panic(at in 0usize..200, with in "\\PC{0,20}") {
        let mut mail = mail(PART);
        mail.insert_str(at.min(mail.len()), &with);
        let _ = extract(mail.as_bytes(), 1000);
    }
}
