//! Readings on a real disk: chains, room, what a power cut leaves.

use super::*;
use shared::Label;
use shared::device::{Counter, DeviceClass, Measure, Unit};
use shared::reading::unpack;

fn key() -> SigningKey {
    SigningKey::from_seed(&[1; 32])
}

fn open(folder: &Path, room_bytes: u64) -> Readings {
    Readings::open(folder.join("readings"), AgentId::parse("A1").unwrap(), room_bytes).unwrap()
}

fn seen(hour: i64) -> Observation {
    let mut seen = Observation::of(DeviceClass::Mfp, UnixMillis(hour * 3_600_000));
    seen.counters = (0..40)
        .map(|n| Counter {
            name: Label::lossy(&format!("pages-{n}")),
            labels: vec![],
            value: u64::try_from(hour).unwrap() * 10,
            unit: Unit::Impressions,
            measure: Measure::Cumulative,
        })
        .collect();
    seen
}

fn keep(readings: &mut Readings, hour: i64) -> ReadingMark {
    let device = DeviceName::parse(if hour % 2 == 0 { "mfp" } else { "ups" }).unwrap();
    readings.keep(&key(), device, seen(hour), vec![]).unwrap()
}

#[test]
fn the_chain_goes_on_after_a_restart_and_proves_itself() {
    let folder = tempfile::tempdir().unwrap();
    for hour in 0..5 {
        keep(&mut open(folder.path(), u64::MAX), hour);
    }
    let readings = open(folder.path(), u64::MAX);
    let packed = readings.pack(None).unwrap();
    let all = unpack(&packed.bytes).unwrap();
    assert_eq!((packed.upto, packed.more, all.len()), (readings.head(), false, 5));
    for pair in all.windows(2) {
        assert_eq!(pair[1].read().unwrap().previous, pair[0].digest());
        assert!(pair[1].verify(&key().verifying_key()).is_ok());
    }
    let after = readings.pack(Some(all[2].read().unwrap().mark)).unwrap();
    assert_eq!(unpack(&after.bytes).unwrap(), all[3..]);
    let devices = ["mfp", "ups"].map(|name| DeviceName::parse(name).unwrap());
    let last = readings.last_of(&devices).unwrap();
    assert_eq!(last.iter().map(|(_, seen)| seen.taken_at.0).collect::<Vec<_>>(), [14_400_000, 10_800_000]);
}

#[test]
fn half_a_reading_at_the_end_goes_and_the_next_one_takes_its_place() {
    let folder = tempfile::tempdir().unwrap();
    keep(&mut open(folder.path(), u64::MAX), 1);
    keep(&mut open(folder.path(), u64::MAX), 2);
    let file = fs::read_dir(folder.path().join("readings")).unwrap().next().unwrap().unwrap().path();
    let whole = fs::read(&file).unwrap();
    let first = mend(&file).unwrap().unwrap();
    for end in (0..whole.len()).step_by(97) {
        fs::write(&file, &whole[..end]).unwrap();
        let mut readings = open(folder.path(), u64::MAX);
        let mark = keep(&mut readings, 3);
        let all = unpack(&readings.pack(None).unwrap().bytes).unwrap();
        // Of a file of which nothing can be read, the chain is lost: another one begins.
        assert_eq!(mark.chain == first.mark.chain, all.len() == 2, "cut at {end}");
        assert_eq!(all.last().unwrap().read().unwrap().mark, mark);
        fs::remove_dir_all(folder.path().join("readings")).unwrap();
        private_folder(&folder.path().join("readings")).unwrap();
    }
}

