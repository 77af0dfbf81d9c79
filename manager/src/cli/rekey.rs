//! `agent rekey`: asks agents for new keys of their own.

use std::path::Path;

use mailfleet::daemon::queue_rekey;
use mailfleet::system::now;
use serde_json::json;
use shared::AgentId;

use super::args::AgentRekey;
use super::fail::{Done, Outcome};
use super::select::choose;
use super::view::daemon_text;
use super::{audited, open, show};

pub(crate) fn rekey(home: Option<&Path>, args: &AgentRekey) -> Outcome {
    let home = open::commander(home)?;
    let per_mail = home.config().map_err(open::home_failed)?.recipients_per_mail;
    let mut store = open::store(&home)?;
    let agents = store.read(|tx| tx.agents()).map_err(open::store_failed)?;
    let ids = choose(&args.selection, &agents)?.enrolled()?;
    let deed = format!("asked for new keys: {}", audited::named(&ids));
    audited::change(&mut store, |tx| Ok((queue_rekey(tx, &ids, per_mail, now())?, vec![deed])))
        .map_err(open::store_failed)?;
    if args.format.json {
        show::print_json(&json!({"asked": ids.iter().map(AgentId::as_str).collect::<Vec<_>>()}))?;
    } else {
        show::say(&format!(
            "{} asked for new keys. How it goes: mailfleet agent show ID\n{}",
            show::count(ids.len(), "agent"),
            daemon_text(&home)
        ))?;
    }
    Ok(Done::All)
}
