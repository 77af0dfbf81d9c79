//! What `campaign start` and `plan` want of devices, if the bundle has firmware for them.

use std::collections::{BTreeMap, BTreeSet};

use mailfleet::store::{Store, Tx, TxResult};
use manager_core::CampaignId;
use manager_core::updates::{Choices, DeviceTerms};
use shared::AgentId;
use shared::bundle::Manifest;
use shared::message::{DeviceChoice, Rest};

use super::device_args::DeviceTermsArgs;
use super::device_list::{DeviceRef, named};
use super::fail::Fail;
use super::firmware_preview::DevicePreview;
use super::inspect::Looked;
use super::preview::Preview;
use super::{open, show};

/// What a campaign that is about to be entered wants of devices.
pub(crate) struct DeviceDraft {
    terms: DeviceTerms,
    named: BTreeSet<DeviceRef>,
}

impl DeviceDraft {
    /// Checks the options; `None`: the bundle has no firmware, and no option wants any.
    pub(crate) fn new(
        args: &DeviceTermsArgs,
        looked: &Looked,
        targets: &[AgentId],
    ) -> Result<Option<Self>, Fail> {
        if looked.manifest.firmware.is_empty() {
            return match &args.devices {
                None => Ok(None),
                Some(_) => Err(Fail::usage(format!(
                    "--devices: {} has no firmware for devices",
                    looked.path.display()
                ))
                .next("leave --devices away, or build a bundle with [[firmware]]; `mailfleet bundle inspect` shows what is in one")),
            };
        }
        let named = args.devices.as_deref().map(named).transpose()?;
        let targets: BTreeSet<&AgentId> = targets.iter().collect();
        let stranger = named.iter().flatten().find(|one| !targets.contains(&one.agent));
        if let Some(one) = stranger {
            return Err(Fail::usage(format!("--devices names {one}, and {} is not selected", one.agent))
                .next("select its agent too, or take the device out of the list; nothing was started"));
        }
        let terms = DeviceTerms {
            rest: if named.is_some() { Rest::Leave } else { Rest::Run },
            step_ms: u64::try_from(args.device_step.as_millis()).unwrap_or(u64::MAX),
            at_once: args.devices_at_once,
        };
        Ok(Some(Self { terms, named: named.unwrap_or_default() }))
    }

    /// Enters it with its campaign.
    pub(crate) fn enter(&self, tx: &Tx<'_>, id: CampaignId) -> TxResult<()> {
        tx.add_device_terms(id, &self.terms)?;
        let mut each = self.named.iter();
        each.try_for_each(|one| tx.choose_device(id, &one.agent, &one.device, DeviceChoice::default()))
    }

    /// What is expected of the devices.
    pub(crate) fn preview(
        &self,
        store: &mut Store,
        preview: &Preview<'_>,
        manifest: &Manifest,
    ) -> Result<DevicePreview, Fail> {
        let mut choices: BTreeMap<AgentId, Choices> = BTreeMap::new();
        for one in &self.named {
            let of_agent = choices.entry(one.agent.clone()).or_default();
            of_agent.insert(one.device.clone(), DeviceChoice::default());
        }
        let read = |tx: &Tx<'_>| DevicePreview::read(tx, preview, manifest, &self.terms, &choices);
        store.read(read).map_err(open::store_failed)
    }

    /// A line for `campaign start`.
    pub(crate) fn text(&self, manifest: &Manifest) -> String {
        let whom = match self.terms.rest {
            Rest::Run => "to all devices that it is for and that their sites have opened".to_owned(),
            Rest::Leave => format!("to {}", show::count(self.named.len(), "named device")),
        };
        let kinds = show::count(manifest.firmware.len(), "firmware");
        format!("{kinds} for devices: agents bring it {whom}, the first of each type alone.")
    }
}
