//! Options of the commands about devices. Says what can be typed, as `args` does for all others.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use shared::device::FaultClass;
use shared::keys::VerifyingKey;
use shared::time::parse_duration;
use shared::{AgentId, UnixMillis};

use super::args::{Format, ReportOutput};

/// Which agents' devices.
#[derive(Debug, Args)]
pub(crate) struct Scope {
    /// Only devices of these agents
    #[arg(long = "agent", value_name = "ID,...", value_delimiter = ',', value_parser = AgentId::parse)]
    pub(crate) agents: Vec<AgentId>,
    /// Only devices at this site; '*' stands for any characters
    #[arg(long, value_name = "NAME")]
    pub(crate) site: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ReportDevices {
    #[command(flatten)]
    pub(crate) out: ReportOutput,
    #[command(flatten)]
    pub(crate) scope: Scope,
}

#[derive(Debug, Args)]
pub(crate) struct ReportDeviceCampaign {
    /// The campaign's number
    #[arg(value_name = "N")]
    pub(crate) number: u32,
    #[command(flatten)]
    pub(crate) out: ReportOutput,
    #[command(flatten)]
    pub(crate) scope: Scope,
}

/// How a campaign goes about devices, if its bundle has firmware for them.
#[derive(Debug, Args)]
#[command(next_help_heading = "Firmware of devices")]
pub(crate) struct DeviceTermsArgs {
    /// Update only these devices: AGENT/DEVICE,... or a file with one a line, or CSV with the columns agent and device
    /// [default: all that the firmware is for]
    #[arg(long, value_name = "LIST|FILE")]
    pub(crate) devices: Option<String>,
    /// So many devices of an agent at a time, once the first of each type is done
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub(crate) devices_at_once: u16,
    /// A device that cannot be updated when it is asked is asked again after this time
    #[arg(long, value_name = "TIME", default_value = "30m", value_parser = parse_duration)]
    pub(crate) device_step: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct ReportSupplies {
    #[command(flatten)]
    pub(crate) out: ReportOutput,
    #[command(flatten)]
    pub(crate) scope: Scope,
    /// Those that run out within this time first, the next one first
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) within: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct ReportReadings {
    /// The file to write
    #[arg(short, long = "output", value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Only what came at or after this time, such as 2026-11-21T06:10:00Z or 2026-11-21
    #[arg(long, value_name = "TIME", value_parser = UnixMillis::parse)]
    pub(crate) since: Option<UnixMillis>,
    #[command(flatten)]
    pub(crate) scope: Scope,
}

#[derive(Debug, Args)]
pub(crate) struct ReportVerify {
    /// A file that `report readings` has written
    #[arg(value_name = "FILE", requires = "keys")]
    pub(crate) file: Option<PathBuf>,
    /// The key that must have signed the file's readings (ed25519:...); can be given several times
    #[arg(long = "key", value_name = "KEY", value_parser = VerifyingKey::parse_text, requires = "file")]
    pub(crate) keys: Vec<VerifyingKey>,
    /// Only what came at or after this time, such as 2026-11-21T06:10:00Z or 2026-11-21
    #[arg(long, value_name = "TIME", value_parser = UnixMillis::parse, conflicts_with = "file")]
    pub(crate) since: Option<UnixMillis>,
    #[command(flatten)]
    pub(crate) scope: Scope,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Faults {
    /// Also those that have ended
    #[arg(long, conflicts_with = "open")]
    pub(crate) all: bool,
    /// Only those that last [default]
    #[arg(long)]
    pub(crate) open: bool,
    #[command(flatten)]
    pub(crate) scope: Scope,
    /// Only faults of these classes
    #[arg(long = "class", value_name = "A,D", value_delimiter = ',', value_parser = fault_class)]
    pub(crate) classes: Vec<FaultClass>,
    #[command(flatten)]
    pub(crate) format: Format,
}

fn fault_class(text: &str) -> Result<FaultClass, String> {
    FaultClass::parse(&text.to_uppercase()).ok_or_else(|| "expected A, B, C or D".to_owned())
}

#[derive(Debug, Args)]
pub(crate) struct Devices {
    #[command(flatten)]
    pub(crate) scope: Scope,
    #[command(flatten)]
    pub(crate) format: Format,
}
