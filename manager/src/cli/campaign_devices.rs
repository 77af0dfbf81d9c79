//! `campaign suspend, resume, cancel, permit N --device AGENT/DEVICE`: what an operator says of single devices (R12). What it amounts to is
//! asked of `manager_core::updates`; the daemon mails it.

use std::path::Path;

use mailfleet::store::{Tx, TxResult};
use mailfleet::system::now;
use manager_core::updates::{NotPermitted, Wish, permitted};
use manager_core::{Campaign, CampaignId, CampaignState};
use shared::UnixMillis;
use shared::limits::DEVICES_MAX_COUNT;
use shared::message::{DeviceChoice, DeviceUpdate, Rest};

use super::device_list::DeviceRef;
use super::fail::{Done, Fail, Outcome};
use super::updates_view::no_firmware;
use super::view::{daemon_text, title};
use super::{audited, open, show};

/// Devices named in one row of the audit log.
const NAMED: usize = 20;

/// Why an operator's word comes to nothing. Then it does so for all devices that it names.
enum Problem {
    NoCampaign,
    NoFirmware,
    State(CampaignState),
    Over(UnixMillis),
    NoTarget(DeviceRef),
    NoDevice(DeviceRef),
    NotNamed(DeviceRef),
    TooMany(DeviceRef),
    NotPermitted(DeviceRef, NotPermitted),
}

/// What is to be written.
struct Word {
    campaign: Campaign,
    changed: Vec<(DeviceRef, DeviceChoice)>,
}

/// Carries out an operator's word about devices.
pub(crate) fn say(home: Option<&Path>, number: u32, devices: &[DeviceRef], wish: Wish) -> Outcome {
    let home = open::commander(home)?;
    let mut store = open::store(&home)?;
    let (id, at) = (CampaignId(i64::from(number)), now());
    let done = audited::change(&mut store, |tx| {
        let word = match word(tx, id, devices, wish, at)? {
            Ok(word) => word,
            Err(problem) => return Ok((Err(problem), vec![])),
        };
        for (one, choice) in &word.changed {
            tx.choose_device(id, &one.agent, &one.device, *choice)?;
            tx.plans_may_change(id, Some(&one.agent), at)?;
        }
        if word.changed.is_empty() {
            return Ok((Ok(word), vec![]));
        }
        let deed = format!("campaign {id}: {} {}", names(&word.changed), verb(wish));
        tx.log(at, "", &format!("{deed} (by the operator)"))?;
        Ok((Ok(word), vec![deed]))
    });
    let word = done.map_err(open::store_failed)?.map_err(|problem| problem.fail(id))?;
    if word.changed.is_empty() {
        show::say(&format!("{}: that was said before. Nothing to do.", title(&word.campaign)))?;
        return Ok(Done::All);
    }
    show::say(&format!(
        "{}: {} {}.\n{}\nFollow it: mailfleet campaign show {id} --devices",
        title(&word.campaign),
        names(&word.changed),
        verb(wish),
        daemon_text(&home)
    ))?;
    Ok(Done::All)
}

fn names(changed: &[(DeviceRef, DeviceChoice)]) -> String {
    let mut names: Vec<String> = changed.iter().take(NAMED).map(|(one, _)| one.to_string()).collect();
    if changed.len() > NAMED {
        names.push(format!("and {} more", changed.len().saturating_sub(NAMED)));
    }
    names.join(" ")
}

fn verb(wish: Wish) -> &'static str {
    match wish {
        Wish::Suspend => "suspended: what has not begun waits",
        Wish::Resume => "resumed",
        Wish::Cancel => "cancelled: what has not begun never begins",
        Wish::Permit => "permitted one more transfer",
    }
}

