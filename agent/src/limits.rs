//! Bounds of what other programs of the box can put before the agent, each with its reason. Those of what
//! travels are in `shared::limits`, those of decisions in the core's.

use std::time::Duration;

/// Leases that are looked at. A box has a handful of programs that take one.
pub const LEASES_MAX_COUNT: usize = 64;

/// Names in the folder of leases that are looked at: leases, and whatever else somebody left there.
pub const LEASE_NAMES_MAX_COUNT: usize = 1_000;

/// One lease: an owner, a reason and an end, and names of some dozen modules.
pub const LEASE_FILE_MAX_BYTES: u64 = 4 * 1024;

/// Longest owner of a lease. It is a file's name, and stands in a table.
pub const LEASE_OWNER_MAX_BYTES: usize = 64;

/// Wishes of people at the site that are looked at together: one for each order that can wait, with room.
pub const WISHES_MAX_COUNT: usize = 64;

/// One wish: an order, a name and a time.
pub const WISH_FILE_MAX_BYTES: u64 = 1024;

/// Read of one process's list of mapped files: 65,530 mappings (the kernel's default most) of ~100 bytes, and
/// as much again for long paths.
pub const MAPS_MAX_BYTES: u64 = 16 * 1024 * 1024;

/// Read of the list of users: some thousand lines.
pub const PASSWD_MAX_BYTES: u64 = 1024 * 1024;

/// A look at the mailbox before and in the trial of a new agent. Longer than any server takes that can be worked with.
pub const TRIAL_LOOK_LIMIT: Duration = Duration::from_secs(120);

/// The command that restarts the box only says so to somebody; what takes longer hangs.
pub const RESTART_COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// Times that a script's programs are looked for and killed: the first finds nearly all, a few more those that
/// were started meanwhile. What forks faster than that is not ended by signals.
pub const KILL_ROUNDS_MAX_COUNT: u32 = 100;

/// A community or password of a device: a line that somebody can type, and room.
pub const DEVICE_SECRET_MAX_BYTES: u64 = 1_024;

/// Addresses that are asked at a time when devices are looked for: small enough for a slow line and a small switch.
pub const DISCOVER_AT_A_TIME: usize = 64;

/// Managers that get copies of reports (M18). Each is a slot of 88 bytes in every such report, and one more delivery; the
/// source asks for one for faults and one for counters.
pub(crate) const COPIES_MAX_COUNT: usize = 4;
