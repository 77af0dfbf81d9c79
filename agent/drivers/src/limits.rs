//! Bounds of what a device can put before the agent, each with its reason. Those of what travels are in
//! `shared::limits`.

use std::time::Duration;

/// Rows of one poll. The largest recording of a PC has 2,101; a printer with every vendor table some 1,000.
pub(crate) const ROWS_MAX_COUNT: usize = 10_000;

/// Bytes of one poll's values and names: 10,000 rows of some 60 bytes, and as much again for long texts.
pub(crate) const ROWS_MAX_BYTES: usize = 1024 * 1024;

/// Rows of one column. A PC with 1,500 packages is usual; a table that never ends stops here.
pub(crate) const COLUMN_ROWS_MAX_COUNT: usize = 3_000;

/// Longest value that is kept. Names and texts have 255 bytes by their MIBs, Brother's records some 200.
pub(crate) const VALUE_MAX_BYTES: usize = 4 * 1024;

/// Objects in one request: 20 names and their values fit a datagram of 1,472 bytes, unless many are long texts, and then
/// the device says that its answer is too big.
pub(crate) const OBJECTS_MAX_COUNT: usize = 20;

/// Objects in one answer to GETBULK, at first. Numbers fit one datagram; printers cut what does not.
pub(crate) const BULK_OBJECTS: usize = 25;

/// Objects in one answer to GETBULK of a device that stumbled over the first.
pub(crate) const BULK_OBJECTS_CAREFUL: usize = 10;

/// Times that a request is sent again: UDP loses packets, printers lose them while they wake up.
pub(crate) const RETRIES: u32 = 1;

/// Tables that may stay unanswered one after the other before the device counts as silent.
pub(crate) const SILENT_TABLES_MAX_COUNT: u32 = 2;

/// Time for status and faults: each minute, beside up to 1,000 devices.
pub(crate) const FAULTS_LIMIT: Duration = Duration::from_secs(20);

/// Time for everything: 1,000 rows one by one at 40 ms, as version 1 asks them. Below what the agent gives a look.
pub(crate) const FULL_LIMIT: Duration = Duration::from_secs(45);

/// Sets of keys kept for SNMPv3: one for each pair of passwords of 1,000 devices.
pub(crate) const KEYS_MAX_COUNT: usize = 1_000;

/// What the sockets may hold of answers that arrive at once: 500 devices of 1,472 bytes.
pub(crate) const SOCKET_BUFFER_BYTES: usize = 1024 * 1024;

/// One profile file of a user; the largest of ours has 6 kB.
pub(crate) const PROFILE_MAX_BYTES: usize = 256 * 1024;

/// Profiles in all: ours and a user's.
pub(crate) const PROFILES_MAX_COUNT: usize = 200;

/// Arcs of an object identifier (RFC 2578 §3.5).
pub(crate) const OID_ARCS_MAX_COUNT: usize = 128;

/// What is told of things left out: enough for a person to see the pattern.
pub(crate) const LEFT_OUT_MAX_COUNT: usize = 32;

/// Longest address of a printer: RFC 8011 §5.1.6 has 1,023 bytes for one.
pub(crate) const URL_MAX_BYTES: usize = 1_023;

/// Head of an answer in HTTP, or one line in a body of chunks: printers send some 300 bytes, other servers 16 KiB at most.
pub(crate) const HTTP_HEAD_MAX_BYTES: usize = 16 * 1024;

/// Times that a server may say "continue" before its answer: once is the rule.
pub(crate) const HTTP_INTERIM_MAX_COUNT: u32 = 3;

/// One answer in IPP: everything that a large printer knows of itself is 100 kB, and it is asked for a part of that.
pub(crate) const HTTP_BODY_MAX_BYTES: usize = 1024 * 1024;

/// Values of one attribute. Supplies, trays and reasons have some dozen.
pub(crate) const IPP_VALUES_MAX_COUNT: usize = 500;

/// Text of one file below `/proc`, `/sys` or `/etc`. The list of mounts of a box with many containers has 100 kB.
pub(crate) const HOST_FILE_MAX_BYTES: u64 = 1024 * 1024;

/// Disks of one box. More are containers' views of the same ones.
pub(crate) const HOST_DISKS_MAX_COUNT: usize = 32;

/// Processes that are looked at for the programs that are watched; the kernel's default most is 32,768.
pub(crate) const HOST_PROCESSES_MAX_COUNT: usize = 40_000;

/// Programs that are watched on one box: two counters each, of 600.
pub(crate) const HOST_PROGRAMS_MAX_COUNT: usize = 50;

/// Longest name of a program that is watched: that of a file (NAME_MAX).
pub(crate) const HOST_PROGRAM_MAX_BYTES: usize = 255;

/// Time between two looks at the processors: 25 of their ticks, so that one of them is 4 % of one processor.
pub(crate) const HOST_CPU_SPAN: Duration = Duration::from_millis(250);

/// What `systemctl` may print: 32 units of 200 bytes are more than a person reads.
pub(crate) const HOST_UNITS_MAX_BYTES: u64 = 64 * 1024;

/// Longest time without one byte of an image moving, unless `devices.toml` says otherwise: printers erase their flash while they
/// take it, which takes a minute.
pub(crate) const FIRMWARE_STALL: Duration = Duration::from_secs(2 * 60);

/// Longest such time that may be set: makers say 15 minutes for a whole update.
pub(crate) const FIRMWARE_STALL_MAX: Duration = Duration::from_secs(15 * 60);

/// Slowest transfer that is waited for to its end, in bytes a second: a tenth of what print servers of 1995 take.
pub(crate) const FIRMWARE_RATE_MIN: u64 = 8 * 1024;

/// Time for a transfer of nothing: logins, erasing, checking.
pub(crate) const FIRMWARE_LIMIT: Duration = Duration::from_secs(30 * 60);

/// An image is read and sent in pieces of this size: what a device is short of when the last piece does not fit the digest.
pub(crate) const FIRMWARE_PIECE_BYTES: usize = 32 * 1024;

/// What the system may hold of an image that it has not sent: two pieces. More than that is faster only on lines that are long and
/// wide, and devices are near.
pub(crate) const FIRMWARE_SEND_BUFFER_BYTES: u32 = 64 * 1024;

/// One reply of an FTP server, or one line that a program prints. Servers greet with a screenful of conditions.
pub(crate) const FIRMWARE_SAID_MAX_BYTES: usize = 16 * 1024;

/// So much of what a device says stands in a reason.
pub(crate) const FIRMWARE_REASON_MAX_CHARS: usize = 120;

/// What a printer says on its own port while it takes a job is not used; more than this is no printer.
pub(crate) const FIRMWARE_CHATTER_MAX_BYTES: u64 = 1024 * 1024;

/// Events that SWUpdate may tell of one installation: some dozen for each file, of which an image has at most some hundred.
pub(crate) const FIRMWARE_EVENTS_MAX_COUNT: u32 = 100_000;

/// Longest time that a device may put an update off by itself, at a time: a weekend. It can say so again.
pub(crate) const FIRMWARE_DEFER_MAX: Duration = Duration::from_secs(3 * 24 * 3600);

/// Times that one block of TFTP is sent again before the device counts as gone.
pub(crate) const TFTP_RETRIES: u32 = 8;

/// Largest block of TFTP: what fits an Ethernet frame (RFC 2348); larger ones come in fragments, which boot loaders do not join.
pub(crate) const TFTP_BLOCK_MAX_BYTES: usize = 1_428;

/// A request of TFTP: two names and some options.
pub(crate) const TFTP_REQUEST_MAX_BYTES: usize = 1_500;
