//! How long a device has been up. `hrSystemUptime` is the host's, `sysUpTime` that of the SNMP program alone; both are 32
//! bits of hundredths of seconds, but Windows counts the first in milliseconds.

use shared::device::Uptime;

use super::{View, mib};

/// Milliseconds in one tick.
const TICK_MS: u64 = 10;
/// Values of a 32-bit counter.
const TICKS: u64 = 1 << 32;
/// Further apart than this, two clocks of one device are not the same clock read twice.
const APART_MS: u64 = 120_000;

/// The device's uptime, if it says one.
pub(super) fn uptime(view: &View<'_>) -> Option<Uptime> {
    let ticks = |column| view.rows.at(column, &[0]).and_then(|value| value.count());
    let is_windows = view
        .rows
        .at(mib::SYS_OBJECT_ID, &[0])
        .and_then(|value| value.name())
        .is_some_and(|id| id.arcs().starts_with(mib::MICROSOFT));
    let tick_ms = if is_windows { 1 } else { TICK_MS };
    let wraps = |tick_ms: u64| Some(TICKS.saturating_mul(tick_ms));
    let of_agent = ticks(mib::SYS_UP_TIME).map(|ticks| Uptime {
        up_ms: ticks.saturating_mul(TICK_MS),
        wraps_after_ms: wraps(TICK_MS),
        of_host: false,
    });
    let of_host = ticks(mib::HR_SYSTEM_UPTIME).filter(|ticks| *ticks > 0).map(|ticks| Uptime {
        up_ms: ticks.saturating_mul(tick_ms),
        wraps_after_ms: wraps(tick_ms),
        of_host: true,
    });
    match (of_host, of_agent) {
        // No program runs longer than its host: such a host counts from its last sleep (Brother, Samsung). That of Windows
        // has wrapped after 50 days.
        (Some(host), Some(agent)) if !is_windows && agent.up_ms > host.up_ms.saturating_add(APART_MS) => {
            Some(agent)
        }
        (host, agent) => host.or(agent),
    }
}
