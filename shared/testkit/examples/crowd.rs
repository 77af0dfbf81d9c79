//! A crowd of agents that exist as keys alone, to measure a manager with: writes the mails by which they enrol, say their
//! versions, or send a day's counters of five devices each, into a Maildir, as a mail server would have delivered them. `scripts/bench` calls it.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    reason = "load for a measurement: what fails must stop it"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use mailio::{Attachment, AutoKind, Outgoing};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};
use shared::device::{
    Capacity, Counter, DeviceClass, DeviceName, Firmware, Identity, Level, Measure, Observation, Status,
    Supply, SupplyKind, Unit,
};
use shared::envelope::{NewSmall, seal_small};
use shared::invitation::Invitation;
use shared::keys::{OpeningKey, SigningKey};
use shared::message::{
    CounterReport, EnrolRequest, FileState, ModuleVersion, ReadingMark, Report, Reported, VersionReport,
    Versions, encode,
};
use shared::reading::{Packer, Reading, SignedReading};
use shared::{Digest, EnvelopeId, Label, SoftwareVersion, UnixMillis};

const USAGE: &str = "crowd enrol INVITATIONS MAILDIR      the mails by which the invited agents enrol\n\
                     crowd versions INVITATIONS MAILDIR   a version report of each\n\
                     crowd counters INVITATIONS MAILDIR DAY   each one's readings of five devices, of day 1 and on\n\
                     Example: crowd enrol invites /dev/shm/manager";

/// A report of so many modules makes a mail of about 2 KB.
const MODULES: u32 = 8;

/// Devices of an agent.
const DEVICES: u64 = 5;

/// Each day's readings name the ones before, which are made anew: not for years.
const DAYS_MAX: u64 = 60;

#[derive(Clone, Copy)]
enum What {
    Enrols,
    SaysVersions,
    SendsCounters { day: u64 },
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (invitations, maildir, what) = match *words.as_slice() {
        ["enrol", invitations, maildir] => (invitations, maildir, What::Enrols),
        ["versions", invitations, maildir] => (invitations, maildir, What::SaysVersions),
        ["counters", invitations, maildir, day] => match day.parse() {
            Ok(day @ 1..=DAYS_MAX) => (invitations, maildir, What::SendsCounters { day }),
            _ => return usage(),
        },
        _ => return usage(),
    };
    let maildir = Path::new(maildir);
    for part in ["new", "cur", "tmp"] {
        fs::create_dir_all(maildir.join(part)).unwrap();
    }
    let mut files: Vec<PathBuf> =
        fs::read_dir(invitations).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for (n, file) in files.iter().enumerate() {
        let invitation = Invitation::parse(&fs::read_to_string(file).unwrap()).unwrap();
        let (sequence, report) = match what {
            What::Enrols => (1, enrols(&invitation)),
            What::SaysVersions => (2, says_versions()),
            What::SendsCounters { day } => (2 + day, sends_counters(&invitation, day)),
        };
        let mail = sealed(&invitation, sequence, &report);
        deliver(maildir, n, &mail);
    }
    println!("{} mails", files.len());
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}

/// What an agent's keys are made of: its name, so that no key needs to be kept.
fn seed(invitation: &Invitation) -> [u8; 32] {
    Digest::of(invitation.agent.as_str().as_bytes()).0
}

fn enrols(invitation: &Invitation) -> Report {
    let seed = seed(invitation);
    Report::Enrol(EnrolRequest {
        agent: invitation.agent.clone(),
        secret: *invitation.secret,
        sign_key: SigningKey::from_seed(&seed).verifying_key().to_bytes(),
        seal_key: OpeningKey::from_seed(&seed).sealing_key().to_bytes(),
        mail: invitation.mail.clone(),
        agent_version: Label::lossy(env!("CARGO_PKG_VERSION")),
    })
}

fn says_versions() -> Report {
    let module = |n: u32| ModuleVersion {
        name: Label::lossy(&format!("module-{n}")),
        version: Label::lossy("1.0.02"),
        date: Label::lossy("2026-11-20"),
        file: FileState::Good,
    };
    Report::Versions(Versions {
        query: None,
        versions: VersionReport {
            software: Reported::Exact(SoftwareVersion::parse("1.0.02-0").unwrap()),
            rom_version: Label::lossy("2.1"),
            modules: (0..MODULES).map(module).collect(),
            taken_at: now(),
            line: None,
        },
    })
}

