//! `agent add, import, invite, show, remove`. The list is in `agents`.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use mailfleet::import::{self, AgentRow, RowError};
use mailfleet::registry::Terms;
use mailfleet::store::{AgentRecord, AgentState, RefusedReading, Store, Tx, TxResult, WatchRecord};
use mailfleet::system::now;
use manager_core::line::hours_text;
use serde_json::{Value, json};
use shared::AgentId;
use shared::keys::VerifyingKey;
use shared::message::{Budget, Line};

use super::args::{AgentAdd, AgentImport, AgentInvite, AgentRemove, AgentShow};
use super::enlist::{Enlisted, Inviter, enlist, renew};
use super::fail::{Done, Fail, OrFail as _, Outcome};
use super::{audited, open, show};

/// Bad rows named in one go.
const ROWS_SHOWN: usize = 20;

/// Terms as they are typed.
pub(crate) fn terms(facts: &[String]) -> Result<Terms, Fail> {
    let mut terms = Terms::default();
    for fact in facts {
        let (key, value) = fact_of(fact)?;
        terms.set(key, value).map_err(Fail::usage)?;
    }
    Ok(terms)
}

/// `KEY=VALUE`.
pub(crate) fn fact_of(text: &str) -> Result<(&str, &str), Fail> {
    text.split_once('=').ok_or_else(|| Fail::usage(format!("expected KEY=VALUE, found \"{text}\"")))
}

pub(crate) fn add(home: Option<&Path>, args: &AgentAdd) -> Outcome {
    let home = open::commander(home)?;
    let row = AgentRow {
        id: args.id.clone(),
        mail: args.mail.clone(),
        classes: args.classes.clone(),
        site: args.site.clone(),
        note: args.note.clone(),
        admin: args.admin.clone(),
        terms: terms(&args.terms)?,
        keys: None,
    };
    let path = invitation_path(args.output.as_deref(), &args.id);
    let enlisted = enlist(&home, &[(0, row)], &|_| path.clone())?.map_err(|errors| {
        let why = errors.into_iter().next().map(|e| e.why).unwrap_or_default();
        Fail::usage(format!("{} was not added: {why}", args.id))
            .next("`mailfleet agent show ID` says what is there, `agent invite ID` makes a new invitation")
    })?;
    let text = match enlisted {
        Enlisted { added: 1.., .. } => format!("Added {}. {}", args.id, carry(&path)),
        Enlisted { enrolled: 1.., .. } => {
            format!("{} is there already, and enrolled. Nothing to do.", args.id)
        }
        Enlisted { written: 1.., .. } => format!("{} is there already. {}", args.id, carry(&path)),
        _ => format!("{} is there already; {} is its invitation.", args.id, path.display()),
    };
    show::say(&text)?;
    note_sharing(&enlisted);
    Ok(Done::All)
}

/// Not refused: a list or a forwarding gives each agent behind an address a copy of its own.
fn note_sharing(enlisted: &Enlisted) {
    if enlisted.sharing > 0 {
        show::note(&format!(
            "note: {} with the same address as another. Each must get its own copy of every mail there (a list, a forwarding); \
             agents that read one mailbox take each other's mail.",
            show::count(enlisted.sharing, "agent")
        ));
    }
}

fn invitation_path(output: Option<&Path>, id: &AgentId) -> PathBuf {
    output.map_or_else(|| PathBuf::from(format!("{id}.invite")), Path::to_owned)
}

fn carry(path: &Path) -> String {
    format!("Carry {path} to the box and run there: mailfleet-agent enrol {path}", path = path.display())
}

pub(crate) fn import(home: Option<&Path>, args: &AgentImport) -> Outcome {
    let home = open::commander(home)?;
    let file = File::open(&args.file).or_usage(format!("cannot read {}", args.file.display()))?;
    let rows = import::read(file).map_err(|errors| bad_rows(&args.file, &errors))?;
    if rows.is_empty() {
        return Err(Fail::usage(format!("{} has no rows below its header", args.file.display())));
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&args.output)
        .or_usage(format!("cannot make the folder {}", args.output.display()))?;
    let file_of = |id: &AgentId| args.output.join(format!("{id}.invite"));
    let done = enlist(&home, &rows, &file_of)?.map_err(|errors| bad_rows(&args.file, &errors))?;
    let there = match done {
        Enlisted { there: 0, .. } => String::new(),
        Enlisted { there, enrolled: 0, .. } => format!(", {there} were there already"),
        Enlisted { there, enrolled, .. } => {
            format!(", {there} were there already ({enrolled} of them enrolled)")
        }
    };
    let kept = if done.kept == 0 { String::new() } else { format!(", {} kept", done.kept) };
    show::say(&format!(
        "Imported {}{there}; {} written to {}{kept}. Each works once, for its own agent.",
        show::count(done.added, "agent"),
        show::count(done.written, "invitation"),
        args.output.display(),
    ))?;
    note_sharing(&done);
    Ok(Done::All)
}

