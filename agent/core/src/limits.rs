//! The agent's own bounds, each with its reason. Bounds of the protocol are in `shared::limits`.

use core::time::Duration;

/// Install orders that wait behind the running one. Each holds a bundle on the disk.
pub const QUEUE_MAX_COUNT: usize = 8;

/// Schedules that are kept: one for each job that can be here, and as many for bundles that have not come. 2 kB each.
pub(crate) const SCHEDULES_MAX_COUNT: usize = 2 * (QUEUE_MAX_COUNT + 1);

/// How often a bundle that a schedule offers is asked for, and the pause between: a mail may be lost, two are no accident.
/// A manager that hears of neither sends the bundle unasked.
pub(crate) const FETCHES_MAX_COUNT: u8 = 2;
pub(crate) const FETCH_AGAIN: Duration = Duration::from_secs(30 * 60);

/// Bodies of which parts are kept: each may take as much disk as the largest bundle. Two campaigns over each other, and room.
pub(crate) const TRANSFERS_MAX_COUNT: usize = 4;

/// How long no part must have come before the missing ones are asked for, unless the operator says otherwise: longer than a relay
/// takes for one mail after another, and greylisting for one.
pub const ASK_PARTS_AFTER_DEFAULT: Duration = Duration::from_secs(30 * 60);

/// The longest pause between two requests for parts, and how many there are for one order: over an order's life of 14 days.
pub(crate) const ASK_LONGEST: Duration = Duration::from_secs(12 * 3_600);
pub(crate) const ASKS_MAX_COUNT: u8 = 32;

/// Pause before parts are put together again when the disk did not take what came out.
pub(crate) const JOIN_AGAIN: Duration = Duration::from_secs(600);

/// Mails up to this size are fetched whatever the budget says: orders to hundreds of agents, acknowledgements, schedules. The smallest
/// part is larger: 32 KiB, and a third more in base64.
pub(crate) const SMALL_MAIL_MAX_BYTES: u64 = 40 * 1024;

/// Large mails that are left in the mailbox for later: a look lists 200 others beside them.
pub const LEFT_MAX_COUNT: usize = 200;

/// Mails that wait of which is said that they do. Anyone can write mails, and each of these costs a report.
pub(crate) const LEFT_TOLD_MAX_COUNT: usize = 16;

/// Bytes that the line may have carried before they are saved: a look at the mailbox is about 6 kB, so a save about every third look,
/// and no more than this that is counted twice after a power cut.
pub(crate) const METER_UNSAVED_MAX_BYTES: u64 = 16 * 1024;

/// Days before and after today that are kept of what was carried: this month, and the one before to look at.
pub(crate) const METER_DAYS_KEPT: i64 = 62;

/// How far ahead room in a budget is looked for: no order lives longer than 90 days.
pub(crate) const BUDGET_AHEAD_DAYS: i64 = 92;

/// Smallest mail that says something of the line's rate: below it, the answers of the server take longer than the bytes.
pub(crate) const RATE_MIN_BYTES: u64 = 64 * 1024;

/// Bytes of a part's mail beside the part: head and slots for 50 recipients.
pub(crate) const PART_HEAD_BYTES: u64 = 6 * 1024;

/// The size and digest of one part in a head.
pub(crate) const PART_INFO_BYTES: u64 = 48;

/// Tests that wait to be run. A campaign orders one.
pub(crate) const TESTS_MAX_COUNT: usize = 8;

/// Starts of one test: if something stops the agent in each of them, it may be the test.
pub(crate) const TEST_STARTS_MAX_COUNT: u8 = 3;

/// Reports that wait for the mail. A box without mail for a month makes fewer than this.
pub const OUTBOX_MAX_COUNT: usize = 500;

/// Answers that wait until the files may be read. Each becomes one report.
pub(crate) const OWED_MAX_COUNT: usize = 200;

/// Orders that one cancel order may name; the rest is not looked at.
pub(crate) const CANCEL_MAX_COUNT: usize = 256;

