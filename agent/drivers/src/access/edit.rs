//! Adds a device to the text of `devices.toml`, or takes one out, and leaves everything else in it as people wrote it,
//! comments too. What comes out was read back: it has the devices that it had, and this one more or less.
//!
//! Pure: the file is the caller's.

use serde::Serialize;
use shared::device::DeviceName;
use thiserror::Error;

use super::{Device, DevicesError, read_devices, read_with_lines};

/// A device as it is written into the list; what is `None` is left out. The keys are those of the file.
#[derive(Clone, Default, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the file's keys; the module above explains them")]
pub struct Entry {
    pub name: String,
    pub driver: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub community: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_password: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub privacy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub privacy_password: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub self_signed: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watch_programs: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
}

/// The list is not changed.
#[derive(Debug, Error)]
pub enum EditError {
    /// The list that is there cannot be read.
    #[error("the list is not changed, because it cannot be read")]
    Bad(#[source] DevicesError),
    /// The new device is wrong.
    #[error("device \"{device}\": {why}")]
    Wrong {
        /// Its name.
        device: String,
        /// What is wrong.
        why: String,
    },
    /// Another has its name.
    #[error("a device is called \"{0}\" already")]
    There(String),
    /// None has this name.
    #[error("no device is called \"{0}\"")]
    Missing(String),
    /// The list is written in another way than as `[[device]]`, one after the other.
    #[error("the list is written in a way that this command cannot change: change it by hand")]
    ByHand,
}

impl Entry {
    /// The lines that stand in the list.
    ///
    /// # Errors
    /// The device is wrong.
    pub fn to_toml(&self) -> Result<String, EditError> {
        #[derive(Serialize)]
        struct List<'a> {
            device: [&'a Entry; 1],
        }
        let wrong = |why: String| EditError::Wrong { device: self.name.clone(), why };
        toml::to_string(&List { device: [self] }).map_err(|err| wrong(err.to_string()))
    }

