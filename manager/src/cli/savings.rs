//! How many agents get a delta of a bundle, and what that saves: for `campaign plan` and `start`.

use mailfleet::store::AgentRecord;
use manager_core::delta::fitting;
use serde_json::{Value, json};
use shared::SoftwareVersion;

use super::inspect::{Looked, mail_bytes};
use super::show;

/// The agents that get one delta.
pub(crate) struct Saving {
    base: SoftwareVersion,
    agents: usize,
    /// What is mailed of the bundle, and what would be without the delta.
    bytes: u64,
    full_bytes: u64,
}

/// The deltas that are used, with who has reported what they were made from.
pub(crate) fn savings(looked: &Looked, agents: &[&AgentRecord]) -> Vec<Saving> {
    let chosen: Vec<u8> = agents
        .iter()
        .filter_map(|agent| fitting(&looked.deltas, agent.versions.as_ref()))
        .map(|delta| delta.number)
        .collect();
    let used = looked.deltas.iter().filter_map(|delta| {
        Some(Saving {
            base: looked.manifest.deltas.get(usize::from(delta.number))?.base.clone(),
            agents: chosen.iter().filter(|number| **number == delta.number).count(),
            bytes: delta.bytes,
            full_bytes: looked.bytes,
        })
    });
    used.filter(|saving| saving.agents > 0).collect()
}

/// A line for each delta, for people.
pub(crate) fn text(savings: &[Saving]) -> String {
    let line = |saving: &Saving| {
        let [delta, full] = [saving.bytes, saving.full_bytes].map(|bytes| show::size(mail_bytes(bytes, 1)));
        format!(
            "{} with {} by the delta: mails of {delta}, not {full}.\n",
            show::count(saving.agents, "agent"),
            saving.base
        )
    };
    savings.iter().map(line).collect()
}

/// The same for programs.
pub(crate) fn json(savings: &[Saving]) -> Value {
    let one = |saving: &Saving| {
        json!({
            "from": saving.base.as_str(),
            "agents": saving.agents,
            "mail_bytes": mail_bytes(saving.bytes, 1),
            "full_mail_bytes": mail_bytes(saving.full_bytes, 1),
        })
    };
    savings.iter().map(one).collect()
}
