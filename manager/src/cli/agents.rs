//! `agent list`: the operator's list of M15.

use std::collections::BTreeMap;
use std::path::Path;

use mailfleet::store::{AgentRecord, AgentTarget};
use serde_json::json;
use shared::AgentId;

use super::agent::facts;
use super::args::AgentList;
use super::fail::{Done, Outcome};
use super::names::{colour, has_failed, mark};
use super::select::{Known, expression};
use super::show::{Colour, Listing, cell};
use super::{open, show};

pub(crate) fn list(home: Option<&Path>, args: &AgentList) -> Outcome {
    let home = open::home(home)?;
    let mut store = open::store(&home)?;
    let (mut agents, targets) =
        store.read(|tx| Ok((tx.agents()?, tx.newest_targets()?))).map_err(open::store_failed)?;
    if let Some(text) = &args.expression {
        let wanted = expression(text)?;
        agents.retain(|agent| wanted.selects(&Known::new(agent)));
    }
    if args.format.json {
        let agents: Vec<_> = agents.iter().map(|agent| json_of(agent, targets.get(&agent.id))).collect();
        show::print_json(&json!({"agents": agents}))?;
    } else if agents.is_empty() && args.expression.is_some() {
        show::note("No agent matches.");
    } else if agents.is_empty() {
        show::note("There are no agents yet: `mailfleet agent add` or `agent import` adds some.");
    } else {
        show::print(&table(&agents, &targets))?;
    }
    Ok(Done::All)
}

fn json_of(agent: &AgentRecord, target: Option<&AgentTarget>) -> serde_json::Value {
    let mut value = facts(agent);
    if let Some(object) = value.as_object_mut() {
        object.insert("id".to_owned(), agent.id.as_str().into());
        object.insert("failed".to_owned(), target.is_some_and(|t| has_failed(t.state)).into());
        object.insert("campaign".to_owned(), target.map(|t| t.campaign.0).into());
        object.insert("target_version".to_owned(), target.map(|t| t.target_version.to_string()).into());
    }
    value
}

fn table(agents: &[AgentRecord], targets: &BTreeMap<AgentId, AgentTarget>) -> String {
    let mut listing =
        Listing::new(&["!", "AGENT", "~ADDRESS", "STATE", "VERSION", "REPORTED", "~NOTE", "TARGET"]);
    for agent in agents {
        let plain = |text: String| cell(text, Colour::Plain);
        let target = targets.get(&agent.id);
        listing.row(vec![
            cell(target.map_or("", |t| mark(t.state)), Colour::Red),
            plain(agent.id.to_string()),
            plain(agent.mail.to_string()),
            match agent.unheard_since {
                Some(_) => cell("possible freeze", Colour::Red),
                None => plain(agent.state.as_str().to_owned()),
            },
            plain(agent.versions.as_ref().map_or("-".to_owned(), |v| v.software.to_string())),
            plain(agent.versions_at.map_or("-".to_owned(), |at| at.to_string())),
            plain(agent.note.to_string()),
            target.map_or(plain("-".to_owned()), |t| cell(&t.target_version, colour(t.state))),
        ]);
    }
    listing.text()
}
