//! Rows of CSV, in the columns that users rely on. Knows no file format: the shell writes them.

use serde::Serialize;
use shared::AgentId;
use shared::message::{ModuleVersion, VersionReport};

use crate::campaign::{Campaign, Target};

/// Makes a text from outside harmless in a spreadsheet, which would run `=…`, `+…`, `-…` or `@…` as a
/// formula: an apostrophe in front makes it text.
#[must_use]
pub fn defused(text: &str) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text.to_owned() }
}

/// What a row says of an agent beside its reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentCells {
    /// Mail address.
    pub mail: String,
    /// Site.
    pub site: String,
    /// Note of the operator.
    pub note: String,
}

/// One module of one agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VersionRow {
    /// Agent ID.
    pub agent: String,
    /// Mail address.
    pub mail: String,
    /// Site.
    pub site: String,
    /// Note.
    pub note: String,
    /// Overall version as reported.
    pub software_version: String,
    /// Version of the box's read-only system.
    pub rom_version: String,
    /// The module's name.
    pub module: String,
    /// Its version.
    pub module_version: String,
    /// Its date.
    pub module_date: String,
    /// When the report came.
    pub reported_at: String,
    /// Bytes a second from the manager, as the agent has measured them; empty: not known.
    pub from_manager_bytes_per_second: String,
    /// Bytes a second from the agent to its devices; empty: not known.
    pub to_devices_bytes_per_second: String,
}

/// The rows of one version report; one with empty module cells if it has no modules.
#[must_use]
pub fn version_rows(
    agent: &AgentId,
    cells: &AgentCells,
    report: &VersionReport,
    reported_at: &str,
) -> Vec<VersionRow> {
    let rate = |rate: Option<u64>| rate.map_or(String::new(), |rate| rate.to_string());
    let row = |module: Option<&ModuleVersion>| VersionRow {
        agent: agent.to_string(),
        mail: defused(&cells.mail),
        site: defused(&cells.site),
        note: defused(&cells.note),
        software_version: defused(&report.software.to_string()),
        rom_version: defused(report.rom_version.as_str()),
        module: module.map_or(String::new(), |m| defused(m.name.as_str())),
        module_version: module.map_or(String::new(), |m| defused(m.version.as_str())),
        module_date: module.map_or(String::new(), |m| defused(m.date.as_str())),
        reported_at: reported_at.to_owned(),
        from_manager_bytes_per_second: rate(report.line.and_then(|line| line.from_manager)),
        to_devices_bytes_per_second: rate(report.line.and_then(|line| line.to_devices)),
    };
    if report.modules.is_empty() {
        vec![row(None)]
    } else {
        report.modules.iter().map(|m| row(Some(m))).collect()
    }
}

/// One target of a campaign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CampaignRow {
    /// Campaign number.
    pub campaign: i64,
    /// Agent ID.
    pub agent: String,
    /// Mail address.
    pub mail: String,
    /// Note.
    pub note: String,
    /// What it reported before.
    pub from_version: String,
    /// What it should report.
    pub target_version: String,
    /// What it reported since.
    pub reported_version: String,
    /// State.
    pub state: String,
    /// Why, if it is an end that is no success, or a wait.
    pub reason: String,
    /// Install orders sent.
    pub attempts: u32,
    /// When the relay took the last order.
    pub mailed_at: String,
    /// When the last report came.
    pub reported_at: String,
}

/// The row of one target. `waits` is the plan's reason, if it waits.
#[must_use]
pub fn campaign_row(
    campaign: &Campaign,
    agent: &AgentId,
    target: &Target,
    cells: &AgentCells,
    waits: Option<String>,
) -> CampaignRow {
    let time = |t: Option<shared::UnixMillis>| t.map_or(String::new(), |t| t.to_string());
    let version =
        |v: &Option<shared::message::Reported>| v.as_ref().map_or(String::new(), ToString::to_string);
    CampaignRow {
        campaign: campaign.id.0,
        agent: agent.to_string(),
        mail: defused(&cells.mail),
        note: defused(&cells.note),
        from_version: version(&target.from_version),
        target_version: campaign.bundle.software_version.to_string(),
        reported_version: version(&target.reported),
        state: target.state.to_string(),
        reason: defused(&target.why(waits).unwrap_or_default()),
        attempts: target.attempts,
        mailed_at: time(target.mailed_at),
        reported_at: time(target.reported_at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_that_a_spreadsheet_would_run_are_defused() {
        assert_eq!(defused("=HYPERLINK(\"x\")"), "'=HYPERLINK(\"x\")");
        for text in ["+1", "-1", "@x", "\tx"] {
            assert!(defused(text).starts_with('\''), "{text}");
        }
        assert_eq!(defused("a=b"), "a=b");
    }
}
