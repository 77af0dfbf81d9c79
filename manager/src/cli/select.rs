//! Which agents a command is for: `--all`, `--agent`, `--agents-file` or `--where`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use mailfleet::store::{AgentRecord, AgentState};
use manager_core::select::{ATTRIBUTE, Facts, Selection as Expression};
use manager_core::window::Windows;
use shared::{AgentId, Label};

use super::args::Selection;
use super::device_args::Scope;
use super::fail::{Fail, Next as _, OrFail as _};
use super::files::read_text;

/// A list of agents as a file: 100,000 IDs of 64 bytes.
const AGENTS_FILE_MAX_BYTES: u64 = 8 * 1024 * 1024;

/// IDs named in one go.
const IDS_SHOWN: usize = 20;

/// The agents that were chosen.
pub(crate) struct Chosen<'a> {
    pub(crate) agents: Vec<&'a AgentRecord>,
    /// Would have been chosen, but have not enrolled.
    pub(crate) not_enrolled: usize,
    /// They were named one by one: nobody of them is left out in silence.
    pub(crate) named: bool,
}

impl Chosen<'_> {
    /// Their IDs, if all can be asked something.
    pub(crate) fn enrolled(&self) -> Result<Vec<AgentId>, Fail> {
        if let Some(stranger) = self.agents.iter().find(|agent| agent.state != AgentState::Enrolled) {
            return Err(Fail::usage(format!(
                "{} has not enrolled: there is no key to ask it with",
                stranger.id
            ))
            .next("enrol it with its invitation, or leave it out"));
        }
        Ok(self.agents.iter().map(|agent| agent.id.clone()).collect())
    }
}

/// Chooses from all agents that are not removed.
pub(crate) fn choose<'a>(selection: &Selection, all: &'a [AgentRecord]) -> Result<Chosen<'a>, Fail> {
    let enrolled = |agents: Vec<&'a AgentRecord>| {
        let (yes, no): (Vec<_>, Vec<_>) = agents.into_iter().partition(|a| a.state == AgentState::Enrolled);
        Chosen { agents: yes, not_enrolled: no.len(), named: false }
    };
    let chosen = if let Some(text) = &selection.expression {
        let expression = expression(text)?;
        enrolled(all.iter().filter(|agent| expression.selects(&Known::new(agent))).collect())
    } else if let Some(path) = &selection.agents_file {
        Chosen { agents: named(&ids_in(path)?, all)?, not_enrolled: 0, named: true }
    } else if selection.agents.is_empty() {
        enrolled(all.iter().collect())
    } else {
        Chosen { agents: named(&selection.agents, all)?, not_enrolled: 0, named: true }
    };
    if chosen.agents.is_empty() {
        let text = match chosen.not_enrolled {
            0 => "no agent is selected".to_owned(),
            n => format!("no enrolled agent is selected; {n} of the selected not enrolled yet"),
        };
        return Err(Fail::usage(text).next("`mailfleet agent list` shows all agents with their states"));
    }
    Ok(chosen)
}

/// Chooses from all agents that are not removed, enrolled or not.
pub(crate) fn choose_any<'a>(
    selection: &Selection,
    all: &'a [AgentRecord],
) -> Result<Vec<&'a AgentRecord>, Fail> {
    let chosen: Vec<&AgentRecord> = if let Some(text) = &selection.expression {
        let expression = expression(text)?;
        all.iter().filter(|agent| expression.selects(&Known::new(agent))).collect()
    } else if let Some(path) = &selection.agents_file {
        named(&ids_in(path)?, all)?
    } else if selection.agents.is_empty() {
        all.iter().collect()
    } else {
        named(&selection.agents, all)?
    };
    if chosen.is_empty() {
        return Err(Fail::usage("no agent is selected").next("`mailfleet agent list` shows all agents"));
    }
    Ok(chosen)
}

