//! `status` and `versions`: what a person at the box wants to know. Reads the state file as it is; needs no
//! lock, because the file changes in one rename.

use std::collections::BTreeMap;

use agent_core::{Enrolment, Install, JunkReason, State, Transfer, Watched};
use serde::Serialize;
use shared::UnixMillis;
use shared::device::DeviceName;
use shared::message::{FileState, Outcome, VersionReport};

use crate::config::{self, Config};
use crate::deferring::{Waits, waiting};
use crate::disk::{Disk, Folders};
use crate::exit::Usage;
use crate::files::now;
use crate::home::Home;
use crate::ledger;
use crate::line::LineDocument;
use crate::say;

/// Digits of an order's number that are shown to people: enough to name one of a few.
const NUMBER_SHOWN: usize = 8;

/// New keys are made and reported.
const NEW_KEYS_WAIT: &str = "new ones wait until the manager uses them";

/// The document of `status --json`.
#[derive(Serialize)]
struct StatusDocument {
    agent: String,
    enrolled: bool,
    enrolment: String,
    software_version: String,
    install: Option<InstallDocument>,
    waiting: Vec<WaitingDocument>,
    queue: usize,
    arriving: Vec<ArrivingDocument>,
    line: LineDocument,
    outbox: usize,
    outbox_fault: Option<String>,
    reports_dropped: u64,
    last_install: Option<EndDocument>,
    last_mail_at: Option<String>,
    refused_mails: BTreeMap<String, u64>,
    clock_floor: String,
    trust_version: u32,
    order_keys: Vec<String>,
    release_keys: Vec<String>,
    release_threshold: u8,
    possible_freeze: bool,
    own_keys: &'static str,
    devices: usize,
    open_faults: Vec<FaultDocument>,
    faults_not_acknowledged: usize,
    faults_dropped: u64,
}

/// An update that has not begun.
#[derive(Serialize)]
struct WaitingDocument {
    order: String,
    target_version: String,
    waits_for: String,
    expected_at: Option<String>,
    can_be_put_off_until: Option<String>,
    bundle_is_here: bool,
    cancelled: bool,
}

/// An order of which parts are here.
#[derive(Serialize)]
struct ArrivingDocument {
    order: String,
    bytes_here: u64,
    bytes: u64,
    expires_at: String,
    waits_for: Option<String>,
    waits_until: Option<String>,
    #[serde(skip)]
    text: String,
}

/// A fault of a device beside the box.
#[derive(Serialize)]
struct FaultDocument {
    device: String,
    fault_class: String,
    severity: String,
    kind: String,
    text: String,
    raised_at: String,
}

#[derive(Serialize)]
struct InstallDocument {
    order: String,
    target_version: String,
    phase: &'static str,
    waits_for: Option<String>,
    waits_until: Option<String>,
    expires_at: String,
}

#[derive(Serialize)]
struct EndDocument {
    order: String,
    result: String,
    at: String,
}

/// The document of `versions --json`.
#[derive(Serialize)]
struct VersionsDocument {
    software_version: String,
    rom_version: String,
    modules: Vec<ModuleDocument>,
    taken_at: String,
}

#[derive(Serialize)]
struct ModuleDocument {
    name: String,
    version: String,
    date: String,
    file: &'static str,
}

/// Shows what the agent is doing.
pub(crate) fn status(home: &Home, json: bool) -> anyhow::Result<()> {
    let (config, state) = load(home)?;
    let waiting = waiting(&state, home, state.fresh.effective(now()));
    let document = document(&config, &state, &read_versions(&config, &state), waiting);
    if json {
        say!("{}", serde_json::to_string_pretty(&document)?);
    } else {
        say::print(format_args!("{}", text(&document)));
    }
    Ok(())
}

/// Shows the version report (M10).
pub(crate) fn versions(home: &Home, json: bool) -> anyhow::Result<()> {
    let (config, state) = load(home)?;
    let report = read_versions(&config, &state);
    if !json {
        say::print(format_args!("{report}"));
        return Ok(());
    }
    let modules = report.modules.iter().map(|m| ModuleDocument {
        name: m.name.to_string(),
        version: m.version.to_string(),
        date: m.date.to_string(),
        file: match m.file {
            FileState::Good => "good",
            FileState::Altered => "altered",
            FileState::Missing => "missing",
        },
    });
    let document = VersionsDocument {
        software_version: report.software.to_string(),
        rom_version: report.rom_version.to_string(),
        modules: modules.collect(),
        taken_at: report.taken_at.to_string(),
    };
    say!("{}", serde_json::to_string_pretty(&document)?);
    Ok(())
}

