//! `campaign start` and `plan`: checks the bundle and the choice of agents, keeps a copy of the bundle, enters the
//! campaign. What it then does is the daemon's.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use mailfleet::config::Config;
use mailfleet::home::Home;
use mailfleet::store::{AgentRecord, BundleRecord, NewCampaign, NewTarget, Store, Tx, TxResult};
use mailfleet::system::now;
use manager_core::probe::Expectation;
use manager_core::{BundleFacts, CampaignId, CampaignState, Reason, Settings, TargetState, left_out};
use shared::limits::CHUNK_BYTES;
use shared::time::format_duration;
use shared::{AgentId, Hasher};

use super::args::{CampaignPlan, CampaignStart, CampaignTerms, Selection};
use super::device_args::DeviceTermsArgs;
use super::device_draft::DeviceDraft;
use super::fail::{Done, Fail, Kind, OrFail as _, Outcome, cannot_write};
use super::files::{NewFile, clear_leftovers};
use super::inspect::{Looked, Signature, look, mail_bytes, mails, signing};
use super::preview::Preview;
use super::rollout_args::{Course, RolloutArgs};
use super::savings::{self, Saving, savings};
use super::select::{Chosen, choose};
use super::view::{daemon_text, retries, title};
use super::{audited, follow, open, show};

/// The wait before the version query if neither the command nor the bundle says one.
const SETTLE_DEFAULT: Duration = Duration::from_secs(600);

pub(crate) fn start(home: Option<&Path>, args: &CampaignStart) -> Outcome {
    let home = open::commander(home)?;
    let mut store = open::store(&home)?;
    let id = match (&args.plan, &args.file, &args.selection) {
        (Some(number), ..) => start_planned(&mut store, *number)?,
        (None, Some(file), Some(selection)) => {
            let terms = (&args.terms, &args.rollout, &args.devices);
            let draft = Draft::new(&home, &mut store, file, selection, terms)?;
            keep(&home, &draft.looked)?;
            let (id, overtaken) = enter(&mut store, &draft, false)?;
            tell(id, &draft)?;
            tell_overtaken(&overtaken)?;
            id
        }
        _ => {
            return Err(Fail::usage("for whom is it?")
                .next("add --all, --agent ID,..., --agents-file FILE or --where EXPR"));
        }
    };
    if args.wait {
        return follow::follow(&home, id);
    }
    show::say(&format!("{}\nFollow it: mailfleet campaign watch {id}", daemon_text(&home)))?;
    Ok(Done::All)
}

/// Lays a campaign out, keeps it, and shows it; nothing is sent.
pub(crate) fn plan(home: Option<&Path>, args: &CampaignPlan) -> Outcome {
    let home = open::commander(home)?;
    let mut store = open::store(&home)?;
    let terms = (&args.terms, &args.rollout, &args.devices);
    let draft = Draft::new(&home, &mut store, &args.file, &args.selection, terms)?;
    keep(&home, &draft.looked)?;
    let (id, _) = enter(&mut store, &draft, true)?;
    let campaign = store.read(|tx| tx.campaign(id)).map_err(open::store_failed)?;
    let campaign = campaign.ok_or_else(|| Fail::usage(format!("there is no campaign {id}")))?;
    let all = store.read(|tx| tx.agents()).map_err(open::store_failed)?;
    let agents: BTreeMap<AgentId, &AgentRecord> = all.iter().map(|agent| (agent.id.clone(), agent)).collect();
    let preview = Preview {
        campaign: &campaign,
        agents: &agents,
        bundle_bytes: draft.looked.bytes,
        per_mail: draft.config.recipients_per_mail,
        mail_max_bytes: draft.config.mail.mail_max_bytes,
        now: now(),
        beside: draft.beside.clone(),
    };
    let devices = draft.devices.as_ref();
    let devices =
        devices.map(|devices| devices.preview(&mut store, &preview, &draft.looked.manifest)).transpose()?;
    if args.format.json {
        let mut json = preview.json();
        if let Some(object) = json.as_object_mut() {
            object.insert("campaign".to_owned(), id.0.into());
            object.insert("deltas".to_owned(), savings::json(&draft.savings));
            if let Some(devices) = &devices {
                object.insert("devices".to_owned(), devices.json());
            }
        }
        show::print_json(&json)?;
    } else {
        show::print(&format!(
            "{} to {}: {}, not started.\n\n{}{}{}\nStart exactly this: mailfleet campaign start --plan {id}\n",
            title(&campaign),
            campaign.bundle.software_version,
            show::count(campaign.targets.len(), "agent"),
            preview.text(),
            savings::text(&draft.savings),
            devices.map_or(String::new(), |devices| devices.text())
        ))?;
    }
    Ok(Done::All)
}