#[test]
fn a_full_disk_loses_what_is_delivered_then_what_can_be_thinned_and_never_the_head() {
    let folder = tempfile::tempdir().unwrap();
    let room = 2 << 20;
    let mut readings = open(folder.path(), room);
    let mut hour = 0;
    let half = loop {
        let mark = keep(&mut readings, hour);
        hour += 1;
        if readings.segments().unwrap().len() == 20 {
            break mark;
        }
    };
    readings.delivered(Some(half));
    for more in hour..hour + 4_000 {
        keep(&mut readings, more);
    }
    hour += 4_000;
    let size: u64 = readings.segments().unwrap().iter().map(|s| fs::metadata(&s.path).unwrap().len()).sum();
    assert!(size <= room + room / 16, "{size}");
    let packed = readings.pack(None).unwrap();
    let all: Vec<_> = unpack(&packed.bytes).unwrap().iter().map(|s| s.read().unwrap()).collect();
    assert!(all[0].mark > half, "what the manager has went first");
    let days = |part: &[Reading]| {
        part.windows(2).map(|p| p[1].seen.taken_at.0 - p[0].seen.taken_at.0).max().unwrap()
    };
    assert!(days(&all[..20]) > 3_600_000, "old ones are thinned");
    assert!(days(&all[..20]) <= 24 * 3_600_000, "to one a day of each device");
    let rest =
        readings.pack(Some(ReadingMark { chain: half.chain, index: u64::try_from(hour).unwrap() - 9 }));
    let rest: Vec<_> = unpack(&rest.unwrap().bytes).unwrap();
    assert_eq!(rest.len(), 9, "the newest are all there");
}

#[test]
fn another_chain_takes_over_what_is_after_a_place_and_proves_itself() {
    let folder = tempfile::tempdir().unwrap();
    // Files are small, so that there are several.
    let room = 64 * 8_000;
    let mut readings = open(folder.path(), room);
    let marks: Vec<ReadingMark> = (0..60).map(|hour| keep(&mut readings, hour)).collect();
    let files = readings.segments().unwrap().len();
    assert!(files > 3, "{files}");
    let old = unpack(&readings.pack(None).unwrap().bytes).unwrap();
    let there = Linked { digest: old[7].digest(), previous: old[6].digest() };
    assert_eq!(readings.linked_at(marks[7]).unwrap(), Some(there));
    assert_eq!(readings.linked_at(ReadingMark { index: 99, ..marks[0] }).unwrap(), None);
    let other = SigningKey::from_seed(&[2; 32]);
    let head = readings.begin_anew(&other, 20).unwrap();
    assert_eq!(head, readings.head());
    for again in [readings, open(folder.path(), room)] {
        assert_eq!(again.head().unwrap().index, 40);
        assert_ne!(again.head().unwrap().chain, marks[0].chain);
        assert_eq!(again.linked_at(marks[30]).unwrap(), None);
        // Of the old chain nothing is left behind.
        let packed = again.pack(Some(marks[50])).unwrap();
        let new = unpack(&packed.bytes).unwrap();
        assert_eq!(new.len(), 40);
        for (at, (new, old)) in new.iter().zip(&old[20..]).enumerate() {
            assert!(new.verify(&other.verifying_key()).is_ok());
            let (new, old) = (new.read().unwrap(), old.read().unwrap());
            assert_eq!((new.device, new.seen, new.anomalies), (old.device, old.seen, old.anomalies));
            assert_eq!(new.mark.index, at as u64 + 1);
        }
        assert_eq!(new[0].read().unwrap().previous, Digest([0; 32]));
        assert!(new.windows(2).all(|pair| pair[1].read().unwrap().previous == pair[0].digest()));
    }
}

#[test]
fn another_chain_can_begin_with_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut readings = open(folder.path(), u64::MAX);
    let old = keep(&mut readings, 1);
    assert_eq!(readings.begin_anew(&key(), 1).unwrap(), None);
    let new = keep(&mut readings, 2);
    assert_eq!(new.index, 1);
    assert_ne!(new.chain, old.chain);
}

#[test]
fn a_power_cut_in_a_change_of_chains_leaves_one_of_them_whole() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("readings");
    let (next, last) = (beside(&at, "next"), beside(&at, "last"));
    let mut readings = open(folder.path(), u64::MAX);
    let old = (0..5).map(|hour| keep(&mut readings, hour)).last();
    // While it is made.
    private_folder(&next).unwrap();
    fs::write(next.join("half"), "a reading").unwrap();
    assert_eq!(open(folder.path(), u64::MAX).head(), old);
    // Between the two names.
    private_folder(&next).unwrap();
    fs::rename(&at, &last).unwrap();
    assert_eq!(open(folder.path(), u64::MAX).head(), old);
    // Before the old one is gone.
    let mut readings = open(folder.path(), u64::MAX);
    private_folder(&last).unwrap();
    let new = readings.begin_anew(&key(), 2).unwrap();
    private_folder(&last).unwrap();
    assert_eq!(open(folder.path(), u64::MAX).head(), new);
    assert!(!next.exists() && !last.exists());
}
