//! Which targets are never mailed, whatever happens: what an operator wants to know before anything is sent.

use super::AgentFacts;
use crate::campaign::Campaign;
use crate::consent::Standing;
use crate::reason::Reason;
use crate::rollout::WaveKind;

/// Why an agent in this wave is not mailed the bundle; `None`: nothing is known against it. `None` as facts: there is no such agent.
#[must_use]
pub fn left_out(campaign: &Campaign, wave: u32, facts: Option<&AgentFacts>) -> Option<Reason> {
    let Some(facts) = facts.filter(|facts| facts.enrolled) else { return Some(Reason::NotEnrolled) };
    let bundle = &campaign.bundle;
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
    if !asks(campaign, wave) {
        return None;
    }
    match facts.consent {
        Standing::Never => Some(Reason::NotWanted),
        Standing::Ask if !facts.has_admin => Some(Reason::NobodyToAsk),
        Standing::Ask | Standing::Always => None,
    }
}

/// True if the customers of this wave are asked.
pub(super) fn asks(campaign: &Campaign, wave: u32) -> bool {
    let kind = campaign.rollout.wave(wave).map(|wave| wave.kind);
    campaign.rollout.consent.is_some() && kind == Some(WaveKind::Customers)
}
