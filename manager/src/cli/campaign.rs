//! `campaign list, show, retry, pause, halt, resume, skip, cancel`. Starting is in `start`, following in `follow`.

use std::collections::BTreeMap;
use std::path::Path;

use mailfleet::store::AgentRecord;
use mailfleet::system::now;
use manager_core::rollout::HoldReason;
use manager_core::updates::held_as;
use manager_core::{Campaign, CampaignId, CampaignState, TargetState};
use serde_json::{Value, json};
use shared::AgentId;

use super::args::{CampaignHold, CampaignId as CampaignArg, CampaignOrDevices, CampaignShow, Doctor};
use super::fail::{Done, Fail, Outcome};
use super::show::{Colour, Listing, cell};
use super::updates_view::{Counts, Updates};
use super::view::{View, daemon_text, title};
use super::{audited, open, show};

pub(crate) fn list(home: Option<&Path>, args: &Doctor) -> Outcome {
    let home = open::home(home)?;
    let mut store = open::store(&home)?;
    let campaigns = store.read(|tx| tx.campaigns()).map_err(open::store_failed)?;
    if args.format.json {
        let campaigns: Vec<Value> = campaigns.iter().map(|(c, counts)| json_of(c, counts)).collect();
        show::print_json(&json!({"campaigns": campaigns}))?;
    } else if campaigns.is_empty() {
        show::note("There are no campaigns yet: `mailfleet campaign start` starts one.");
    } else {
        show::print(&table(&campaigns))?;
    }
    Ok(Done::All)
}

type TargetCounts = BTreeMap<TargetState, u64>;

fn total(counts: &TargetCounts) -> u64 {
    counts.values().fold(0, |sum, n| sum.saturating_add(*n))
}

fn json_of(campaign: &Campaign, counts: &TargetCounts) -> Value {
    let by_name: BTreeMap<&str, u64> = counts.iter().map(|(state, n)| (state.as_str(), *n)).collect();
    json!({
        "campaign": campaign.id.0,
        "name": campaign.name.as_str(),
        "target_version": campaign.bundle.software_version.as_str(),
        "state": campaign.state.as_str(),
        "started_at": campaign.created.to_string(),
        "target_count": total(counts),
        "counts": by_name,
    })
}

fn table(campaigns: &[(Campaign, TargetCounts)]) -> String {
    let mut listing =
        Listing::new(&[">N", "~NAME", "TARGET", "STATE", "STARTED", ">AGENTS", ">VERIFIED", ">FAILED"]);
    for (campaign, counts) in campaigns {
        let plain = |text: String| cell(text, Colour::Plain);
        let verified = counts.get(&TargetState::Verified).copied().unwrap_or(0);
        let failed = counts
            .iter()
            .filter(|(state, _)| super::names::has_failed(**state))
            .fold(0u64, |sum, (_, n)| sum.saturating_add(*n));
        listing.row(vec![
            plain(campaign.id.to_string()),
            plain(campaign.name.to_string()),
            plain(campaign.bundle.software_version.to_string()),
            plain(campaign.state.as_str().to_owned()),
            plain(campaign.created.to_string()),
            plain(total(counts).to_string()),
            plain(verified.to_string()),
            cell(failed, if failed == 0 { Colour::Plain } else { Colour::Red }),
        ]);
    }
    listing.text()
}

pub(crate) fn show(home: Option<&Path>, args: &CampaignShow) -> Outcome {
    let home = open::home(home)?;
    let mut store = open::store(&home)?;
    let view = View::load(&mut store, CampaignId(i64::from(args.number)))?;
    let agents = store.read(|tx| tx.agents()).map_err(open::store_failed)?;
    let agents: BTreeMap<AgentId, AgentRecord> = agents.into_iter().map(|a| (a.id.clone(), a)).collect();
    if args.devices {
        let updates = Updates::load(&mut store, view.campaign.id)?;
        match args.format.json {
            true => show::print_json(&updates.json(view.campaign.id.0, &agents))?,
            false => show::print(&updates.text(&view.campaign))?,
        }
        return Ok(Done::All);
    }
    let counts = store.read(|tx| Counts::read(tx, view.campaign.id)).map_err(open::store_failed)?;
    if args.format.json {
        let mut json = view.json(&agents);
        if let (Some(object), Some(counts)) = (json.as_object_mut(), counts) {
            object.insert("devices".to_owned(), counts.json());
        }
        show::print_json(&json)?;
    } else {
        show::print(&view.text(&agents, daemon_text(&home)))?;
        if let Some(counts) = counts {
            let id = view.campaign.id;
            show::say(&format!("Devices: {} (mailfleet campaign show {id} --devices)", counts.text()))?;
        }
    }
    Ok(Done::All)
}

pub(crate) fn retry(home: Option<&Path>, args: &CampaignArg) -> Outcome {
    let home = open::home(home)?;
    let mut store = open::store(&home)?;
    let (campaign, again) = change(&mut store, args.number, "retried", Campaign::retry, |_| None)?;
    if again.is_empty() {
        let ended = campaign.targets.values().filter(|t| t.state.is_end()).count();
        let on_their_way = campaign.targets.len().saturating_sub(ended);
        if on_their_way > 0 {
            return Err(Fail::usage(format!(
                "{} still has {} on their way; only a campaign that has ended is retried",
                title(&campaign),
                show::count(on_their_way, "target")
            ))
            .next("wait for its end with `mailfleet campaign watch`, or cancel it first"));
        }
        show::say(&format!("{}: every target is verified. Nothing to do.", title(&campaign)))?;
        return Ok(Done::All);
    }
    show::say(&format!(
        "{}: the bundle is sent again to {}.\n{}\nFollow it: mailfleet campaign watch {}",
        title(&campaign),
        show::count(again.len(), "agent"),
        daemon_text(&home),
        campaign.id
    ))?;
    Ok(Done::All)
}