pub(crate) fn bad_rows(path: &Path, errors: &[RowError]) -> Fail {
    let mut list: String =
        errors.iter().take(ROWS_SHOWN).map(|e| format!("\n  line {}: {}", e.line, e.why)).collect();
    let more = errors.len().saturating_sub(ROWS_SHOWN);
    if more > 0 {
        list.push_str(&format!("\n  and {more} more"));
    }
    let count = show::count(errors.len(), "bad row");
    Fail::usage(format!("{} has {count}; nothing was imported:{list}", path.display()))
}

pub(crate) fn invite(home: Option<&Path>, args: &AgentInvite) -> Outcome {
    let home = open::commander(home)?;
    let mut store = open::store(&home)?;
    let record = existing(&mut store, &args.id)?;
    let path = invitation_path(args.output.as_deref(), &args.id);
    let inviter = Inviter::new(&home)?;
    inviter.may_write(&path, &args.id).map_err(|why| Fail::usage(why).next("name another file with -o"))?;
    renew(&mut store, &inviter, &record, &path)?;
    let keys = match record.state {
        AgentState::Enrolled => {
            "\nUntil it is used, the box that is enrolled stays the one that is believed."
        }
        AgentState::Invited | AgentState::Removed => "",
    };
    show::say(&format!("Earlier invitations of {} no longer count. {}{keys}", args.id, carry(&path)))?;
    Ok(Done::All)
}

/// An agent that is not removed.
fn existing(store: &mut Store, id: &AgentId) -> Result<AgentRecord, Fail> {
    let found = store.read(|tx| tx.agent(id)).map_err(open::store_failed)?;
    found.filter(|record| record.state != AgentState::Removed).ok_or_else(|| {
        Fail::usage(format!("there is no agent {id}")).next("`mailfleet agent list` shows all that there are")
    })
}

pub(crate) fn remove(home: Option<&Path>, args: &AgentRemove) -> Outcome {
    let home = open::home(home)?;
    let mut store = open::store(&home)?;
    existing(&mut store, &args.id)?;
    let deed = format!("agent {} removed", args.id);
    audited::change(&mut store, |tx| Ok((tx.remove_agent(&args.id)?, vec![deed])))
        .map_err(open::store_failed)?;
    show::say(&format!("Removed {}. It gets no more orders; its reports no longer count.", args.id))?;
    Ok(Done::All)
}

pub(crate) fn show(home: Option<&Path>, args: &AgentShow) -> Outcome {
    let home = open::home(home)?;
    let mut store = open::store(&home)?;
    let (record, behind) = store
        .read(|tx| Ok((tx.agent(&args.id)?, Behind::load(tx, &args.id)?)))
        .map_err(open::store_failed)?;
    let record = record.ok_or_else(|| Fail::usage(format!("there is no agent {}", args.id)))?;
    if args.format.json {
        show::print_json(&full(&record, &behind))?;
    } else {
        show::print(&describe(&record, &behind))?;
    }
    Ok(Done::All)
}

/// What is known of an agent beside its record: its keys' use, and its devices as a whole.
struct Behind {
    unused: bool,
    watch: WatchRecord,
    devices: u64,
    open_faults: u64,
    refused: Option<RefusedReading>,
}

impl Behind {
    fn load(tx: &Tx<'_>, agent: &AgentId) -> TxResult<Self> {
        Ok(Self {
            unused: tx.keys_are_unused(agent)?,
            watch: tx.watch(agent)?,
            devices: tx.device_count(agent)?,
            open_faults: tx.open_faults(agent)?,
            refused: tx.refused_readings(agent)?.pop(),
        })
    }

