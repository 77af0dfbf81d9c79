//! `lease take`, `release` and `list`: for programs of the box whose work must not be interrupted. Needs no
//! running agent and no right but that to the folder of leases.

use std::path::PathBuf;
use std::time::Duration;

use agent_core::{Lease, LeaseEnd};
use clap::{Args, Subcommand};
use serde::Serialize;
use shared::time::{format_duration, parse_duration};
use shared::{Label, UnixMillis};

use crate::config::{self, Config};
use crate::exit::Usage;
use crate::files::now;
use crate::home::Home;
use crate::lease::{LeaseError, Leases};
use crate::system::boot_id;

/// What to do about leases.
#[derive(Subcommand)]
pub(crate) enum LeaseCommand {
    /// Keep modules from being replaced; taken again, it counts from anew.
    #[command(
        after_help = "Example:\n  mailfleet-agent lease take billing --for 10m --reason 'metering run' \
        --module abcd\n\nAn update that is due waits until the lease is given back or over, and says so to the \
        manager. No lease counts for longer than lease_max of agent.toml."
    )]
    Take(TakeArgs),
    /// Give a lease back.
    #[command(after_help = "Example:\n  mailfleet-agent lease release billing")]
    Release {
        /// Who took it.
        owner: String,
        #[command(flatten)]
        place: Place,
    },
    /// Show all leases.
    #[command(after_help = "Example:\n  mailfleet-agent lease list --json")]
    List {
        /// Print one JSON document.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
}

/// Where the leases are.
#[derive(Args)]
pub(crate) struct Place {
    /// Where modules are installed [default: as agent.toml says].
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

/// A lease to take.
#[derive(Args)]
pub(crate) struct TakeArgs {
    /// Who takes it: letters, digits, "-", "_" and ".".
    owner: String,
    /// How long, such as 10m.
    #[arg(long = "for", value_name = "TIME", value_parser = parse_duration, required_unless_present = "until_restart")]
    lasts: Option<Duration>,
    /// Until the next restart of the box.
    #[arg(long, conflicts_with = "lasts")]
    until_restart: bool,
    /// What for; operators read it.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Only this module; may be given several times [default: all].
    #[arg(long = "module", value_name = "NAME")]
    modules: Vec<String>,
    #[command(flatten)]
    place: Place,
}

/// The document of `lease list --json`.
#[derive(Serialize)]
struct ListDocument {
    leases: Vec<LeaseDocument>,
}

#[derive(Serialize)]
struct LeaseDocument {
    owner: String,
    reason: String,
    modules: Vec<String>,
    taken_at: String,
    /// `null`: the next restart of the box.
    until: Option<String>,
    in_force: bool,
}

/// Does it.
pub(crate) fn run(home: &Home, command: LeaseCommand) -> anyhow::Result<()> {
    match command {
        LeaseCommand::Take(args) => take(home, args),
        LeaseCommand::Release { owner, place } => {
            leases(home, place)?.release(&owner).map_err(sorted)?;
            say!("{owner} has given its lease back.");
            Ok(())
        }
        LeaseCommand::List { json, place } => list(home, json, place),
    }
}

/// The fault of who typed, or of the box.
fn sorted(err: LeaseError) -> anyhow::Error {
    match err {
        LeaseError::Owner(_) | LeaseError::TooLarge(_) => Usage::because(err).into(),
        LeaseError::NotHeld(_) | LeaseError::Io(..) => err.into(),
    }
}

fn leases(home: &Home, place: Place) -> Result<Leases, Usage> {
    let root = match place.root {
        Some(root) => root,
        None => config::load(&home.config()).map_err(Usage::because)?.root,
    };
    Ok(Leases::below(&root))
}

/// The configuration, if whoever asks may read it: programs of other users take leases too.
fn readable(home: &Home) -> Option<Config> {
    config::load(&home.config()).ok()
}

fn take(home: &Home, args: TakeArgs) -> anyhow::Result<()> {
    let text = |what: &str, text: &str| {
        Label::parse(text).map_err(|err| Usage(format!("{what}: {err}"))).and_then(|label| {
            if label.is_empty() { Err(Usage(format!("{what}: expected a text"))) } else { Ok(label) }
        })
    };
    let most = readable(home).map(|config| config.rules.lease_max);
    if let (Some(lasts), Some(most)) = (args.lasts, most)
        && lasts > most
    {
        let (lasts, most) = (format_duration(lasts), format_duration(most));
        return Err(Usage(format!("--for: expected at most {most} (lease_max), found {lasts}")).into());
    }
    let now = now();
    let lease = Lease {
        owner: text("OWNER", &args.owner)?,
        reason: text("--reason", &args.reason)?,
        taken: now,
        end: match args.lasts {
            Some(lasts) => LeaseEnd::At(now.plus(lasts)),
            None => LeaseEnd::Restart(boot_id()),
        },
        modules: args.modules.iter().map(|m| text("--module", m)).collect::<Result<_, _>>()?,
    };
    leases(home, args.place)?.take(&lease).map_err(sorted)?;
    say!("{} holds a lease until {}.", lease.owner, end(&lease));
    Ok(())
}

fn end(lease: &Lease) -> String {
    match &lease.end {
        LeaseEnd::At(end) => end.to_string(),
        LeaseEnd::Restart(_) => "the box restarts".to_owned(),
    }
}

fn list(home: &Home, json: bool, place: Place) -> anyhow::Result<()> {
    let most = readable(home).map_or(agent_core::LEASE_MAX_DEFAULT, |config| config.rules.lease_max);
    let (now, boot) = (now(), boot_id());
    let found = leases(home, place)?.read();
    let in_force = |lease: &Lease| lease.in_force(now, &boot, most);
    if json {
        let documents = found.iter().map(|lease| document(lease, in_force(lease)));
        say!("{}", serde_json::to_string_pretty(&ListDocument { leases: documents.collect() })?);
        return Ok(());
    }
    for lease in &found {
        let over = if in_force(lease) { "" } else { " (over)" };
        let modules = lease.modules.iter().map(Label::as_str).collect::<Vec<_>>().join(", ");
        let about = if modules.is_empty() { "all modules".to_owned() } else { modules };
        say!("{:<20}until {}{over}: {} [{about}]", lease.owner, end(lease), lease.reason);
    }
    Ok(())
}

fn document(lease: &Lease, in_force: bool) -> LeaseDocument {
    let until = if let LeaseEnd::At(end) = lease.end { Some(UnixMillis::to_string(&end)) } else { None };
    LeaseDocument {
        owner: lease.owner.to_string(),
        reason: lease.reason.to_string(),
        modules: lease.modules.iter().map(Label::to_string).collect(),
        taken_at: lease.taken.to_string(),
        until,
        in_force,
    }
}
