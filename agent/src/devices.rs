//! `mailfleet-agent devices`: what is watched beside this box, and what it says now. For whoever sets a box up (M19).

mod change;
mod discover;
mod range;
mod secret;
mod show;
mod updates;

use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use drivers::{Access, Depth, Device, Drivers};
use serde::Serialize;
use tokio::task::JoinSet;

use crate::exit::Usage;
use crate::files::now;
use crate::home::Home;
use crate::watch;
use change::{AddArgs, RemoveArgs};
use discover::DiscoverArgs;
use show::{print_json, show};
use updates::UpdatesArgs;

/// What `devices` is told.
#[derive(Args)]
pub(crate) struct DevicesArgs {
    #[command(subcommand)]
    command: Option<DevicesCommand>,
}

#[derive(Subcommand)]
enum DevicesCommand {
    /// List the devices of devices.toml.
    List {
        /// Print one JSON document.
        #[arg(long)]
        json: bool,
    },
    /// Ask the devices now, for everything, and show what they say. Reports nothing.
    Poll {
        /// Only these.
        names: Vec<String>,
        /// Print one JSON document.
        #[arg(long)]
        json: bool,
    },
    /// Ask a device, show what it says, and add it to devices.toml.
    #[command(after_help = "Examples:\n  \
        mailfleet-agent devices add mfp-2nd-floor --driver snmp --address 192.0.2.17\n  \
        mailfleet-agent devices add xerox --driver snmp --address 192.0.2.18 --version 3 --user mon \\\n    \
        --auth sha256 --auth-password-file auth --privacy aes128 --privacy-password-file privacy\n  \
        mailfleet-agent devices add office --driver ipp --address ipps://192.0.2.19/ipp/print --self-signed\n  \
        mailfleet-agent devices add box --driver host --watch-program acad\n  \
        mailfleet-agent devices add scale --driver exec -- /usr/local/bin/scale-counters --json\n\n\
        Communities and passwords come from files (mode 0600; \"-\" is the standard input, a line for each), or from \
        MAILFLEET_COMMUNITY, MAILFLEET_AUTH_PASSWORD and MAILFLEET_PRIVACY_PASSWORD.")]
    Add(Box<AddArgs>),
    /// Take a device out of devices.toml.
    #[command(after_help = "Example:\n  mailfleet-agent devices remove mfp-2nd-floor")]
    Remove(RemoveArgs),
    /// Show which firmware each device has and is to have, and put an update off or cancel it.
    #[command(after_help = "Examples:\n  \
        mailfleet-agent devices updates\n  \
        mailfleet-agent devices updates --defer mfp-2nd-floor 2h\n  \
        mailfleet-agent devices updates --cancel mfp-2nd-floor")]
    Updates(UpdatesArgs),
    /// Ask every address of a network, by SNMP and then by IPP, and show what could be added.
    #[command(after_help = "Example:\n  mailfleet-agent devices discover 192.0.2.0/24\n\n\
        Sends a few small packets to each address, and only when it is called. Changes nothing.")]
    Discover(DiscoverArgs),
}

#[derive(Serialize)]
struct Listed<'a> {
    device: &'a str,
    driver: &'static str,
    address: String,
}

/// Does it.
pub(crate) async fn run(home: &Home, args: DevicesArgs) -> anyhow::Result<ExitCode> {
    // Needs no list that can be read.
    if let Some(DevicesCommand::Updates(args)) = &args.command {
        updates::run(home, args)?;
        return Ok(ExitCode::SUCCESS);
    }
    let devices = watch::list(&home.devices()).map_err(Usage::because)?;
    let drivers = || -> anyhow::Result<Arc<Drivers>> {
        let profiles = watch::profiles(&home.profiles()).map_err(Usage::because)?;
        Ok(Arc::new(Drivers::new(profiles)))
    };
    match args.command.unwrap_or(DevicesCommand::List { json: false }) {
        DevicesCommand::List { json } => {
            list(home, &devices, json)?;
            Ok(ExitCode::SUCCESS)
        }
        DevicesCommand::Poll { names, json } => poll(drivers()?, devices, &names, json).await,
        DevicesCommand::Add(args) => {
            change::add(home, drivers()?.as_ref(), &args).await?;
            Ok(ExitCode::SUCCESS)
        }
        DevicesCommand::Remove(args) => {
            change::remove(home, &args)?;
            Ok(ExitCode::SUCCESS)
        }
        DevicesCommand::Updates(_) => Ok(ExitCode::SUCCESS),
        DevicesCommand::Discover(args) => discover::discover(drivers()?, &devices, &args).await,
    }
}

fn list(home: &Home, devices: &[Device], json: bool) -> anyhow::Result<()> {
    let listed: Vec<_> = devices
        .iter()
        .map(|device| {
            let (driver, address) = way(&device.access);
            Listed { device: device.name.as_str(), driver, address }
        })
        .collect();
    if json {
        say!("{}", serde_json::to_string_pretty(&serde_json::json!({ "devices": listed }))?);
    } else if listed.is_empty() {
        say!("No devices: {} has none.", home.devices().display());
    }
    for device in listed.iter().filter(|_| !json) {
        say!("{:<24}{:<8}{}", device.device, device.driver, device.address);
    }
    Ok(())
}

/// The driver's name and the address, without secrets.
fn way(access: &Access) -> (&'static str, String) {
    match access {
        Access::Snmp(snmp) => ("snmp", snmp.address.clone()),
        Access::Ipp(ipp) => ("ipp", ipp.url.to_string()),
        Access::Host { .. } => ("host", "this box".to_owned()),
        Access::Exec { command } => ("exec", command.join(" ")),
    }
}

async fn poll(
    drivers: Arc<Drivers>,
    devices: Vec<Device>,
    names: &[String],
    json: bool,
) -> anyhow::Result<ExitCode> {
    if let Some(name) = names.iter().find(|name| !devices.iter().any(|d| d.name.as_str() == **name)) {
        return Err(Usage(format!("no device is called \"{name}\"; see mailfleet-agent devices list")).into());
    }
    let wanted = |device: &Device| names.is_empty() || names.iter().any(|name| name == device.name.as_str());
    let mut tasks = JoinSet::new();
    for device in devices.into_iter().filter(wanted) {
        let drivers = Arc::clone(&drivers);
        tasks.spawn(async move {
            let mut result = drivers.poll(&device, Depth::Full, now).await;
            if let Ok(seen) = &mut result {
                seen.class = device.class.unwrap_or(seen.class);
                seen.bound();
            }
            (device.name, result)
        });
    }
    let mut looks = tasks.join_all().await;
    looks.sort_by(|(one, _), (other, _)| one.cmp(other));
    let failed = looks.iter().any(|(_, result)| result.is_err());
    if json {
        print_json(&looks)?;
    } else {
        for (name, result) in &looks {
            match result {
                Ok(seen) => show(name.as_str(), seen),
                Err(fault) => say!("{name}: {fault}\n"),
            }
        }
    }
    Ok(if failed { ExitCode::from(1) } else { ExitCode::SUCCESS })
}
