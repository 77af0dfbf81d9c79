//! What a campaign will send, when and to whom, before anything is sent: `campaign plan`.

use std::collections::BTreeMap;
use std::time::Duration;

use mailfleet::store::AgentRecord;
use manager_core::consent::Standing;
use manager_core::line::transfer_time;
use manager_core::rollout::{Gate, WaveKind};
use manager_core::{AgentFacts, Campaign, Fleet, Reason, asks, left_out};
use serde_json::{Value, json};
use shared::limits::INTERVALS_MAX_COUNT;
use shared::message::Interval;
use shared::time::format_duration;
use shared::{AgentId, UnixMillis};

use super::inspect::{mail_bytes, mails};
use super::show::{self, Colour, Listing, cell};

/// Agents named in one go.
const NAMED: usize = 8;

/// A campaign that nothing was sent of.
pub(crate) struct Preview<'a> {
    pub(crate) campaign: &'a Campaign,
    pub(crate) agents: &'a BTreeMap<AgentId, &'a AgentRecord>,
    pub(crate) bundle_bytes: u64,
    pub(crate) per_mail: usize,
    pub(crate) mail_max_bytes: u64,
    pub(crate) now: UnixMillis,
    /// Selected, and no targets, each with the reason.
    pub(crate) beside: Vec<(AgentId, String)>,
}

/// What happens to one target, as far as it is known.
struct Outlook {
    wave: u32,
    reason: Option<Reason>,
    asked: bool,
    penalty_until: Option<UnixMillis>,
    /// The first time in which it may install; `None`: when the order comes.
    install: Option<Interval>,
    /// How long its mails take, by what it has said of its line; `None`: not known.
    transfer: Option<Duration>,
    /// When they are all there; `None`: not known.
    arrives: Option<UnixMillis>,
}

/// What a wave sends.
#[derive(Default)]
struct Load {
    targets: usize,
    asked: usize,
    mails: u64,
    bytes: u64,
}

