//! Every bound of the product, with its arithmetic. Nothing else defines a limit that input can reach.
//!
//! What is not here: settings that an operator changes. Those have their defaults beside their parser; the
//! hard bounds that no setting may exceed are here.

use core::time::Duration;

/// Longest mail address accepted (RFC 5321 §4.5.3.1.3: a path is 256 octets with its angle brackets).
pub const MAIL_ADDRESS_MAX_BYTES: usize = 254;

/// Longest agent ID. It stands in file names (`ID.invite`), table cells and CSV rows.
pub const AGENT_ID_MAX_BYTES: usize = 64;

/// Longest free text of an operator (site, note, class, module name, campaign name).
pub const LABEL_MAX_BYTES: usize = 200;

/// Longest path of a module below the agent's root.
pub const MODULE_PATH_MAX_BYTES: usize = 400;

/// Modules in one bundle, and so in one version report.
pub const MODULES_MAX_COUNT: usize = 4_000;

/// `from` versions and classes in one manifest.
pub const MANIFEST_LIST_MAX_COUNT: usize = 256;

/// Encoded manifest: 4,000 modules of at most ~700 bytes would be 2.8 MB; real ones stay far below.
pub const MANIFEST_MAX_BYTES: usize = 4 * 1024 * 1024;

/// Release signatures in one bundle.
pub const RELEASE_SIGNATURES_MAX_COUNT: usize = 8;

/// Order keys that are trusted at the same time: the old one, the new one, and a spare each.
pub const ORDER_KEYS_MAX_COUNT: usize = 4;

/// One trust statement: 13 keys of 35 bytes and up to 16 signatures of 72 bytes.
pub const TRUST_MAX_BYTES: usize = 4 * 1024;

/// Signatures under one trust statement: by the old release keys and by the new ones.
pub const TRUST_SIGNATURES_MAX_COUNT: usize = 2 * RELEASE_SIGNATURES_MAX_COUNT;

/// Trust statements that introduce one envelope: only those that changed the release keys, and the newest.
pub const INTRODUCTION_MAX_COUNT: usize = 16;

/// Files of a bundle before compression, in sum.
pub const BUNDLE_UNPACKED_MAX_BYTES: u64 = 4 * 1024 * 1024 * 1024;

/// Window a zstd frame may ask the agent to hold: 2^23 bytes = 8 MiB, what level 19 uses.
pub const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Deltas in one bundle: as many older versions as a fleet has at a time, so that it gets all in one campaign.
pub const DELTAS_MAX_COUNT: usize = 8;

/// Columns of one patch, which an agent holds in memory beside the window: five numbers of two bytes for each of 400,000 places. Two
/// builds of a program of 20 MB differ in a tenth of that.
pub const PATCH_COLUMNS_MAX_BYTES: usize = 4 * 1024 * 1024;

/// Files that patches are made of: bsdiff needs seventeen times as much memory.
pub const PATCH_FILE_MAX_BYTES: u64 = 256 * 1024 * 1024;

/// Recipients in one envelope. Operators set how many they want (default 50, the number that common
/// providers accept and past which delivery gets no faster); a header must still fit
/// [`HEADER_MAX_BYTES`]: 1,000 slots of 96 bytes are 96 kB.
pub const SLOTS_MAX_COUNT: usize = 1_000;

/// Parts that one envelope's body may be cut into: 4 GiB in slices of 1 MiB.
pub const PARTS_MAX_COUNT: usize = 4_096;

/// Spans of a body that are here, or wanted, and do not touch: more than one for each second part of a cut there cannot be, and twice
/// as many leave room for a body that was cut anew. 12 bytes each.
pub const SPANS_MAX_COUNT: usize = PARTS_MAX_COUNT;

/// Smallest part worth a mail of its own: the smallest mail that every server must take is 64 KiB (RFC 5321 §4.5.3.1.7), of which base64
/// and headers leave 44 kB.
pub const PART_MIN_BYTES: u64 = 32 * 1024;

/// Encoded envelope header: slots (96 kB) and part digests (4,096 × 40 bytes = 164 kB) and room.
pub const HEADER_MAX_BYTES: usize = 320 * 1024;

/// Plain bytes in one STREAM chunk. A small box holds one chunk and its tag at a time.
pub const CHUNK_BYTES: usize = 64 * 1024;

/// One message (an order or a report) without its payload: the largest is a version report of
/// [`MODULES_MAX_COUNT`] modules.
pub const MESSAGE_MAX_BYTES: usize = 4 * 1024 * 1024;

/// Largest sealed report that the manager reads into memory: message, chunk tags, header.
pub const REPORT_MAX_BYTES: u64 = 5 * 1024 * 1024;

/// Largest sealed mail attachment from a sender that the manager does not know (enrolment requests).
pub const STRANGER_MAX_BYTES: u64 = 16 * 1024;

/// Tail of an install script's output that goes into a report.
pub const SCRIPT_OUTPUT_MAX_BYTES: usize = 10 * 1024;

/// Invitation file: a dozen short lines.
pub const INVITATION_MAX_BYTES: u64 = 16 * 1024;

/// `bundle.toml`: 4,000 modules of ~300 bytes.
pub const BUNDLE_TOML_MAX_BYTES: u64 = 4 * 1024 * 1024;

/// Mail size that is safe without asking: Postfix's default `message_size_limit` is 10,240,000 bytes.
pub const MAIL_MAX_DEFAULT_BYTES: u64 = 10_240_000;