/// Looks at all of it before anything is written.
fn word(
    tx: &Tx<'_>,
    id: CampaignId,
    devices: &[DeviceRef],
    wish: Wish,
    now: UnixMillis,
) -> TxResult<Result<Word, Problem>> {
    let Some(campaign) = tx.campaign(id)? else { return Ok(Err(Problem::NoCampaign)) };
    let Some(terms) = tx.device_terms(id)? else { return Ok(Err(Problem::NoFirmware)) };
    if matches!(campaign.state, CampaignState::Planned | CampaignState::Cancelled) {
        return Ok(Err(Problem::State(campaign.state)));
    }
    if let Some(at) = campaign.rollout.times.expires_at.filter(|at| *at <= now) {
        return Ok(Err(Problem::Over(at)));
    }
    let mut changed: Vec<(DeviceRef, DeviceChoice)> = Vec::new();
    for one in devices {
        let said = changed.iter().any(|(before, _)| before == one);
        match choice(tx, id, terms.rest, one, wish)? {
            Ok(Some(choice)) if !said => changed.push((one.clone(), choice)),
            Ok(_) => {}
            Err(problem) => return Ok(Err(problem)),
        }
    }
    Ok(Ok(Word { campaign, changed }))
}

/// What is said of a device from now on; `None`: what was said before.
fn choice(
    tx: &Tx<'_>,
    id: CampaignId,
    rest: Rest,
    one: &DeviceRef,
    wish: Wish,
) -> TxResult<Result<Option<DeviceChoice>, Problem>> {
    let Some(plan) = tx.plan_record(id, &one.agent)? else { return Ok(Err(Problem::NoTarget(one.clone()))) };
    let updates = tx.device_updates(id, &one.agent)?;
    let rows: Vec<&DeviceUpdate> =
        updates.iter().map(|row| &row.update).filter(|update| update.device == one.device).collect();
    let choices = tx.device_choices(id, &one.agent)?;
    let before = choices.get(&one.device).copied();
    if before.is_none() && rest == Rest::Leave {
        return Ok(Err(Problem::NotNamed(one.clone())));
    }
    // An agent that has not spoken yet may have devices that nobody here knows.
    let is_known = before.is_some() || !rows.is_empty() || tx.knows_device(&one.agent, &one.device)?;
    if !is_known && plan.heard_at.is_some() {
        return Ok(Err(Problem::NoDevice(one.clone())));
    }
    if before.is_none() && choices.len() >= DEVICES_MAX_COUNT {
        return Ok(Err(Problem::TooMany(one.clone())));
    }
    let choice = match permitted(before.unwrap_or_default(), wish, &rows) {
        Ok(choice) => choice,
        Err(why) => return Ok(Err(Problem::NotPermitted(one.clone(), why))),
    };
    Ok(Ok(Some(choice).filter(|choice| *choice != before.unwrap_or_default())))
}

impl Problem {
    fn fail(self, id: CampaignId) -> Fail {
        let devices =
            format!("`mailfleet campaign show {id} --devices` shows the devices that were heard of");
        match self {
            Self::NoCampaign => {
                Fail::usage(format!("there is no campaign {id}")).next("`mailfleet campaign list` shows all")
            }
            Self::NoFirmware => no_firmware(id),
            Self::State(CampaignState::Planned) => Fail::usage(format!("campaign {id} is not started"))
                .next(format!("start it first: mailfleet campaign start --plan {id}")),
            Self::State(state) => Fail::usage(format!("campaign {id} is {}", state.as_str()))
                .next("start another campaign for the devices that are to be updated"),
            Self::Over(at) => {
                Fail::usage(format!("the time of campaign {id} was over at {at}: nothing begins any more"))
                    .next("start another campaign with the same bundle; installed agents only get its plan")
            }
            Self::NoTarget(one) => {
                Fail::usage(format!("{one}: {} is no target of campaign {id}", one.agent)).next(devices)
            }
            Self::NoDevice(one) => {
                Fail::usage(format!("{one}: {} has no device of this name", one.agent)).next(devices)
            }
            Self::NotNamed(one) => {
                Fail::usage(format!("{one} is not among the devices that campaign {id} was started for"))
                    .next("start another campaign with the same bundle, and name it with --devices")
            }
            Self::TooMany(one) => Fail::usage(format!(
                "{one}: {DEVICES_MAX_COUNT} devices of {} are named already, and no agent has more",
                one.agent
            ))
            .next(devices),
            Self::NotPermitted(one, why) => Fail::usage(format!("{one}: {why}"))
                .next(format!("only what has failed or is unknown waits for a permission; {devices}")),
        }
    }
}
