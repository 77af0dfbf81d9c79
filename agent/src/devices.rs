//! `mailfleet-agent devices`: what is watched beside this box, and what it says now. For whoever sets a box up (M19).

use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use drivers::json::Document;
use drivers::{Access, Depth, Device, Drivers, PollFault};
use serde::Serialize;
use shared::device::{FaultsRead, Observation, Supply};
use tokio::task::JoinSet;

use crate::exit::Usage;
use crate::files::now;
use crate::home::Home;
use crate::watch;

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
}

#[derive(Serialize)]
struct Listed<'a> {
    device: &'a str,
    driver: &'static str,
    address: String,
}

/// Does it.
pub(crate) async fn run(home: &Home, args: DevicesArgs) -> anyhow::Result<ExitCode> {
    let devices = watch::list(&home.devices()).map_err(Usage::because)?;
    match args.command.unwrap_or(DevicesCommand::List { json: false }) {
        DevicesCommand::List { json } => {
            list(home, &devices, json)?;
            Ok(ExitCode::SUCCESS)
        }
        DevicesCommand::Poll { names, json } => {
            let profiles = watch::profiles(&home.profiles()).map_err(Usage::because)?;
            poll(Arc::new(Drivers::new(profiles)), devices, &names, json).await
        }
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
        println!("{}", serde_json::to_string_pretty(&serde_json::json!({ "devices": listed }))?);
    } else if listed.is_empty() {
        println!("No devices: {} has none.", home.devices().display());
    }
    for device in listed.iter().filter(|_| !json) {
        println!("{:<24}{:<8}{}", device.device, device.driver, device.address);
    }
    Ok(())
}

/// The driver's name and the address, without secrets.
fn way(access: &Access) -> (&'static str, String) {
    match access {
        Access::Snmp(snmp) => ("snmp", snmp.address.clone()),
        Access::Ipp { url, .. } => ("ipp", url.clone()),
        Access::Host => ("host", "this box".to_owned()),
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
                Err(fault) => println!("{name}: {fault}\n"),
            }
        }
    }
    Ok(if failed { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

type Look = (shared::device::DeviceName, Result<Observation, PollFault>);

fn print_json(looks: &[Look]) -> anyhow::Result<()> {
    let seen = looks.iter().filter_map(|(name, result)| Some((name, result.as_ref().ok()?)));
    let devices: Vec<_> = seen.map(|(name, seen)| Document::of(seen).named(name)).collect();
    let failed = looks.iter().filter_map(|(name, result)| Some((name, result.as_ref().err()?)));
    let failed: Vec<_> = failed
        .map(|(name, fault)| serde_json::json!({ "device": name.as_str(), "why": fault.to_string() }))
        .collect();
    let document = serde_json::json!({ "devices": devices, "failed": failed });
    println!("{}", serde_json::to_string_pretty(&document)?);
    Ok(())
}

fn show(name: &str, seen: &Observation) {
    let identity = &seen.identity;
    let words = [&identity.vendor, &identity.model, &identity.serial];
    let words: Vec<_> = words.into_iter().flatten().map(ToString::to_string).collect();
    println!("{name}: {} {}, {}", seen.class, words.join(" "), seen.status);
    for firmware in &identity.firmware {
        println!("  firmware  {:<40} {}", firmware.component, firmware.version);
    }
    for counter in &seen.counters {
        let what = format!("{} {}", counter.name, counter.labels_text());
        println!("  counter   {:<40} {:>12} {}", what.trim_end(), counter.value, counter.unit);
    }
    for supply in &seen.supplies {
        println!("  supply    {:<40} {:>12}", supply.text, level(supply));
    }
    for part in &seen.parts {
        let number = |n: Option<u64>| n.map_or_else(|| "?".to_owned(), |n| n.to_string());
        println!(
            "  part      {:<40} {:>12} of {} {}",
            part.name,
            number(part.used),
            number(part.life),
            part.unit
        );
    }
    for fault in &seen.faults {
        println!(
            "  FAULT {}   {} {}: {} ({})",
            fault.class, fault.severity, fault.kind, fault.text, fault.code
        );
    }
    if seen.faults_read == FaultsRead::Unreadable {
        println!("  FAULTS    could not all be read: none that is open ends by this look");
    }
    for left_out in &seen.left_out {
        println!("  left out  {left_out}");
    }
    println!();
}

fn level(supply: &Supply) -> String {
    match supply.percent() {
        Some(percent) => format!("{percent} %"),
        None => supply.level.to_string(),
    }
}
