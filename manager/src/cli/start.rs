//! `campaign start`: checks the bundle and the choice of agents, keeps a copy of the bundle, enters the
//! campaign. What it then does is the daemon's.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use mailfleet::config::Config;
use mailfleet::home::Home;
use mailfleet::store::{BundleRecord, NewCampaign, NewTarget, Store, Tx, TxResult};
use mailfleet::system::now;
use manager_core::{BundleFacts, CampaignId, CampaignState, Settings, TargetState};
use shared::limits::{CHUNK_BYTES, ORDER_LIFE};
use shared::time::format_duration;
use shared::{AgentId, Hasher};

use super::args::CampaignStart;
use super::fail::{Done, Fail, Kind, OrFail as _, Outcome, cannot_write};
use super::files::{NewFile, clear_leftovers};
use super::inspect::{Looked, Signature, look, mail_bytes, signing};
use super::select::{Chosen, choose};
use super::view::{daemon_text, retries};
use super::{follow, open, show};

/// The wait before the version query if neither the command nor the bundle says one.
const SETTLE_DEFAULT: Duration = Duration::from_secs(600);

pub(crate) fn start(home: Option<&Path>, args: &CampaignStart) -> Outcome {
    let home = open::home(home)?;
    let config = home.config().map_err(open::home_failed)?;
    let trust = home.trust().map_err(open::home_failed)?;
    let looked = look(&args.file, signing(&trust))?;
    check_signature(&looked)?;
    check_size(&looked, &config)?;
    let mut store = open::store(&home)?;
    let agents = store.read(|tx| tx.agents()).map_err(open::store_failed)?;
    let chosen = choose(&args.selection, &agents)?;
    keep(&home, &looked)?;
    let new = campaign(args, &looked, &chosen);
    let (id, overtaken) = enter(&mut store, &looked, &new)?;
    tell(id, args, &new, &chosen, &config)?;
    for (older, agents) in overtaken {
        show::say(&format!(
            "Campaign {older} is still running: it no longer tries again by itself with {} of these.",
            show::count(agents, "agent")
        ))?;
    }
    if args.wait {
        return follow::follow(&home, id);
    }
    show::say(&format!("{}\nFollow it: mailfleet campaign watch {id}", daemon_text(&home)))?;
    Ok(Done::All)
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
    let (found, limit) = (mail_bytes(looked.bytes, config.recipients_per_mail), config.mail.mail_max_bytes);
    if found <= limit {
        return Ok(());
    }
    Err(Fail::usage(format!(
        "{} needs a mail of {}, expected at most {} (mail_max_bytes in manager.toml)",
        looked.path.display(),
        show::size(found),
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
    if fs::metadata(&to).is_ok_and(|m| m.len() == looked.bytes)
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
    if hasher.finish() != looked.digest {
        return Ok(false);
    }
    new.finish().map(|()| true)
}

fn campaign(args: &CampaignStart, looked: &Looked, chosen: &Chosen<'_>) -> NewCampaign {
    let manifest = &looked.manifest;
    NewCampaign {
        name: args.name.clone(),
        bundle: BundleFacts {
            digest: looked.digest,
            software_version: manifest.software_version.clone(),
            from: manifest.from.clone(),
            classes: manifest.classes.clone(),
        },
        settings: Settings {
            settle: args.settle.or_else(|| manifest.settle()).unwrap_or(SETTLE_DEFAULT),
            reply_timeout: args.reply_timeout,
            retries: args.retries,
            order_life: ORDER_LIFE,
        },
        targets: chosen
            .agents
            .iter()
            .map(|agent| NewTarget {
                agent: agent.id.clone(),
                from_version: agent.versions.as_ref().map(|v| v.software.clone()),
            })
            .collect(),
    }
}

/// Campaigns that no longer retry some agents by themselves, with the number of those.
type Overtaken = Vec<(CampaignId, usize)>;

/// Enters the campaign, and takes its agents out of the automatic retries of older ones.
fn enter(store: &mut Store, looked: &Looked, new: &NewCampaign) -> Result<(CampaignId, Overtaken), Fail> {
    let at = now();
    let bundle = BundleRecord {
        digest: looked.digest,
        file: file_name(looked),
        bytes: looked.bytes,
        software_version: looked.manifest.software_version.clone(),
        added_at: at,
    };
    let entered = store.write(|tx| {
        tx.add_bundle(&bundle)?;
        let overtaken = overtake(tx, new)?;
        Ok((tx.start_campaign(new, at)?, overtaken))
    });
    entered.map_err(|err| Fail::of(Kind::Outside, err, "the campaign was not started"))
}

fn overtake(tx: &Tx<'_>, new: &NewCampaign) -> TxResult<Overtaken> {
    let agents: Vec<AgentId> = new.targets.iter().map(|target| target.agent.clone()).collect();
    let mut overtaken = Vec::new();
    for id in tx.live_campaigns()? {
        let Some(before) = tx.campaign(id)? else { continue };
        let mut campaign = before.clone();
        campaign.overtaken_by_newer(&agents);
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

/// Says what will happen.
fn tell(
    id: CampaignId,
    args: &CampaignStart,
    new: &NewCampaign,
    chosen: &Chosen<'_>,
    config: &Config,
) -> Result<(), Fail> {
    let name = if args.name.is_empty() { String::new() } else { format!(" \"{}\"", args.name) };
    let mails = new.targets.len().div_ceil(config.recipients_per_mail);
    let settings = new.settings;
    let left_out = match chosen.not_enrolled {
        0 => String::new(),
        n => format!("{} not enrolled yet and left out.\n", show::count(n, "agent")),
    };
    show::print(&format!(
        "Campaign {id}{name}: {} to {}.\n{left_out}\
         The bundle goes out in {}; {} after the mailing all are asked for their versions; answers are awaited \
         for {}; {}.\n",
        show::count(new.targets.len(), "agent"),
        new.bundle.software_version,
        show::count(mails, "mail"),
        format_duration(settings.settle),
        format_duration(settings.reply_timeout),
        retries(settings.retries),
    ))
}
