//! `agent export, introduce`: what one manager knows of its agents, told to one that only listens to them (M18).

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

use mailfleet::import::{self, AgentRow};
use mailfleet::registry::KEYS;
use mailfleet::store::{AgentRecord, NewAgent, Tx, TxResult};
use mailfleet::system::{now, random};
use manager_core::select::ATTRIBUTE;
use shared::keys::{SealingKey, VerifyingKey};
use shared::message::EnrolRequest;
use shared::{Digest, Label, UnixMillis};

use super::agent::bad_rows;
use super::args::{AgentExport, AgentIntroduce};
use super::csv::write_csv;
use super::fail::{Done, Fail, OrFail as _, Outcome};
use super::{audited, open, show};

pub(crate) fn export(home: Option<&Path>, args: &AgentExport) -> Outcome {
    let home = open::home(home)?;
    let agents = open::store(&home)?.read(|tx| tx.agents()).map_err(open::store_failed)?;
    let attributes: BTreeSet<String> = agents
        .iter()
        .flat_map(|agent| agent.terms.attributes.keys())
        .map(|name| format!("{ATTRIBUTE}{name}"))
        .collect();
    let terms: Vec<&str> = KEYS.into_iter().chain(attributes.iter().map(String::as_str)).collect();
    let columns = [import::COLUMNS.as_slice(), &terms, &import::KEY_COLUMNS].concat().join(",");
    write_csv(&columns, args.output.as_deref(), |csv| {
        agents.iter().for_each(|agent| csv.put(&row(agent, &terms)));
        Ok(())
    })
}

fn row(agent: &AgentRecord, terms: &[&str]) -> Vec<String> {
    let classes: Vec<&str> = agent.classes.iter().map(Label::as_str).collect();
    let mut cells = vec![
        agent.id.to_string(),
        agent.mail.to_string(),
        classes.join(";"),
        agent.site.to_string(),
        agent.note.to_string(),
        agent.admin.as_ref().map_or(String::new(), ToString::to_string),
    ];
    // Not defused as for a spreadsheet: the file is to be read back as it is.
    cells.extend(terms.iter().map(|term| agent.terms.get(term)));
    cells.push(agent.sign_key.as_ref().map_or(String::new(), VerifyingKey::to_text));
    cells.push(agent.seal_key.as_ref().map_or(String::new(), SealingKey::to_text));
    cells
}

pub(crate) fn introduce(home: Option<&Path>, args: &AgentIntroduce) -> Outcome {
    let home = open::home(home)?;
    if !home.config().map_err(open::home_failed)?.listens_only {
        return Err(Fail::usage("agents are introduced to a manager that only listens")
            .next("set listens_only = true in manager.toml; agents that this manager is to order about enrol by invitation"));
    }
    let file = File::open(&args.file).or_usage(format!("cannot read {}", args.file.display()))?;
    let rows = import::read(file).map_err(|errors| bad_rows(&args.file, &errors))?;
    let known: Vec<_> =
        rows.iter().filter_map(|(_, row)| row.keys.as_ref().map(|(sign, seal)| (row, sign, seal))).collect();
    let changed = audited::change(&mut open::store(&home)?, |tx| {
        let (mut changed, mut deeds) = (0usize, Vec::new());
        for (row, sign, seal) in &known {
            let before = tx.agent(&row.id)?;
            let new_keys = one(tx, row, sign, seal, now())?;
            changed = changed.saturating_add(usize::from(new_keys));
            if tx.agent(&row.id)? != before {
                let key = if new_keys { format!(", key {}", sign.key_id()) } else { String::new() };
                deeds.push(format!("agent {} introduced, mail {}{key}", row.id, row.mail));
            }
        }
        Ok((changed, deeds))
    })
    .map_err(open::store_failed)?;
    let without = rows.len().saturating_sub(known.len());
    let left = if without == 0 { String::new() } else { format!(", {without} not enrolled yet") };
    show::say(&format!(
        "Introduced {}, {changed} of them new or with new keys{left}.",
        show::count(known.len(), "agent")
    ))?;
    Ok(Done::All)
}

/// Takes one agent as it is known elsewhere. True if its keys are new here.
fn one(
    tx: &Tx<'_>,
    row: &AgentRow,
    sign: &VerifyingKey,
    seal: &SealingKey,
    now: UnixMillis,
) -> TxResult<bool> {
    let new = NewAgent {
        id: row.id.clone(),
        mail: row.mail.clone(),
        classes: row.classes.clone(),
        site: row.site.clone(),
        note: row.note.clone(),
        admin: row.admin.clone(),
        terms: row.terms.clone(),
        // Nobody has this secret: the agent does not enrol here.
        secret_digest: Digest::of(&random::<32>()),
        invite_expires: now,
    };
    if !tx.add_agent(&new, now)? {
        tx.set_names(&row.id, &row.classes, &row.site, &row.note, row.admin.as_ref())?;
        tx.set_terms(&row.id, &row.terms)?;
    }
    let known = tx.agent(&row.id)?.and_then(|agent| agent.sign_key);
    if known.is_some_and(|known| known.to_bytes() == sign.to_bytes()) {
        return Ok(false);
    }
    let request = EnrolRequest {
        agent: row.id.clone(),
        secret: [0; 32],
        sign_key: sign.to_bytes(),
        seal_key: seal.to_bytes(),
        mail: row.mail.clone(),
        agent_version: Label::default(),
    };
    tx.enrol(&request, sign.key_id(), now)?;
    Ok(true)
}
