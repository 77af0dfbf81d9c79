//! t
use super::fail::*;
use std::path::Path;
pub(crate) fn run(_: Option<&Path>, _: &super::args::Run) -> Outcome {
    Ok(Done::All)
}
