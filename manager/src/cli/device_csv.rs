//! `report faults, counters, devices, devices-campaign, supplies, parts`: CSV of what is behind the agents. The rows are `manager-core`'s.

use std::ops::ControlFlow;
use std::path::Path;

use mailfleet::store::{AgentRecord, DeviceRecord, FaultRecord, Store, StoreError, Tx, TxResult};
use mailfleet::system::now;
use manager_core::CampaignId;
use manager_core::chain::link;
use manager_core::counter_rows::counter_rows;
use manager_core::device_rows::{DeviceRow, FaultRow, Place, SupplyRow, part_row, runs_out, supply_row};
use manager_core::rows::defused;
use manager_core::supply::trend;
use shared::device::{Observation, Supply};
use shared::{AgentId, UnixMillis};

use super::csv::{Rows, write_csv};
use super::device_args::{ReportDeviceCampaign, ReportDevices, ReportSupplies, Scope};
use super::fail::{Fail, Outcome};
use super::open;
use super::select::in_scope;
use super::updates_view::{no_firmware, update_row};

const FAULT_COLUMNS: &str = "agent,device,class,code,kind,fault_class,severity,location,text,raised_at,cleared_at,\
                             reported_at,acknowledged_at,site,model,serial,returns";

const COUNTER_COLUMNS: &str =
    "agent,device,class,counter,labels,value,unit,taken_at,received_at,anomaly,chain,index";

const DEVICE_COLUMNS: &str = "agent,site,device,class,vendor,model,serial,firmware,status,taken_at,open_faults,\
                              refused_readings";

const SUPPLY_COLUMNS: &str = "agent,site,device,model,serial,kind,colour,supply,level,capacity,percent,unit,per_day,\
                              runs_out_at,part_number,supply_serial,taken_at";

const UPDATE_COLUMNS: &str = "campaign,agent,site,device,vendor,model,serial,type,old_version,new_version,state,reason,\
                              about,begins_at,ends_at,sent_bytes,bytes,bytes_per_second,transfers,transfers_allowed,\
                              since,reported_at";

const PART_COLUMNS: &str = "agent,site,device,part,used,life,percent,unit,taken_at";

/// The store, and whose devices are meant.
struct Behind {
    store: Store,
    agents: Vec<AgentRecord>,
}

impl Behind {
    /// With those that were removed: what they reported is still billed.
    fn ever(home: Option<&Path>, scope: &Scope) -> Result<Self, Fail> {
        Self::of(home, scope, |tx| tx.agents_ever())
    }

    fn now(home: Option<&Path>, scope: &Scope) -> Result<Self, Fail> {
        Self::of(home, scope, |tx| tx.agents())
    }