fn load(home: &Home) -> Result<(Config, State), Usage> {
    let config = config::load(&home.config()).map_err(Usage::because)?;
    let loaded = ledger::load(&home.state()).map_err(Usage::because)?;
    Ok((config, loaded.state))
}

fn read_versions(config: &Config, state: &State) -> VersionReport {
    let disk = Disk::new(config.root.clone(), Folders::default());
    let found = disk.read_modules(&state.module_paths(), config.rom_version());
    state.version_report(&found, state.fresh.effective(now()))
}

fn document(config: &Config, state: &State, versions: &VersionReport, waiting: Vec<Waits>) -> StatusDocument {
    let enrolment = match &state.enrolment {
        Enrolment::Accepted => "accepted".to_owned(),
        Enrolment::Requested(request) => {
            format!("requested {} times, again at {}", request.attempts, request.next)
        }
    };
    StatusDocument {
        agent: config.agent.to_string(),
        enrolled: state.enrolment == Enrolment::Accepted,
        enrolment,
        software_version: versions.software.to_string(),
        install: state.active.as_ref().map(install),
        waiting: waiting.into_iter().map(waits).collect(),
        queue: state.queue.len(),
        arriving: state.transfers.iter().map(arriving).collect(),
        line: LineDocument::of(state, config.rules.budget, state.fresh.effective(now())),
        outbox: state.outbox.waiting.len(),
        outbox_fault: state.outbox.last_fault.as_ref().map(ToString::to_string),
        reports_dropped: state.outbox.dropped,
        last_install: state.last_end.as_ref().map(|end| EndDocument {
            order: end.order.to_string(),
            result: result(&end.outcome),
            at: end.at.to_string(),
        }),
        last_mail_at: state.last_mail.as_ref().map(UnixMillis::to_string),
        refused_mails: state.junk.iter().map(|(reason, n)| (JunkReason::to_string(reason), *n)).collect(),
        clock_floor: state.fresh.clock_floor().to_string(),
        trust_version: state.trust.version,
        order_keys: state.trust.order_keys.iter().map(|key| key.key_id().to_string()).collect(),
        release_keys: state.trust.release_keys.iter().map(|key| key.key_id().to_string()).collect(),
        release_threshold: state.trust.threshold,
        possible_freeze: state.unheard,
        own_keys: if state.keys.next.is_some() { NEW_KEYS_WAIT } else { "current" },
        devices: state.watch.devices.len(),
        open_faults: state.watch.devices.iter().flat_map(|(name, watched)| faults(name, watched)).collect(),
        faults_not_acknowledged: state.watch.telling.changes.len(),
        faults_dropped: state.watch.telling.dropped,
    }
}

fn arriving(transfer: &Transfer) -> ArrivingDocument {
    ArrivingDocument {
        order: transfer.facts.id.to_string(),
        bytes_here: transfer.held.bytes(),
        bytes: transfer.facts.body_bytes,
        expires_at: transfer.facts.expires.to_string(),
        waits_for: transfer.told.map(|reason| reason.to_string()),
        waits_until: transfer.told.map(|_| transfer.next_try.to_string()),
        text: transfer.about().to_string(),
    }
}

fn faults(name: &DeviceName, watched: &Watched) -> Vec<FaultDocument> {
    let open = watched.open.iter().filter(|open| !open.aged);
    open.map(|open| FaultDocument {
        device: name.to_string(),
        fault_class: open.fault.class.to_string(),
        severity: open.fault.severity.to_string(),
        kind: open.fault.kind.to_string(),
        text: open.fault.text.to_string(),
        raised_at: open.raised_at.to_string(),
    })
    .collect()
}

fn install(install: &Install) -> InstallDocument {
    let job = install.job();
    let waiting = install.waiting();
    InstallDocument {
        order: job.order.to_string(),
        target_version: job.target.to_string(),
        phase: install.name(),
        waits_for: waiting.as_ref().map(ToString::to_string),
        waits_until: waiting.as_ref().map(|waiting| waiting.until.to_string()),
        expires_at: job.expires.to_string(),
    }
}

fn waits(waits: Waits) -> WaitingDocument {
    WaitingDocument {
        order: waits.order.to_string(),
        target_version: waits.target.to_string(),
        waits_for: waits.why,
        expected_at: waits.begins_at.as_ref().map(UnixMillis::to_string),
        can_be_put_off_until: waits.can_wait_until.as_ref().map(UnixMillis::to_string),
        bundle_is_here: waits.is_here,
        cancelled: waits.cancelled,
    }
}