/// The readings of a day, after those of the days before.
fn sends_counters(invitation: &Invitation, day: u64) -> Report {
    let key = SigningKey::from_seed(&seed(invitation));
    let (mut previous, mut packer) = (Digest([0; 32]), Packer::default());
    let mark = |index| ReadingMark { chain: 1, index };
    for index in 1..=day * DEVICES {
        let (read_on, device) = ((index - 1) / DEVICES + 1, (index - 1) % DEVICES);
        let reading = Reading {
            agent: invitation.agent.clone(),
            mark: mark(index),
            previous,
            device: DeviceName::parse(&format!("printer-{device}")).unwrap(),
            seen: printer(invitation, device, read_on),
            anomalies: Vec::new(),
        };
        let signed = SignedReading::sign(&reading, &key);
        previous = signed.digest();
        if read_on == day {
            assert!(packer.push(&signed).unwrap());
        }
    }
    let before = (day - 1) * DEVICES;
    Report::Counters(CounterReport {
        query: None,
        after: (before > 0).then(|| mark(before)),
        upto: Some(mark(day * DEVICES)),
        more: false,
        packed: packer.finish().unwrap(),
    })
}

/// A printer in colour on a day: eight counters, four toners.
fn printer(invitation: &Invitation, device: u64, day: u64) -> Observation {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let label = |text: &str| Label::lossy(text);
    let ago = DAY * u32::try_from(DAYS_MAX - day).unwrap();
    let mut seen = Observation::of(DeviceClass::Mfp, now().minus(ago));
    seen.status = Status::Idle;
    seen.identity = Identity {
        vendor: Some(label("Ricoh")),
        model: Some(label("MP C3002")),
        serial: Some(label(&format!("{}-{device}", invitation.agent))),
        host: Some(label(&format!("printer-{device}"))),
        description: Some(label("RICOH MP C3002 1.19 / RICOH Network Printer C model")),
        firmware: vec![Firmware { component: label("system"), version: label("1.19") }],
    };
    for (n, function) in (1u64..).zip(["total", "copy", "print", "fax"]) {
        for (rate, colour) in [(90, "mono"), (20, "full")] {
            seen.counters.push(Counter {
                name: label("pages"),
                labels: vec![(label("colour"), label(colour)), (label("function"), label(function))],
                value: 20_000 * n + day * rate / n + device,
                unit: Unit::Impressions,
                measure: Measure::Cumulative,
            });
        }
    }
    for colour in ["black", "cyan", "magenta", "yellow"] {
        seen.supplies.push(Supply {
            key: label(colour),
            kind: SupplyKind::Toner,
            colour: Some(label(colour)),
            text: label(&format!("{colour} toner")),
            level: Level::Amount(u32::try_from(100 - day).unwrap()),
            capacity: Capacity::Amount(100),
            unit: Unit::Percent,
            part_number: None,
            serial: None,
        });
    }
    seen
}

/// The mail of a report, as its agent sends it.
fn sealed(invitation: &Invitation, sequence: u64, report: &Report) -> Outgoing {
    let seed = seed(invitation);
    let mut rng = ChaCha8Rng::from_seed(Digest::of(&[seed.as_slice(), &sequence.to_be_bytes()].concat()).0);
    let mut id = [0; 16];
    rng.fill_bytes(&mut id);
    let new = NewSmall {
        id: EnvelopeId(id),
        created: now(),
        expires: now().plus(Duration::from_secs(30 * 24 * 3600)),
        sequence,
    };
    let to = [invitation.trust.seal_key.clone()];
    let attachment = seal_small(&new, &encode(report), &to, &SigningKey::from_seed(&seed), &mut rng).unwrap();
    Outgoing {
        from: invitation.mail.clone(),
        to: vec![invitation.manager.clone()],
        envelope: new.id,
        subject: "report".to_owned(),
        note: "This mail carries a sealed report of a machine. It is not meant for people.\n".to_owned(),
        date: now(),
        in_reply_to: None,
        auto: AutoKind::Generated,
        attachment: Attachment::Bytes(attachment),
    }
}

/// With the line ends and the name that Dovecot gives a mail: it believes the sizes in the name.
fn deliver(maildir: &Path, n: usize, mail: &Outgoing) {
    let mut text = format!("Return-Path: <{}>\r\n", mail.from).into_bytes();
    for chunk in mail.chunks().unwrap() {
        text.extend(chunk.unwrap());
    }
    let with_crlf = text.len();
    text.retain(|byte| *byte != b'\r');
    let name = format!("{}.M{n:06}P1.crowd,S={},W={with_crlf}", now().0 / 1000, text.len());
    fs::write(maildir.join("new").join(name), text).unwrap();
}

fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    UnixMillis(i64::try_from(since.as_millis()).unwrap())
}
