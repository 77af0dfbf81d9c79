//! `agent.toml`: what an operator can set, read once at start. Unknown keys are errors, so that a slip of
//! the pen does not pass for a setting.

mod budget;
#[cfg(test)]
mod tests;
mod values;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent_core::{ASK_PARTS_AFTER_DEFAULT, BillDays, LEASE_MAX_DEFAULT, RESTART_LIMIT_DEFAULT, Rules};
use mailio::config::{Account, ConfigError, Values};
use mailio::{JunkPolicy, MailSettings};
use serde::{Deserialize, Serialize};
use shared::error::TomlFault;
use shared::invitation::Invitation;
use shared::keys::SealingKey;
use shared::time::format_duration;
use shared::{AgentId, Label, MailAddress};

use self::budget::RawBudget;
use crate::files::write_whole;
use crate::limits::COPIES_MAX_COUNT;

/// The checked configuration.
#[derive(Debug)]
pub struct Config {
    /// The ID of this agent.
    pub agent: AgentId,
    /// The classes it belongs to.
    pub classes: Vec<Label>,
    /// Where modules are installed: an absolute path.
    pub root: PathBuf,
    /// Account, servers, password source.
    pub mail: MailSettings,
    /// A second mailbox, for what the manager could not deliver to the first.
    pub fallback_inbox: Option<MailSettings>,
    /// Where reports go.
    pub manager: MailAddress,
    /// Who gets copies of some of them.
    pub copies: Vec<Listener>,
    /// How often the mailbox is looked at.
    pub poll: Duration,
    /// How long one phase of an install script may take.
    pub script_timeout: Duration,
    /// How long a new agent may take to prove itself.
    pub trial_limit: Duration,
    /// Name of the user that scripts run as.
    pub script_user: Option<String>,
    /// Restarts the box; empty: somebody else does.
    pub restart_command: Vec<String>,
    /// What the operator allows, and for how long.
    pub rules: Rules,
    /// Mode of the folder of leases.
    pub lease_mode: u32,
    /// Room that an update leaves on the disk.
    pub keep_free_bytes: u64,
    /// Largest bundle that is taken, in bytes.
    pub max_bundle_bytes: u64,
    /// How often devices are asked.
    pub rhythm: Rhythm,
    /// How often counters are sent unasked; `None`: never.
    pub send_counters: Option<Duration>,
    /// When counters are read and sent for a bill.
    pub bill: BillDays,
    /// Room for readings on the disk, in bytes.
    pub readings_room_bytes: u64,
    rom_version: Option<Label>,
    rom_version_file: PathBuf,
}

/// A manager that gets copies of some reports (M18), and whose word counts for nothing here.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Where it reads its mail.
    pub to: MailAddress,
    /// Copies are sealed to this key as well.
    pub key: SealingKey,
    /// It gets faults.
    pub faults: bool,
    /// It gets counters.
    pub counters: bool,
}

/// How often devices are asked.
#[derive(Clone, Copy, Debug)]
pub struct Rhythm {
    /// For faults (M2).
    pub faults: Duration,
    /// For everything (M4).
    pub everything: Duration,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    agent: String,
    address: String,
    #[serde(default)]
    class: Vec<String>,
    root: PathBuf,
    send: String,
    receive: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password_env: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password_credential: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_command: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    poll: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idle: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    compress: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    junk: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    script_timeout: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trial_limit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    script_user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    restart_command: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    restart_limit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease_max: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ask_parts_after: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease_mode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_free: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allow_setuid: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_bundle_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    look_for_faults: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    read_counters: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    send_counters: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bill_days: Option<Vec<i64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bill_utc_offset: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    readings_room: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rom_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rom_version_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fallback_inbox: Option<RawInbox>,
    #[serde(skip_serializing_if = "Option::is_none")]
    budget: Option<RawBudget>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    copy: Vec<RawCopy>,
    manager: RawManager,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCopy {
    of: Vec<String>,
    to: String,
    key: String,
}

impl RawCopy {
    fn listener(self, in_file: &Values<'_>) -> Result<Listener, ConfigError> {
        if let Some(other) = self.of.iter().find(|of| !matches!(of.as_str(), "faults" | "counters")) {
            return Err(
                in_file.bad("copy.of", format!("expected \"faults\" or \"counters\", found \"{other}\""))
            );
        }
        let of = |kind: &str| self.of.iter().any(|of| of == kind);
        Ok(Listener {
            faults: of("faults"),
            counters: of("counters"),
            to: in_file.value("copy.to", MailAddress::parse(&self.to))?,
            key: in_file.value("copy.key", SealingKey::parse_text(&self.key))?,
        })
    }
}

/// A second mailbox. What it does not say is as in the account of the first.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawInbox {
    receive: String,
    address: Option<String>,
    ca: Option<PathBuf>,
    password_file: Option<PathBuf>,
    password_env: Option<String>,
    password_credential: Option<String>,
    token_command: Option<Vec<String>>,
}

