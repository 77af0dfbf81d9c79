//! `manager.toml`: what an operator can set, read at start. Unknown keys are errors, so that a slip of the
//! pen does not pass for a setting.

mod alert;

use std::path::{Path, PathBuf};
use std::time::Duration;

use mailio::config::{Account, ConfigError, Values};
use mailio::{JunkPolicy, MAILS_PER_CONNECTION_DEFAULT, MailSettings};
use manager_core::alert::{Rule, To};
use serde::Deserialize;
use shared::MailAddress;
use shared::error::TomlFault;
use shared::limits::{MAIL_MAX_DEFAULT_BYTES, SLOTS_MAX_COUNT};
use shared::time::format_duration;

/// The checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Account, servers, password source, limits of one mail.
    pub mail: MailSettings,
    /// How often the mailbox is looked at and the campaigns are planned.
    pub poll: Duration,
    /// Recipients of one mail.
    pub recipients_per_mail: usize,
    /// Mails handed to the relay in a minute; 0 is not allowed, "no limit" is a large number.
    pub mails_per_minute: u32,
    /// Mails that may be on their way to the relay at a time.
    pub connections: usize,
    /// The first pause after the relay said "later"; doubled up to `retry_max`.
    pub retry_min: Duration,
    /// The longest pause.
    pub retry_max: Duration,
    /// How often each agent is told that the manager is there; `None`: never.
    pub heartbeat: Option<Duration>,
    /// How old an agent's own keys get; `None`: as old as they like.
    pub rotate_agent_keys: Option<Duration>,
    /// How long readings, and faults that have ended, are kept.
    pub keep_readings: Duration,
    /// Who is told of faults.
    pub alerts: Vec<Rule>,
    /// Who is told when a campaign halts or ends.
    pub operator: Option<MailAddress>,
    /// Whether administrators are told when an update is done (N5).
    pub tell_administrators: bool,
    /// It takes in copies of other managers' reports, and mails agents nothing (M18).
    pub listens_only: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    address: String,
    send: String,
    receive: String,
    ca: Option<PathBuf>,
    password_file: Option<PathBuf>,
    password_env: Option<String>,
    password_credential: Option<String>,
    token_command: Option<Vec<String>>,
    tls: Option<String>,
    poll: Option<String>,
    idle: Option<bool>,
    compress: Option<bool>,
    recipients_per_mail: Option<usize>,
    mails_per_minute: Option<u32>,
    connections: Option<usize>,
    mails_per_connection: Option<usize>,
    mail_max_bytes: Option<u64>,
    retry_min: Option<String>,
    retry_max: Option<String>,
    heartbeat: Option<String>,
    rotate_agent_keys: Option<String>,
    junk: Option<String>,
    keep_readings: Option<String>,
    operator: Option<String>,
    tell_administrators: Option<bool>,
    listens_only: Option<bool>,
    alert: Option<Vec<alert::RawAlert>>,
}

const POLL_DEFAULT: Duration = Duration::from_secs(30);
const RECIPIENTS_DEFAULT: usize = 50;
/// Office 365 takes 30 mails a minute.
const MAILS_PER_MINUTE_DEFAULT: u32 = 25;
/// Office 365 takes three at a time.
const CONNECTIONS_DEFAULT: usize = 2;
/// Relays of large providers take 20 from one address; more only wait for each other.
const CONNECTIONS_MAX: usize = 16;
const MAILS_PER_CONNECTION_MAX: usize = 1_000;
const RETRY_MIN_DEFAULT: Duration = Duration::from_secs(300);
const RETRY_MAX_DEFAULT: Duration = Duration::from_secs(6 * 3600);
/// Relays deliver late by days, so an hour would say nothing; a week costs a mail per 50 agents.
const HEARTBEAT_DEFAULT: Duration = Duration::from_secs(7 * 24 * 3600);
/// A year's bill and the month after it.
const KEEP_READINGS_DEFAULT: Duration = Duration::from_secs(400 * 24 * 3600);
const HEARTBEAT_MIN: Duration = Duration::from_secs(60);
const HEARTBEAT_MAX: Duration = Duration::from_secs(45 * 24 * 3600);
/// Shorter than the time for which replaced keys are kept would only pile them up.
const ROTATION_MIN: Duration = Duration::from_secs(30 * 24 * 3600);

