//! `devices`: what stands behind the agents, as it was last known.

use std::ops::ControlFlow;
use std::path::Path;

use mailfleet::store::Tx;
use manager_core::device_rows::DeviceRow;
use serde_json::json;

use super::device_args::Devices;
use super::device_csv::device_row;
use super::fail::{Done, Outcome};
use super::select::in_scope;
use super::show::{Colour, Listing, cell, harmless};
use super::{open, show};

/// Rows that are shown; who wants more asks for CSV.
const ROWS_MAX_COUNT: usize = 5_000;

pub(crate) fn devices(home: Option<&Path>, args: &Devices) -> Outcome {
    let home = open::home(home)?;
    let mut store = open::store(&home)?;
    let all = store.read(|tx| tx.agents()).map_err(open::store_failed)?;
    let agents = in_scope(&args.scope, &all)?;
    let (mut rows, mut more): (Vec<DeviceRow>, usize) = (Vec::new(), 0);
    let read = |tx: &Tx<'_>| {
        for agent in &agents {
            let watch = tx.watch(&agent.id)?;
            tx.each_device(&agent.id, |device| {
                if rows.len() < ROWS_MAX_COUNT {
                    rows.push(device_row(agent, &device, watch.refused.saturating_add(watch.broken)));
                } else {
                    more = more.saturating_add(1);
                }
                Ok(ControlFlow::Continue(()))
            })?;
        }
        Ok(())
    };
    store.read(read).map_err(open::store_failed)?;
    if args.format.json {
        show::print_json(&json!({"devices": rows, "more": more}))?;
    } else if rows.is_empty() {
        show::note("No agent has reported a device yet.");
    } else {
        show::print(&table(&rows))?;
        if more > 0 {
            show::note(&format!("And {more} more: mailfleet report devices"));
        }
    }
    Ok(Done::All)
}

fn table(rows: &[DeviceRow]) -> String {
    let mut listing = Listing::new(&[
        "~SITE", "AGENT", "DEVICE", "CLASS", "~MODEL", "~SERIAL", "STATUS", ">FAULTS", "READ",
    ]);
    for row in rows {
        let plain = |text: &str| cell(harmless(text), Colour::Plain);
        let model = format!("{} {}", row.vendor, row.model);
        let never = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
        let colour = if row.open_faults > 0 { Colour::Yellow } else { Colour::Plain };
        listing.row(vec![
            plain(&row.site),
            plain(&row.agent),
            plain(&row.device),
            plain(&row.class),
            plain(model.trim()),
            plain(&row.serial),
            plain(&never(&row.status)),
            cell(row.open_faults, colour),
            plain(&never(&row.taken_at)),
        ]);
    }
    listing.text()
}