impl RawInbox {
    /// The account that reads it. A mailbox of its own mostly has a password of its own.
    fn account(self, first: &Account) -> Account {
        let mut account = Account { receive: self.receive, ..first.clone() };
        account.address = self.address.unwrap_or(account.address);
        account.ca = self.ca.or(account.ca);
        let own_secret = self.password_file.is_some()
            || self.password_env.is_some()
            || self.password_credential.is_some()
            || self.token_command.is_some();
        if own_secret {
            account.password_file = self.password_file;
            account.password_env = self.password_env;
            account.password_credential = self.password_credential;
            account.token_command = self.token_command;
        }
        account
    }
}

/// Where the manager reads its mail. Whom the agent believes is in its state, because it can change by mail.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawManager {
    address: String,
}

/// M5: every 3 minutes.
const POLL_DEFAULT: Duration = Duration::from_secs(180);
/// M2: every minute.
const LOOK_FOR_FAULTS_DEFAULT: Duration = Duration::from_secs(60);
/// M4: every 60 minutes.
const READ_COUNTERS_DEFAULT: Duration = Duration::from_secs(3_600);
/// Once a day tells what runs out in time, and costs a thin line some kilobytes.
const SEND_COUNTERS_DEFAULT: Duration = Duration::from_secs(24 * 3_600);
/// Where the bill is written, and a line's day begins, nobody knows but the operator.
const UTC_OFFSET_DEFAULT: &str = "+00:00";
/// Twenty devices fill it in about a year without mail.
const READINGS_ROOM_DEFAULT: &str = "64 MiB";
const SCRIPT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(600);
/// A slow box that looks at its mailbox over a slow line, twice over.
const TRIAL_LIMIT_DEFAULT: Duration = Duration::from_secs(300);
/// A small box has little disk; who mails more than this sets it.
const MAX_BUNDLE_DEFAULT_BYTES: u64 = 256 * 1024 * 1024;
/// Who else may take leases is the operator's choice.
const LEASE_MODE_DEFAULT: &str = "0700";
/// Room for the box's own work while an update lies beside the old files.
const KEEP_FREE_DEFAULT: &str = "16 MiB";
const ROM_VERSION_FILE_DEFAULT: &str = "/etc/os-release";
/// A version file is read only so far.
const ROM_VERSION_FILE_MAX_BYTES: u64 = 64 * 1024;

/// What `enrol` was told on its command line.
#[derive(Clone, Debug)]
pub struct Choices {
    /// Where mail goes out.
    pub send: String,
    /// Where mail comes in.
    pub receive: String,
    /// The only authorities to trust.
    pub ca: Option<PathBuf>,
    /// Where the password is.
    pub password_file: Option<PathBuf>,
    /// Where modules are installed.
    pub root: PathBuf,
}