impl Preview<'_> {
    /// What the planner knows of an agent.
    pub(crate) fn facts(record: &AgentRecord) -> AgentFacts {
        AgentFacts {
            classes: record.classes.clone(),
            enrolled: record.state == mailfleet::store::AgentState::Enrolled,
            version: record.versions.as_ref().map(|versions| versions.software.clone()),
            consent: record.terms.consent,
            has_admin: record.admin.is_some(),
            penalty_until: record.penalty_until,
            grave_faults: Vec::new(),
        }
    }

    /// The targets that get the bundle, each with the moment from which on its devices may get their firmware, as far as that is known.
    pub(crate) fn begins(&self) -> Vec<(&AgentId, Option<UnixMillis>)> {
        let outlooks = self.outlooks();
        let got = outlooks.into_iter().filter(|(_, outlook)| outlook.reason.is_none());
        got.map(|(id, outlook)| (id, outlook.arrives.max(outlook.install.map(|install| install.from))))
            .collect()
    }

    fn outlooks(&self) -> BTreeMap<&AgentId, Outlook> {
        let fleet: Fleet = self.agents.iter().map(|(id, record)| (id.clone(), Self::facts(record))).collect();
        let targets = self.campaign.targets.iter();
        targets.map(|(id, target)| (id, self.outlook(id, target.wave, fleet.get(id)))).collect()
    }

    fn outlook(&self, id: &AgentId, wave: u32, facts: Option<&AgentFacts>) -> Outlook {
        let asks = asks(self.campaign, wave);
        let mut reason = left_out(&self.campaign.bundle, asks, facts);
        let (install, never) = self.first_time(id);
        if never {
            reason = reason.or(Some(Reason::NoWindow));
        }
        let line = self.agents.get(id).and_then(|record| record.versions.as_ref()?.line);
        let transfer = transfer_time(mail_bytes(self.bundle_bytes, self.per_mail), line.as_ref());
        Outlook {
            wave,
            transfer,
            arrives: transfer.and_then(|takes| Some(self.mailed_at(wave, install)?.plus(takes))),
            asked: asks && reason.is_none() && facts.is_some_and(|facts| facts.consent == Standing::Ask),
            penalty_until: facts.and_then(|facts| facts.penalty_until).filter(|until| *until > self.now),
            install,
            reason,
        }
    }

    /// When a target of a wave is mailed: known of the first.
    fn mailed_at(&self, wave: u32, install: Option<Interval>) -> Option<UnixMillis> {
        let times = self.campaign.rollout.times;
        let begin = times.send_at.unwrap_or(self.now).max(self.now);
        let asked = install.filter(|_| times.fetch).map_or(begin, |install| install.from.max(begin));
        (wave == 0).then_some(asked)
    }

    /// When it may install first, and whether never.
    fn first_time(&self, id: &AgentId) -> (Option<Interval>, bool) {
        let times = self.campaign.rollout.times;
        let begin = times.send_at.unwrap_or(self.now);
        let from = times.install_at.unwrap_or(begin);
        let until = begin.plus(self.campaign.settings.order_life);
        let until = times.expires_at.map_or(until, |at| at.min(until));
        let Some(record) = self.agents.get(id) else { return (None, false) };
        match record.terms.windows.as_ref().filter(|_| times.windows) {
            Some(windows) => {
                let open = windows.intervals(&record.terms.zone, from, until, INTERVALS_MAX_COUNT);
                (open.first().copied(), open.is_empty())
            }
            None => (times.install_at.map(|from| Interval { from, until }), false),
        }
    }

    fn loads(&self, outlooks: &BTreeMap<&AgentId, Outlook>) -> Vec<Load> {
        let mut loads: Vec<Load> = self.campaign.rollout.waves.iter().map(|_| Load::default()).collect();
        for outlook in outlooks.values().filter(|outlook| outlook.reason.is_none()) {
            if let Some(load) = usize::try_from(outlook.wave).ok().and_then(|wave| loads.get_mut(wave)) {
                load.targets = load.targets.saturating_add(1);
                load.asked = load.asked.saturating_add(usize::from(outlook.asked));
            }
        }
        let per_mail = self.per_mail.max(1);
        for load in &mut loads {
            let full = load.targets.checked_div(per_mail).unwrap_or(0);
            let rest = load.targets.checked_rem(per_mail).unwrap_or(0);
            let of = |recipients| mail_bytes(self.bundle_bytes, recipients);
            let full = u64::try_from(full).unwrap_or(u64::MAX);
            let parts = mails(self.bundle_bytes, per_mail, self.mail_max_bytes).unwrap_or(1);
            load.mails = full.saturating_add(u64::from(rest > 0)).saturating_mul(parts);
            load.bytes =
                full.saturating_mul(of(per_mail)).saturating_add(if rest > 0 { of(rest) } else { 0 });
        }
        loads
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let outlooks = self.outlooks();
        let loads = self.loads(&outlooks);
        let mut text = self.waves_text(&loads);
        text.push_str(&self.times_text(&outlooks));
        text.push_str(&transfers_text(&outlooks));
        text.push_str(&self.sites_text(&outlooks));
        text.push_str(&self.left_out_text(&outlooks));
        text
    }

    fn waves_text(&self, loads: &[Load]) -> String {
        let mut listing = Listing::new(&[
            ">WAVE",
            "~WHO",
            ">AGENTS",
            ">ASKED",
            ">MAILS",
            ">TO THE RELAY",
            "~GATE BEHIND IT",
        ]);
        for ((number, wave), load) in (1usize..).zip(&self.campaign.rollout.waves).zip(loads) {
            let plain = |text: String| cell(text, Colour::Plain);
            listing.row(vec![
                plain(number.to_string()),
                plain(match wave.kind {
                    WaveKind::Test => "test agents".to_owned(),
                    WaveKind::Customers => "customers".to_owned(),
                }),
                plain(load.targets.to_string()),
                plain(load.asked.to_string()),
                plain(load.mails.to_string()),
                plain(show::size(load.bytes)),
                plain(gate_text(wave.kind, &wave.gate)),
            ]);
        }
        listing.text()
    }

    fn times_text(&self, outlooks: &BTreeMap<&AgentId, Outlook>) -> String {
        let times = self.campaign.rollout.times;
        let mut text = String::from("\n");
        let mut line = |name: &str, value: String| text.push_str(&format!("{name:<22}{value}\n"));
        line("Mailed", times.send_at.map_or("from now on".to_owned(), |at| format!("from {at} on")));
        if let Some(terms) = self.campaign.rollout.consent {
            let patience = Duration::from_millis(terms.patience_ms);
            line("Administrators", format!("have {} to answer", format_duration(patience)));
        }
        let mut zones: BTreeMap<(Interval, &str), (usize, String)> = BTreeMap::new();
        for (id, outlook) in outlooks.iter().filter(|(_, outlook)| outlook.reason.is_none()) {
            if let (Some(install), Some(record)) = (outlook.install, self.agents.get(*id)) {
                let zone = &record.terms.zone;
                let local = format!("{} to {}", zone.local(install.from), zone.local(install.until));
                let entry = zones.entry((install, zone.as_str())).or_insert((0, local));
                entry.0 = entry.0.saturating_add(1);
            }
        }
        for (count, local) in zones.values() {
            line("Installed first", format!("{local} ({})", show::count(*count, "agent")));
        }
        if let Some(ms) = times.defer_max_ms {
            line("Put off by sites", format!("by {} at most", format_duration(Duration::from_millis(ms))));
        }
        if let Some(at) = times.expires_at {
            line("Given up", at.to_string());
        }
        let held = outlooks.values().filter(|outlook| outlook.penalty_until.is_some()).count();
        if held > 0 {
            line(
                "Held up",
                format!(
                    "{}, failed too often lately (agent show says until when)",
                    show::count(held, "agent")
                ),
            );
        }
        text
    }

    /// Bytes by site: the lines there are what costs.
    fn sites_text(&self, outlooks: &BTreeMap<&AgentId, Outlook>) -> String {
        let mut sites: BTreeMap<&str, (usize, u64)> = BTreeMap::new();
        for (id, _) in outlooks.iter().filter(|(_, outlook)| outlook.reason.is_none()) {
            let site = self.agents.get(*id).map_or("", |record| record.site.as_str());
            let entry = sites.entry(site).or_default();
            entry.0 = entry.0.saturating_add(1);
            entry.1 = entry.1.saturating_add(mail_bytes(self.bundle_bytes, self.per_mail));
        }
        let most = sites.iter().max_by_key(|(_, (_, bytes))| *bytes);
        let Some((site, (count, bytes))) = most else { return String::new() };
        let name = if site.is_empty() { "(no site)" } else { site };
        format!(
            "{:<22}{}, each agent {}; most: {name} with {} and {}\n",
            "Sites",
            sites.len(),
            show::size(mail_bytes(self.bundle_bytes, self.per_mail)),
            show::count(*count, "agent"),
            show::size(*bytes)
        )
    }

    fn left_out_text(&self, outlooks: &BTreeMap<&AgentId, Outlook>) -> String {
        let mut reasons: BTreeMap<String, Vec<&AgentId>> = BTreeMap::new();
        for (id, outlook) in outlooks {
            if let Some(reason) = &outlook.reason {
                reasons.entry(reason.to_string()).or_default().push(id);
            }
        }
        for (id, reason) in &self.beside {
            reasons.entry(reason.clone()).or_default().push(id);
        }
        if reasons.is_empty() {
            return String::new();
        }
        let mut text = String::from("\nLeft out:\n");
        for (reason, agents) in reasons {
            let names: Vec<&str> = agents.iter().take(NAMED).map(|id| id.as_str()).collect();
            let more = agents.len().saturating_sub(NAMED);
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            text.push_str(&format!("  {:>5}  {reason}: {}{more}\n", agents.len(), names.join(", ")));
        }
        text
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        let outlooks = self.outlooks();
        let waves: Vec<Value> = (1usize..)
            .zip(&self.campaign.rollout.waves)
            .zip(self.loads(&outlooks))
            .map(|((number, wave), load)| {
                json!({
                    "wave": number,
                    "kind": match wave.kind { WaveKind::Test => "test", WaveKind::Customers => "customers" },
                    "agents": load.targets,
                    "asked": load.asked,
                    "mails": load.mails,
                    "bytes": load.bytes,
                })
            })
            .collect();
        let targets: Vec<Value> = outlooks
            .iter()
            .map(|(id, outlook)| {
                json!({
                    "agent": id.as_str(),
                    "wave": outlook.wave.saturating_add(1),
                    "left_out": outlook.reason.as_ref().map(ToString::to_string),
                    "asked": outlook.asked,
                    "held_up_until": outlook.penalty_until.map(|at| at.to_string()),
                    "install_from": outlook.install.map(|install| install.from.to_string()),
                    "install_until": outlook.install.map(|install| install.until.to_string()),
                    "transfer_seconds": outlook.transfer.map(|takes| takes.as_secs()),
                    "transferred_at": outlook.arrives.map(|at| at.to_string()),
                })
            })
            .collect();
        let beside: Vec<Value> =
            self.beside.iter().map(|(id, why)| json!({"agent": id.as_str(), "left_out": why})).collect();
        json!({ "waves": waves, "targets": targets, "no_targets": beside })
    }
}

