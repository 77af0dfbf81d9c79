//! What the operator and the vendor read when a campaign halts or ends (N5, N7). Plain words, no decision.

use std::collections::BTreeMap;

use shared::AgentId;

use crate::alert::Mail;
use crate::campaign::{Campaign, TargetState};
use crate::rollout::HoldReason;

/// Targets told one by one.
const TOLD_MAX_COUNT: usize = 20;

/// The last lines of a script that a notice holds, bytes.
const OUTPUT_MAX_BYTES: usize = 4_000;

/// A campaign has halted. `outputs`: the last words of scripts, by agent.
#[must_use]
pub fn halted(campaign: &Campaign, why: &HoldReason, outputs: &BTreeMap<AgentId, String>) -> Mail {
    let version = &campaign.bundle.software_version;
    let mut text = format!(
        "{} to {version} has halted: {why}.\n\nNothing more is mailed; orders that agents have not begun are called back.\n\n\
         {}\nBundle: SHA-256 {}\n",
        title(campaign),
        counts(campaign),
        campaign.bundle.digest
    );
    text.push_str(&reasons(campaign));
    text.push_str(&last_words(outputs));
    text.push_str(&format!(
        "\nGo on: mailfleet campaign resume {}\nEnd it: mailfleet campaign cancel {}\n",
        campaign.id, campaign.id
    ));
    Mail { subject: format!("{} to {version} has halted: {why}", title(campaign)), text }
}

/// The vendor gets a release back that a campaign has stopped at (N7): what failed and what its scripts wrote. What the operator
/// does about it is not the vendor's.
#[must_use]
pub fn returned(campaign: &Campaign, why: &HoldReason, outputs: &BTreeMap<AgentId, String>) -> Mail {
    let version = &campaign.bundle.software_version;
    let text = format!(
        "Your release {version} was stopped: {why}.\n\n{}\nBundle: SHA-256 {}\n{}{}",
        counts(campaign),
        campaign.bundle.digest,
        reasons(campaign),
        last_words(outputs)
    );
    Mail { subject: format!("Release {version} was stopped: {why}"), text }
}

/// A campaign has ended.
#[must_use]
pub fn finished(campaign: &Campaign) -> Mail {
    let version = &campaign.bundle.software_version;
    let text =
        format!("{} to {version} has ended.\n\n{}{}", title(campaign), counts(campaign), reasons(campaign));
    Mail { subject: format!("{} to {version} has ended: {}", title(campaign), counts(campaign).trim()), text }
}

fn title(campaign: &Campaign) -> String {
    let name = if campaign.name.is_empty() { String::new() } else { format!(" \"{}\"", campaign.name) };
    format!("Campaign {}{name}", campaign.id)
}

fn counts(campaign: &Campaign) -> String {
    let mut counts: BTreeMap<TargetState, usize> = BTreeMap::new();
    for target in campaign.targets.values() {
        let count = counts.entry(target.state).or_default();
        *count = count.saturating_add(1);
    }
    let counts: Vec<String> = counts.iter().map(|(state, count)| format!("{count} {state}")).collect();
    format!("{}\n", counts.join(", "))
}

fn reasons(campaign: &Campaign) -> String {
    let failed = || {
        campaign
            .targets
            .iter()
            .filter_map(|(agent, target)| Some((agent, target.state, target.reason.as_ref()?)))
    };
    let mut text = String::new();
    if failed().next().is_some() {
        text.push('\n');
    }
    for (agent, state, reason) in failed().take(TOLD_MAX_COUNT) {
        text.push_str(&format!("  {agent}  {state}: {reason}\n"));
    }
    let more = failed().count().saturating_sub(TOLD_MAX_COUNT);
    if more > 0 {
        text.push_str(&format!("  and {more} more: mailfleet campaign show {}\n", campaign.id));
    }
    text
}

fn last_words(outputs: &BTreeMap<AgentId, String>) -> String {
    let words = |(agent, output): (&AgentId, &String)| {
        format!("\nThe script on {agent} wrote last:\n{}\n", indented(output))
    };
    outputs.iter().map(words).collect()
}

fn indented(output: &str) -> String {
    let mut from = output.len().saturating_sub(OUTPUT_MAX_BYTES);
    while !output.is_char_boundary(from) {
        from = from.saturating_add(1);
    }
    let lines: Vec<String> =
        output.get(from..).unwrap_or_default().trim_end().lines().map(|line| format!("  {line}")).collect();
    lines.join("\n")
}
