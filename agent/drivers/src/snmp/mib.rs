//! Names of the standard MIBs that are read: MIB-II (RFC 3418), HOST-RESOURCES (RFC 2790), Printer-MIB (RFC 3805),
//! UPS-MIB (RFC 1628), UCD-SNMP. Columns without an index; a scalar's index is 0.

pub(crate) const SYS_DESCR: &[u32] = &[1, 3, 6, 1, 2, 1, 1, 1];
pub(crate) const SYS_OBJECT_ID: &[u32] = &[1, 3, 6, 1, 2, 1, 1, 2];
pub(crate) const SYS_UP_TIME: &[u32] = &[1, 3, 6, 1, 2, 1, 1, 3];
pub(crate) const SYS_NAME: &[u32] = &[1, 3, 6, 1, 2, 1, 1, 5];

pub(crate) const HR_SYSTEM_UPTIME: &[u32] = &[1, 3, 6, 1, 2, 1, 25, 1, 1];
pub(crate) const HR_SYSTEM_USERS: &[u32] = &[1, 3, 6, 1, 2, 1, 25, 1, 5];
pub(crate) const HR_SYSTEM_PROCESSES: &[u32] = &[1, 3, 6, 1, 2, 1, 25, 1, 6];
/// In kilobytes.
pub(crate) const HR_MEMORY_SIZE: &[u32] = &[1, 3, 6, 1, 2, 1, 25, 2, 2];
pub(crate) const HR_STORAGE_TYPE: &[u32] = &[1, 3, 6, 1, 2, 1, 25, 2, 3, 1, 2];
pub(crate) const HR_STORAGE_DESCR: &[u32] = &[1, 3, 6, 1, 2, 1, 25, 2, 3, 1, 3];
pub(crate) const HR_STORAGE_UNITS: &[u32] = &[1, 3, 6, 1, 2, 1, 25, 2, 3, 1, 4];
pub(crate) const HR_STORAGE_SIZE: &[u32] = &[1, 3, 6, 1, 2, 1, 25, 2, 3, 1, 5];
pub(crate) const HR_STORAGE_USED: &[u32] = &[1, 3, 6, 1, 2, 1, 25, 2, 3, 1, 6];
/// `hrStorageRam`, a value of `hrStorageType`.
pub(crate) const HR_STORAGE_RAM: &[u32] = &[1, 3, 6, 1, 2, 1, 25, 2, 1, 2];
/// `hrStorageFixedDisk`, a value of `hrStorageType`.
pub(crate) const HR_STORAGE_FIXED_DISK: &[u32] = &[1, 3, 6, 1, 2, 1, 25, 2, 1, 4];
pub(crate) const HR_DEVICE_TYPE: &[u32] = &[1, 3, 6, 1, 2, 1, 25, 3, 2, 1, 2];
pub(crate) const HR_DEVICE_DESCR: &[u32] = &[1, 3, 6, 1, 2, 1, 25, 3, 2, 1, 3];
pub(crate) const HR_DEVICE_STATUS: &[u32] = &[1, 3, 6, 1, 2, 1, 25, 3, 2, 1, 5];
/// `hrDevicePrinter`, a value of `hrDeviceType`.
pub(crate) const HR_DEVICE_PRINTER: &[u32] = &[1, 3, 6, 1, 2, 1, 25, 3, 1, 5];
pub(crate) const HR_PROCESSOR_LOAD: &[u32] = &[1, 3, 6, 1, 2, 1, 25, 3, 3, 1, 2];
pub(crate) const HR_PRINTER_STATUS: &[u32] = &[1, 3, 6, 1, 2, 1, 25, 3, 5, 1, 1];
pub(crate) const HR_PRINTER_ERRORS: &[u32] = &[1, 3, 6, 1, 2, 1, 25, 3, 5, 1, 2];
pub(crate) const HR_RUN_STATUS: &[u32] = &[1, 3, 6, 1, 2, 1, 25, 4, 2, 1, 7];
pub(crate) const HR_INSTALLED_NAME: &[u32] = &[1, 3, 6, 1, 2, 1, 25, 6, 3, 1, 2];