/// Withdrawn orders that are remembered although they never came.
pub(crate) const CANCELLED_MAX_COUNT: usize = 1_000;

/// Shortest and longest time between two heartbeats that an agent believes (PROTOCOL 12.2): a second would make it cry wolf, ten
/// years would make it deaf.
pub(crate) const HEARTBEAT_MIN_MS: u64 = 60_000;
pub(crate) const HEARTBEAT_MAX_MS: u64 = 90 * 86_400_000;

/// Interruptions (power cut, kill) of one install after which it is given up: a bundle whose script
/// kills the box must not do so for ever.
pub const INTERRUPTIONS_MAX_COUNT: u8 = 3;

/// Trials that a new agent may fail. The box may be busy, and the mail server may choose this minute to fail; what fails
/// three times in a row fails.
pub(crate) const TRIALS_MAX_COUNT: u8 = 3;

/// Starts that find a trial broken off, by a restart of the box for example, after which the new agent is given up: it may
/// be what takes the box down. More than interruptions of other steps, as a trial changes nothing.
pub(crate) const TRIAL_STARTS_MAX_COUNT: u8 = 5;

/// Restarts of the box that the script of one install may ask for: one for the update, one for the way back,
/// and one to spare. A bundle must not put a box into a loop.
pub(crate) const RESTARTS_MAX_COUNT: u8 = 3;

/// How long a restart of the box is waited for unless the operator says otherwise. Stopping services can take
/// minutes, and whoever restarts the box by hand needs some more.
pub const RESTART_LIMIT_DEFAULT: Duration = Duration::from_secs(3_600);

/// First and longest pause before the box is told again to restart.
pub(crate) const RESTART_FIRST: Duration = Duration::from_secs(120);
pub(crate) const RESTART_LONGEST: Duration = Duration::from_secs(600);

/// How long a lease can keep modules from being replaced unless the operator says otherwise: a day's work, and
/// not the weekend after it.
pub const LEASE_MAX_DEFAULT: Duration = Duration::from_secs(24 * 3_600);

/// How far report numbers jump when the state had to be taken from its older copy: numbers that the lost
/// copy has given out are not given out again.
pub(crate) const RECOVERY_SEQUENCE_GAP: u64 = 1_000;

/// Pairs of keys that were replaced and still open orders. Two weeks see one change of keys, or a few by hand.
pub(crate) const FORMER_KEYS_MAX_COUNT: usize = 4;

/// Pause before keys are made again when the disk did not take them.
pub(crate) const MAKE_KEYS_AGAIN: Duration = Duration::from_secs(600);

/// First and longest pause after "not now".
pub(crate) const WAIT_FIRST: Duration = Duration::from_secs(60);
pub(crate) const WAIT_LONGEST: Duration = Duration::from_secs(3_600);

/// First and longest pause between two tries of one report.
pub(crate) const POST_FIRST: Duration = Duration::from_secs(60);
pub(crate) const POST_LONGEST: Duration = Duration::from_secs(6 * 3_600);

/// First and longest pause between two enrolment requests.
pub(crate) const ENROL_FIRST: Duration = Duration::from_secs(3_600);
pub(crate) const ENROL_LONGEST: Duration = Duration::from_secs(24 * 3_600);

/// Looks at a device in a row that fail before it counts as silent: printers that sleep answer late.
pub(crate) const MISSES_UNTIL_SILENT: u32 = 3;

/// How long a fault that has come back must be away to have ended, and the longest that this grows to when it keeps
/// coming back.
pub(crate) const FAULT_AWAY_FIRST: Duration = Duration::from_secs(100);
pub(crate) const FAULT_AWAY_LONGEST: Duration = Duration::from_secs(3_600);

/// After so long a warning that a device never takes back counts as over.
pub(crate) const UNARY_FAULT_LIFE: Duration = Duration::from_secs(24 * 3_600);

/// How far a device's time since its start may be off from one look to the next.
pub(crate) const START_TOLERANCE: Duration = Duration::from_secs(120);

