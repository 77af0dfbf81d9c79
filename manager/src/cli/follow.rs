//! t
use super::fail::*;
use mailfleet::home::Home;
use manager_core::CampaignId;
use std::path::Path;
pub(crate) fn follow(_: &Home, _: CampaignId) -> Outcome {
    Ok(Done::All)
}
pub(crate) fn watch(_: Option<&Path>, _: &super::args::CampaignId) -> Outcome {
    Ok(Done::All)
}
