//! `defer` and `cancel`: a person at the site does not want an update yet, or not at all (R9); and the list of what waits,
//! for `status`. Needs no running agent: it writes a wish, which the agent reads before it begins anything.

use std::path::Path;
use std::time::Duration;

use agent_core::{Install, NotGranted, PutOff, State, Want, Wish};
use anyhow::Context as _;
use clap::Args;
use serde::Serialize;
use shared::time::parse_duration;
use shared::{EnvelopeId, Label, SoftwareVersion, UnixMillis};

use crate::exit::Usage;
use crate::files::now;
use crate::home::Home;
use crate::ledger;
use crate::script::name_of;
use crate::wish::Wishes;

/// What to put off.
#[derive(Args)]
pub(crate) struct DeferArgs {
    /// For how long, counted from when it would begin.
    #[arg(default_value = "2h", value_parser = parse_duration)]
    duration: Duration,
    /// Which, by the first digits of its number [default: the only one that waits].
    #[arg(long, value_name = "ORDER")]
    order: Option<String>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// What to cancel.
#[derive(Args)]
pub(crate) struct CancelArgs {
    /// The order, by the first digits of its number.
    order: String,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// The document of `defer --json`.
#[derive(Serialize)]
struct DeferDocument {
    order: String,
    target_version: String,
    put_off_until: String,
    begins_at: String,
}

/// The document of `cancel --json`.
#[derive(Serialize)]
struct CancelDocument {
    order: String,
    target_version: String,
    result: &'static str,
}

/// An order, and what it brings.
type Named = (EnvelopeId, SoftwareVersion);

/// An update that has not begun.
pub(crate) struct Waits {
    pub(crate) order: EnvelopeId,
    pub(crate) target: SoftwareVersion,
    /// Why, in words.
    pub(crate) why: String,
    /// When it is expected to begin.
    pub(crate) begins_at: Option<UnixMillis>,
    /// Until when it can be put off.
    pub(crate) can_wait_until: Option<UnixMillis>,
    /// Its bundle is here.
    pub(crate) is_here: bool,
    /// Somebody has cancelled it, and the agent has not looked yet.
    pub(crate) cancelled: bool,
}

/// What waits, with what people want and the agent has not seen yet.
pub(crate) fn waiting(state: &State, home: &Home, now: UnixMillis) -> Vec<Waits> {
    let mut state = state.clone();
    let cancelled = overlay(&mut state, &home.wishes(), now);
    let running = state.active.as_ref().filter(|install| !install.has_begun()).map(Install::job);
    let jobs = running.into_iter().chain(&state.queue);
    let mut all: Vec<Waits> = jobs
        .map(|job| {
            let waiting = state.waiting_of(job, now);
            let active = state.active.as_ref().filter(|install| install.job().order == job.order);
            let waiting = waiting.or_else(|| active.and_then(Install::waiting));
            let kept = job.bundle.filter(|_| job.scheduled).and_then(|bundle| state.schedules.get(&bundle));
            Waits {
                order: job.order,
                target: job.target.clone(),
                why: waiting.as_ref().map_or_else(|| "its turn".to_owned(), ToString::to_string),
                begins_at: state.begins_at(job.order, now).ok(),
                can_wait_until: kept.and_then(|kept| kept.schedule.defer_until),
                is_here: true,
                cancelled: cancelled.contains(&job.order),
            }
        })
        .collect();
    all.extend(state.offers().map(|kept| Waits {
        order: kept.order,
        target: kept.schedule.software_version.clone(),
        why: "its bundle is asked for when its time comes".to_owned(),
        begins_at: state.begins_at(kept.order, now).ok(),
        can_wait_until: kept.schedule.defer_until,
        is_here: false,
        cancelled: false,
    }));
    all
}

/// Grants wishes on a copy of the state. Gives the orders that are to be cancelled.
fn overlay(state: &mut State, wishes: &Wishes, now: UnixMillis) -> Vec<EnvelopeId> {
    let mut cancelled = vec![];
    for Wish { order, by, want } in wishes.read() {
        match want {
            Want::PutOff(until) => drop(state.put_off(order, PutOff { until, by }, now)),
            Want::Cancel => cancelled.push(order),
        }
    }
    cancelled
}

fn load(home: &Home) -> Result<(State, UnixMillis), Usage> {
    let state = ledger::load(&home.state()).map_err(Usage::because)?.state;
    let now = state.fresh.effective(now());
    Ok((state, now))
}

/// Puts an update off.
pub(crate) fn defer(home: &Home, args: &DeferArgs) -> anyhow::Result<()> {
    let (mut state, now) = load(home)?;
    let waiting = waiting(&state, home, now);
    overlay(&mut state, &home.wishes(), now);
    let (order, target) = chosen(&state, waiting, args.order.as_deref())?;
    let refused = |why: NotGranted| sorted(&target, why);
    let begins = state.begins_at(order, now).map_err(refused)?;
    let until = begins.plus(args.duration);
    let by = who();
    let begins_at = state.put_off(order, PutOff { until, by: by.clone() }, now).map_err(refused)?;
    write(home, &Wish { order, by, want: Want::PutOff(until) })?;
    // It may have begun meanwhile.
    if let Err(why @ NotGranted::Begun) = load(home)?.0.begins_at(order, now) {
        return Err(refused(why));
    }
    if args.json {
        let document = DeferDocument {
            order: order.to_string(),
            target_version: target.to_string(),
            put_off_until: until.to_string(),
            begins_at: begins_at.to_string(),
        };
        say!("{}", serde_json::to_string_pretty(&document)?);
    } else {
        say!("{target} is put off: it begins at {begins_at} at the earliest.");
    }
    Ok(())
}

/// Cancels an update.
pub(crate) fn cancel(home: &Home, args: &CancelArgs) -> anyhow::Result<()> {
    let (state, now) = load(home)?;
    let (order, target) = chosen(&state, waiting(&state, home, now), Some(&args.order))?;
    let refused = |why: NotGranted| {
        match why {
        NotGranted::Unknown => Usage(format!(
            "{target}: its bundle is not here yet, so there is nothing to cancel; put it off, or cancel it when it is here"
        ))
        .into(),
        other => sorted(&target, other),
    }
    };
    state.may_cancel(order).map_err(refused)?;
    write(home, &Wish { order, by: who(), want: Want::Cancel })?;
    if let Err(why @ NotGranted::Begun) = load(home)?.0.may_cancel(order) {
        return Err(refused(why));
    }
    if args.json {
        let (order, target_version) = (order.to_string(), target.to_string());
        let document = CancelDocument { order, target_version, result: "cancelled" };
        say!("{}", serde_json::to_string_pretty(&document)?);
    } else {
        say!("{target} is cancelled.");
    }
    Ok(())
}

fn write(home: &Home, wish: &Wish) -> anyhow::Result<()> {
    let wishes = home.wishes();
    let folder: &Path = wishes.folder();
    wishes.put(wish).with_context(|| format!("cannot write into {}", folder.display()))
}

/// The fault of who typed, or just too late.
fn sorted(target: &SoftwareVersion, why: NotGranted) -> anyhow::Error {
    let text = format!("{target}: {why}");
    if why == NotGranted::Begun { anyhow::anyhow!(text) } else { Usage(text).into() }
}

/// The update that is named, or the only one that can be put off, or the only one.
fn chosen(state: &State, waiting: Vec<Waits>, wanted: Option<&str>) -> Result<Named, Usage> {
    let only_one = |what: Vec<Named>| match <[Named; 1]>::try_from(what) {
        Ok([only]) => Ok(only),
        Err(none) if none.is_empty() => {
            Err(Usage("no update waits here; see `mailfleet-agent status`".to_owned()))
        }
        Err(_) => {
            Err(Usage("several updates wait: name one with --order, as `status` lists them".to_owned()))
        }
    };
    let can_wait = waiting.iter().filter(|waits| waits.can_wait_until.is_some());
    let can_wait: Vec<Named> = can_wait.map(|waits| (waits.order, waits.target.clone())).collect();
    let all: Vec<Named> =
        waiting.into_iter().map(|waits| (waits.order, waits.target)).chain(begun(state)).collect();
    match wanted {
        Some(text) => named(all, text),
        None => only_one(if can_wait.is_empty() { all } else { can_wait }),
    }
}

/// The update that has begun.
fn begun(state: &State) -> Option<Named> {
    let running = state.active.as_ref().filter(|install| install.has_begun()).map(Install::job)?;
    Some((running.order, running.target.clone()))
}

/// The order whose number begins with these digits.
fn named(orders: Vec<Named>, text: &str) -> Result<Named, Usage> {
    let wanted = text.to_ascii_lowercase();
    let begins = |(order, _): &Named| !wanted.is_empty() && order.to_hex().starts_with(&wanted);
    let found: Vec<Named> = orders.into_iter().filter(begins).collect();
    match <[Named; 1]>::try_from(found) {
        Ok([only]) => Ok(only),
        Err(none) if none.is_empty() => Err(Usage(format!(
            "expected the number of an update that waits, as `mailfleet-agent status` lists them, found \"{text}\""
        ))),
        Err(_) => Err(Usage(format!("several updates begin with \"{text}\": type more digits"))),
    }
}

/// Who asks: behind `sudo` it is not root.
pub(crate) fn who() -> Label {
    let own = rustix::process::getuid().as_raw();
    let behind = std::env::var("SUDO_USER").ok().filter(|name| own == 0 && !name.is_empty());
    Label::lossy(&behind.or_else(|| name_of(own)).unwrap_or_else(|| format!("user {own}")))
}