fn start_planned(store: &mut Store, number: u32) -> Result<CampaignId, Fail> {
    let id = CampaignId(i64::from(number));
    let at = now();
    let started = audited::change(store, |tx| {
        let Some(mut campaign) = tx.campaign(id)? else { return Ok((None, vec![])) };
        if !campaign.start(at) {
            return Ok((Some((campaign, None)), vec![]));
        }
        tx.save_campaign(&campaign)?;
        let agents: Vec<AgentId> = campaign.targets.keys().cloned().collect();
        let overtaken = overtake(tx, id, &agents)?;
        let deed = format!("campaign {id} started as planned");
        Ok((Some((campaign, Some(overtaken))), vec![deed]))
    });
    match started.map_err(open::store_failed)? {
        None => Err(Fail::usage(format!("there is no campaign {number}"))
            .next("`mailfleet campaign list` shows all, planned ones too")),
        Some((campaign, None)) => Err(Fail::usage(format!(
            "{} is {}, expected one that is only planned",
            title(&campaign),
            campaign.state.as_str()
        ))),
        Some((campaign, Some(overtaken))) => {
            let (version, count) = (&campaign.bundle.software_version, campaign.targets.len());
            show::say(&format!(
                "{}: {} to {version}, as planned.",
                title(&campaign),
                show::count(count, "agent")
            ))?;
            tell_overtaken(&overtaken)?;
            Ok(id)
        }
    }
}

/// A campaign that is about to be entered.
struct Draft {
    looked: Looked,
    config: Config,
    new: NewCampaign,
    /// Selected, and no targets, each with the reason.
    beside: Vec<(AgentId, String)>,
    not_enrolled: usize,
    savings: Vec<Saving>,
    /// `None`: the bundle has no firmware.
    devices: Option<DeviceDraft>,
}

impl Draft {
    fn new(
        home: &Home,
        store: &mut Store,
        file: &Path,
        selection: &Selection,
        (terms, rollout, devices): (&CampaignTerms, &RolloutArgs, &DeviceTermsArgs),
    ) -> Result<Self, Fail> {
        let config = home.config().map_err(open::home_failed)?;
        let trust = home.trust().map_err(open::home_failed)?;
        let looked = look(file, signing(&trust))?;
        check_signature(&looked)?;
        check_size(&looked, &config)?;
        let all = store.read(|tx| tx.agents()).map_err(open::store_failed)?;
        let mut chosen = choose(selection, &all)?;
        with_tests(&mut chosen, &rollout.test, &all)?;
        let beside = leave_out(&mut chosen, &looked);
        if chosen.agents.is_empty() {
            return Err(Fail::usage("no selected agent is of a class that the bundle is for").next(
                "`mailfleet bundle inspect` shows the bundle's classes, `mailfleet agent list` the agents",
            ));
        }
        let ids: Vec<AgentId> = chosen.agents.iter().map(|agent| agent.id.clone()).collect();
        let bundle = bundle_facts(&looked);
        let never = |agent: &&&AgentRecord| {
            left_out(&bundle, rollout.ask.is_some(), Some(&Preview::facts(agent))).is_some()
        };
        let never = chosen.agents.iter().filter(never).map(|agent| agent.id.clone()).collect();
        let course = rollout.course(&ids, &never, &looked.digest.0, now())?;
        let (not_enrolled, savings) = (chosen.not_enrolled, savings(&looked, &chosen.agents));
        let new = campaign(terms, course, &looked, &chosen);
        let devices = DeviceDraft::new(devices, &looked, &ids)?;
        Ok(Self { looked, config, new, beside, not_enrolled, savings, devices })
    }
}

/// Test agents are targets, whether or not the selection names them.
fn with_tests<'a>(chosen: &mut Chosen<'a>, tests: &[AgentId], all: &'a [AgentRecord]) -> Result<(), Fail> {
    for id in tests {
        if chosen.agents.iter().any(|agent| agent.id == *id) {
            continue;
        }
        let found = all.iter().find(|agent| agent.id == *id).ok_or_else(|| {
            Fail::usage(format!("--test {id}: there is no such agent"))
                .next("`mailfleet agent list` shows all")
        })?;
        chosen.agents.push(found);
    }
    chosen.agents.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(())
}

/// The bundle says for which classes it is (N2): the others of a selection by rule are no targets. Who is named by the operator
/// stays, and is told.
fn leave_out(chosen: &mut Chosen<'_>, looked: &Looked) -> Vec<(AgentId, String)> {
    let classes = &looked.manifest.classes;
    if chosen.named || classes.is_empty() {
        return Vec::new();
    }
    let (fit, others): (Vec<_>, Vec<_>) =
        chosen.agents.iter().partition(|agent| classes.iter().any(|class| agent.classes.contains(class)));
    chosen.agents = fit;
    others.into_iter().map(|agent: &AgentRecord| (agent.id.clone(), Reason::WrongClass.to_string())).collect()
}

