//! The box as a whole: which run of its system this is, and how it is restarted. When, the core says.

use std::process::Stdio;

use agent_core::BootId;
use shared::Label;
use tokio::process::Command;

use crate::limits::RESTART_COMMAND_LIMIT;
use crate::stop::Stop;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The run of the box's system, as its kernel names it. A box that cannot say is always in the same one: an
/// install that waits for a restart there is taken back in the end.
pub(crate) fn boot_id() -> BootId {
    // For tests of what happens over a restart of the box; not in release builds.
    #[cfg(debug_assertions)]
    if let Ok(pretended) = std::env::var("MAILFLEET_TEST_BOOT_ID") {
        return BootId(Label::lossy(&pretended));
    }
    let text = std::fs::read_to_string(BOOT_ID).unwrap_or_else(|err| {
        tracing::warn!(%err, "Cannot tell one run of the system from the next: {BOOT_ID}");
        "unknown".to_owned()
    });
    BootId(Label::lossy(text.trim()))
}

/// Says to the system that it is to restart. That it does not is noticed by the core, which says so again.
pub(crate) async fn restart(command: &[String], stop: &mut Stop) {
    let Some((program, args)) = command.split_first() else {
        tracing::info!("The box is to be restarted; waiting until somebody does it");
        return;
    };
    tracing::warn!(program, "Restarting the box");
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    let ended = tokio::select! {
        ended = tokio::time::timeout(RESTART_COMMAND_LIMIT, command.status()) => ended,
        () = stop.wanted() => return,
    };
    match ended {
        Ok(Ok(status)) if status.success() => {}
        Ok(Ok(status)) => tracing::error!(%status, program, "The command that restarts the box failed"),
        Ok(Err(err)) => tracing::error!(%err, program, "Cannot run the command that restarts the box"),
        Err(_) => tracing::error!(program, "The command that restarts the box hangs; it was ended"),
    }
}
