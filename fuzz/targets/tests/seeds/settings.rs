//! What operators write, what an agent saves, and the small texts in all of it.

use agent_core::{
    BootId, BundleFacts, Combination, Enrolment, Install, Job, JunkReason, KeptSchedule, LastEnd, Module,
    Owed, Planned, PutOff, Restart, Resume, State, TestRun, Then, Wait,
};
use fuzz_targets::known_trust;
use mailfleet_agent::config::{Choices, new_text};
use shared::bundle::ModuleKind;
use shared::invitation::Invitation;
use shared::message::{Hindrance, Interval, Outcome, OutputTail, Schedule, WaitReason, Waiting};
use shared::{AgentId, Digest, EnvelopeId, Label, MailAddress, ModulePath, SoftwareVersion, UnixMillis};

use crate::Seed;
use crate::sealed::enrol_request;

fn invitation() -> Invitation {
    Invitation {
        agent: AgentId::parse("A0001").unwrap(),
        mail: MailAddress::parse("a0001@lab.test").unwrap(),
        classes: vec![Label::lossy("office-gateway")],
        manager: MailAddress::parse("manager@lab.test").unwrap(),
        trust: known_trust(),
        secret: [4; 32].into(),
        created: UnixMillis::parse("2026-11-21T06:10:00Z").unwrap(),
        expires: UnixMillis::parse("2026-12-21T06:10:00Z").unwrap(),
    }
}

/// An agent in the middle of an install.
fn state(goes_on: impl FnOnce(Box<Planned>) -> Install) -> State {
    let order = EnvelopeId([7; 16]);
    let version = SoftwareVersion::parse("1.0.02-0").unwrap();
    let module = Module {
        name: Label::lossy("abcd"),
        version: Label::lossy("1.0.00"),
        date: Label::lossy("2026-01-01"),
        path: ModulePath::parse("bin/abcd").unwrap(),
        mode: 0o755,
        bytes: 6,
        digest: Digest([1; 32]),
        kind: ModuleKind::Resident,
    };
    let facts = BundleFacts {
        software_version: version.clone(),
        from: vec![version.clone()],
        classes: vec![Label::lossy("office-gateway")],
        has_script: true,
        modules: vec![module.clone()],
        unpacked_bytes: 6,
        test: None,
        firmware: vec![],
    };
    let job = Job {
        order,
        expires: UnixMillis(3_000),
        target: version.clone(),
        taken: UnixMillis(1_000),
        bundle: Some(Digest([6; 32])),
        scheduled: true,
        told: Some(Waiting { reason: WaitReason::NotYet, until: UnixMillis(2_500), about: None }),
        overtaken_by: None,
        interruptions: 1,
        sequence: 6,
    };
    let planned = Planned {
        job: job.clone(),
        facts,
        from: Some(version.clone()),
        interruptions: 1,
        undo_interruptions: 0,
        waits: 2,
        told: Some(WaitReason::NoSpace),
        output: Some(OutputTail::of(b"output\n")),
        restarts: 1,
    };
    let mut state = State::enrolling(enrol_request(), UnixMillis(1_000), known_trust());
    state.enrolment = Enrolment::Accepted;
    state.installed = Some(Combination {
        software_version: version.clone(),
        modules: vec![module],
        test: None,
        catalogue: None,
    });
    state.schedules = [(Digest([6; 32]), schedule(order, &version))].into();
    state.tests = vec![TestRun { order, software_version: version, expires: UnixMillis(3_000), starts: 1 }];
    state.queue = vec![job];
    state.active = Some(goes_on(Box::new(planned)));
    state.owed = vec![Owed::Versions(Some(order)), Owed::Ended(order, Outcome::Installed, None)];
    state.cancelled = [(order, UnixMillis(9_000))].into();
    state.junk = [(JunkReason::Bounce, 3)].into();
    state.last_mail = Some(UnixMillis(1_500));
    state.last_end = Some(LastEnd { order, outcome: Outcome::AlreadyInstalled, at: UnixMillis(1_400) });
    state.keep_folder = Some(order);
    state.heartbeat_every_ms = Some(604_800_000);
    state.unheard = true;
    state
}

fn schedule(order: EnvelopeId, version: &SoftwareVersion) -> KeptSchedule {
    KeptSchedule {
        order,
        sequence: 7,
        signer: known_trust().order_keys.first().unwrap().key_id(),
        expires: UnixMillis(3_000),
        schedule: Schedule {
            bundle: Digest([6; 32]),
            software_version: version.clone(),
            bundle_bytes: 9,
            not_before: UnixMillis(1_000),
            intervals: vec![Interval { from: UnixMillis(2_500), until: UnixMillis(2_900) }],
            defer_until: Some(UnixMillis(2_800)),
            fetch: true,
        },
        put_off: Some(PutOff { until: UnixMillis(2_600), by: Label::lossy("tanaka") }),
        fetches: 1,
        next_fetch: UnixMillis(2_700),
        served: false,
    }
}

