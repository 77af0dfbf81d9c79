//! Which device it is: maker, model, serial number, versions. The maker's own tables first, then the standard ones, then
//! what can be cut out of a text.

use shared::device::{DeviceClass, Firmware, Identity};

use super::{View, label, mib};

/// Every text that names the device: model, `hrDeviceDescr`, IEEE 1284 identifiers, `sysDescr`.
pub(crate) fn texts(view: &View<'_>) -> Vec<String> {
    let rules = &view.profile.identity;
    let device = view.printer_index().and_then(|index| view.text(mib::HR_DEVICE_DESCR, &[index]));
    let ids = rules.device_id.iter().filter_map(|oid| view.read(view.rows.get(oid)));
    [view.text_of(&rules.model), device]
        .into_iter()
        .flatten()
        .chain(ids)
        .chain(view.text(mib::SYS_DESCR, &[0]))
        .collect()
}

/// Which one it is.
pub(super) fn identity(view: &View<'_>, class: DeviceClass) -> Identity {
    let rules = &view.profile.identity;
    let descr = view.text(mib::SYS_DESCR, &[0]);
    let after = |word: &Option<String>| after(descr.as_deref()?, word.as_deref()?);
    let id = DeviceId::read(view);
    let mut identity = Identity {
        host: view.text(mib::SYS_NAME, &[0]).map(|text| label(&text)),
        description: descr.as_deref().map(label),
        ..Identity::default()
    };
    match class {
        DeviceClass::Pc => return identity,
        DeviceClass::Ups => {
            identity.vendor = view.text(mib::UPS_VENDOR, &[0]).map(|text| label(&text));
            identity.model = view.text(mib::UPS_MODEL, &[0]).map(|text| label(&text));
        }
        _ => {
            let device = || view.printer_index().and_then(|index| view.text(mib::HR_DEVICE_DESCR, &[index]));
            let model = view
                .text_of(&rules.model)
                .or_else(|| id.field(&["MDL", "MODEL"]).filter(|_| rules.model_by_device_id))
                .or_else(device)
                .or_else(|| after(&rules.model_after))
                .or_else(|| id.field(&["MDL", "MODEL"]));
            identity.model = model.map(|text| label(&text));
            identity.vendor = vendor(view, &id).map(|text| label(&text));
        }
    }
    let serial = view
        .text_of(&rules.serial)
        .or_else(|| view.first_text(mib::PRT_SERIAL))
        .or_else(|| after(&rules.serial_after))
        .or_else(|| id.field(&["SN", "SERN", "SERIALNUMBER"]));
    identity.serial = serial.map(|text| label(&text));
    identity.firmware = firmware(view, after(&rules.firmware_after));
    identity
}

fn vendor(view: &View<'_>, id: &DeviceId) -> Option<String> {
    let texts = texts(view);
    let branded = texts.iter().find_map(|text| view.profile.brands.iter().find(|b| text.contains(&b.word)));
    branded
        .map(|brand| brand.vendor.clone())
        .or_else(|| view.profile.vendor.clone())
        .or_else(|| id.field(&["MFG", "MANUFACTURER", "MANUFACTURE"]))
}

fn firmware(view: &View<'_>, in_descr: Option<String>) -> Vec<Firmware> {
    let rules = &view.profile.identity;
    let mut all: Vec<Firmware> = Vec::new();
    let mut add = |component: &str, version: String| {
        let component = label(component);
        if !all.iter().any(|known| known.component == component) {
            all.push(Firmware { component, version: label(&version) });
        }
    };
    for rule in &rules.firmware {
        if let Some(version) = view.read(view.rows.get(&rule.version)) {
            add(&rule.component, version);
        }
    }
    if let Some(table) = &rules.firmware_table {
        for (index, name) in view.rows.column(table.names.arcs()) {
            if let (Some(name), Some(version)) =
                (view.read(Some(name)), view.text(table.versions.arcs(), index))
            {
                add(&name, version);
            }
        }
    }
    for (component, column) in [("main", mib::UPS_FIRMWARE), ("snmp", mib::UPS_AGENT_VERSION)] {
        if let Some(version) = view.text(column, &[0]) {
            add(component, version);
        }
    }
    if let Some(version) = in_descr {
        add("main", version);
    }
    all
}

/// The word behind `word` in a text, up to a comma, semicolon or blank.
fn after(text: &str, word: &str) -> Option<String> {
    let (_, rest) = text.split_once(word)?;
    let end = |c: char| matches!(c, ',' | ';');
    let found = rest.split(end).next().unwrap_or_default().trim();
    (!found.is_empty()).then(|| found.to_owned())
}

/// What IEEE 1284 calls a device ID: `MFG:HP;MDL:LaserJet;SN:X1;`.
struct DeviceId(Vec<(String, String)>);

impl DeviceId {
    fn read(view: &View<'_>) -> Self {
        let own = view.text_of(&view.profile.identity.device_id);
        let text = own.or_else(|| view.first_text(mib::PPM_DEVICE_ID)).unwrap_or_default();
        let pair = |field: &str| {
            let (key, value) = field.split_once(':')?;
            Some((key.trim().to_uppercase(), value.trim().to_owned()))
        };
        Self(text.split(';').filter_map(pair).collect())
    }

    fn field(&self, keys: &[&str]) -> Option<String> {
        let found = self.0.iter().find(|(key, value)| keys.contains(&key.as_str()) && !value.is_empty());
        found.map(|(_, value)| value.clone())
    }
}