/// Everything of the Printer-MIB.
pub(crate) const PRINTER_MIB: &[u32] = &[1, 3, 6, 1, 2, 1, 43];
pub(crate) const PRT_LOCALIZATION: &[u32] = &[1, 3, 6, 1, 2, 1, 43, 5, 1, 1, 2];
pub(crate) const PRT_PRINTER_NAME: &[u32] = &[1, 3, 6, 1, 2, 1, 43, 5, 1, 1, 16];
/// prtGeneralReset.
pub(crate) const PRT_RESET: &[u32] = &[1, 3, 6, 1, 2, 1, 43, 5, 1, 1, 3];
pub(crate) const PRT_SERIAL: &[u32] = &[1, 3, 6, 1, 2, 1, 43, 5, 1, 1, 17];
pub(crate) const PRT_CHARSET: &[u32] = &[1, 3, 6, 1, 2, 1, 43, 7, 1, 1, 4];
pub(crate) const PRT_INPUT_UNIT: &[u32] = &[1, 3, 6, 1, 2, 1, 43, 8, 2, 1, 8];
pub(crate) const PRT_INPUT_MAX: &[u32] = &[1, 3, 6, 1, 2, 1, 43, 8, 2, 1, 9];
pub(crate) const PRT_INPUT_LEVEL: &[u32] = &[1, 3, 6, 1, 2, 1, 43, 8, 2, 1, 10];
pub(crate) const PRT_INPUT_MEDIA: &[u32] = &[1, 3, 6, 1, 2, 1, 43, 8, 2, 1, 12];
pub(crate) const PRT_INPUT_NAME: &[u32] = &[1, 3, 6, 1, 2, 1, 43, 8, 2, 1, 13];
pub(crate) const PRT_INPUT_DESCR: &[u32] = &[1, 3, 6, 1, 2, 1, 43, 8, 2, 1, 18];
pub(crate) const PRT_MARKER_UNIT: &[u32] = &[1, 3, 6, 1, 2, 1, 43, 10, 2, 1, 3];
pub(crate) const PRT_MARKER_LIFE: &[u32] = &[1, 3, 6, 1, 2, 1, 43, 10, 2, 1, 4];
pub(crate) const PRT_MARKER_POWER_ON: &[u32] = &[1, 3, 6, 1, 2, 1, 43, 10, 2, 1, 5];
pub(crate) const PRT_SUPPLY_COLORANT: &[u32] = &[1, 3, 6, 1, 2, 1, 43, 11, 1, 1, 3];
pub(crate) const PRT_SUPPLY_CLASS: &[u32] = &[1, 3, 6, 1, 2, 1, 43, 11, 1, 1, 4];
pub(crate) const PRT_SUPPLY_TYPE: &[u32] = &[1, 3, 6, 1, 2, 1, 43, 11, 1, 1, 5];
pub(crate) const PRT_SUPPLY_DESCR: &[u32] = &[1, 3, 6, 1, 2, 1, 43, 11, 1, 1, 6];
pub(crate) const PRT_SUPPLY_UNIT: &[u32] = &[1, 3, 6, 1, 2, 1, 43, 11, 1, 1, 7];
pub(crate) const PRT_SUPPLY_MAX: &[u32] = &[1, 3, 6, 1, 2, 1, 43, 11, 1, 1, 8];
pub(crate) const PRT_SUPPLY_LEVEL: &[u32] = &[1, 3, 6, 1, 2, 1, 43, 11, 1, 1, 9];
pub(crate) const PRT_COLORANT_VALUE: &[u32] = &[1, 3, 6, 1, 2, 1, 43, 12, 1, 1, 4];
pub(crate) const PRT_ALERT_SEVERITY: &[u32] = &[1, 3, 6, 1, 2, 1, 43, 18, 1, 1, 2];
pub(crate) const PRT_ALERT_TRAINING: &[u32] = &[1, 3, 6, 1, 2, 1, 43, 18, 1, 1, 3];
pub(crate) const PRT_ALERT_GROUP: &[u32] = &[1, 3, 6, 1, 2, 1, 43, 18, 1, 1, 4];
pub(crate) const PRT_ALERT_GROUP_INDEX: &[u32] = &[1, 3, 6, 1, 2, 1, 43, 18, 1, 1, 5];
pub(crate) const PRT_ALERT_CODE: &[u32] = &[1, 3, 6, 1, 2, 1, 43, 18, 1, 1, 7];
pub(crate) const PRT_ALERT_DESCR: &[u32] = &[1, 3, 6, 1, 2, 1, 43, 18, 1, 1, 8];
/// `ppmPrinterIEEE1284DeviceId` of the Printer Working Group's Port Monitor MIB.
pub(crate) const PPM_DEVICE_ID: &[u32] = &[1, 3, 6, 1, 4, 1, 2699, 1, 2, 1, 2, 1, 1, 3];