fn waiting(planned: Box<Planned>) -> Install {
    let hindrance = Hindrance { reason: WaitReason::Leased, about: Some(Label::lossy("billing: run 17")) };
    Install::Waiting(planned, Wait { hindrance, until: UnixMillis(2_000), resume: Resume::Checking })
}

fn awaiting_restart(planned: Box<Planned>) -> Install {
    let restart = Restart {
        during: BootId(Label::lossy("first")),
        deadline: UnixMillis(9_000),
        told: 1,
        next: UnixMillis(2_000),
        then: Then::Verify,
    };
    Install::AwaitingRestart(planned, restart)
}

fn wish(want: &str) -> Vec<u8> {
    format!("order = \"{}\"\nby = \"tanaka\"\n{want}\n", EnvelopeId([7; 16])).into_bytes()
}

fn agent_toml() -> String {
    let choices = Choices {
        send: "smtps://box@mail.lab.test:465".to_owned(),
        receive: "imaps://box@mail.lab.test/INBOX".to_owned(),
        ca: Some("/etc/mailfleet/ca.pem".into()),
        password_file: Some("/etc/mailfleet/password".into()),
        root: "/opt/box".into(),
    };
    let text = new_text(&invitation(), choices);
    format!("max_bundle_bytes = 1000000\nrom_version = \"1.5\"\n{}", text.replace("\n# ", "\n"))
}

const MANAGER_TOML: &str = r#"address = "manager@lab.test"
send = "smtp+starttls://manager@mail.lab.test:587"
receive = "imap+starttls://manager@mail.lab.test/INBOX"
ca = "/etc/mailfleet/ca.pem"
token_command = ["/usr/local/bin/token", "x"]
poll = "30s"
recipients_per_mail = 50
mails_per_minute = 25
mail_max_bytes = 10240000
retry_min = "5m"
retry_max = "6h"
heartbeat = "7d"
junk = "aside"
"#;

const LEASE: &str = r#"owner = "billing"
reason = "metering run 17"
until = "2026-11-21T06:10:00Z"
modules = ["abcd", "bbb.lib"]
"#;

const CSV: &str = "\u{feff}id,mail,class,site,note,admin\r\nA1,a1@lab.test,gateway; mono ,Tokyo,\
                   \"Alpha Ltd, 3rd floor\",root@a.test\r\nA2,a2@lab.test,,,,\r\n";

pub(crate) fn seeds() -> Vec<Seed> {
    let mut seeds: Vec<Seed> = vec![
        ("invitation", "own", invitation().to_text().as_bytes().to_vec()),
        (
            "agent_state",
            "enrolling",
            State::enrolling(enrol_request(), UnixMillis(1_000), known_trust()).encode(),
        ),
        ("agent_state", "waiting", state(waiting).encode()),
        ("agent_state", "awaiting-restart", state(awaiting_restart).encode()),
        ("toml_agent", "own", agent_toml().into_bytes()),
        ("toml_manager", "full", MANAGER_TOML.into()),
        ("lease", "until", LEASE.into()),
        ("lease", "restart", b"owner = \"billing\"\nreason = \"x\"\nboot = \"first\"\n".to_vec()),
        ("wish", "put-off", wish("put_off_until = \"2026-11-21T22:00:00Z\"")),
        ("wish", "cancel", wish("cancel = true")),
        ("agents_csv", "spreadsheet", CSV.into()),
        ("agents_csv", "two-columns", b"mail,id\na1@lab.test,A1\n".to_vec()),
        ("selection", "words", b"class=office-gateway and not (site=\"tokyo w*\" or id!=A*7)".to_vec()),
    ];
    let names = [
        ("module-path", "bin/abcd.d/x"),
        ("software-version", "1.0.02-beta.1"),
        ("address", "agent+7@Lab.TEST"),
        ("agent", "site-7.box_2"),
        ("time", "2026-11-21T15:10:00.25+09:00"),
        ("duration", "500ms"),
        ("envelope", "0123456789abcdef0123456789ABCDEF"),
    ];
    seeds.extend(names.map(|(name, text)| ("names", name, text.into())));
    let urls = [
        ("smtps", "smtps://user%40host@[::1]:465"),
        ("starttls", "smtp+starttls://u@mail.lab.test"),
        ("sendmail", "sendmail:"),
        ("imap", "imaps://box@site.test@mail.lab.test:993/Other%20folder"),
        ("maildir", "maildir:///var/mail/x"),
        ("spool", "spool:/tmp/post"),
    ];
    seeds.extend(urls.map(|(name, text)| ("mail_url", name, text.into())));
    seeds
}