    fn tampering(&self) -> String {
        let WatchRecord { refused, broken, .. } = self.watch;
        if refused == 0 && broken == 0 {
            return String::new();
        }
        let last = self
            .refused
            .as_ref()
            .map_or(String::new(), |last| format!("; the last at {}: {}", last.received_at, last.reason));
        format!("{refused} readings kept out, {broken} do not follow{last}; see: mailfleet report verify")
    }
}

/// What is known of an agent, as JSON; keys as the CSV columns.
pub(crate) fn facts(record: &AgentRecord) -> Value {
    let time = |t: Option<shared::UnixMillis>| t.map(|t| t.to_string());
    json!({
        "agent": record.id.as_str(),
        "mail": record.mail.as_str(),
        "class": record.classes.iter().map(shared::Label::as_str).collect::<Vec<_>>(),
        "site": record.site.as_str(),
        "note": record.note.as_str(),
        "admin": record.admin.as_ref().map(shared::MailAddress::as_str),
        "vendor": record.terms.vendor.as_str(),
        "tag": record.terms.tags.iter().map(shared::Label::as_str).collect::<Vec<_>>(),
        "zone": record.terms.zone.as_str(),
        "window": record.terms.windows.as_ref().map(ToString::to_string),
        "consent": record.terms.consent.as_str(),
        "language": record.terms.language.as_str(),
        "fallback_mail": record.terms.fallback.as_ref().map(shared::MailAddress::as_str),
        "attributes": record.terms.attributes.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect::<BTreeMap<_, _>>(),
        "held_up_until": time(record.penalty_until),
        "state": record.state.as_str(),
        "software_version": record.versions.as_ref().map(|v| v.software.to_string()),
        "rom_version": record.versions.as_ref().map(|v| v.rom_version.to_string()),
        "reported_at": time(record.versions_at),
        "last_report_at": time(record.last_report_at),
        "added_at": record.added_at.to_string(),
        "invite_expires": record.invite_expires.to_string(),
        "enrolled_at": time(record.enrolled_at),
        "agent_version": record.agent_version,
        "trust_version": record.trust_version,
        "possible_freeze_since": time(record.unheard_since),
        "keys_since": time(record.keys_at),
        "rekey_asked_at": time(record.rekey_ordered),
    })
}

fn line_of(record: &AgentRecord) -> Option<Line> {
    record.versions.as_ref().and_then(|versions| versions.line)
}

fn budget_json(budget: Budget) -> Value {
    json!({
        "day_bytes": budget.day_bytes,
        "month_bytes": budget.month_bytes,
        "large_mails": budget.hours.map(|hours| hours_text(hours, budget.utc_offset_minutes)),
    })
}

/// How fast an agent's line is, as it has said.
fn rates(record: &AgentRecord) -> String {
    let Some(line) = line_of(record) else { return String::new() };
    let rate = |rate: Option<u64>| {
        rate.map_or("not measured yet".to_owned(), |rate| format!("{} per second", show::size(rate)))
    };
    format!("from the manager {}, to its devices {}", rate(line.from_manager), rate(line.to_devices))
}

/// What an agent's line may carry.
fn budget(record: &AgentRecord) -> String {
    let Some(budget) = line_of(record).and_then(|line| line.budget) else { return String::new() };
    let bytes = [(budget.day_bytes, "a day"), (budget.month_bytes, "a month")];
    let bytes = bytes.into_iter().filter_map(|(bytes, of)| Some(format!("{} {of}", show::size(bytes?))));
    let hours =
        budget.hours.map(|hours| format!("large mails {}", hours_text(hours, budget.utc_offset_minutes)));
    bytes.chain(hours).collect::<Vec<_>>().join(", ")
}