/// More than this no machine prints in a minute (ink on rolls: about 400 m of A4 a minute), and what may be on the counter
/// at once on top of it.
pub(crate) const IMPRESSIONS_PER_MINUTE_MAX: u64 = 2_000;
pub(crate) const JUMP_ALLOWANCE: u64 = 2_000;

/// When counters are sent for the first time after a device was first read.
pub(crate) const COUNTERS_FIRST: Duration = Duration::from_secs(2 * 3_600);

/// How long after its day has begun a bill waits for devices that do not answer: into the evening, so that whatever is switched on
/// in a day's work is in it, and it still goes out on its day.
pub(crate) const BILL_WAIT: Duration = Duration::from_secs(18 * 3_600);

/// Eight times the time over which the boxes of a fleet send for a bill.
pub(crate) const BILL_SPREAD: Duration = Duration::from_secs(8 * 3_600);

/// After so long what has been read late for a bill is sent.
pub(crate) const BILL_AGAIN: Duration = Duration::from_secs(24 * 3_600);

/// Bills that are remembered as taken up. A clock that goes back by less than two months makes none twice, even with one
/// each day.
pub(crate) const BILLS_MAX_COUNT: usize = 64;

/// Chains of readings that are remembered: each was lost with a disk, or begun anew after one was put back.
pub(crate) const CHAINS_MAX_COUNT: usize = 16;

/// How long a change of faults waits for others: when a whole office loses power, one mail says it.
pub(crate) const GATHER: Duration = Duration::from_secs(5);

/// How long the acknowledgement of a fault report is waited for before it is sent again (M3).
pub(crate) const ACKNOWLEDGE_WAIT: Duration = Duration::from_secs(30 * 60);

/// How often a report that was never acknowledged goes out again while the manager is heard.
pub(crate) const TELL_AGAIN: Duration = Duration::from_secs(6 * 3_600);

/// Fault changes that are kept until the manager has them: 1 kB each.
pub(crate) const CHANGES_MAX_COUNT: usize = 4_000;

/// Plans for devices that are kept: for the bundle that is installed, the one that comes, and room.
pub(crate) const PLANS_MAX_COUNT: usize = 4;

/// Bytes a second to a device, as long as nothing was measured: a slow print server. Too low only means that the last device of a night
/// waits for the next one.
pub(crate) const DEVICE_RATE_GUESS: u64 = 100_000;

/// Shortest and longest time by which a device's own word, or a plan's, moves its update: a minute would fill the log, and what is put
/// off by more than a day is rather a question for a person.
pub(crate) const DEVICE_STEP_MIN: Duration = Duration::from_secs(60);
pub(crate) const DEVICE_HOLD_MAX: Duration = Duration::from_secs(24 * 3_600);

/// Transfers to one device in a row that broke off and did no harm. What fails ten times fails.
pub(crate) const REPEATS_MAX_COUNT: u32 = 10;

/// First and longest pause before a transfer that broke off is tried again.
pub(crate) const REPEAT_FIRST: Duration = Duration::from_secs(300);
pub(crate) const REPEAT_LONGEST: Duration = Duration::from_secs(4 * 3_600);

/// How often a device is asked for its version after a transfer: it is back within minutes, and each question is a packet or two.
pub(crate) const FIRMWARE_READ_EVERY: Duration = Duration::from_secs(60);

/// How long an answer to that question is waited for before it is asked again.
pub(crate) const FIRMWARE_READ_LIMIT: Duration = Duration::from_secs(10 * 60);

/// How long a change of an update waits for others: one mail for each device and minute is enough.
pub(crate) const UPDATES_GATHER: Duration = Duration::from_secs(60);

/// `first`, doubled `attempts` times, at most `longest`.
pub(crate) fn back_off(first: Duration, longest: Duration, attempts: u32) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(attempts.min(20))).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let pause = |n| back_off(WAIT_FIRST, WAIT_LONGEST, n).as_secs();
        assert_eq!([pause(0), pause(1), pause(5), pause(6), pause(u32::MAX)], [60, 120, 1_920, 3_600, 3_600]);
    }
}
