//! `campaign show N --devices`: how the updates of a campaign's devices go (R6).

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use mailfleet::store::{AgentRecord, Store, Tx, TxResult, UpdateRecord};
use manager_core::CampaignId;
use manager_core::updates::{Choices, UpdateRow, why};
use serde_json::{Value, json};
use shared::AgentId;
use shared::message::{UpdateReason, UpdateState};

use super::fail::Fail;
use super::show::{self, Colour, Listing, cell, harmless, paint_stdout};
use super::{open, view};

/// Updates that are shown; who wants more asks for CSV.
const ROWS_MAX_COUNT: usize = 5_000;

/// The updates of a campaign at one moment.
pub(crate) struct Updates {
    rows: Vec<UpdateRecord>,
    more: usize,
    choices: BTreeMap<AgentId, Choices>,
    counts: Counts,
}

/// How many updates are in which state.
pub(crate) struct Counts {
    states: BTreeMap<UpdateState, u64>,
    /// Agents that were told of it and have not spoken of their devices.
    unheard: usize,
}

impl Counts {
    /// Those of a campaign; `None`: its bundle has no firmware.
    pub(crate) fn read(tx: &Tx<'_>, id: CampaignId) -> TxResult<Option<Self>> {
        if tx.device_terms(id)?.is_none() {
            return Ok(None);
        }
        let plans = tx.plan_records(id)?;
        let unheard = plans.values().filter(|plan| plan.plan.is_some() && plan.heard_at.is_none()).count();
        Ok(Some(Self { states: tx.update_counts(id)?, unheard }))
    }

    /// `2 done, 1 unknown; 1 agent has not spoken of its devices yet`.
    pub(crate) fn text(&self) -> String {
        let states: Vec<String> = self.states.iter().map(|(state, n)| format!("{n} {state}")).collect();
        let states = if states.is_empty() { "none heard of yet".to_owned() } else { states.join(", ") };
        match self.unheard {
            0 => states,
            1 => format!("{states}; 1 agent has not spoken of its devices yet"),
            n => format!("{states}; {n} agents have not spoken of their devices yet"),
        }
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        let states: BTreeMap<&str, u64> = self.states.iter().map(|(state, n)| (state.as_str(), *n)).collect();
        json!({ "counts": states, "agents_unheard": self.unheard })
    }
}

impl Updates {
    /// The updates of a campaign, or an error that says why it has none.
    pub(crate) fn load(store: &mut Store, id: CampaignId) -> Result<Self, Fail> {
        let found = store.read(|tx| Self::read(tx, id)).map_err(open::store_failed)?;
        found.ok_or_else(|| no_firmware(id))
    }

