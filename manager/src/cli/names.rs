//! Words and colours of the states that tables and JSON show, and which of them count as failed.

use manager_core::TargetState;
use shared::message::FileState;

use super::show::Colour;

/// What is at a module's path, in a word.
pub(crate) fn file_state(state: FileState) -> &'static str {
    match state {
        FileState::Good => "good",
        FileState::Altered => "altered",
        FileState::Missing => "missing",
    }
}

/// True for the ends that M15's failed mark stands for.
pub(crate) fn has_failed(state: TargetState) -> bool {
    match state {
        TargetState::Failed | TargetState::Silent | TargetState::Undeliverable | TargetState::Expired => true,
        TargetState::Pending
        | TargetState::Queued
        | TargetState::Mailed
        | TargetState::Received
        | TargetState::Deferred
        | TargetState::Installed
        | TargetState::Verified
        | TargetState::Cancelled
        | TargetState::Asked
        | TargetState::Declined => false,
    }
}

/// The failed mark's cell.
pub(crate) fn mark(state: TargetState) -> &'static str {
    if has_failed(state) { "!" } else { "" }
}

/// Green is done, red has failed, yellow is on its way or was called off.
pub(crate) fn colour(state: TargetState) -> Colour {
    if state == TargetState::Verified {
        Colour::Green
    } else if has_failed(state) {
        Colour::Red
    } else {
        Colour::Yellow
    }
}