/// Sealed bytes per mail line group: base64 in lines of 76 with CRLF costs 78 bytes for 57.
/// Headers and the note fit in 4 KiB.
#[must_use]
pub fn mail_bytes_for_attachment(attachment_bytes: u64) -> u64 {
    attachment_bytes.div_ceil(57).saturating_mul(78).saturating_add(4096)
}

/// How long an order lives unless the operator says otherwise. Relays give up after 2–5 days
/// (RFC 5321 §4.5.4.1), so a mail that is still on its way is not expired.
pub const ORDER_LIFE: Duration = Duration::from_secs(14 * 24 * 3600);

/// Longest life that an order or report may claim.
pub const ORDER_LIFE_MAX: Duration = Duration::from_secs(90 * 24 * 3600);

/// How long a report lives: it may wait in an agent's outbox and in relays.
pub const REPORT_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);

/// How far ahead of a box's own time an order may be created. Boxes without a clock battery wake up
/// months behind and must still take orders; a manager whose clock jumps to 2099 must not drag the
/// fleet's clock floor along.
pub const CLOCK_LEAD_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// How long an invitation may be used unless the operator says otherwise.
pub const INVITATION_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);

/// How long an agent opens what is sealed to keys that it has replaced, by the manager's signed time: the life of an
/// order, so that none which was on its way is lost.
pub const FORMER_OPENING_KEY_LIFE: Duration = ORDER_LIFE;

/// How long the manager believes late reports under keys that an agent has replaced: the life of a report, counted from
/// the first one under the new keys.
pub const FORMER_SIGNING_KEY_LIFE: Duration = REPORT_LIFE;

/// Envelope identifiers an agent remembers to refuse repeats; past it, the oldest sequence numbers
/// become the floor below which everything is refused.
pub const SEEN_MAX_COUNT: usize = 2_000;

/// Longest name of a device. It stands in file names, table cells and CSV rows.
pub const DEVICE_NAME_MAX_BYTES: usize = 64;

/// Devices behind one agent. Asking each once a minute is 17 a second.
pub const DEVICES_MAX_COUNT: usize = 1_000;

/// Counters of one device: an MFP with every paper size of every function has about 400.
pub const COUNTERS_MAX_COUNT: usize = 600;

/// Labels of one counter: function, colour, size, paper, sides, and a few to spare.
pub const COUNTER_LABELS_MAX_COUNT: usize = 8;

/// Supplies of one device: the largest recording has 17.
pub const SUPPLIES_MAX_COUNT: usize = 100;

/// Parts of one device whose wear is told.
pub const PARTS_MAX_COUNT_OF_DEVICE: usize = 100;

/// Faults of one device at a time: alert tables of real devices hold up to about 30 rows.
pub const FAULTS_MAX_COUNT: usize = 64;

/// Control programs of one device.
pub const FIRMWARES_MAX_COUNT: usize = 32;

/// Changes in one fault report: 1 kB each.
pub const FAULT_CHANGES_MAX_COUNT: usize = 500;

/// Fault reports that one acknowledgement names.
pub const ACKNOWLEDGED_MAX_COUNT: usize = 500;

/// Anomalies of one reading: one for each counter, and of the device.
pub const ANOMALIES_MAX_COUNT: usize = COUNTERS_MAX_COUNT + 8;

/// One signed reading: 600 counters with long labels are about 250 kB; real ones stay below 10 kB.
pub const READING_MAX_BYTES: u64 = 512 * 1024;

/// Readings in one report, compressed; with envelope and base64 it still fits a mail of 10 MB.
pub const READINGS_PACKED_MAX_BYTES: usize = 3 * 1024 * 1024;

/// Readings in one report in the manager's memory.
pub const READINGS_UNPACKED_MAX_BYTES: u64 = 16 * 1024 * 1024;

/// Readings in one report: each costs the manager some hundred bytes beside its own.
pub const READINGS_MAX_COUNT: usize = 20_000;

/// Release notes of a bundle: they stand in a mail that a person reads.
pub const NOTES_MAX_BYTES: usize = 8 * 1024;

/// Arguments of a bundle's test.
pub const TEST_ARGUMENTS_MAX_COUNT: usize = 32;

/// A test says "it works", it is no measurement.
pub const TEST_LIMIT_MAX: Duration = Duration::from_secs(3600);

/// Times in one schedule in which an install may begin: a window a day, for as long as an order may live, with room.
pub const INTERVALS_MAX_COUNT: usize = 100;

/// Firmware entries of one bundle: each type of each model of a large customer. 1 kB each.
pub const FIRMWARE_ENTRIES_MAX_COUNT: usize = 256;

/// Settings of one firmware entry for its handler: a port, a path, a page of a web interface, what it answers.
pub const FIRMWARE_SETTINGS_MAX_COUNT: usize = 32;

/// How long a device may be away for an update. What takes longer cannot be told from a device that was destroyed.
pub const FIRMWARE_BACK_BY_MAX: Duration = Duration::from_secs(24 * 3600);

/// Firmwares that one agent brings to its devices at a time: those of two types of all, or of more of some. One of them is 1.7 kB in a
/// report if every text in it is as long as it may be.
pub const DEVICE_UPDATES_MAX_COUNT: usize = 2 * DEVICES_MAX_COUNT;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_header_fits_its_limit() {
        let slots = SLOTS_MAX_COUNT * (8 + 32 + 48 + 8);
        let parts = PARTS_MAX_COUNT * (9 + 34);
        assert!(slots + parts + 512 < HEADER_MAX_BYTES, "{}", slots + parts);
    }

    #[test]
    fn mail_overhead_counts_base64_lines() {
        assert_eq!(mail_bytes_for_attachment(57), 78 + 4096);
        assert_eq!(mail_bytes_for_attachment(58), 156 + 4096);
    }
}
