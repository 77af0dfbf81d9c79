//! What is asked of a device, in which order: first who it is, then whether something is wrong, then the rest. Which tables
//! are asked follows from what the first look has shown.

use shared::device::{DeviceClass, FaultsRead};

use super::ask::{Ask, AskFault};
use super::fetch::Fetch;
use super::mib;
use super::oid::Oid;
use super::profile::{Profile, Profiles};
use super::read::{self, View};
use crate::Depth;
use crate::limits::SILENT_TABLES_MAX_COUNT;

/// First cells that tell who it is, what it does and for how long. One request.
const FIRST_LOOK: [&[u32]; 19] = [
    mib::SYS_DESCR,
    mib::SYS_OBJECT_ID,
    mib::SYS_UP_TIME,
    mib::SYS_NAME,
    mib::HR_SYSTEM_UPTIME,
    mib::HR_DEVICE_DESCR,
    mib::HR_DEVICE_STATUS,
    mib::HR_PROCESSOR_LOAD,
    mib::HR_PRINTER_STATUS,
    mib::HR_PRINTER_ERRORS,
    mib::PRT_LOCALIZATION,
    mib::PRT_SERIAL,
    mib::PRT_CHARSET,
    mib::PRT_MARKER_LIFE,
    mib::PRT_SUPPLY_LEVEL,
    mib::PRT_ALERT_CODE,
    mib::UPS_BATTERY_STATUS,
    mib::UPS_OUTPUT_SOURCE,
    mib::UPS_ALARMS,
];

const ALERTS: [&[u32]; 6] = [
    mib::PRT_ALERT_SEVERITY,
    mib::PRT_ALERT_TRAINING,
    mib::PRT_ALERT_GROUP,
    mib::PRT_ALERT_GROUP_INDEX,
    mib::PRT_ALERT_CODE,
    mib::PRT_ALERT_DESCR,
];

/// What faults of a power supply are told by.
const UPS_FAULTS: [&[u32]; 3] = [mib::UPS_ALARMS, mib::UPS_ALARM_DESCR, mib::UPS_OUTPUT_SOURCE];

