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

/// A frame of text from a server (RFC 6455 §5.2).
fn frame(text: &str) -> Vec<u8> {
    let bytes = text.len();
    let length = if bytes < 126 {
        vec![u8::try_from(bytes).unwrap()]
    } else {
        [&[126][..], &u16::try_from(bytes).unwrap().to_be_bytes()].concat()
    };
    [&[0x81][..], &length, text.as_bytes()].concat()
}

/// What SWUpdate 2022.12 tells while it installs.
fn installation() -> Vec<u8> {
    let long = format!(r#"{{"type": "message", "level": "3", "text": "{}"}}"#, "x".repeat(200));
    let events = [
        r#"{"type": "status", "status": "START"}"#,
        r#"{"type": "step", "number": "1", "step": "1", "name": "image.bin", "percent": "50"}"#,
        &long,
        r#"{"type": "status", "status": "SUCCESS"}"#,
    ];
    [&[2, 0x89, 0][..], &events.map(frame).concat()].concat()
}

fn firmware_seeds() -> Vec<Seed> {
    let stored = b"\x00227 Entering Passive Mode (192,0,2,17,25,46).\r\n229 Extended (|||6446|)\r\n\
                   226-Stored\r\n 226 it is\r\n226 Transfer complete\r\n";
    let request = b"\x01\0\x01fw.bin\0octet\0tsize\x000\0blksize\x001428\0";
    vec![
        ("firmware_answers", "ftp", stored.to_vec()),
        ("firmware_answers", "tftp", request.to_vec()),
        ("firmware_answers", "swupdate", installation()),
        ("firmware_answers", "program", b"\x03{\"result\": \"sent\", \"reason\": \"why not\"}".to_vec()),
        ("firmware_answers", "page", b"\x04{\"answer\": \"ready\", \"seconds\": 1200}".to_vec()),
    ]
}

pub(crate) fn seeds() -> Vec<Seed> {
    let (printer, small) = (printer(), small());
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", printer.len());
    let plain = [b"\0", head.as_bytes(), &printer].concat();
    let size = format!("{:x};x=y\r\n", small.len());
    let chunked = b"\x01HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunked = [chunked.as_slice(), size.as_bytes(), &small, b"\r\n0\r\n\r\n"].concat();
    let until_end = [b"\0HTTP/1.0 200 OK\n\n".as_slice(), &small].concat();
    let mut seeds = vec![
        ("ipp_answers", "everything", plain),
        ("ipp_answers", "chunked", chunked),
        ("ipp_answers", "until-the-end", until_end),
        ("toml_devices", "full", LIST.into()),
        ("toml_devices", "inline", b"device = [{ name = \"a\", driver = \"host\" }]\n".to_vec()),
    ];
    seeds.extend(firmware_seeds());
    seeds
}
