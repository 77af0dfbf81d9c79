//! Answers in IPP, good and bad, byte by byte.

use super::*;

const WANTED: [&str; 6] = ["state", "reasons", "name", "col", "col/mono", "col/inner"];

fn attribute(tag: u8, name: &str, value: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    for bytes in [name.as_bytes(), value] {
        out.extend(u16::try_from(bytes.len()).unwrap().to_be_bytes());
        out.extend(bytes);
    }
    out
}

fn answer(parts: &[Vec<u8>]) -> Vec<u8> {
    let mut out = vec![1, 1, 0, 0, 0, 0, 0, 1, GROUP_OPERATION];
    out.extend(attribute(TAG_TEXT, "status-message", b"fine"));
    out.push(GROUP_PRINTER);
    out.extend(parts.concat());
    out.push(GROUP_END);
    out
}

#[test]
fn a_request_asks_for_what_is_wanted() {
    let request = request("ipp://a/", &["state", "state/member", "reasons"]);
    let mut expected = vec![1, 1, 0, 0x0b, 0, 0, 0, 1, 1];
    expected.extend(attribute(0x47, "attributes-charset", b"utf-8"));
    expected.extend(attribute(0x48, "attributes-natural-language", b"en"));
    expected.extend(attribute(0x45, "printer-uri", b"ipp://a/"));
    expected.extend(attribute(0x44, "requested-attributes", b"state"));
    expected.extend(attribute(0x44, "", b"reasons"));
    expected.push(3);
    assert_eq!(request, expected);
}

#[test]
fn values_of_every_kind_are_read() {
    let bytes = answer(&[
        attribute(TAG_ENUM, "state", &[0, 0, 0, 3]),
        attribute(TAG_KEYWORD, "reasons", b"media-low"),
        attribute(TAG_KEYWORD, "", b"toner-low"),
        attribute(TAG_NAME_WITH_LANGUAGE, "name", b"\x00\x02de\x00\x03B\xc3\xbc"),
        attribute(0x13, "", b""),
        attribute(TAG_INTEGER, "", &[0xff, 0xff, 0xff, 0xfd]),
        attribute(TAG_INTEGER, "", &[1, 2]),
        attribute(TAG_TEXT, "not-asked-for", b"x"),
    ]);
    let answer = read(&bytes, &WANTED).unwrap();
    assert_eq!((answer.status, answer.message.as_deref()), (0, Some("fine")));
    let attributes = answer.attributes;
    assert_eq!(attributes.number("state"), Some(3));
    assert_eq!(attributes.texts("reasons").collect::<Vec<_>>(), ["media-low", "toner-low"]);
    let name = [Value::Text("Bü".into()), Value::None, Value::Number(-3), Value::None];
    assert_eq!(attributes.all("name"), name);
    assert!(attributes.all("not-asked-for").is_empty());
}

#[test]
fn members_of_a_collection_are_read_and_those_of_one_in_it_are_not() {
    let bytes = answer(&[
        attribute(TAG_COLLECTION, "col", b""),
        attribute(TAG_MEMBER, "", b"mono"),
        attribute(TAG_INTEGER, "", &[0, 0, 0, 7]),
        attribute(TAG_MEMBER, "", b"inner"),
        attribute(TAG_COLLECTION, "", b""),
        attribute(TAG_MEMBER, "", b"mono"),
        attribute(TAG_INTEGER, "", &[0, 0, 0, 9]),
        attribute(TAG_COLLECTION_END, "", b""),
        attribute(TAG_COLLECTION_END, "", b""),
        attribute(TAG_ENUM, "state", &[0, 0, 0, 5]),
    ]);
    let attributes = read(&bytes, &WANTED).unwrap().attributes;
    assert_eq!(attributes.all("col/mono"), [Value::Number(7)]);
    assert!(attributes.all("col/inner").is_empty());
    assert_eq!(attributes.number("state"), Some(5));
}

#[test]
fn collections_a_hundred_thousand_deep_cost_nothing() {
    let deep = attribute(TAG_COLLECTION, "", b"").repeat(100_000);
    let up = attribute(TAG_COLLECTION_END, "", b"").repeat(100_000);
    let bytes = answer(&[deep.clone(), up.clone(), attribute(TAG_ENUM, "state", &[0, 0, 0, 3])]);
    assert_eq!(read(&bytes, &WANTED).unwrap().attributes.number("state"), Some(3));
    assert!(read(&answer(&[deep]), &WANTED).is_err());
    assert!(read(&answer(&[up]), &WANTED).is_err());
}

#[test]
fn an_attribute_without_an_end_is_cut() {
    let bytes = answer(&[
        attribute(TAG_KEYWORD, "reasons", b"a"),
        attribute(TAG_KEYWORD, "", b"b").repeat(100_000),
        attribute(TAG_TEXT, "name", &vec![b'x'; 60_000]),
    ]);
    let attributes = read(&bytes, &WANTED).unwrap().attributes;
    assert_eq!(attributes.all("reasons").len(), IPP_VALUES_MAX_COUNT);
    assert_eq!(attributes.text("name").unwrap().len(), VALUE_MAX_BYTES);
}

#[test]
fn an_answer_that_is_cut_anywhere_is_none() {
    let bytes = answer(&[
        attribute(TAG_ENUM, "state", &[0, 0, 0, 3]),
        attribute(TAG_KEYWORD, "reasons", b"media-low"),
    ]);
    assert!(read(&bytes, &WANTED).is_ok());
    for end in 0..bytes.len() {
        assert!(read(&bytes[..end], &WANTED).is_err(), "{end}");
    }
}

#[test]
fn no_byte_that_is_changed_makes_it_panic() {
    let bytes = answer(&[
        attribute(TAG_COLLECTION, "col", b""),
        attribute(TAG_MEMBER, "", b"mono"),
        attribute(TAG_COLLECTION_END, "", b""),
        attribute(TAG_NAME_WITH_LANGUAGE, "name", b"\x00\x02de\x00\x03abc"),
    ]);
    for at in 0..bytes.len() {
        for byte in 0..=255 {
            let mut changed = bytes.clone();
            changed[at] = byte;
            let _ = read(&changed, &WANTED);
        }
    }
}
