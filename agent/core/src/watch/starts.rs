//! How often a device has started again. Only what was seen counts: a time since the start that became shorter. A
//! counter of 32 bits that passed its end is no start, and that of an SNMP program alone is counted apart.

use minicbor::{Decode, Encode};
use shared::Label;
use shared::UnixMillis;
use shared::device::{Counter, Measure, Unit, Uptime};

use crate::limits::START_TOLERANCE;

/// The last start that a device has told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Starts {
    /// When it was asked.
    #[n(0)]
    pub asked_at: UnixMillis,
    /// What it said.
    #[n(1)]
    pub uptime: Uptime,
    /// Starts of the device that were seen.
    #[n(2)]
    pub of_device: u32,
    /// Starts of its SNMP program alone, or of one of both.
    #[n(3)]
    pub of_program: u32,
}

impl Starts {
    /// Takes what a device says now; true if it has started since.
    pub(crate) fn take(starts: &mut Option<Self>, now: UnixMillis, uptime: Uptime) -> bool {
        let Some(last) = starts else {
            *starts = Some(Self { asked_at: now, uptime, of_device: 0, of_program: 0 });
            return true;
        };
        let started = last.started(now, uptime);
        if started && uptime.of_host {
            last.of_device = last.of_device.saturating_add(1);
        } else if started {
            last.of_program = last.of_program.saturating_add(1);
        }
        last.asked_at = now;
        last.uptime = uptime;
        started
    }

    fn started(&self, now: UnixMillis, uptime: Uptime) -> bool {
        // Another clock: the two say nothing of each other.
        if uptime.of_host != self.uptime.of_host || now < self.asked_at {
            return false;
        }
        let passed = u64::try_from(now.since(self.asked_at).as_millis()).unwrap_or(u64::MAX);
        let expected = self.uptime.up_ms.saturating_add(passed);
        let margin = tolerance(passed);
        if uptime.up_ms.saturating_add(margin) >= expected {
            return false;
        }
        // Where it would stand after passing its end once.
        let wrapped = self.uptime.wraps_after_ms.and_then(|end| expected.checked_sub(end));
        wrapped.is_none_or(|wrapped| uptime.up_ms.abs_diff(wrapped) > margin)
    }

    /// Both as counters of a reading.
    pub(crate) fn counters(&self) -> [Counter; 2] {
        [("restarts", self.of_device), ("agent-restarts", self.of_program)].map(|(name, value)| Counter {
            name: Label::lossy(name),
            labels: Vec::new(),
            value: u64::from(value),
            unit: Unit::Items,
            measure: Measure::Cumulative,
        })
    }
}

/// How far a device's clock may be off: two looks, and a hundredth of the time.
fn tolerance(passed_ms: u64) -> u64 {
    let fixed = u64::try_from(START_TOLERANCE.as_millis()).unwrap_or(u64::MAX);
    fixed.saturating_add(passed_ms.checked_div(100).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    const T0: UnixMillis = UnixMillis(1_750_000_000_000);
    const MINUTE: u64 = 60_000;
    const WRAP: u64 = 1 << 32;

    fn up(up_ms: u64) -> Uptime {
        Uptime { up_ms, wraps_after_ms: Some(WRAP * 10), of_host: true }
    }

    fn told(says: &[(u64, Uptime)]) -> (u32, u32) {
        let mut starts = None;
        for (minute, uptime) in says {
            Starts::take(&mut starts, T0.plus(Duration::from_secs(minute * 60)), *uptime);
        }
        let last = starts.unwrap();
        (last.of_device, last.of_program)
    }

    #[test]
    fn a_shorter_time_since_the_start_is_a_start() {
        assert_eq!(told(&[(0, up(100 * MINUTE)), (1, up(101 * MINUTE)), (2, up(10_000))]), (1, 0));
    }

    #[test]
    fn a_clock_that_is_a_little_off_is_no_start() {
        assert_eq!(told(&[(0, up(100 * MINUTE)), (1, up(100 * MINUTE)), (600, up(697 * MINUTE))]), (0, 0));
    }

    #[test]
    fn a_counter_that_passes_its_end_is_no_start() {
        let end = WRAP * 10;
        assert_eq!(told(&[(0, up(end - MINUTE)), (2, up(MINUTE)), (3, up(2 * MINUTE))]), (0, 0));
        // One that falls from its end to elsewhere is.
        assert_eq!(told(&[(0, up(end - 500 * MINUTE)), (1, up(1_000))]), (1, 0));
    }

    #[test]
    fn the_snmp_programs_own_start_is_counted_apart() {
        let program = |up_ms| Uptime { of_host: false, ..up(up_ms) };
        assert_eq!(told(&[(0, program(100 * MINUTE)), (1, program(1_000))]), (0, 1));
        assert_eq!(told(&[(0, program(100 * MINUTE)), (1, up(1_000))]), (0, 0), "two clocks");
    }
}
