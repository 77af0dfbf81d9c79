//! A crowd of agents that exist as keys alone, to measure a manager with: writes the mails by which they enrol, or say their
//! versions, into a Maildir, as a mail server would have delivered them. `scripts/bench` calls it.
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
use shared::envelope::{NewSmall, seal_small};
use shared::invitation::Invitation;
use shared::keys::{OpeningKey, SigningKey};
use shared::message::{
    EnrolRequest, FileState, ModuleVersion, Report, Reported, VersionReport, Versions, encode,
};
use shared::{Digest, EnvelopeId, Label, SoftwareVersion, UnixMillis};

const USAGE: &str = "crowd enrol INVITATIONS MAILDIR      the mails by which the invited agents enrol\n\
                     crowd versions INVITATIONS MAILDIR   a version report of each\n\
                     Example: crowd enrol invites /dev/shm/manager";

/// A report of so many modules makes a mail of about 2 KB.
const MODULES: u32 = 8;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [what, invitations, maildir] = words.as_slice() else { return usage() };
    let (report, sequence): (fn(&Invitation) -> Report, u64) = match what.as_str() {
        "enrol" => (enrols, 1),
        "versions" => (says_versions, 2),
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
        let mail = sealed(&invitation, sequence, &report(&invitation));
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

fn says_versions(_: &Invitation) -> Report {
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