    /// The device that is meant.
    ///
    /// # Errors
    /// It is wrong.
    pub fn device(&self) -> Result<Device, EditError> {
        let wrong = |why: String| EditError::Wrong { device: self.name.clone(), why };
        let mut devices = read_devices(&self.to_toml()?).map_err(|err| match err {
            DevicesError::Device { why, .. } => wrong(why),
            // Its place is in a text that nobody has written.
            DevicesError::Toml(fault) => wrong(fault.problem),
            other @ DevicesError::TooMany(_) => EditError::Bad(other),
        })?;
        devices.pop().ok_or_else(|| wrong("it is not there".to_owned()))
    }
}

/// The list with one more device at its end.
///
/// # Errors
/// The device is wrong or its name is taken, or the list cannot be read.
pub fn with_device(list: &str, entry: &Entry) -> Result<String, EditError> {
    let mut expected = read_devices(list).map_err(EditError::Bad)?;
    let device = entry.device()?;
    if expected.iter().any(|other| other.name == device.name) {
        return Err(EditError::There(entry.name.clone()));
    }
    expected.push(device);
    let before = list.trim_end();
    let gap = if before.is_empty() { "" } else { "\n\n" };
    checked(format!("{before}{gap}{}", entry.to_toml()?), &expected)
}

/// The list without a device: its lines go, with the comments between them.
///
/// # Errors
/// There is no such device, or the list cannot be read, or not changed.
pub fn without_device(list: &str, name: &DeviceName) -> Result<String, EditError> {
    let devices = read_with_lines(list).map_err(EditError::Bad)?;
    let at = devices.iter().position(|(_, device)| device.name == *name);
    let at = at.ok_or_else(|| EditError::Missing(name.to_string()))?;
    let head = devices.get(at).map_or(0, |(line, _)| line.saturating_sub(1));
    let next = devices.get(at.saturating_add(1)).map(|(line, _)| line.saturating_sub(1));
    let lines: Vec<&str> = list.split_inclusive('\n').collect();
    let of_it = lines.get(head..next.unwrap_or(lines.len())).ok_or(EditError::ByHand)?;
    // Comments behind its last key may speak of what comes next.
    let is_setting = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    let mut length = of_it.iter().rposition(is_setting).map_or(0, |last| last.saturating_add(1));
    if of_it.get(length).is_some_and(|line| line.trim().is_empty()) {
        length = length.saturating_add(1);
    }
    let end = head.saturating_add(length);
    let kept = lines.iter().enumerate().filter(|(line, _)| !(head..end).contains(line));
    let expected: Vec<Device> =
        devices.iter().filter(|(_, device)| device.name != *name).map(|(_, device)| device.clone()).collect();
    checked(kept.map(|(_, line)| *line).collect(), &expected)
}

fn checked(list: String, expected: &[Device]) -> Result<String, EditError> {
    match read_devices(&list) {
        Ok(found) if found == expected => Ok(list),
        Err(err @ DevicesError::TooMany(_)) => Err(EditError::Bad(err)),
        _ => Err(EditError::ByHand),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "# Ours.\n\n[[device]]\nname = \"mfp\"   # second floor\ndriver = \"snmp\"\n# its address\n\
        address = \"192.0.2.17\"\n\n# The box itself.\n[[device]]\nname = \"box\"\ndriver = \"host\"\n";

    fn name(text: &str) -> DeviceName {
        DeviceName::parse(text).unwrap()
    }

    fn printer() -> Entry {
        Entry {
            name: "office".into(),
            driver: "snmp".into(),
            address: Some("192.0.2.18".into()),
            community: Some("a \"b\" \\ c\u{7f}\n".into()),
            ..Entry::default()
        }
    }

    #[test]
    fn what_is_added_stands_behind_what_people_wrote() {
        let list = with_device(LIST, &printer()).unwrap();
        assert!(list.starts_with(LIST), "{list}");
        let devices = read_devices(&list).unwrap();
        assert_eq!(devices[2], printer().device().unwrap());
        assert_eq!(with_device("", &printer()).unwrap(), printer().to_toml().unwrap());
    }

    #[test]
    fn what_is_added_and_taken_out_again_leaves_the_list_as_it_was() {
        let list = with_device(LIST, &printer()).unwrap();
        assert_eq!(without_device(&list, &name("office")).unwrap().trim_end(), LIST.trim_end());
    }

    #[test]
    fn comments_of_others_stay_when_a_device_goes() {
        let list = without_device(LIST, &name("mfp")).unwrap();
        assert_eq!(list, "# Ours.\n\n# The box itself.\n[[device]]\nname = \"box\"\ndriver = \"host\"\n");
        let list = without_device(LIST, &name("box")).unwrap();
        assert!(list.ends_with("address = \"192.0.2.17\"\n\n# The box itself.\n"), "{list}");
    }

    #[test]
    fn a_device_that_is_wrong_or_there_already_changes_nothing() {
        let there = Entry { name: "mfp".into(), ..printer() };
        assert!(matches!(with_device(LIST, &there), Err(EditError::There(_))));
        let wrong = Entry { version: Some("4".into()), ..printer() };
        let err = with_device(LIST, &wrong).unwrap_err().to_string();
        assert_eq!(err, "device \"office\": version \"4\", expected \"1\", \"2c\" or \"3\"");
        let wrong = Entry { auth: Some("crc".into()), ..printer() };
        let err = with_device(LIST, &wrong).unwrap_err().to_string();
        assert!(err.contains("expected one of `md5`") && !err.contains("\\"), "{err}");
        assert!(matches!(without_device(LIST, &name("fax")), Err(EditError::Missing(_))));
        assert!(matches!(with_device("[[device]\n", &printer()), Err(EditError::Bad(_))));
    }

    #[test]
    fn a_list_in_another_form_is_left_to_people() {
        let inline = "device = [{ name = \"a\", driver = \"host\" }, { name = \"b\", driver = \"host\" }]\n";
        assert!(matches!(with_device(inline, &printer()), Err(EditError::ByHand)));
        assert!(matches!(without_device(inline, &name("a")), Err(EditError::ByHand)));
        // A text that looks like the head of another device.
        let tricky = "[[device]]\nname = \"a\"\ndriver = \"exec\"\ncommand = [\"\"\"x\n[[device]]\n\"\"\"]\n\n[[device]]\n\
            name = \"b\"\ndriver = \"host\"\n";
        assert_eq!(
            without_device(tricky, &name("a")).unwrap(),
            "[[device]]\nname = \"b\"\ndriver = \"host\"\n"
        );
    }
}