    fn read(tx: &Tx<'_>, id: CampaignId) -> TxResult<Option<Self>> {
        let Some(counts) = Counts::read(tx, id)? else { return Ok(None) };
        let (mut rows, mut more) = (Vec::new(), 0usize);
        tx.each_update(id, |row| {
            if rows.len() < ROWS_MAX_COUNT {
                rows.push(row);
            } else {
                more = more.saturating_add(1);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(Some(Self { rows, more, choices: tx.all_device_choices(id)?, counts }))
    }

    /// For people.
    pub(crate) fn text(&self, campaign: &manager_core::Campaign) -> String {
        let mut text = format!(
            "{}: {}, firmware of {}\nDevices: {}\n",
            view::title(campaign),
            campaign.state.as_str(),
            campaign.bundle.software_version,
            self.counts.text()
        );
        if !self.rows.is_empty() {
            text.push_str(&format!("\n{}", self.table()));
        }
        let reasons = self.reasons();
        if !reasons.is_empty() {
            text.push_str(&format!("\nNot done:\n{reasons}"));
        }
        if self.rows.iter().any(|row| row.update.state == UpdateState::Unknown) {
            let id = campaign.id;
            text.push_str(&format!(
                "\nLook at an unknown device, then: mailfleet campaign permit {id} --device AGENT/DEVICE, or cancel {id} --device …\n"
            ));
        }
        if self.more > 0 {
            text.push_str(&format!(
                "And {} more: mailfleet report devices-campaign {}\n",
                self.more, campaign.id
            ));
        }
        text
    }

    fn table(&self) -> String {
        let mut listing =
            Listing::new(&["!", "AGENT", "DEVICE", "TYPE", "OLD", "NEW", "STATE", ">SENT", "~END"]);
        for UpdateRecord { agent, update, .. } in &self.rows {
            let plain = |text: &str| cell(harmless(text), Colour::Plain);
            let label = |label: &Option<shared::Label>| {
                plain(
                    label.as_ref().map(shared::Label::as_str).filter(|text| !text.is_empty()).unwrap_or("-"),
                )
            };
            let percent = update.sent_bytes.saturating_mul(100).checked_div(update.bytes);
            listing.row(vec![
                cell(mark(update.state), Colour::Red),
                plain(agent.as_str()),
                plain(update.device.as_str()),
                label(&Some(update.kind.clone())),
                label(&update.old),
                label(&update.new),
                cell(update.state, colour(update.state)),
                plain(&percent.filter(|_| update.transfers > 0).map_or("-".to_owned(), |n| format!("{n} %"))),
                plain(&update.ends.map_or("-".to_owned(), |at| at.to_string())),
            ]);
        }
        listing.text()
    }

    /// One reason for each update that is not done; never cut.
    fn reasons(&self) -> String {
        let open: Vec<&UpdateRecord> = self.rows.iter().filter(|row| !is_settled(row)).collect();
        let names: Vec<String> =
            open.iter().map(|row| format!("{}/{}", row.agent, row.update.device)).collect();
        let width = names.iter().map(String::len).max().unwrap_or(0);
        open.iter()
            .zip(&names)
            .map(|(row, name)| {
                let update = &row.update;
                let state = paint_stdout(colour(update.state), &format!("{:<14}", update.state.as_str()));
                let why = why(update).unwrap_or_else(|| "on its way".to_owned());
                let why = harmless(&why).replace('\n', " ");
                let kind = if update.kind.is_empty() { String::new() } else { format!("{}: ", update.kind) };
                let tried = match update.transfers {
                    0 => String::new(),
                    n => format!(" ({})", show::count(usize::try_from(n).unwrap_or(usize::MAX), "transfer")),
                };
                format!("  {name:<width$}  {state}  {}{why}{tried}\n", harmless(&kind))
            })
            .collect()
    }

    /// For programs.
    pub(crate) fn json(&self, campaign: i64, agents: &BTreeMap<AgentId, AgentRecord>) -> Value {
        let rows: Vec<UpdateRow> = self
            .rows
            .iter()
            .map(|row| {
                let site = agents.get(&row.agent).map_or("", |agent| agent.site.as_str());
                update_row(campaign, site, row, &self.choices)
            })
            .collect();
        json!({ "campaign": campaign, "devices": rows, "more": self.more, "summary": self.counts.json() })
    }
}

/// The row of an update, in CSV and JSON.
pub(crate) fn update_row(
    campaign: i64,
    site: &str,
    row: &UpdateRecord,
    choices: &BTreeMap<AgentId, Choices>,
) -> UpdateRow {
    let choice = choices.get(&row.agent).and_then(|of_agent| of_agent.get(&row.update.device));
    let place = (row.agent.as_str(), site);
    UpdateRow::of(campaign, place, &row.update, choice.copied().unwrap_or_default(), row.heard_at)
}

/// There is nothing to show of devices.
pub(crate) fn no_firmware(id: CampaignId) -> Fail {
    Fail::usage(format!("the bundle of campaign {id} has no firmware for devices"))
        .next("[[firmware]] in bundle.toml brings some; `mailfleet campaign list` shows all campaigns")
}

/// Nobody waits for more.
fn is_settled(row: &UpdateRecord) -> bool {
    let has_it = row.update.reason == Some(UpdateReason::HasIt);
    row.update.state == UpdateState::Done || (row.update.state == UpdateState::NotRegistered && has_it)
}

fn mark(state: UpdateState) -> &'static str {
    if colour(state) == Colour::Red { "!" } else { "" }
}

/// Green is done, red wants somebody, yellow is on its way or was called off.
fn colour(state: UpdateState) -> Colour {
    match state {
        UpdateState::Done => Colour::Green,
        UpdateState::Failed | UpdateState::Unknown | UpdateState::Expired => Colour::Red,
        UpdateState::NotRegistered => Colour::Plain,
        UpdateState::Queued
        | UpdateState::Asked
        | UpdateState::Deferred
        | UpdateState::Prechecked
        | UpdateState::Transferring
        | UpdateState::Activating
        | UpdateState::Restarting
        | UpdateState::Verifying
        | UpdateState::Cancelled => Colour::Yellow,
    }
}