fn full(record: &AgentRecord, behind: &Behind) -> Value {
    let modules = record.versions.iter().flat_map(|v| &v.modules);
    let modules: Vec<Value> = modules
        .map(|m| {
            let file = super::names::file_state(m.file);
            json!({"module": m.name.as_str(), "module_version": m.version.as_str(),
                   "module_date": m.date.as_str(), "file": file})
        })
        .collect();
    let mut value = facts(record);
    if let Some(object) = value.as_object_mut() {
        object.insert("modules".to_owned(), modules.into());
        object.insert("keys_unused".to_owned(), behind.unused.into());
        let watch = &behind.watch;
        let line = line_of(record);
        let more = [
            ("from_manager_bytes_per_second", json!(line.and_then(|line| line.from_manager))),
            ("to_devices_bytes_per_second", json!(line.and_then(|line| line.to_devices))),
            ("budget", json!(line.and_then(|line| line.budget).map(budget_json))),
            ("sign_key", json!(record.sign_key.as_ref().map(VerifyingKey::to_text))),
            ("devices", json!(behind.devices)),
            ("open_faults", json!(behind.open_faults)),
            ("faults_dropped", json!(watch.faults_dropped)),
            ("counters_at", json!(watch.counters_at.map(|at| at.to_string()))),
            ("refused_readings", json!(watch.refused)),
            ("broken_readings", json!(watch.broken)),
        ];
        object.extend(more.map(|(key, value)| (key.to_owned(), value)));
    }
    value
}

fn freeze(record: &AgentRecord) -> String {
    record.unheard_since.map_or(String::new(), |at| {
        format!("it has heard no heartbeat since {at}: are our mails kept from it?")
    })
}

/// How old an agent's own keys are, and what is going on with them.
fn keys(record: &AgentRecord, unused: bool) -> String {
    let Some(since) = record.keys_at else { return String::new() };
    let age = show::duration(now().since(since));
    let unused = if unused { "; it has not used them yet" } else { "" };
    let asked = record.rekey_ordered.map(|at| format!("; new ones asked for at {at}, no answer yet"));
    format!("since {since} ({age}){unused}{}", asked.unwrap_or_default())
}

fn window(record: &AgentRecord) -> String {
    let zone = record.terms.zone.as_str();
    record.terms.windows.as_ref().map_or(String::new(), |windows| format!("{windows} {zone}"))
}

fn attributes(record: &AgentRecord) -> String {
    let all: Vec<String> =
        record.terms.attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
    all.join(", ")
}

fn describe(record: &AgentRecord, behind: &Behind) -> String {
    let time = |t: Option<shared::UnixMillis>| t.map_or("never".to_owned(), |t| t.to_string());
    let classes: Vec<String> = record.classes.iter().map(ToString::to_string).collect();
    let lines = [
        ("Agent", record.id.to_string()),
        ("Mail", record.mail.to_string()),
        ("Second address", record.terms.get("fallback_mail")),
        ("Classes", classes.join(", ")),
        ("Site", record.site.to_string()),
        ("Note", record.note.to_string()),
        ("Administrator", record.admin.as_ref().map_or(String::new(), ToString::to_string)),
        ("Vendor", record.terms.vendor.to_string()),
        ("Tags", record.terms.get("tag")),
        ("Window", window(record)),
        ("Consent", record.terms.consent.as_str().to_owned()),
        ("Language", record.terms.language.as_str().to_owned()),
        ("Attributes", attributes(record)),
        ("Held up until", record.penalty_until.map_or(String::new(), |at| format!("{at}: failed too often"))),
        ("State", record.state.as_str().to_owned()),
        ("Added", record.added_at.to_string()),
        ("Enrolled", time(record.enrolled_at)),
        ("Agent program", record.agent_version.clone()),
        ("Last heard of", time(record.last_report_at)),
        ("Versions of", time(record.versions_at)),
        ("Trust", record.trust_version.map_or(String::new(), |version| format!("version {version}"))),
        ("Keys", keys(record, behind.unused)),
        ("Possible freeze", freeze(record)),
        ("Line", rates(record)),
        ("Budget", budget(record)),
        ("Signing key", record.sign_key.as_ref().map_or(String::new(), VerifyingKey::to_text)),
        ("Devices", Some(behind.devices).filter(|n| *n > 0).map_or(String::new(), |n| n.to_string())),
        ("Open faults", Some(behind.open_faults).filter(|n| *n > 0).map_or(String::new(), |n| n.to_string())),
        ("Counters of", behind.watch.counters_at.map_or(String::new(), |at| at.to_string())),
        ("Tampering?", behind.tampering()),
    ];
    let mut text: String = lines
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{name:<18}{value}\n"))
        .collect();
    if let Some(versions) = &record.versions {
        text.push_str(&format!("\n{versions}"));
    }
    text
}
