//! `devices updates`: which firmware each device has, which it is to have and which was chosen for it, how far that is and when it goes
//! on (R13); and a person's word about it (R9). Needs no running agent: it reads the state and writes a wish, which the agent
//! reads before it begins anything.

use std::time::Duration;

use agent_core::{DeviceWant, DeviceWish, NotGranted, State};
use anyhow::Context as _;
use clap::Args;
use serde::Serialize;
use shared::device::DeviceName;
use shared::message::DeviceUpdate;
use shared::time::parse_duration;
use shared::{Label, UnixMillis};

use crate::deferring::who;
use crate::exit::Usage;
use crate::files::now;
use crate::home::Home;
use crate::ledger;

/// What `devices updates` is told.
#[derive(Args)]
pub(crate) struct UpdatesArgs {
    /// Put the updates of a device off, counted from when they would begin.
    #[arg(long, num_args = 2, value_names = ["DEVICE", "DURATION"], conflicts_with = "cancel")]
    defer: Option<Vec<String>>,
    /// Cancel the updates of a device that have not begun.
    #[arg(long, value_name = "DEVICE")]
    cancel: Option<String>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// One firmware of one device, as people see it.
#[derive(Serialize)]
struct Row {
    device: String,
    #[serde(rename = "type")]
    kind: String,
    vendor: Option<String>,
    model: Option<String>,
    serial: Option<String>,
    /// The version that it has, or had before its update.
    current: Option<String>,
    /// The newest one that is here for it.
    recommended: Option<String>,
    /// The one that it gets; `None`: it takes no part.
    chosen: Option<String>,
    state: &'static str,
    reason: Option<&'static str>,
    about: Option<String>,
    begins_at: Option<String>,
    ends_at: Option<String>,
    sent_bytes: u64,
    bytes: u64,
    transfers: u32,
    since: String,
    /// What a person wants that the agent has not seen yet.
    wish: Option<String>,
}

/// Does it.
pub(crate) fn run(home: &Home, args: &UpdatesArgs) -> anyhow::Result<()> {
    if let Some(words) = &args.defer {
        let [device, duration] = words.as_slice() else {
            return Err(Usage("expected --defer DEVICE DURATION".to_owned()).into());
        };
        let duration = parse_duration(duration).map_err(Usage::because)?;
        return defer(home, device, duration, args.json);
    }
    match &args.cancel {
        Some(device) => cancel(home, device, args.json),
        None => list(home, args.json),
    }
}

fn load(home: &Home) -> Result<(State, UnixMillis), Usage> {
    let state = ledger::load(&home.state()).map_err(Usage::because)?.state;
    let now = state.fresh.effective(now());
    Ok((state, now))
}

/// What is there, as the manager is told it too.
fn updates(state: &State, now: UnixMillis) -> Vec<DeviceUpdate> {
    let updates = &state.updates;
    let Some(kept) = updates.plan() else { return Vec::new() };
    updates.list.iter().map(|update| updates.row(kept, update, now)).collect()
}

fn list(home: &Home, json: bool) -> anyhow::Result<()> {
    let (state, now) = load(home)?;
    let wishes = home.wishes().read_of_devices();
    let rows: Vec<Row> = updates(&state, now).into_iter().map(|update| row(update, &wishes)).collect();
    let images = state.updates.catalogue.as_ref().map(|catalogue| catalogue.images.as_slice());
    let images = images.unwrap_or_default();
    if json {
        let image = |image: &agent_core::Image| {
            let entry = &image.entry;
            let (model, handler) = (entry.model.as_str(), entry.handler.as_str());
            serde_json::json!({
                "type": entry.kind.as_str(), "model": model, "version": entry.version.as_str(),
                "handler": handler, "bytes": image.bytes,
            })
        };
        let images: Vec<_> = images.iter().map(image).collect();
        let document = serde_json::json!({ "updates": rows, "firmware": images });
        say!("{}", serde_json::to_string_pretty(&document)?);
        return Ok(());
    }
    if rows.is_empty() {
        say!("No updates of devices: the manager has planned none.");
        for image in images {
            let entry = &image.entry;
            say!("Here is {} {} for {}.", entry.kind, entry.version, entry.model.as_str());
        }
    }
    rows.iter().for_each(show);
    Ok(())
}

fn row(update: DeviceUpdate, wishes: &[DeviceWish]) -> Row {
    let text = |label: Option<Label>| label.map(|label| label.to_string());
    let takes_part = update.state != shared::message::UpdateState::NotRegistered;
    let wish = wishes.iter().find(|wish| wish.device == update.device && !update.state.is_end());
    let wish = wish.map(|wish| match wish.want {
        DeviceWant::PutOff(until) => format!("{} puts it off until {until}", wish.by),
        DeviceWant::Cancel => format!("{} cancels it", wish.by),
    });
    let recommended = text(update.new);
    Row {
        device: update.device.to_string(),
        kind: update.kind.to_string(),
        vendor: text(update.vendor),
        model: text(update.model),
        serial: text(update.serial),
        current: text(update.old),
        chosen: recommended.clone().filter(|_| takes_part),
        recommended,
        state: update.state.as_str(),
        reason: update.reason.map(|reason| reason.as_str()),
        about: text(update.about),
        begins_at: update.begins.map(|at| at.to_string()),
        ends_at: update.ends.map(|at| at.to_string()),
        sent_bytes: update.sent_bytes,
        bytes: update.bytes,
        transfers: update.transfers,
        since: update.since.to_string(),
        wish,
    }
}

/// One row for a person.
fn show(row: &Row) {
    let or = |text: &Option<String>| text.clone().unwrap_or_else(|| "?".to_owned());
    let what = format!("{} {}", row.device, row.kind);
    say!("{:<32}{} -> {}   {}", what.trim_end(), or(&row.current), or(&row.recommended), row.state);
    if let Some(reason) = row.reason {
        let about = row.about.as_ref().map(|about| format!(": {about}")).unwrap_or_default();
        say!("    {reason}{about}");
    }
    match (&row.begins_at, &row.ends_at, row.state) {
        (Some(_), Some(ends), "done" | "failed" | "unknown") => say!("    ended {ends}"),
        (Some(begins), Some(ends), _) => say!("    from {begins} to {ends}"),
        _ => {}
    }
    if row.state == "transferring" {
        say!("    {} of {} bytes", row.sent_bytes, row.bytes);
    }
    if let Some(wish) = &row.wish {
        say!("    {wish}: the agent has not looked yet");
    }
}

fn defer(home: &Home, device: &str, duration: Duration, json: bool) -> anyhow::Result<()> {
    let device = DeviceName::parse(device).map_err(Usage::because)?;
    let (state, now) = load(home)?;
    let of_it = updates(&state, now).into_iter().filter(|update| update.device == device);
    let begins = of_it.filter(|update| !update.state.is_end()).filter_map(|update| update.begins).min();
    let until = begins.unwrap_or(now).plus(duration);
    state.updates.may_put_off(&device, until, now).map_err(|why| sorted(&device, why))?;
    write(home, &DeviceWish { device: device.clone(), by: who(), want: DeviceWant::PutOff(until) })?;
    // It may have begun meanwhile.
    if let Err(why @ NotGranted::Begun) = load(home)?.0.updates.may_put_off(&device, until, now) {
        return Err(sorted(&device, why));
    }
    if json {
        let document = serde_json::json!({ "device": device.as_str(), "put_off_until": until.to_string() });
        say!("{}", serde_json::to_string_pretty(&document)?);
    } else {
        say!("{device} is put off: its updates begin at {until} at the earliest.");
    }
    Ok(())
}

fn cancel(home: &Home, device: &str, json: bool) -> anyhow::Result<()> {
    let device = DeviceName::parse(device).map_err(Usage::because)?;
    load(home)?.0.updates.may_cancel(&device).map_err(|why| sorted(&device, why))?;
    write(home, &DeviceWish { device: device.clone(), by: who(), want: DeviceWant::Cancel })?;
    if let Err(why @ NotGranted::Begun) = load(home)?.0.updates.may_cancel(&device) {
        return Err(sorted(&device, why));
    }
    if json {
        let document = serde_json::json!({ "device": device.as_str(), "result": "cancelled" });
        say!("{}", serde_json::to_string_pretty(&document)?);
    } else {
        say!("The updates of {device} that have not begun are cancelled.");
    }
    Ok(())
}

fn write(home: &Home, wish: &DeviceWish) -> anyhow::Result<()> {
    let wishes = home.wishes();
    wishes.put_device(wish).with_context(|| format!("cannot write into {}", wishes.folder().display()))
}

/// The fault of who typed, or just too late.
fn sorted(device: &DeviceName, why: NotGranted) -> anyhow::Error {
    let why_text = match why {
        NotGranted::Unknown => {
            "no update of this device waits; see `mailfleet-agent devices updates`".to_owned()
        }
        other => other.to_string(),
    };
    let text = format!("{device}: {why_text}");
    if why == NotGranted::Begun { anyhow::anyhow!(text) } else { Usage(text).into() }
}