/// Text of a new `agent.toml`.
#[must_use]
pub fn new_text(invitation: &Invitation, choices: Choices) -> String {
    let raw = Raw {
        agent: invitation.agent.to_string(),
        address: invitation.mail.to_string(),
        class: invitation.classes.iter().map(Label::to_string).collect(),
        root: choices.root,
        send: choices.send,
        receive: choices.receive,
        ca: choices.ca,
        password_file: choices.password_file,
        password_env: None,
        password_credential: None,
        token_command: None,
        tls: None,
        poll: None,
        idle: None,
        compress: None,
        junk: None,
        script_timeout: None,
        trial_limit: None,
        script_user: None,
        restart_command: None,
        restart_limit: None,
        lease_max: None,
        ask_parts_after: None,
        lease_mode: None,
        keep_free: None,
        allow_setuid: None,
        max_bundle_bytes: None,
        look_for_faults: None,
        read_counters: None,
        send_counters: None,
        bill_days: None,
        bill_utc_offset: None,
        readings_room: None,
        rom_version: None,
        rom_version_file: None,
        fallback_inbox: None,
        budget: None,
        copy: Vec::new(),
        manager: RawManager { address: invitation.manager.to_string() },
    };
    // Plain strings and lists always have a TOML form. Settings stand above the table, so the defaults do too.
    let toml = toml::to_string(&raw).unwrap_or_default();
    let (settings, manager) = toml.split_once("[manager]").unwrap_or((&toml, ""));
    let mut text = format!("# mailfleet-agent. Unknown keys are errors.\n{}\n\n", settings.trim_end());
    for (key, value) in [
        ("poll", format_duration(POLL_DEFAULT)),
        ("script_timeout", format_duration(SCRIPT_TIMEOUT_DEFAULT)),
        ("trial_limit", format_duration(TRIAL_LIMIT_DEFAULT)),
        ("restart_limit", format_duration(RESTART_LIMIT_DEFAULT)),
        ("lease_max", format_duration(LEASE_MAX_DEFAULT)),
        ("lease_mode", LEASE_MODE_DEFAULT.to_owned()),
        ("ask_parts_after", format_duration(ASK_PARTS_AFTER_DEFAULT)),
        ("keep_free", KEEP_FREE_DEFAULT.to_owned()),
        ("junk", "delete".to_owned()),
        ("look_for_faults", format_duration(LOOK_FOR_FAULTS_DEFAULT)),
        ("read_counters", format_duration(READ_COUNTERS_DEFAULT)),
        ("send_counters", format_duration(SEND_COUNTERS_DEFAULT)),
        ("bill_utc_offset", UTC_OFFSET_DEFAULT.to_owned()),
        ("readings_room", READINGS_ROOM_DEFAULT.to_owned()),
        ("rom_version_file", ROM_VERSION_FILE_DEFAULT.to_owned()),
    ] {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# {key} = \"{value}\"");
    }
    for line in [
        "script_user = \"name\"  # default: the agent's own",
        "restart_command = [\"systemctl\", \"reboot\"]  # default: somebody else restarts the box",
        "allow_setuid = false",
        "idle = true  # false: the mail server is not asked to tell of new mail (IMAP IDLE)",
        "compress = true  # false: connections to IMAP servers are not compressed",
        "bill_days = [1]  # read and sent on these days of the month; 31: its last; default: none",
    ] {
        let _ = writeln!(text, "# {line}");
    }
    // No space behind the sign: it is no default, and whoever wants it takes all of it.
    text.push_str(
        "\n#[budget]  # what the line may carry, both ways; default: whatever comes\n#day = \"5 MiB\"\n#month = \"100 MiB\"\n\
         #hours = \"22:00-05:00\"  # for large mails\n#utc_offset = \"+00:00\"\n",
    );
    text.push_str("\n[manager]");
    text.push_str(manager);
    text
}

/// Writes a configuration after having checked that it reads back.
///
/// # Errors
/// Something in it is not allowed, or the file cannot be written.
pub fn write(path: &Path, text: &str) -> Result<Config, ConfigError> {
    let config = parse(path, text)?;
    write_whole(path, text.as_bytes()).map_err(|err| ConfigError::Io(path.to_owned(), err))?;
    Ok(config)
}

/// Reads a configuration.
///
/// # Errors
/// It cannot be read, or holds something that is not allowed.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|err| ConfigError::Io(path.to_owned(), err))?;
    parse(path, &text)
}

