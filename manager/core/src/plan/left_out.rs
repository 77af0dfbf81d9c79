//! Which targets are never mailed, whatever happens: what an operator wants to know before anything is sent.

use super::AgentFacts;
use crate::campaign::{BundleFacts, Campaign};
use crate::consent::Standing;
use crate::reason::Reason;
use crate::rollout::WaveKind;

/// Why an agent is not mailed the bundle; `None`: nothing is known against it. `asks`: its administrator has to agree. `None` as facts:
/// there is no such agent.
#[must_use]
pub fn left_out(bundle: &BundleFacts, asks: bool, facts: Option<&AgentFacts>) -> Option<Reason> {
    let Some(facts) = facts.filter(|facts| facts.enrolled) else { return Some(Reason::NotEnrolled) };
    if !bundle.classes.is_empty() && !bundle.classes.iter().any(|class| facts.classes.contains(class)) {
        return Some(Reason::WrongClass);
    }
    // An agent that never reported is mailed: it knows its version and refuses by itself.
    if let Some(known) = facts.version.as_ref().filter(|_| !bundle.from.is_empty()) {
        let goes_over = |version| bundle.from.contains(version) || *version == bundle.software_version;
        if !known.exact().is_some_and(goes_over) {
            return Some(Reason::WrongFromVersion(known.clone()));
        }
    }
    match facts.consent {
        Standing::Never if asks => Some(Reason::NotWanted),
        Standing::Ask if asks && !facts.has_admin => Some(Reason::NobodyToAsk),
        Standing::Ask | Standing::Always | Standing::Never => None,
    }
}

/// True if the customers of this wave are asked.
#[must_use]
pub fn asks(campaign: &Campaign, wave: u32) -> bool {
    let kind = campaign.rollout.wave(wave).map(|wave| wave.kind);
    campaign.rollout.consent.is_some() && kind == Some(WaveKind::Customers)
}