/// What `init` was told on its command line.
#[derive(Clone, Debug)]
pub struct Choices {
    /// The manager's address.
    pub address: MailAddress,
    /// Where mail goes out.
    pub send: String,
    /// Where mail comes in.
    pub receive: String,
    /// The only authority to trust.
    pub ca: Option<PathBuf>,
    /// Where the password is.
    pub password_file: Option<PathBuf>,
}

/// Text of a new `manager.toml`.
#[must_use]
pub fn new_text(choices: &Choices) -> String {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let path = |path: &Path| quoted(&path.to_string_lossy());
    let optional = |key: &str, value: Option<String>, example: &str| {
        value.map_or_else(|| format!("# {key} = {example}\n"), |value| format!("{key} = {value}\n"))
    };
    format!(
        "# mailfleet manager. Unknown keys are errors. Lines with # show defaults or examples.\n\
         address = {address}\nsend = {send}\nreceive = {receive}\n\n\
         # Trust only the authorities in this PEM file, not the system's.\n{ca}\n\
         # One source for the password, never the password itself:\n{password}\
         # password_env = \"MAILFLEET_PASSWORD\"\n\
         # password_credential = \"mail\"              # systemd credential\n\
         # token_command = [\"/usr/local/bin/token\"]  # prints an OAuth 2 token (XOAUTH2)\n\n\
         # tls = \"none\"                 # allows smtp:// and imap:// to other hosts than this one\n\
         # poll = \"{poll}\"                 # how often the mailbox is looked at\n\
         # idle = true                  # false: the mail server is not asked to tell of new mail (IMAP IDLE)\n\
         # compress = true              # false: connections to IMAP servers are not compressed\n\
         # recipients_per_mail = {recipients}      # a bundle crosses to the mail server once per so many agents\n\
         # mails_per_minute = {rate}\n\
         # connections = {connections}              # to the mail server at a time\n\
         # mails_per_connection = {per_connection}    # the server may allow less\n\
         # mail_max_bytes = {mail_max}    # largest mail; the server may allow less\n\
         # retry_min = \"{retry_min}\"            # pause after the server said \"later\", doubled each time\n\
         # retry_max = \"{retry_max}\"\n\
         # heartbeat = \"{heartbeat}\"             # agents that miss two of these say \"possible freeze\"; or \"off\"\n\
         # rotate_agent_keys = \"365d\"  # agents make new keys of their own when theirs are older; default \"off\"\n\
         # junk = \"aside\"               # what is no mail of an agent: \"aside\" or \"delete\"\n\
         # keep_readings = \"{keep}\"       # signed readings of devices, and faults that have ended\n\
         # operator = \"ops@example.com\"  # is told when a campaign halts or ends\n\
         # tell_administrators = true   # of sites, when an update is done there\n\
         # listens_only = false         # true: takes copies of faults and counters, gives no orders\n\n\
         # Who is told of faults of devices; as many as wanted. What is not named counts for all.\n\
         # [[alert]]\n\
         # to = \"desk@example.com\"       # addresses, or \"site\": the administrator of the agent's site\n\
         # classes = [\"A\", \"D\"]         # A unusable until service comes, B one function, C logged, D until restarted\n\
         # severity = \"warning\"         # this or worse: \"info\", \"warning\", \"critical\"\n\
         # kinds = [\"jam\", \"error\", \"alarm\", \"supply\", \"offline\"]\n\
         # sites = [\"Tokyo*\"]\n\
         # on = [\"raised\", \"cleared\"]\n\
         # command = [\"/usr/local/bin/ticket\"]   # reads the faults as JSON, within a minute\n",
        address = quoted(choices.address.as_str()),
        send = quoted(&choices.send),
        receive = quoted(&choices.receive),
        ca = optional("ca", choices.ca.as_deref().map(path), "\"/etc/mailfleet/ca.pem\""),
        password = optional(
            "password_file",
            choices.password_file.as_deref().map(path),
            "\"/etc/mailfleet/password\""
        ),
        poll = format_duration(POLL_DEFAULT),
        recipients = RECIPIENTS_DEFAULT,
        rate = MAILS_PER_MINUTE_DEFAULT,
        connections = CONNECTIONS_DEFAULT,
        per_connection = MAILS_PER_CONNECTION_DEFAULT,
        mail_max = MAIL_MAX_DEFAULT_BYTES,
        retry_min = format_duration(RETRY_MIN_DEFAULT),
        retry_max = format_duration(RETRY_MAX_DEFAULT),
        heartbeat = format_duration(HEARTBEAT_DEFAULT),
        keep = format_duration(KEEP_READINGS_DEFAULT),
    )
}