/// How long the mails take to those who take longest.
fn transfers_text(outlooks: &BTreeMap<&AgentId, Outlook>) -> String {
    let mailed = || outlooks.iter().filter(|(_, outlook)| outlook.reason.is_none());
    let unknown = mailed().filter(|(_, outlook)| outlook.transfer.is_none()).count();
    let longest = mailed().filter_map(|(id, outlook)| Some((outlook.transfer?, outlook.arrives, id))).max();
    let unknown = match (unknown, &longest) {
        (0, None) => return String::new(),
        (0, Some(_)) => String::new(),
        (_, None) => "not known".to_owned(),
        (count, Some(_)) => format!("; not known of {}", show::count(count, "agent")),
    };
    let longest = longest.map(|(takes, arrives, id)| {
        let at = arrives.map_or(String::new(), |at| format!(", there by {at}"));
        format!("longest to {id}: {}{at}", show::duration(takes))
    });
    format!("{:<22}{}{unknown}\n", "Transfers", longest.unwrap_or_default())
}

/// What a gate asks for, in a few words.
pub(crate) fn gate_text(kind: WaveKind, gate: &Gate) -> String {
    if *gate == Gate::NONE {
        return "none".to_owned();
    }
    let observe = format_duration(Duration::from_millis(gate.observe_ms));
    match kind {
        WaveKind::Test => format!("all verified and tested, no new grave fault for {observe}"),
        WaveKind::Customers => format!(
            "{} verified, at most {} failed and {} silent, watched for {observe}",
            gate.success_min, gate.failure_max, gate.silence_max
        ),
    }
}
