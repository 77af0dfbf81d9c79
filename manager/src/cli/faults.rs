//! `faults`: what is wrong now, for whoever sits at a service desk.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;

use mailfleet::store::FaultRecord;
use serde_json::{Value, json};
use shared::AgentId;
use shared::device::{FaultClass, Severity};

use super::device_args::Faults;
use super::fail::{Done, Outcome};
use super::select::in_scope;
use super::show::{Colour, Listing, cell, harmless};
use super::{open, show};

/// Rows that are shown; who wants more asks for CSV.
const ROWS_MAX_COUNT: usize = 5_000;

pub(crate) fn faults(home: Option<&Path>, args: &Faults) -> Outcome {
    let home = open::home(home)?;
    let mut store = open::store(&home)?;
    let all = store.read(|tx| tx.agents_ever()).map_err(open::store_failed)?;
    let wanted: BTreeSet<&AgentId> =
        in_scope(&args.scope, &all)?.into_iter().map(|agent| &agent.id).collect();
    let (mut found, mut more) = (Vec::new(), 0usize);
    let take = |fault: FaultRecord| {
        let of_class = args.classes.is_empty() || args.classes.contains(&fault.fault_class);
        if of_class && wanted.contains(&fault.agent) {
            if found.len() < ROWS_MAX_COUNT { found.push(fault) } else { more = more.saturating_add(1) }
        }
        ControlFlow::Continue(())
    };
    store.read(|tx| tx.each_fault(!args.all, take)).map_err(open::store_failed)?;
    found.sort_by_key(|fault: &FaultRecord| {
        (fault.cleared_at.is_some(), urgency(fault.fault_class), fault.raised_at)
    });
    if args.format.json {
        show::print_json(&json!({"faults": found.iter().map(json_of).collect::<Vec<_>>(), "more": more}))?;
    } else if found.is_empty() {
        show::note(if args.all { "No faults were reported." } else { "No faults last." });
    } else {
        show::print(&table(&found, args.all))?;
        if more > 0 {
            show::note(&format!("And {more} more: mailfleet report faults"));
        }
    }
    Ok(Done::All)
}

/// Machines that nobody can use come first.
fn urgency(class: FaultClass) -> u8 {
    match class {
        FaultClass::A => 0,
        FaultClass::D => 1,
        FaultClass::B => 2,
        FaultClass::C => 3,
    }
}

fn json_of(fault: &FaultRecord) -> Value {
    json!({
        "agent": fault.agent.as_str(),
        "site": fault.site,
        "device": fault.device,
        "class": fault.class,
        "model": fault.model,
        "serial": fault.serial,
        "code": fault.code,
        "kind": fault.kind.as_str(),
        "fault_class": fault.fault_class.as_str(),
        "severity": fault.severity.as_str(),
        "location": fault.location,
        "text": fault.text,
        "returns": fault.returns,
        "raised_at": fault.raised_at.to_string(),
        "cleared_at": fault.cleared_at.map(|at| at.to_string()),
        "reported_at": fault.reported_at.to_string(),
        "acknowledged_at": fault.acknowledged_at.map(|at| at.to_string()),
    })
}

fn table(faults: &[FaultRecord], ended_too: bool) -> String {
    let mut headings =
        vec!["CLASS", "KIND", "~SITE", "AGENT", "DEVICE", "~MODEL", "~WHERE", "~TEXT", "SINCE"];
    if ended_too {
        headings.push("CLEARED");
    }
    let mut listing = Listing::new(&headings);
    for fault in faults {
        let plain = |text: &str| cell(harmless(text), Colour::Plain);
        let colour = match fault.severity {
            _ if fault.cleared_at.is_some() => Colour::Plain,
            Severity::Critical => Colour::Red,
            Severity::Warning => Colour::Yellow,
            Severity::Info => Colour::Plain,
        };
        let mut cells = vec![
            cell(fault.fault_class, colour),
            cell(fault.kind, colour),
            plain(&fault.site),
            plain(fault.agent.as_str()),
            plain(&fault.device),
            plain(&fault.model),
            plain(&fault.location),
            plain(&fault.text),
            plain(&fault.raised_at.to_string()),
        ];
        if ended_too {
            cells.push(plain(&fault.cleared_at.map_or("-".to_owned(), |at| at.to_string())));
        }
        listing.row(cells);
    }
    listing.text()
}