/// Checks a configuration's text; `file` is named in errors.
///
/// # Errors
/// Something that is not allowed.
pub fn parse(file: &Path, text: &str) -> Result<Config, ConfigError> {
    let raw: Raw =
        toml::from_str(text).map_err(|err| ConfigError::Toml(file.to_owned(), TomlFault::of(text, &err)))?;
    let in_file = Values::of(file);
    let labels = raw.class.iter().map(|c| in_file.value("class", Label::parse(c)));
    if !raw.root.is_absolute() {
        let why = format!("expected an absolute path, found \"{}\"", raw.root.display());
        return Err(in_file.bad("root", why));
    }
    let restart_command = raw.restart_command.unwrap_or_default();
    if restart_command.first().is_some_and(String::is_empty) {
        return Err(in_file.bad("restart_command", "expected a program and its arguments".to_owned()));
    }
    let account = Account {
        address: raw.address,
        send: raw.send,
        receive: raw.receive,
        ca: raw.ca,
        password_file: raw.password_file,
        password_env: raw.password_env,
        password_credential: raw.password_credential,
        token_command: raw.token_command,
        tls: raw.tls,
        junk: raw.junk,
        idle: raw.idle,
        compress: raw.compress,
    };
    if raw.copy.len() > COPIES_MAX_COUNT {
        let why = format!("expected at most {COPIES_MAX_COUNT}, found {}", raw.copy.len());
        return Err(in_file.bad("copy", why));
    }
    let copies = raw.copy.into_iter().map(|copy| copy.listener(&in_file)).collect::<Result<_, _>>()?;
    let second = raw.fallback_inbox.map(|second| second.account(&account));
    let fallback_inbox = second.map(|second| in_file.mail(second, JunkPolicy::Delete)).transpose()?;
    // The mailbox is the agent's own (M6), and nobody empties a box's junk folder.
    let mail = in_file.mail(account, JunkPolicy::Delete)?;
    Ok(Config {
        agent: in_file.value("agent", AgentId::parse(&raw.agent))?,
        classes: labels.collect::<Result<_, _>>()?,
        mail,
        fallback_inbox,
        copies,
        manager: in_file.value("manager.address", MailAddress::parse(&raw.manager.address))?,
        poll: in_file.duration("poll", raw.poll.as_deref(), POLL_DEFAULT)?,
        script_timeout: in_file.duration(
            "script_timeout",
            raw.script_timeout.as_deref(),
            SCRIPT_TIMEOUT_DEFAULT,
        )?,
        trial_limit: in_file.duration("trial_limit", raw.trial_limit.as_deref(), TRIAL_LIMIT_DEFAULT)?,
        script_user: raw.script_user,
        restart_command,
        rules: Rules {
            restart_limit: in_file.duration(
                "restart_limit",
                raw.restart_limit.as_deref(),
                RESTART_LIMIT_DEFAULT,
            )?,
            lease_max: in_file.duration("lease_max", raw.lease_max.as_deref(), LEASE_MAX_DEFAULT)?,
            allow_setuid: raw.allow_setuid.unwrap_or(false),
            budget: raw.budget.map(|budget| budget.budget(&in_file)).transpose()?,
            ask_parts_after: in_file.duration(
                "ask_parts_after",
                raw.ask_parts_after.as_deref(),
                ASK_PARTS_AFTER_DEFAULT,
            )?,
        },
        lease_mode: in_file.value(
            "lease_mode",
            values::folder_mode(raw.lease_mode.as_deref().unwrap_or(LEASE_MODE_DEFAULT)),
        )?,
        keep_free_bytes: in_file
            .value("keep_free", values::size(raw.keep_free.as_deref().unwrap_or(KEEP_FREE_DEFAULT)))?,
        max_bundle_bytes: raw.max_bundle_bytes.unwrap_or(MAX_BUNDLE_DEFAULT_BYTES),
        rhythm: Rhythm {
            faults: in_file.duration(
                "look_for_faults",
                raw.look_for_faults.as_deref(),
                LOOK_FOR_FAULTS_DEFAULT,
            )?,
            everything: in_file.duration(
                "read_counters",
                raw.read_counters.as_deref(),
                READ_COUNTERS_DEFAULT,
            )?,
        },
        send_counters: send_counters_of(&in_file, raw.send_counters.as_deref())?,
        bill: bill_of(&in_file, raw.bill_days.as_deref(), raw.bill_utc_offset.as_deref())?,
        readings_room_bytes: in_file.value(
            "readings_room",
            values::size(raw.readings_room.as_deref().unwrap_or(READINGS_ROOM_DEFAULT)),
        )?,
        rom_version: raw
            .rom_version
            .as_deref()
            .map(|v| in_file.value("rom_version", Label::parse(v)))
            .transpose()?,
        rom_version_file: raw.rom_version_file.unwrap_or_else(|| ROM_VERSION_FILE_DEFAULT.into()),
        root: raw.root,
    })
}

fn send_counters_of(file: &Values<'_>, every: Option<&str>) -> Result<Option<Duration>, ConfigError> {
    match every {
        Some("never") => Ok(None),
        every => file.duration("send_counters", every, SEND_COUNTERS_DEFAULT).map(Some),
    }
}

fn bill_of(file: &Values<'_>, days: Option<&[i64]>, offset: Option<&str>) -> Result<BillDays, ConfigError> {
    let days = days.unwrap_or_default().iter().map(|day| file.value("bill_days", values::day(*day)));
    let offset = values::utc_offset_minutes(offset.unwrap_or(UTC_OFFSET_DEFAULT));
    Ok(BillDays {
        days: days.collect::<Result<_, _>>()?,
        utc_offset_minutes: file.value("bill_utc_offset", offset)?,
    })
}

impl Config {
    /// Version of the read-only system, as set or as its file says now.
    #[must_use]
    pub fn rom_version(&self) -> Label {
        self.rom_version.clone().unwrap_or_else(|| rom_version_in(&self.rom_version_file))
    }
}

/// `VERSION_ID` of a file like `/etc/os-release`, or else the first line.
fn rom_version_in(path: &Path) -> Label {
    use std::io::Read as _;
    let mut text = String::new();
    let read = std::fs::File::open(path)
        .and_then(|file| file.take(ROM_VERSION_FILE_MAX_BYTES).read_to_string(&mut text));
    if read.is_err() {
        return Label::lossy("unknown");
    }
    let named = text.lines().find_map(|line| line.strip_prefix("VERSION_ID="));
    // A rolling distribution has no VERSION_ID; its file's first line is a name, not a version.
    let is_os_release = text.lines().any(|line| line.starts_with("ID="));
    let found = match named {
        Some(version) => version.trim_matches(['"', '\'']),
        None if is_os_release => "unknown",
        None => text.lines().next().unwrap_or("unknown").trim(),
    };
    Label::lossy(if found.is_empty() { "unknown" } else { found })
}
