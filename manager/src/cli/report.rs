//! `report versions, campaign`: CSV for spreadsheets and other programs. The rows are `manager-core`'s.

use std::collections::BTreeMap;
use std::path::Path;

use mailfleet::store::AgentRecord;
use manager_core::CampaignId;
use manager_core::rows::{AgentCells, campaign_row, version_rows};
use serde::Serialize;
use shared::{AgentId, UnixMillis};

use super::args::{ReportCampaign, ReportOutput};
use super::csv::{Rows, write_csv};
use super::fail::{Fail, Outcome};
use super::open;
use super::view::View;

const VERSION_COLUMNS: &str = "agent,mail,site,note,software_version,rom_version,module,module_version,module_date,\
                               reported_at,from_manager_bytes_per_second,to_devices_bytes_per_second";

const CAMPAIGN_COLUMNS: &str = "campaign,agent,mail,note,from_version,target_version,reported_version,state,\
                                reason,attempts,mailed_at,reported_at";

pub(crate) fn versions(home: Option<&Path>, args: &ReportOutput) -> Outcome {
    let home = open::home(home)?;
    let mut store = open::store(&home)?;
    let agents = store.read(|tx| tx.agents()).map_err(open::store_failed)?;
    let mut rows = Vec::new();
    for agent in &agents {
        let (Some(report), Some(at)) = (&agent.versions, agent.versions_at) else { continue };
        if since(args, Some(at)) {
            rows.extend(version_rows(&agent.id, &cells(agent), report, &at.to_string()));
        }
    }
    write_csv(VERSION_COLUMNS, args.output.as_deref(), |csv| put_all(csv, &rows))
}

pub(crate) fn campaign(home: Option<&Path>, args: &ReportCampaign) -> Outcome {
    let home = open::home(home)?;
    let mut store = open::store(&home)?;
    let view = View::load(&mut store, CampaignId(i64::from(args.number)))?;
    let agents = store.read(|tx| tx.agents()).map_err(open::store_failed)?;
    let agents: BTreeMap<AgentId, AgentCells> = agents.iter().map(|a| (a.id.clone(), cells(a))).collect();
    let unknown = AgentCells::default();
    let rows: Vec<_> = view
        .campaign
        .targets
        .iter()
        .filter(|(_, target)| since(&args.out, target.reported_at))
        .map(|(id, target)| {
            let waits = view.plan.waiting.get(id).map(ToString::to_string);
            campaign_row(&view.campaign, id, target, agents.get(id).unwrap_or(&unknown), waits)
        })
        .collect();
    let output = args.out.output.as_deref();
    write_csv(CAMPAIGN_COLUMNS, output, |csv| put_all(csv, &rows))
}

fn put_all<T: Serialize>(csv: &mut Rows<'_>, rows: &[T]) -> Result<(), Fail> {
    rows.iter().for_each(|row| csv.put(row));
    Ok(())
}

/// `--since` keeps what was reported at or after it; what was never reported is not since any time.
fn since(args: &ReportOutput, reported_at: Option<UnixMillis>) -> bool {
    args.since.is_none_or(|since| reported_at.is_some_and(|at| at >= since))
}

fn cells(agent: &AgentRecord) -> AgentCells {
    AgentCells { mail: agent.mail.to_string(), site: agent.site.to_string(), note: agent.note.to_string() }
}