pub(crate) const UPS_VENDOR: &[u32] = &[1, 3, 6, 1, 2, 1, 33, 1, 1, 1];
pub(crate) const UPS_MODEL: &[u32] = &[1, 3, 6, 1, 2, 1, 33, 1, 1, 2];
pub(crate) const UPS_FIRMWARE: &[u32] = &[1, 3, 6, 1, 2, 1, 33, 1, 1, 3];
pub(crate) const UPS_AGENT_VERSION: &[u32] = &[1, 3, 6, 1, 2, 1, 33, 1, 1, 4];
pub(crate) const UPS_BATTERY_STATUS: &[u32] = &[1, 3, 6, 1, 2, 1, 33, 1, 2, 1];
pub(crate) const UPS_SECONDS_ON_BATTERY: &[u32] = &[1, 3, 6, 1, 2, 1, 33, 1, 2, 2];
pub(crate) const UPS_MINUTES_LEFT: &[u32] = &[1, 3, 6, 1, 2, 1, 33, 1, 2, 3];
pub(crate) const UPS_CHARGE: &[u32] = &[1, 3, 6, 1, 2, 1, 33, 1, 2, 4];
pub(crate) const UPS_BATTERY_VOLTAGE: &[u32] = &[1, 3, 6, 1, 2, 1, 33, 1, 2, 5];
pub(crate) const UPS_BATTERY_CURRENT: &[u32] = &[1, 3, 6, 1, 2, 1, 33, 1, 2, 6];
pub(crate) const UPS_BATTERY_TEMPERATURE: &[u32] = &[1, 3, 6, 1, 2, 1, 33, 1, 2, 7];
pub(crate) const UPS_INPUT_FREQUENCY: &[u32] = &[1, 3, 6, 1, 2, 1, 33, 1, 3, 3, 1, 2];
pub(crate) const UPS_INPUT_VOLTAGE: &[u32] = &[1, 3, 6, 1, 2, 1, 33, 1, 3, 3, 1, 3];
pub(crate) const UPS_OUTPUT_SOURCE: &[u32] = &[1, 3, 6, 1, 2, 1, 33, 1, 4, 1];
pub(crate) const UPS_OUTPUT_FREQUENCY: &[u32] = &[1, 3, 6, 1, 2, 1, 33, 1, 4, 2];
pub(crate) const UPS_OUTPUT_VOLTAGE: &[u32] = &[1, 3, 6, 1, 2, 1, 33, 1, 4, 4, 1, 2];
pub(crate) const UPS_OUTPUT_CURRENT: &[u32] = &[1, 3, 6, 1, 2, 1, 33, 1, 4, 4, 1, 3];
pub(crate) const UPS_OUTPUT_POWER: &[u32] = &[1, 3, 6, 1, 2, 1, 33, 1, 4, 4, 1, 4];
pub(crate) const UPS_OUTPUT_LOAD: &[u32] = &[1, 3, 6, 1, 2, 1, 33, 1, 4, 4, 1, 5];
pub(crate) const UPS_ALARMS: &[u32] = &[1, 3, 6, 1, 2, 1, 33, 1, 6, 1];
pub(crate) const UPS_ALARM_DESCR: &[u32] = &[1, 3, 6, 1, 2, 1, 33, 1, 6, 2, 1, 2];
/// `upsWellKnownAlarms`: values of `upsAlarmDescr` lie below it.
pub(crate) const UPS_WELL_KNOWN_ALARMS: &[u32] = &[1, 3, 6, 1, 2, 1, 33, 1, 6, 3];

/// In kilobytes.
pub(crate) const UCD_MEMORY_SIZE: &[u32] = &[1, 3, 6, 1, 4, 1, 2021, 4, 5];
/// In kilobytes.
pub(crate) const UCD_MEMORY_FREE: &[u32] = &[1, 3, 6, 1, 4, 1, 2021, 4, 6];
/// Hundredths of the time that the processors had nothing to do.
pub(crate) const UCD_CPU_IDLE: &[u32] = &[1, 3, 6, 1, 4, 1, 2021, 11, 11];
pub(crate) const UCD_CPU_TICKS: [(&str, &[u32]); 5] = [
    ("user", &[1, 3, 6, 1, 4, 1, 2021, 11, 50]),
    ("nice", &[1, 3, 6, 1, 4, 1, 2021, 11, 51]),
    ("system", &[1, 3, 6, 1, 4, 1, 2021, 11, 52]),
    ("idle", &[1, 3, 6, 1, 4, 1, 2021, 11, 53]),
    ("wait", &[1, 3, 6, 1, 4, 1, 2021, 11, 54]),
];

/// `sysObjectID` of Windows lies below it.
pub(crate) const MICROSOFT: &[u32] = &[1, 3, 6, 1, 4, 1, 311];
/// `sysObjectID` of net-snmp lies below it: Linux and the BSDs, and printers that are built on them.
pub(crate) const NET_SNMP: &[u32] = &[1, 3, 6, 1, 4, 1, 8072, 3, 2];
