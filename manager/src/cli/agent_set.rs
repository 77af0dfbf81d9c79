//! `agent set`: writes down other facts of agents, all of them or none.

use std::path::Path;

use mailfleet::store::{AgentRecord, Tx, TxResult};
use shared::{Label, MailAddress};

use super::agent::fact_of;
use super::args::AgentSet;
use super::fail::{Done, Fail, Outcome};
use super::select::choose_any;
use super::{audited, open, show};

pub(crate) fn set(home: Option<&Path>, args: &AgentSet) -> Outcome {
    let home = open::home(home)?;
    let mut store = open::store(&home)?;
    let all = store.read(|tx| tx.agents()).map_err(open::store_failed)?;
    let chosen = choose_any(&args.selection, &all)?;
    let mut changed = Vec::new();
    for record in chosen {
        let mut new = record.clone();
        for fact in &args.facts {
            let (key, value) = fact_of(fact)?;
            apply(&mut new, key.trim(), value.trim()).map_err(Fail::usage)?;
        }
        if new != *record {
            changed.push(new);
        }
    }
    let facts = args.facts.join(" ");
    audited::change(&mut store, |tx| {
        changed.iter().try_for_each(|record| save(tx, record))?;
        let deeds = changed.iter().map(|record| format!("agent {} set: {facts}", record.id));
        Ok(((), deeds.collect()))
    })
    .map_err(open::store_failed)?;
    show::say(&format!("Changed {}.", show::count(changed.len(), "agent")))?;
    Ok(Done::All)
}

fn apply(record: &mut AgentRecord, key: &str, value: &str) -> Result<(), String> {
    let label = |text: &str| Label::parse(text).map_err(|err| format!("{key}: {err}"));
    match key {
        "class" => {
            let classes = value.split(';').map(str::trim).filter(|class| !class.is_empty());
            record.classes = classes.map(label).collect::<Result<_, _>>()?;
        }
        "site" => record.site = label(value)?,
        "note" => record.note = label(value)?,
        "admin" if value.is_empty() => record.admin = None,
        "admin" => record.admin = Some(MailAddress::parse(value).map_err(|err| format!("admin: {err}"))?),
        "pardon" if value == "now" => record.penalty_until = None,
        "pardon" => return Err(format!("pardon: expected now, found \"{value}\"")),
        key => record.terms.set(key, value).map_err(|why| {
            why.replacen("expected one of ", "expected one of class, site, note, admin, pardon, ", 1)
        })?,
    }
    Ok(())
}

fn save(tx: &Tx<'_>, record: &AgentRecord) -> TxResult<()> {
    tx.set_names(&record.id, &record.classes, &record.site, &record.note, record.admin.as_ref())?;
    if record.penalty_until.is_none() {
        tx.pardon(&record.id)?;
    }
    tx.set_terms(&record.id, &record.terms)
}
