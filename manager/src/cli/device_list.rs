//! Which devices a command names: `AGENT/DEVICE`, a list of them, or a file (R12).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use shared::AgentId;
use shared::device::DeviceName;
use shared::limits::DEVICES_MAX_COUNT;

use super::fail::{Fail, Next as _, OrFail as _};
use super::files::read_text;

/// A list of devices as a file: 100,000 of them with their agents, and some columns beside.
const FILE_MAX_BYTES: u64 = 64 * 1024 * 1024;

/// A device of an agent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DeviceRef {
    pub(crate) agent: AgentId,
    pub(crate) device: DeviceName,
}

impl DeviceRef {
    /// Reads `AGENT/DEVICE`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (agent, device) =
            text.trim().split_once('/').ok_or("expected AGENT/DEVICE, such as A0001/mfp")?;
        let agent = AgentId::parse(agent).map_err(|err| err.to_string())?;
        let device = DeviceName::parse(device).map_err(|err| err.to_string())?;
        Ok(Self { agent, device })
    }
}

impl fmt::Display for DeviceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.agent, self.device)
    }
}

/// Reads `--devices`: a file if there is one of that name, else a list. Each device once, in order.
pub(crate) fn named(text: &str) -> Result<BTreeSet<DeviceRef>, Fail> {
    let path = Path::new(text);
    let found = if path.is_file() { of_file(path)? } else { of_list(text)? };
    let mut of_agent: BTreeMap<&AgentId, usize> = BTreeMap::new();
    for one in &found {
        let count = of_agent.entry(&one.agent).or_default();
        *count = count.saturating_add(1);
        if *count > DEVICES_MAX_COUNT {
            return Err(Fail::usage(format!(
                "--devices names more than {DEVICES_MAX_COUNT} devices of {}: no agent has so many",
                one.agent
            ))
            .next("look for a mistake in the list"));
        }
    }
    if found.is_empty() {
        return Err(Fail::usage(format!("--devices {text} names no device"))
            .next("leave --devices away if all devices are meant that the firmware is for"));
    }
    Ok(found)
}

fn of_list(text: &str) -> Result<BTreeSet<DeviceRef>, Fail> {
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    let read = |item: &str| {
        DeviceRef::parse(item).map_err(|err| {
            Fail::usage(format!("--devices: \"{item}\" is neither a file nor a device: {err}"))
                .next("AGENT/DEVICE, separated by commas, or the name of a file with one a line")
        })
    };
    items.map(read).collect()
}

fn of_file(path: &Path) -> Result<BTreeSet<DeviceRef>, Fail> {
    let text = read_text(path, "the list of devices", FILE_MAX_BYTES)?;
    let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    if first.contains(',') {
        return of_csv(path, &text);
    }
    let mut found = BTreeSet::new();
    for (n, line) in text.lines().enumerate() {
        let item = line.split('#').next().unwrap_or_default().trim();
        if !item.is_empty() {
            found.insert(DeviceRef::parse(item).map_err(|err| bad_line(path, n.saturating_add(1), &err))?);
        }
    }
    Ok(found)
}

/// What `report devices` writes, or any table with these two columns.
fn of_csv(path: &Path, text: &str) -> Result<BTreeSet<DeviceRef>, Fail> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(text.as_bytes());
    let unreadable = || format!("cannot read the list of devices {}", path.display());
    let expected = "CSV with the columns agent and device, as `mailfleet report devices` writes it";
    let header = reader.headers().or_usage(unreadable()).next(expected)?.clone();
    let place = |name: &str| header.iter().position(|column| column.trim().eq_ignore_ascii_case(name));
    let (Some(agent), Some(device)) = (place("agent"), place("device")) else {
        return Err(Fail::usage(format!("{} has no columns agent and device", path.display())).next(expected));
    };
    let mut found = BTreeSet::new();
    for (n, record) in reader.records().enumerate() {
        let record = record.or_usage(unreadable()).next(expected)?;
        let cell = |at: usize| record.get(at).unwrap_or_default().trim();
        let text = format!("{}/{}", cell(agent), cell(device));
        found.insert(DeviceRef::parse(&text).map_err(|err| bad_line(path, n.saturating_add(2), &err))?);
    }
    Ok(found)
}

fn bad_line(path: &Path, line: usize, err: &str) -> Fail {
    Fail::usage(format!("{} line {line}: {err}", path.display()))
        .next("one AGENT/DEVICE a line, '#' begins a comment; or CSV with the columns agent and device")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn texts(found: &BTreeSet<DeviceRef>) -> Vec<String> {
        found.iter().map(ToString::to_string).collect()
    }

    fn of_text(text: &str) -> Result<BTreeSet<DeviceRef>, Fail> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("list");
        std::fs::write(&path, text).unwrap();
        named(path.to_str().unwrap())
    }

    #[test]
    fn devices_are_named_in_a_list_a_file_or_a_table() {
        let wanted = ["A1/mfp", "A2/p.2"];
        assert_eq!(texts(&named("A2/p.2, A1/mfp,A1/mfp").unwrap()), wanted);
        assert_eq!(texts(&of_text("# all\nA1/mfp # the one\n\nA2/p.2\n").unwrap()), wanted);
        assert_eq!(texts(&of_text("site,Device,agent\r\n\"a, b\",mfp,A1\r\n,p.2,A2\r\n").unwrap()), wanted);
    }

    #[test]
    fn a_slip_in_a_list_is_named_with_its_place() {
        let of = |text: &str| format!("{:?}", of_text(text).map(|_| ()).unwrap_err());
        assert!(of("A1/mfp\nA1\n").contains("line 2"));
        assert!(of("agent,device\nA1,mfp\nA1,\n").contains("line 3"));
        assert!(of("agent,printer\nA1,mfp\n").contains("no columns agent and device"));
        assert!(of("# nothing\n").contains("names no device"));
        assert!(named("devices.csv").is_err());
    }
}