fn check_signature(looked: &Looked) -> Result<(), Fail> {
    match &looked.signature {
        Signature::Good(_) => Ok(()),
        Signature::TooFew(keys, needed) => Err(Fail::usage(format!(
            "{} is signed by {} release key of this manager, expected {needed}: agents would refuse it",
            looked.path.display(),
            keys.len()
        ))
        .next("let others sign it too: mailfleet bundle sign FILE.mfb --release-key FILE")),
        Signature::Unknown(keys) | Signature::NotChecked(keys) => {
            let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
            Err(Fail::usage(format!(
                "{} is signed by no release key of this manager (but by {}): agents would refuse it",
                looked.path.display(),
                keys.join(", ")
            ))
            .next("build it with this manager's release key; `mailfleet keys list` says which keys count"))
        }
    }
}

fn check_size(looked: &Looked, config: &Config) -> Result<(), Fail> {
    let limit = config.mail.mail_max_bytes;
    if mails(looked.bytes, config.recipients_per_mail, limit).is_some() {
        return Ok(());
    }
    Err(Fail::usage(format!(
        "{} needs a mail of {}, and cannot be cut into parts for mails of {} (mail_max_bytes in manager.toml)",
        looked.path.display(),
        show::size(mail_bytes(looked.bytes, config.recipients_per_mail)),
        show::size(limit)
    ))
    .next(
        "make the bundle smaller, or raise mail_max_bytes if every mail server on the way takes such mails",
    ))
}

/// Copies the bundle into the home, unless the very same is there.
fn keep(home: &Home, looked: &Looked) -> Result<(), Fail> {
    clear_leftovers(&home.bundles());
    let to = home.bundles().join(file_name(looked));
    // One with deltas may lie there already, and is what a campaign relies on.
    if fs::metadata(&to).is_ok_and(|m| m.len() >= looked.file.0)
        && look(&to, (&[], 1)).is_ok_and(|kept| kept.digest == looked.digest)
    {
        return Ok(());
    }
    let mut from =
        File::open(&looked.path).or_usage(format!("cannot read the bundle {}", looked.path.display()))?;
    let copied = copy(&mut from, &to, looked);
    match copied {
        Ok(true) => Ok(()),
        Ok(false) => Err(Fail::usage(format!("{} changed while it was read", looked.path.display()))
            .next("start the campaign again when nobody writes the file")),
        Err(err) => Err(cannot_write(err, &to)),
    }
}

fn file_name(looked: &Looked) -> String {
    format!("{}.mfb", looked.digest)
}

/// False if what was read is not what was looked at.
fn copy(from: &mut File, to: &Path, looked: &Looked) -> io::Result<bool> {
    let mut new = NewFile::create(to, 0o600)?;
    let mut hasher = Hasher::default();
    let mut buffer = vec![0u8; CHUNK_BYTES];
    loop {
        let n = io::Read::read(from, &mut buffer)?;
        let piece = buffer.get(..n).unwrap_or_default();
        if piece.is_empty() {
            break;
        }
        hasher.update(piece);
        new.file().write_all(piece)?;
    }
    if hasher.finish() != looked.file.1 {
        return Ok(false);
    }
    new.finish().map(|()| true)
}

fn bundle_facts(looked: &Looked) -> BundleFacts {
    let manifest = &looked.manifest;
    BundleFacts {
        digest: looked.digest,
        software_version: manifest.software_version.clone(),
        from: manifest.from.clone(),
        classes: manifest.classes.clone(),
        test: manifest.test.as_ref().map(|test| Expectation {
            exit: test.exit,
            output: test.output.clone(),
            limit_ms: u64::try_from(test.limit().as_millis()).unwrap_or(u64::MAX),
        }),
    }
}

fn campaign(terms: &CampaignTerms, course: Course, looked: &Looked, chosen: &Chosen<'_>) -> NewCampaign {
    let manifest = &looked.manifest;
    NewCampaign {
        name: terms.name.clone(),
        bundle: bundle_facts(looked),
        settings: Settings {
            settle: terms.settle.or_else(|| manifest.settle()).unwrap_or(SETTLE_DEFAULT),
            reply_timeout: terms.reply_timeout,
            retries: terms.retries,
            order_life: course.order_life,
        },
        rollout: course.rollout,
        notes: manifest.notes.clone().unwrap_or_default(),
        vendor: manifest.vendor.as_ref().map(|vendor| vendor.mail.clone()),
        planned: false,
        targets: chosen
            .agents
            .iter()
            .map(|agent| NewTarget {
                agent: agent.id.clone(),
                from_version: agent.versions.as_ref().map(|v| v.software.clone()),
                wave: course.waves.get(&agent.id).copied().unwrap_or(0),
            })
            .collect(),
    }
}