/// What waits, and the commands about it.
fn waiting_lines(waits: &WaitingDocument) -> Vec<(&'static str, String)> {
    let number = waits.order.get(..NUMBER_SHOWN).unwrap_or_default();
    let expected = waits.expected_at.as_ref().map(|at| format!(", expected {at}")).unwrap_or_default();
    let (target, why) = (&waits.target_version, &waits.waits_for);
    if waits.cancelled {
        return vec![("Waiting", format!("{number} {target}: cancelled here"))];
    }
    let mut lines = vec![("Waiting", format!("{number} {target}: {why}{expected}"))];
    if let Some(until) = &waits.can_be_put_off_until {
        lines.push(("", format!("until {until} at the latest: mailfleet-agent defer 2h --order {number}")));
    }
    if waits.bundle_is_here {
        lines.push(("", format!("not at all: mailfleet-agent cancel {number}")));
    }
    lines
}

fn result(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Installed => "installed".to_owned(),
        Outcome::AlreadyInstalled => "already installed".to_owned(),
        Outcome::RolledBack(failure) => format!("rolled back: {failure}"),
        Outcome::Refused(refusal) => format!("refused: {refusal}"),
        Outcome::Damaged(failure) => format!("damaged: {failure}"),
    }
}

fn text(d: &StatusDocument) -> String {
    let mut lines: Vec<(&str, String)> = vec![
        ("Agent", d.agent.clone()),
        ("Enrolment", d.enrolment.clone()),
        ("Software Version", d.software_version.clone()),
    ];
    lines.push((
        "Install",
        match &d.install {
            None => "none".to_owned(),
            Some(i) => match (&i.waits_for, &i.waits_until) {
                (Some(reason), Some(until)) => format!("{} waits: {reason}, until {until}", i.target_version),
                _ => format!("{} in {}", i.target_version, i.phase),
            },
        },
    ));
    lines.extend(d.waiting.iter().flat_map(waiting_lines));
    lines.push(("Queue", format!("{} install orders", d.queue)));
    for order in &d.arriving {
        let number = order.order.get(..NUMBER_SHOWN).unwrap_or(&order.order);
        let wait = order.waits_for.as_ref().zip(order.waits_until.as_ref());
        let wait = wait.map_or(String::new(), |(why, until)| format!("; {why}, until {until}"));
        lines.push(("Arriving", format!("order {number}: {}{wait}", order.text)));
    }
    lines.extend(d.line.lines());
    lines.push((
        "Outbox",
        match &d.outbox_fault {
            None => format!("{} reports", d.outbox),
            Some(fault) => format!("{} reports; the mail said: {fault}", d.outbox),
        },
    ));
    if let Some(end) = &d.last_install {
        lines.push(("Last install", format!("{} at {}", end.result, end.at)));
    }
    lines.push(("Last mail", d.last_mail_at.clone().unwrap_or_else(|| "none".to_owned())));
    let junk: Vec<String> = d.refused_mails.iter().map(|(reason, n)| format!("{reason} {n}")).collect();
    lines.push(("Refused mails", if junk.is_empty() { "none".to_owned() } else { junk.join(", ") }));
    lines.push(("Clock floor", d.clock_floor.clone()));
    let trust = format!(
        "version {}; orders by {}; bundles by {} of {}",
        d.trust_version,
        d.order_keys.join(", "),
        d.release_threshold,
        d.release_keys.join(", ")
    );
    lines.push(("Trust", trust));
    lines.push(("Own keys", d.own_keys.to_owned()));
    if d.possible_freeze {
        let since = format!("no heartbeat of the manager since {}: are its mails held back?", d.clock_floor);
        lines.push(("Possible freeze", since));
    }
    if d.devices > 0 {
        let told = match d.faults_not_acknowledged {
            0 => String::new(),
            n => format!("; the manager has not acknowledged {n} changes"),
        };
        lines.push(("Devices", format!("{} watched, {} faults{told}", d.devices, d.open_faults.len())));
    }
    for fault in &d.open_faults {
        let what = format!("{}: class {}, {}: {}", fault.device, fault.fault_class, fault.kind, fault.text);
        lines.push(("Fault", format!("{what}, since {}", fault.raised_at)));
    }
    lines.into_iter().map(|(name, value)| format!("{name:<20}{value}\n")).collect()
}