impl Config {
    /// Reads a configuration.
    ///
    /// # Errors
    /// It cannot be read, or holds something that is not allowed.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|err| ConfigError::Io(path.to_owned(), err))?;
        Self::parse(path, &text)
    }

    /// Checks a configuration's text; `file` is named in errors.
    ///
    /// # Errors
    /// Something that is not allowed.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        let raw: Raw = toml::from_str(text)
            .map_err(|err| ConfigError::Toml(file.to_owned(), TomlFault::of(text, &err)))?;
        let at = Values::of(file);
        let recipients = raw.recipients_per_mail;
        let recipients = within(&at, "recipients_per_mail", recipients, RECIPIENTS_DEFAULT, SLOTS_MAX_COUNT)?;
        let mails_per_minute = raw.mails_per_minute.unwrap_or(MAILS_PER_MINUTE_DEFAULT);
        if mails_per_minute == 0 {
            return Err(at.bad("mails_per_minute", "expected at least 1, found 0".to_owned()));
        }
        let connections = within(&at, "connections", raw.connections, CONNECTIONS_DEFAULT, CONNECTIONS_MAX)?;
        let mails_per_connection = within(
            &at,
            "mails_per_connection",
            raw.mails_per_connection,
            MAILS_PER_CONNECTION_DEFAULT,
            MAILS_PER_CONNECTION_MAX,
        )?;
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
        // People write to a manager's address; their mail is not ours to delete.
        let mut mail = at.mail(account, JunkPolicy::Aside)?;
        mail.mails_per_connection = mails_per_connection;
        mail.mail_max_bytes = raw.mail_max_bytes.unwrap_or(MAIL_MAX_DEFAULT_BYTES);
        Ok(Self {
            mail,
            poll: at.duration("poll", raw.poll.as_deref(), POLL_DEFAULT)?,
            recipients_per_mail: recipients,
            mails_per_minute,
            connections,
            retry_min: at.duration("retry_min", raw.retry_min.as_deref(), RETRY_MIN_DEFAULT)?,
            retry_max: at.duration("retry_max", raw.retry_max.as_deref(), RETRY_MAX_DEFAULT)?,
            heartbeat: heartbeat(&at, raw.heartbeat.as_deref())?,
            rotate_agent_keys: rotation(&at, raw.rotate_agent_keys.as_deref())?,
            keep_readings: at.duration(
                "keep_readings",
                raw.keep_readings.as_deref(),
                KEEP_READINGS_DEFAULT,
            )?,
            alerts: alert::rules(&at, raw.alert)?,
            operator: raw
                .operator
                .as_deref()
                .map(MailAddress::parse)
                .transpose()
                .map_err(|err| at.bad("operator", err.to_string()))?,
            tell_administrators: raw.tell_administrators.unwrap_or(true),
            listens_only: raw.listens_only.unwrap_or(false),
        })
    }

    /// The programs that alerts may run.
    pub fn alert_commands(&self) -> impl Iterator<Item = &Vec<String>> {
        self.alerts.iter().filter_map(|rule| match &rule.to {
            To::Command(words) => Some(words),
            To::Mail(_) | To::Site => None,
        })
    }
}

fn within(
    at: &Values<'_>,
    setting: &'static str,
    found: Option<usize>,
    default: usize,
    most: usize,
) -> Result<usize, ConfigError> {
    let found = found.unwrap_or(default);
    if (1..=most).contains(&found) {
        return Ok(found);
    }
    Err(at.bad(setting, format!("expected 1 to {most}, found {found}")))
}

fn heartbeat(at: &Values<'_>, text: Option<&str>) -> Result<Option<Duration>, ConfigError> {
    if text == Some("off") {
        return Ok(None);
    }
    let every = at.duration("heartbeat", text, HEARTBEAT_DEFAULT)?;
    if (HEARTBEAT_MIN..=HEARTBEAT_MAX).contains(&every) {
        return Ok(Some(every));
    }
    let (min, max) = (format_duration(HEARTBEAT_MIN), format_duration(HEARTBEAT_MAX));
    let why = format!("expected \"off\", or {min} to {max}, found {}", format_duration(every));
    Err(at.bad("heartbeat", why))
}