/// Campaigns that no longer retry some agents by themselves, with the number of those.
type Overtaken = Vec<(CampaignId, usize)>;

/// Enters the campaign, and takes its agents out of the automatic retries of older ones.
fn enter(store: &mut Store, draft: &Draft, planned: bool) -> Result<(CampaignId, Overtaken), Fail> {
    let at = now();
    let (looked, mut new) = (&draft.looked, NewCampaign { planned, ..draft.new.clone() });
    if !planned {
        new.rollout.begin(at);
    }
    let bundle = BundleRecord {
        digest: looked.digest,
        file: file_name(looked),
        bytes: looked.bytes,
        software_version: looked.manifest.software_version.clone(),
        added_at: at,
    };
    let entered = audited::change(store, |tx| {
        tx.add_bundle(&bundle)?;
        tx.add_deltas(looked.digest, &looked.deltas)?;
        let id = tx.start_campaign(&new, at)?;
        draft.devices.as_ref().map_or(Ok(()), |devices| devices.enter(tx, id))?;
        let agents: Vec<AgentId> = new.targets.iter().map(|target| target.agent.clone()).collect();
        let did = if planned { "planned" } else { "started" };
        let (version, digest) = (&new.bundle.software_version, new.bundle.digest);
        let count = show::count(agents.len(), "agent");
        let deed = format!("campaign {id} {did}: {count} to {version}, bundle {digest}");
        let overtaken = if planned { Overtaken::new() } else { overtake(tx, id, &agents)? };
        Ok(((id, overtaken), vec![deed]))
    });
    entered.map_err(|err| Fail::of(Kind::Outside, err, "the campaign was not started"))
}

fn overtake(tx: &Tx<'_>, newer: CampaignId, agents: &[AgentId]) -> TxResult<Overtaken> {
    let mut overtaken = Vec::new();
    for id in tx.live_campaigns()?.into_iter().filter(|id| *id != newer) {
        let Some(before) = tx.campaign(id)? else { continue };
        let mut campaign = before.clone();
        campaign.overtaken_by_newer(agents);
        let changed = campaign.targets.iter().filter(|(agent, t)| before.targets.get(*agent) != Some(t));
        let mut count = 0usize;
        for (agent, target) in changed {
            tx.save_target(id, agent, target)?;
            // One that is verified would not have been tried again.
            count = count.saturating_add(usize::from(target.state != TargetState::Verified));
        }
        if count > 0 && campaign.state == CampaignState::Running {
            overtaken.push((id, count));
        }
    }
    Ok(overtaken)
}

fn tell_overtaken(overtaken: &Overtaken) -> Result<(), Fail> {
    for (older, agents) in overtaken {
        show::say(&format!(
            "Campaign {older} is still running: it no longer tries again by itself with {} of these.",
            show::count(*agents, "agent")
        ))?;
    }
    Ok(())
}

/// Says what will happen.
fn tell(id: CampaignId, draft: &Draft) -> Result<(), Fail> {
    let new = &draft.new;
    let name = if new.name.is_empty() { String::new() } else { format!(" \"{}\"", new.name) };
    let per_mail = draft.config.recipients_per_mail;
    let batches = new.targets.len().div_ceil(per_mail);
    let parts = mails(draft.looked.bytes, per_mail, draft.config.mail.mail_max_bytes).unwrap_or(1);
    let parts = usize::try_from(parts).unwrap_or(usize::MAX);
    let in_parts = if parts == 1 { String::new() } else { format!(" ({parts} parts)") };
    let mails = batches.saturating_mul(parts);
    let settings = new.settings;
    let mut left_out = match draft.not_enrolled {
        0 => String::new(),
        n => format!("{} not enrolled yet and left out.\n", show::count(n, "agent")),
    };
    if let Some((_, why)) = draft.beside.first() {
        left_out.push_str(&format!("{} left out: {why}.\n", show::count(draft.beside.len(), "agent")));
    }
    let waves = match new.rollout.waves.len() {
        0 | 1 => format!("The bundle goes out in {}{in_parts}", show::count(mails, "mail")),
        n => format!("The bundle goes out in {n} waves, each behind the gate of the one before"),
    };
    show::print(&format!(
        "Campaign {id}{name}: {} to {}.\n{left_out}\
         {waves}; {} after the mailing all are asked for their versions; answers are awaited \
         for {}; {}.\n{}",
        show::count(new.targets.len(), "agent"),
        new.bundle.software_version,
        format_duration(settings.settle),
        format_duration(settings.reply_timeout),
        retries(settings.retries),
        savings::text(&draft.savings),
    ))?;
    draft.devices.as_ref().map_or(Ok(()), |devices| show::say(&devices.text(&draft.looked.manifest)))
}