    fn of(
        home: Option<&Path>,
        scope: &Scope,
        list: fn(&Tx<'_>) -> TxResult<Vec<AgentRecord>>,
    ) -> Result<Self, Fail> {
        let home = open::home(home)?;
        let mut store = open::store(&home)?;
        let all = store.read(list).map_err(open::store_failed)?;
        let agents = in_scope(scope, &all)?.into_iter().cloned().collect();
        Ok(Self { store, agents })
    }

    /// Writes the rows of every agent, all of one moment.
    fn write(
        mut self,
        columns: &str,
        output: Option<&Path>,
        of_agent: impl Fn(&Tx<'_>, &AgentRecord, &mut Rows<'_>) -> TxResult<()>,
    ) -> Outcome {
        write_csv(columns, output, |rows| {
            let all = |tx: &Tx<'_>| self.agents.iter().try_for_each(|agent| of_agent(tx, agent, rows));
            let done: Result<(), StoreError> = self.store.read(all);
            done.map_err(open::store_failed)
        })
    }
}

/// Goes on while rows are wanted.
fn on(rows: &Rows<'_>) -> ControlFlow<()> {
    if rows.has_failed() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

pub(crate) fn faults(home: Option<&Path>, args: &ReportDevices) -> Outcome {
    let mut behind = Behind::ever(home, &args.scope)?;
    let wanted: std::collections::BTreeSet<&AgentId> = behind.agents.iter().map(|agent| &agent.id).collect();
    let take = |rows: &mut Rows<'_>, fault: FaultRecord| {
        let recent = args.out.since.is_none_or(|since| fault.changed_at >= since);
        if recent && wanted.contains(&fault.agent) {
            rows.put(&fault_row(&fault));
        }
        on(rows)
    };
    write_csv(FAULT_COLUMNS, args.out.output.as_deref(), |rows| {
        let all = |tx: &Tx<'_>| tx.each_fault(false, |fault| take(rows, fault));
        behind.store.read(all).map_err(open::store_failed)
    })
}

pub(crate) fn fault_row(fault: &FaultRecord) -> FaultRow {
    let time = |at: Option<UnixMillis>| at.map_or(String::new(), |at| at.to_string());
    FaultRow {
        agent: fault.agent.to_string(),
        device: fault.device.clone(),
        class: fault.class.clone(),
        code: defused(&fault.code),
        kind: fault.kind.to_string(),
        fault_class: fault.fault_class.to_string(),
        severity: fault.severity.to_string(),
        location: defused(&fault.location),
        text: defused(&fault.text),
        raised_at: fault.raised_at.to_string(),
        cleared_at: time(fault.cleared_at),
        reported_at: fault.reported_at.to_string(),
        acknowledged_at: time(fault.acknowledged_at),
        site: defused(&fault.site),
        model: defused(&fault.model),
        serial: defused(&fault.serial),
        returns: fault.returns,
    }
}

pub(crate) fn counters(home: Option<&Path>, args: &ReportDevices) -> Outcome {
    let behind = Behind::ever(home, &args.scope)?;
    behind.write(COUNTER_COLUMNS, args.out.output.as_deref(), |tx, agent, rows| {
        tx.each_reading(&agent.id, args.out.since, |kept| {
            // It was read when it came; whether it still is what was signed is asked of `report verify`.
            if let Ok(reading) = kept.signed.read() {
                let link = link(kept.mark.index, kept.previous, kept.before);
                let (taken, received) = (reading.seen.taken_at.to_string(), kept.received_at.to_string());
                for row in counter_rows(&reading, link, kept.chain_number, &taken, &received) {
                    rows.put(&row);
                }
            }
            on(rows)
        })
    })
}

pub(crate) fn devices(home: Option<&Path>, args: &ReportDevices) -> Outcome {
    let behind = Behind::now(home, &args.scope)?;
    behind.write(DEVICE_COLUMNS, args.out.output.as_deref(), |tx, agent, rows| {
        let watch = tx.watch(&agent.id)?;
        let refused = watch.refused.saturating_add(watch.broken);
        tx.each_device(&agent.id, |device| {
            if args.out.since.is_none_or(|since| device.heard_at >= since) {
                rows.put(&device_row(agent, &device, refused).for_csv());
            }
            Ok(on(rows))
        })
    })
}

pub(crate) fn updates(home: Option<&Path>, args: &ReportDeviceCampaign) -> Outcome {
    let mut behind = Behind::ever(home, &args.scope)?;
    let id = CampaignId(i64::from(args.number));
    let known = |tx: &Tx<'_>| {
        let choices = tx.device_terms(id)?.map(|_| tx.all_device_choices(id)).transpose()?;
        Ok((tx.campaign(id)?.is_some(), choices))
    };
    let choices = match behind.store.read(known).map_err(open::store_failed)? {
        (true, Some(choices)) => choices,
        (true, None) => return Err(no_firmware(id)),
        (false, _) => {
            return Err(
                Fail::usage(format!("there is no campaign {id}")).next("`mailfleet campaign list` shows all")
            );
        }
    };
    behind.write(UPDATE_COLUMNS, args.out.output.as_deref(), |tx, agent, rows| {
        for row in tx.device_updates(id, &agent.id)? {
            if args.out.since.is_none_or(|since| row.heard_at >= since) {
                rows.put(&update_row(id.0, agent.site.as_str(), &row, &choices).for_csv());
            }
        }
        Ok(())
    })
}