pub(crate) fn pause(home: Option<&Path>, args: &CampaignHold) -> Outcome {
    let (at, words) = (now(), args.reason.as_str());
    let done = |campaign: &mut Campaign| campaign.pause(words, at).then_some(Vec::new());
    let campaign = hold(home, args.number, "paused", words, done)?;
    show::say(&format!("{} is paused. Go on: mailfleet campaign resume {}", title(&campaign), campaign.id))?;
    Ok(Done::All)
}

pub(crate) fn halt(home: Option<&Path>, args: &CampaignHold) -> Outcome {
    let (at, words) = (now(), args.reason.as_str());
    let done = |campaign: &mut Campaign| campaign.halt(HoldReason::Operator(words.to_owned()), at);
    let campaign = hold(home, args.number, "halted", words, done)?;
    show::say(&format!(
        "{} is halted; what has not begun on an agent is called back. Go on: mailfleet campaign resume {}",
        title(&campaign),
        campaign.id
    ))?;
    Ok(Done::All)
}

pub(crate) fn resume(home: Option<&Path>, args: &CampaignOrDevices) -> Outcome {
    let at = now();
    let campaign =
        hold(home, args.number, "resumed", "", |campaign| campaign.resume(at).then_some(Vec::new()))?;
    show::say(&format!("{} goes on.", title(&campaign)))?;
    Ok(Done::All)
}

pub(crate) fn skip(home: Option<&Path>, args: &CampaignArg) -> Outcome {
    let at = now();
    let mut opened = 0;
    let campaign = hold(home, args.number, "gate opened by the operator", "", |campaign| {
        opened = campaign.skip(at)?;
        Some(Vec::new())
    })?;
    show::say(&format!("{}: the gate of wave {} is open.", title(&campaign), opened.saturating_add(1)))?;
    Ok(Done::All)
}

/// Carries out an operator's word about a whole campaign: `work` gives the agents whose unsent mail is dropped, or `None` if the word
/// makes no sense in the campaign's state.
fn hold(
    home: Option<&Path>,
    number: u32,
    what: &str,
    words: &str,
    work: impl FnOnce(&mut Campaign) -> Option<Vec<AgentId>>,
) -> Result<Campaign, Fail> {
    let home = open::home(home)?;
    let mut store = open::store(&home)?;
    let why = if words.is_empty() { String::new() } else { format!(": {words}") };
    let (campaign, dropped) = change(&mut store, number, &format!("{what}{why}"), work, Option::as_deref)?;
    if dropped.is_none() {
        return Err(Fail::usage(format!(
            "{} is {}: there is nothing to do",
            title(&campaign),
            campaign.state.as_str()
        ))
        .next("`mailfleet campaign show` says how it stands"));
    }
    Ok(campaign)
}

pub(crate) fn cancel(home: Option<&Path>, args: &CampaignOrDevices) -> Outcome {
    let home = open::home(home)?;
    let mut store = open::store(&home)?;
    let (campaign, ()) = change(&mut store, args.number, "cancelled", Campaign::cancel, |()| None)?;
    if campaign.state == CampaignState::Finished {
        show::say(&format!("{} is finished already. Nothing to cancel.", title(&campaign)))?;
        return Ok(Done::All);
    }
    match campaign.targets.values().filter(|t| !t.state.is_end()).count() {
        0 => show::say(&format!("{} is cancelled; nothing is left to call back.", title(&campaign)))?,
        n => show::say(&format!(
            "{} is cancelled; the orders of {} are called back. What has begun there is finished.\n{}",
            title(&campaign),
            show::count(n, "agent"),
            daemon_text(&home)
        ))?,
    }
    Ok(Done::All)
}

/// Loads, changes and saves a campaign in one transaction, so that a daemon beside it sees all or nothing. `what` was done, if that
/// changed anything; `unsent` are agents whose mail in the outbox is dropped.
fn change<T>(
    store: &mut mailfleet::store::Store,
    number: u32,
    what: &str,
    work: impl FnOnce(&mut Campaign) -> T,
    unsent: impl FnOnce(&T) -> Option<&[AgentId]>,
) -> Result<(Campaign, T), Fail> {
    let id = CampaignId(i64::from(number));
    let changed = audited::change(store, |tx| {
        let Some(before) = tx.campaign(id)? else { return Ok((None, vec![])) };
        let mut campaign = before.clone();
        let result = work(&mut campaign);
        let mut called_off = Vec::new();
        for (agent, target) in &campaign.targets {
            if before.targets.get(agent) != Some(target) {
                tx.save_target(id, agent, target)?;
                if target.state.is_end() {
                    called_off.push(agent.clone());
                }
            }
        }
        // What is still in the outbox must not go out after its target has ended.
        tx.drop_queued(id, &called_off)?;
        tx.drop_queued(id, unsent(&result).unwrap_or_default())?;
        if campaign.state != before.state || campaign.rollout != before.rollout {
            tx.save_campaign(&campaign)?;
        }
        if held_as(campaign.state) != held_as(before.state) {
            tx.plans_may_change(id, None, now())?;
        }
        if campaign == before {
            return Ok((Some((campaign, result)), vec![]));
        }
        let deed = format!("campaign {id} {what}");
        tx.log(now(), "", &format!("{deed} (by the operator)"))?;
        Ok((Some((campaign, result)), vec![deed]))
    });
    changed.map_err(open::store_failed)?.ok_or_else(|| {
        Fail::usage(format!("there is no campaign {number}")).next("`mailfleet campaign list` shows all")
    })
}