/// Reads `--where`.
pub(crate) fn expression(text: &str) -> Result<Expression, Fail> {
    Expression::parse(text)
        .or_usage(format!("--where '{text}' is not understood"))
        .next("such as: --where 'class=office-gateway and site=Tokyo*'")
}

/// Whose devices a command is about.
pub(crate) fn in_scope<'a>(scope: &Scope, all: &'a [AgentRecord]) -> Result<Vec<&'a AgentRecord>, Fail> {
    let chosen = if scope.agents.is_empty() { all.iter().collect() } else { named(&scope.agents, all)? };
    let there = |agent: &&AgentRecord| {
        scope.site.as_ref().is_none_or(|site| manager_core::select::matches(site, agent.site.as_str()))
    };
    Ok(chosen.into_iter().filter(there).collect())
}

/// The agents of these IDs, each once. An unknown one stops it: a slip in a list must not shrink a campaign.
fn named<'a>(ids: &[AgentId], all: &'a [AgentRecord]) -> Result<Vec<&'a AgentRecord>, Fail> {
    let known: BTreeMap<&AgentId, &AgentRecord> = all.iter().map(|agent| (&agent.id, agent)).collect();
    let wanted: BTreeSet<&AgentId> = ids.iter().collect();
    let unknown: Vec<&&AgentId> = wanted.iter().filter(|id| !known.contains_key(**id)).collect();
    if unknown.is_empty() {
        return Ok(wanted.iter().filter_map(|id| known.get(*id).copied()).collect());
    }
    let list: Vec<String> = unknown.iter().take(IDS_SHOWN).map(ToString::to_string).collect();
    let more = unknown.len().saturating_sub(IDS_SHOWN);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    Err(Fail::usage(format!("unknown agents: {}{more}", list.join(", ")))
        .next("`mailfleet agent list` shows all that there are; nothing was started"))
}

fn ids_in(path: &Path) -> Result<Vec<AgentId>, Fail> {
    let text = read_text(path, "the list of agents", AGENTS_FILE_MAX_BYTES)?;
    let mut ids = Vec::new();
    for (n, line) in text.lines().enumerate() {
        let id = line.split('#').next().unwrap_or_default().trim();
        if !id.is_empty() {
            let at = format!("{} line {}", path.display(), n.saturating_add(1));
            ids.push(AgentId::parse(id).or_usage(at).next("one agent ID a line, '#' begins a comment")?);
        }
    }
    Ok(ids)
}

/// An agent as `--where` sees it.
pub(crate) struct Known<'a> {
    record: &'a AgentRecord,
    version: String,
}

impl<'a> Known<'a> {
    pub(crate) fn new(record: &'a AgentRecord) -> Self {
        let version = record.versions.as_ref().map_or("none".to_owned(), |v| v.software.to_string());
        Self { record, version }
    }
}

impl Facts for Known<'_> {
    fn values(&self, key: &str) -> Vec<&str> {
        let record = self.record;
        match key {
            "id" => vec![record.id.as_str()],
            "mail" => vec![record.mail.as_str()],
            "class" => record.classes.iter().map(Label::as_str).collect(),
            "site" => vec![record.site.as_str()],
            "note" => vec![record.note.as_str()],
            "admin" => record.admin.iter().map(shared::MailAddress::as_str).collect(),
            "version" => vec![&self.version],
            "vendor" => vec![record.terms.vendor.as_str()],
            "tag" => record.terms.tags.iter().map(Label::as_str).collect(),
            "zone" => vec![record.terms.zone.as_str()],
            "window" => record.terms.windows.iter().map(Windows::as_str).collect(),
            "consent" => vec![record.terms.consent.as_str()],
            "state" => vec![record.state.as_str()],
            "agent-version" => vec![&record.agent_version],
            key => {
                let name = key.strip_prefix(ATTRIBUTE).unwrap_or_default();
                record.terms.attributes.get(name).map(Label::as_str).into_iter().collect()
            }
        }
    }
}
