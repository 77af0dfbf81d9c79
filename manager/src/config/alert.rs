//! `[[alert]]` in `manager.toml`: whom the operator wants told of which faults.

use mailio::config::{ConfigError, Values};
use manager_core::alert::{Change, Rule, To};
use serde::Deserialize;
use shared::MailAddress;
use shared::device::{FaultClass, FaultKind, Severity};

/// Rules that are read: each fault is compared with every one.
const RULES_MAX_COUNT: usize = 200;

/// Addresses of one rule.
const ADDRESSES_MAX_COUNT: usize = 50;

/// One rule as it stands in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAlert {
    to: Option<OneOrMany>,
    command: Option<Vec<String>>,
    classes: Option<Vec<String>>,
    severity: Option<String>,
    kinds: Option<Vec<String>>,
    sites: Option<Vec<String>>,
    on: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// Checks the rules.
pub(super) fn rules(at: &Values<'_>, raw: Option<Vec<RawAlert>>) -> Result<Vec<Rule>, ConfigError> {
    let raw = raw.unwrap_or_default();
    if raw.len() > RULES_MAX_COUNT {
        let why = format!("expected at most {RULES_MAX_COUNT} rules, found {}", raw.len());
        return Err(at.bad("alert", why));
    }
    let mut rules = Vec::new();
    for one in raw {
        rules.extend(rule(at, one)?);
    }
    Ok(rules)
}

/// One table is one rule for its addresses and one for its program.
fn rule(at: &Values<'_>, raw: RawAlert) -> Result<Vec<Rule>, ConfigError> {
    let mut ways = Vec::new();
    if let Some(to) = raw.to {
        ways.push(addresses(at, to)?);
    }
    if let Some(words) = raw.command {
        if words.first().is_none_or(|program| !program.starts_with('/')) {
            let why =
                "expected a program by its full path and its arguments, such as [\"/usr/local/bin/ticket\"]";
            return Err(at.bad("alert.command", why.to_owned()));
        }
        if words.iter().any(|word| word.contains(char::is_control)) {
            return Err(at.bad("alert.command", "expected no control characters".to_owned()));
        }
        ways.push(To::Command(words));
    }
    if ways.is_empty() {
        let why = "expected to = \"desk@example.com\", to = \"site\", or command = [\"/path/to/program\"]";
        return Err(at.bad("alert", why.to_owned()));
    }
    let severity = match raw.severity {
        Some(text) => named(at, "alert.severity", &text, Severity::parse, &names(Severity::ALL))?,
        None => Severity::Info,
    };
    let on = list(at, "alert.on", raw.on, Change::parse, &names(&Change::ALL))?;
    let rule = Rule {
        to: To::Site,
        classes: list(at, "alert.classes", raw.classes, FaultClass::parse, &names(FaultClass::ALL))?,
        severity,
        kinds: list(at, "alert.kinds", raw.kinds, FaultKind::parse, &names(FaultKind::ALL))?,
        sites: raw.sites.unwrap_or_default(),
        on: if on.is_empty() { Change::ALL.to_vec() } else { on },
    };
    Ok(ways.into_iter().map(|to| Rule { to, ..rule.clone() }).collect())
}

fn addresses(at: &Values<'_>, to: OneOrMany) -> Result<To, ConfigError> {
    let texts = match to {
        OneOrMany::One(text) if text == "site" => return Ok(To::Site),
        OneOrMany::One(text) => vec![text],
        OneOrMany::Many(texts) => texts,
    };
    if !(1..=ADDRESSES_MAX_COUNT).contains(&texts.len()) {
        let why = format!("expected 1 to {ADDRESSES_MAX_COUNT} addresses, found {}", texts.len());
        return Err(at.bad("alert.to", why));
    }
    let parsed: Result<_, ConfigError> =
        texts.iter().map(|text| at.value("alert.to", MailAddress::parse(text))).collect();
    Ok(To::Mail(parsed?))
}

fn names<T: ToString>(all: &[T]) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn named<T>(
    at: &Values<'_>,
    setting: &'static str,
    text: &str,
    parse: fn(&str) -> Option<T>,
    all: &str,
) -> Result<T, ConfigError> {
    parse(text).ok_or_else(|| at.bad(setting, format!("expected one of {all}, found \"{text}\"")))
}

fn list<T>(
    at: &Values<'_>,
    setting: &'static str,
    texts: Option<Vec<String>>,
    parse: fn(&str) -> Option<T>,
    all: &str,
) -> Result<Vec<T>, ConfigError> {
    texts.unwrap_or_default().iter().map(|text| named(at, setting, text, parse, all)).collect()
}