pub(crate) fn device_row(agent: &AgentRecord, device: &DeviceRecord, refused_readings: u64) -> DeviceRow {
    let mut row = DeviceRow {
        agent: agent.id.to_string(),
        site: agent.site.to_string(),
        device: device.device.clone(),
        class: device.class.clone(),
        model: device.model.clone(),
        serial: device.serial.clone(),
        open_faults: device.open_faults,
        refused_readings,
        ..DeviceRow::default()
    };
    if let Some(seen) = &device.seen {
        row.describe(seen);
    }
    row
}

/// Hands over the last reading of each device, if it was heard of since.
fn each_seen(
    tx: &Tx<'_>,
    agent: &AgentRecord,
    since: Option<UnixMillis>,
    mut take: impl FnMut(Place<'_>, &Observation) -> TxResult<ControlFlow<()>>,
) -> TxResult<()> {
    tx.each_device(&agent.id, |device| {
        let place = Place { agent: agent.id.as_str(), site: agent.site.as_str(), device: &device.device };
        match &device.seen {
            Some(seen) if since.is_none_or(|since| device.heard_at >= since) => take(place, seen),
            _ => Ok(ControlFlow::Continue(())),
        }
    })
}

pub(crate) fn parts(home: Option<&Path>, args: &ReportDevices) -> Outcome {
    let behind = Behind::now(home, &args.scope)?;
    behind.write(PART_COLUMNS, args.out.output.as_deref(), |tx, agent, rows| {
        each_seen(tx, agent, args.out.since, |place, seen| {
            seen.parts.iter().for_each(|part| rows.put(&part_row(place, seen, part)));
            Ok(on(rows))
        })
    })
}

/// Those that run out in time are held until all are known; the others are written as they are read.
pub(crate) fn supplies(home: Option<&Path>, args: &ReportSupplies) -> Outcome {
    let Behind { mut store, agents } = Behind::now(home, &args.scope)?;
    let until = args.within.map(|within| now().plus(within));
    let soon = |at: Option<UnixMillis>| at.zip(until).is_some_and(|(at, until)| at <= until);
    write_csv(SUPPLY_COLUMNS, args.out.output.as_deref(), |rows| {
        let all = |tx: &Tx<'_>| {
            let mut first: Vec<(UnixMillis, SupplyRow)> = Vec::new();
            if until.is_some() {
                for agent in &agents {
                    each_supply(tx, agent, args.out.since, |at, row| {
                        first.extend(at.filter(|_| soon(at)).map(|at| (at, row)));
                        ControlFlow::Continue(())
                    })?;
                }
            }
            // Stable: equal days stay in the order of agents and devices.
            first.sort_by_key(|(at, _)| *at);
            first.iter().for_each(|(_, row)| rows.put(row));
            agents.iter().try_for_each(|agent| {
                each_supply(tx, agent, args.out.since, |at, row| {
                    if !soon(at) {
                        rows.put(&row);
                    }
                    on(rows)
                })
            })
        };
        store.read(all).map_err(open::store_failed)
    })
}

fn each_supply(
    tx: &Tx<'_>,
    agent: &AgentRecord,
    since: Option<UnixMillis>,
    mut take: impl FnMut(Option<UnixMillis>, SupplyRow) -> ControlFlow<()>,
) -> TxResult<()> {
    each_seen(tx, agent, since, |place, seen| {
        for supply in &seen.supplies {
            let (at, row) = supply_of(tx, agent, place, seen, supply)?;
            if take(at, row).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    })
}

/// The row of a supply, and when it runs out.
fn supply_of(
    tx: &Tx<'_>,
    agent: &AgentRecord,
    place: Place<'_>,
    seen: &Observation,
    supply: &Supply,
) -> TxResult<(Option<UnixMillis>, SupplyRow)> {
    let trend = trend(&tx.supply_levels(&agent.id, place.device, supply.key.as_str())?);
    Ok((runs_out(supply, trend, seen.taken_at), supply_row(place, seen, supply, trend)))
}
