//! Answers of printers, and lists of devices.

use crate::Seed;

fn attribute(tag: u8, name: &str, values: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    for (at, value) in values.iter().enumerate() {
        out.push(tag);
        for bytes in [if at == 0 { name.as_bytes() } else { b"" }, value] {
            out.extend(u16::try_from(bytes.len()).unwrap().to_be_bytes());
            out.extend(bytes);
        }
    }
    out
}

/// Every attribute that is read, in every form of a value.
fn printer() -> Vec<u8> {
    let attributes = [
        attribute(0x23, "printer-state", &[&[0, 0, 0, 5]]),
        attribute(
            0x44,
            "printer-state-reasons",
            &[b"media-empty-error", b"toner-low-warning", b"stapler-jam"],
        ),
        attribute(0x35, "printer-state-message", &[b"\x00\x02en\x00\x05Empty"]),
        attribute(
            0x30,
            "printer-alert",
            &[b"code=inputMediaSupplyEmpty;severity=critical;group=input;groupindex=2"],
        ),
        attribute(0x41, "printer-alert-description", &[b"Tray 2 is empty"]),
        attribute(0x21, "printer-up-time", &[&[0, 0, 2, 0]]),
        attribute(0x41, "printer-make-and-model", &[b"Acme LaserStar 7"]),
        attribute(0x41, "printer-device-id", &[b"MFG:Acme;MDL:LaserStar 7;SN:S-7;"]),
        attribute(0x45, "printer-uuid", &[b"urn:uuid:1"]),
        attribute(0x36, "printer-name", &[b"\x00\x02de\x00\x03mfp"]),
        attribute(0x44, "ipp-features-supported", &[b"ipp-everywhere", b"faxout"]),
        attribute(0x42, "printer-firmware-name", &[b"main"]),
        attribute(0x41, "printer-firmware-string-version", &[b"2.5"]),
        attribute(0x42, "marker-names", &[b"Black", b"Waste"]),
        attribute(0x44, "marker-types", &[b"toner", b"waste-toner"]),
        attribute(0x42, "marker-colors", &[b"#000000", b"none"]),
        attribute(0x21, "marker-levels", &[&[0, 0, 0, 42], &[0xff, 0xff, 0xff, 0xfd]]),
        attribute(0x30, "printer-input-tray", &[b"type=other;maxcapacity=250;level=-2;name=main"]),
        attribute(0x21, "printer-impressions-completed", &[&[0, 0, 18, 0]]),
        attribute(0x34, "printer-impressions-completed-col", &[b""]),
        attribute(0x4a, "", &[b"monochrome"]),
        attribute(0x21, "", &[&[0, 0, 17, 0]]),
        attribute(0x37, "", &[b""]),
        attribute(0x13, "printer-media-sheets-completed", &[b""]),
    ];
    [&[1, 1, 0, 0, 0, 0, 0, 1, 4], attributes.concat().as_slice(), &[3]].concat()
}

fn small() -> Vec<u8> {
    let attributes = [
        attribute(0x23, "printer-state", &[&[0, 0, 0, 3]]),
        attribute(0x44, "printer-state-reasons", &[b"none"]),
        attribute(
            0x30,
            "printer-supply",
            &[b"index=1;class=supplyThatIsConsumed;type=toner;unit=percent;maxcapacity=100;level=9;"],
        ),
    ];
    [&[1, 1, 0, 0, 0, 0, 0, 1, 4], attributes.concat().as_slice(), &[3]].concat()
}

const LIST: &str = r#"# Ours.
[[device]]
name = "mfp"
driver = "snmp"
address = "192.0.2.17"

# The one with a password.
[[device]]
name = "xerox"
driver = "snmp"
address = "[2001:db8::1]:161"
version = "3"
user = "mon"
auth = "sha256"
auth_password = "authpass123"
privacy = "aes128"
privacy_password = "privpass123"

[[device]]
name = "office"
driver = "ipp"
address = "ipps://192.0.2.19/ipp/print"
self_signed = true
class = "mfp"
timeout = "5s"

[[device]]
name = "box"
driver = "host"
watch_programs = ["acad"]

[[device]]
name = "scale"
driver = "exec"
command = ["scale", "--json"]
"#;

pub(crate) fn seeds() -> Vec<Seed> {
    let (printer, small) = (printer(), small());
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", printer.len());
    let plain = [b"\0", head.as_bytes(), &printer].concat();
    let size = format!("{:x};x=y\r\n", small.len());
    let chunked = b"\x01HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunked = [chunked.as_slice(), size.as_bytes(), &small, b"\r\n0\r\n\r\n"].concat();
    let until_end = [b"\0HTTP/1.0 200 OK\n\n".as_slice(), &small].concat();
    vec![
        ("ipp_answers", "everything", plain),
        ("ipp_answers", "chunked", chunked),
        ("ipp_answers", "until-the-end", until_end),
        ("toml_devices", "full", LIST.into()),
        ("toml_devices", "inline", b"device = [{ name = \"a\", driver = \"host\" }]\n".to_vec()),
    ]
}