/// A table: its name for a person, its columns.
type Table = (&'static str, &'static [&'static [u32]]);

const PRINTER_TABLES: [Table; 6] = [
    (
        "supplies",
        &[
            mib::PRT_SUPPLY_COLORANT,
            mib::PRT_SUPPLY_CLASS,
            mib::PRT_SUPPLY_TYPE,
            mib::PRT_SUPPLY_DESCR,
            mib::PRT_SUPPLY_UNIT,
            mib::PRT_SUPPLY_MAX,
            mib::PRT_SUPPLY_LEVEL,
        ],
    ),
    ("markers", &[mib::PRT_MARKER_UNIT, mib::PRT_MARKER_LIFE, mib::PRT_MARKER_POWER_ON]),
    (
        "inputs",
        &[
            mib::PRT_INPUT_UNIT,
            mib::PRT_INPUT_MAX,
            mib::PRT_INPUT_LEVEL,
            mib::PRT_INPUT_MEDIA,
            mib::PRT_INPUT_NAME,
            mib::PRT_INPUT_DESCR,
        ],
    ),
    (
        "general",
        &[
            mib::PRT_LOCALIZATION,
            mib::PRT_PRINTER_NAME,
            mib::PRT_SERIAL,
            mib::PRT_CHARSET,
            mib::PPM_DEVICE_ID,
        ],
    ),
    ("colorants", &[mib::PRT_COLORANT_VALUE]),
    ("devices", &[mib::HR_DEVICE_TYPE, mib::HR_DEVICE_DESCR]),
];

const PC_TABLES: [Table; 3] = [
    ("processors", &[mib::HR_PROCESSOR_LOAD]),
    (
        "storage",
        &[
            mib::HR_STORAGE_TYPE,
            mib::HR_STORAGE_DESCR,
            mib::HR_STORAGE_UNITS,
            mib::HR_STORAGE_SIZE,
            mib::HR_STORAGE_USED,
        ],
    ),
    ("installed programs", &[mib::HR_INSTALLED_NAME]),
];

const PC_SCALARS: [&[u32]; 11] = [
    mib::HR_SYSTEM_USERS,
    mib::HR_SYSTEM_PROCESSES,
    mib::HR_MEMORY_SIZE,
    mib::UCD_MEMORY_SIZE,
    mib::UCD_MEMORY_FREE,
    mib::UCD_CPU_IDLE,
    mib::UCD_CPU_TICKS[0].1,
    mib::UCD_CPU_TICKS[1].1,
    mib::UCD_CPU_TICKS[2].1,
    mib::UCD_CPU_TICKS[3].1,
    mib::UCD_CPU_TICKS[4].1,
];

const UPS_TABLES: [Table; 2] = [
    ("inputs", &[mib::UPS_INPUT_FREQUENCY, mib::UPS_INPUT_VOLTAGE]),
    (
        "outputs",
        &[mib::UPS_OUTPUT_VOLTAGE, mib::UPS_OUTPUT_CURRENT, mib::UPS_OUTPUT_POWER, mib::UPS_OUTPUT_LOAD],
    ),
];

const UPS_SCALARS: [&[u32]; 11] = [
    mib::UPS_VENDOR,
    mib::UPS_MODEL,
    mib::UPS_FIRMWARE,
    mib::UPS_AGENT_VERSION,
    mib::UPS_SECONDS_ON_BATTERY,
    mib::UPS_MINUTES_LEFT,
    mib::UPS_CHARGE,
    mib::UPS_BATTERY_VOLTAGE,
    mib::UPS_BATTERY_CURRENT,
    mib::UPS_BATTERY_TEMPERATURE,
    mib::UPS_OUTPUT_FREQUENCY,
];

fn names(columns: &[&[u32]]) -> Vec<Oid> {
    columns.iter().map(|column| Oid::new(column)).collect()
}

/// Asks one device. Says what it is and which profile fits.
///
/// # Errors
/// It cannot be asked, or what is wrong with it could not be read: an observation without that would say that nothing is.
pub(super) async fn gather<'p, A: Ask>(
    fetch: &mut Fetch<'_, A>,
    profiles: &'p Profiles,
    given: Option<DeviceClass>,
    depth: Depth,
) -> Result<(DeviceClass, Option<&'p Profile>), AskFault> {
    fetch.first_cells(&names(&FIRST_LOOK)).await?;
    if fetch.rows().is_empty() {
        return Err(AskFault::Nothing);
    }
    let mut profile = by_first_look(fetch, profiles);
    if profile.is_none() && given != Some(DeviceClass::Pc) && prints(fetch) {
        fetch.objects(&profiles.tell_tales()).await?;
        profile = profiles.find_by_presence(|oid| fetch.rows().get(oid).is_some());
    }
    let none = Profile::default();
    let rules = profile.unwrap_or(&none);
    if given.is_none() && !fetch.rows().has(mib::HR_DEVICE_DESCR) {
        // Only the maker's own table has a name that can tell the class.
        let names = [rules.identity.model.as_slice(), &rules.identity.device_id].concat();
        fetch.objects(&names).await?;
    }
    let class = given.unwrap_or_else(|| read::class(&View::new(fetch.rows(), rules)));
    what_is_wrong(fetch, class).await?;
    if depth == Depth::Full {
        the_rest(fetch, class, rules).await?;
    }
    Ok((class, profile))
}

fn by_first_look<'p, A: Ask>(fetch: &Fetch<'_, A>, profiles: &'p Profiles) -> Option<&'p Profile> {
    let none = Profile::default();
    let view = View::new(fetch.rows(), &none);
    let object_id = fetch.rows().at(mib::SYS_OBJECT_ID, &[0]).and_then(|value| value.name());
    let texts: Vec<String> = [view.text(mib::SYS_DESCR, &[0]), view.first_text(mib::HR_DEVICE_DESCR)]
        .into_iter()
        .flatten()
        .collect();
    profiles.find(object_id, &texts)
}

fn prints<A: Ask>(fetch: &Fetch<'_, A>) -> bool {
    read::is_printing(&View::new(fetch.rows(), &Profile::default()))
}

/// Status and alerts, of every printer that the device has.
async fn what_is_wrong<A: Ask>(fetch: &mut Fetch<'_, A>, class: DeviceClass) -> Result<(), AskFault> {
    match class {
        DeviceClass::Pc => return Ok(()),
        DeviceClass::Ups => {
            let alarms = fetch.rows().number(mib::UPS_ALARMS, &[0]);
            if alarms != Some(0) {
                fetch.columns("alarms", &[mib::UPS_ALARM_DESCR]).await?;
            }
            return Ok(());
        }
        _ => {}
    }
    let mut columns: Vec<&[u32]> = Vec::new();
    let rows = fetch.rows();
    columns.extend([mib::HR_PRINTER_STATUS, mib::HR_PRINTER_ERRORS].iter().filter(|column| rows.has(column)));
    if rows.has(mib::PRT_ALERT_CODE) {
        columns.extend(ALERTS);
    }
    if !columns.is_empty() {
        fetch.columns("status and alerts", &columns).await?;
    }
    // The first look has the status of the first device, which is mostly the printer.
    let rows = fetch.rows();
    let printers = rows.column(mib::HR_PRINTER_ERRORS).chain(rows.column(mib::HR_PRINTER_STATUS));
    let mut missing: Vec<Oid> = printers
        .filter(|(index, _)| rows.at(mib::HR_DEVICE_STATUS, index).is_none())
        .map(|(index, _)| Oid::new(mib::HR_DEVICE_STATUS).with(index))
        .collect();
    if rows.has(mib::PRT_ALERT_CODE) {
        missing.extend(read::charset_name(rows).filter(|name| rows.get(name).is_none()));
    }
    missing.sort();
    missing.dedup();
    fetch.objects(&missing).await
}

/// Whether all came that faults are told by. Asked after `gather`.
pub(super) fn faults_read<A: Ask>(fetch: &Fetch<'_, A>, class: DeviceClass) -> FaultsRead {
    let is_unread = |column: &&[u32]| fetch.is_unread(column);
    let some_unread = match class {
        // It has no faults that could be read.
        DeviceClass::Pc => false,
        DeviceClass::Ups => UPS_FAULTS.iter().any(is_unread),
        _ => ALERTS.iter().chain(&[mib::HR_PRINTER_ERRORS]).any(is_unread),
    };
    if some_unread { FaultsRead::Unreadable } else { FaultsRead::Known }
}

/// Counters, supplies, parts, identity. A table that a device does not answer is left out; one that does not answer two of
/// them is gone.
async fn the_rest<A: Ask>(
    fetch: &mut Fetch<'_, A>,
    class: DeviceClass,
    profile: &Profile,
) -> Result<(), AskFault> {
    let (scalars, tables): (&[&[u32]], &[Table]) = match class {
        DeviceClass::Pc => (&PC_SCALARS, &PC_TABLES),
        DeviceClass::Ups => (&UPS_SCALARS, &UPS_TABLES),
        _ => (&[], &PRINTER_TABLES),
    };
    let mut silent: u32 = 0;
    let scalars: Vec<Oid> = scalars.iter().map(|column| Oid::new(column).with(&[0])).collect();
    let came = fetch.objects(&scalars).await;
    pass(fetch, "values", came, &mut silent)?;
    for (table, columns) in tables {
        let came = fetch.columns(table, columns).await;
        pass(fetch, table, came, &mut silent)?;
    }
    if class == DeviceClass::Pc && fetch.rows().at(mib::HR_SYSTEM_PROCESSES, &[0]).is_none() {
        let came = fetch.columns("processes", &[mib::HR_RUN_STATUS]).await;
        pass(fetch, "processes", came, &mut silent)?;
    }
    let came = fetch.objects(&profile.objects()).await;
    pass(fetch, "the maker's values", came, &mut silent)?;
    for columns in profile.columns() {
        let came = fetch.columns("the maker's table", &columns).await;
        pass(fetch, "the maker's table", came, &mut silent)?;
    }
    Ok(())
}

/// Goes on past one silent table, and past the end of the time with what there is.
fn pass<A: Ask>(
    fetch: &mut Fetch<'_, A>,
    what: &str,
    came: Result<(), AskFault>,
    silent: &mut u32,
) -> Result<(), AskFault> {
    match came {
        Ok(()) => *silent = 0,
        Err(AskFault::Silent) if fetch.is_late() => fetch.leave_out(format!("{what}: no time left")),
        Err(AskFault::Silent) => {
            *silent = silent.saturating_add(1);
            if *silent >= SILENT_TABLES_MAX_COUNT {
                return Err(AskFault::Silent);
            }
            fetch.leave_out(format!("{what}: no answer in time"));
        }
        Err(fault @ AskFault::Garbage(_)) => fetch.leave_out(format!("{what}: {fault}")),
        Err(fault) => return Err(fault),
    }
    Ok(())
}