fn rotation(at: &Values<'_>, text: Option<&str>) -> Result<Option<Duration>, ConfigError> {
    if matches!(text, None | Some("off")) {
        return Ok(None);
    }
    let every = at.duration("rotate_agent_keys", text, ROTATION_MIN)?;
    if every >= ROTATION_MIN {
        return Ok(Some(every));
    }
    let (min, found) = (format_duration(ROTATION_MIN), format_duration(every));
    Err(at.bad("rotate_agent_keys", format!("expected \"off\", or at least {min}, found {found}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::error::chain;

    fn text() -> String {
        new_text(&Choices {
            address: MailAddress::parse("manager@lab.test").unwrap(),
            send: "spool:/tmp/post".to_owned(),
            receive: "spool:/tmp/post".to_owned(),
            ca: None,
            password_file: Some("/etc/it's \"here\"".into()),
        })
    }

    fn error(text: &str) -> String {
        chain(&Config::parse(Path::new("manager.toml"), text).unwrap_err())
    }

    #[test]
    fn a_new_configuration_reads_back_and_its_examples_are_its_defaults() {
        let config = Config::parse(Path::new("m"), &text()).unwrap();
        assert_eq!(config.recipients_per_mail, RECIPIENTS_DEFAULT);
        let uncommented: String = text()
            .lines()
            .map(|line| {
                let setting = [
                    "poll",
                    "idle",
                    "compress",
                    "recipients",
                    "mails",
                    "connections",
                    "mail_max",
                    "retry",
                    "heartbeat",
                    "junk",
                    "keep",
                ]
                .iter()
                .any(|key| line.starts_with(&format!("# {key}")));
                format!("{}\n", if setting { line.trim_start_matches("# ") } else { line })
            })
            .collect();
        let explicit = Config::parse(Path::new("m"), &uncommented).unwrap();
        assert_eq!(format!("{config:?}"), format!("{explicit:?}"));
    }

    #[test]
    fn the_example_of_an_alert_is_one() {
        let lines = text()
            .lines()
            .skip_while(|line| *line != "# [[alert]]")
            .map(|line| format!("{}\n", line.trim_start_matches("# ")))
            .collect::<String>();
        let config = Config::parse(Path::new("m"), &(text() + &lines)).unwrap();
        assert_eq!(config.alerts.len(), 2, "one by mail, one by a program");
        assert_eq!(config.alert_commands().count(), 1);
        assert_eq!(config.alerts[0].classes.len(), 2);
        assert!(Config::parse(Path::new("m"), &text()).unwrap().alerts.is_empty());
    }

    #[test]
    fn an_alert_that_nobody_gets_or_that_has_unknown_words_is_refused() {
        for (line, setting) in [
            ("classes = [\"A\"]", "alert"),
            ("to = \"desk\"", "alert.to"),
            ("to = []", "alert.to"),
            ("to = \"site\"\nclasses = [\"E\"]", "alert.classes"),
            ("to = \"site\"\nseverity = \"loud\"", "alert.severity"),
            ("to = \"site\"\nkinds = [\"fire\"]", "alert.kinds"),
            ("to = \"site\"\non = [\"never\"]", "alert.on"),
            ("command = [\"ticket\"]", "alert.command"),
            ("command = []", "alert.command"),
        ] {
            let err = error(&format!("{}\n[[alert]]\n{line}\n", text()));
            assert!(err.contains(&format!("\"{setting}\"")), "{line}: {err}");
        }
        assert!(error(&format!("{}\n[[alert]]\nto = \"site\"\nclass = \"A\"\n", text())).contains("class"));
    }

    #[test]
    fn faults_name_the_file_and_the_setting() {
        assert!(error(&format!("adress = \"x\"\n{}", text())).contains("adress"));
        for (line, setting) in [
            ("poll = \"5\"", "poll"),
            ("recipients_per_mail = 0", "recipients_per_mail"),
            ("mails_per_minute = 0", "mails_per_minute"),
            ("connections = 17", "connections"),
            ("mails_per_connection = 0", "mails_per_connection"),
            ("junk = \"burn\"", "junk"),
            ("heartbeat = \"1s\"", "heartbeat"),
            ("tls = \"maybe\"", "tls"),
            ("keep_readings = \"0d\"", "keep_readings"),
            ("password_env = \"A\"", "password_file"),
        ] {
            let err = error(&format!("{line}\n{}", text()));
            assert!(err.starts_with("manager.toml: ") && err.contains(&format!("\"{setting}\"")), "{err}");
        }
    }
}
