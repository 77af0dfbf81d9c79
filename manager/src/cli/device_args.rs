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
