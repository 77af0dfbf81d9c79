//! The readings of counters on the disk: signed, chained, one after the other in files, until the manager has them and
//! room is needed. The only truth about the chain; when it is lost, another chain begins.
//!
//! ```text
//! readings/CHAIN-INDEX.log     readings from INDEX on, framed as `shared::reading` says
//! readings.next/               another chain that is being made; it takes the place of `readings` when it is whole
//! readings.last/               what it has taken the place of
//! ```
//!
//! Not here: what is kept and when it is sent; the core says so.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use shared::device::{DeviceName, Observation};
use shared::keys::SigningKey;
use shared::message::{Linked, ReadingMark};
use shared::reading::{Anomaly, Packer, Reading, ReadingError, SignedReading, read_framed};
use shared::{AgentId, Digest, UnixMillis};

use crate::files::{private_folder, random, remove_tree, sync_folder, sync_parent, write_whole};

/// Into so many files the room is cut: old readings go one file at a time.
const FILES_IN_ROOM: u64 = 64;
/// Time in which one reading of a device is left when old ones are thinned.
const DAY_MS: i64 = 86_400_000;

/// The readings that are kept.
#[derive(Debug)]
pub(crate) struct Readings {
    folder: PathBuf,
    agent: AgentId,
    room_bytes: u64,
    chain: u64,
    head: Option<(ReadingMark, Digest)>,
    /// The file that is written to.
    current: Option<Segment>,
    delivered: Option<ReadingMark>,
}

/// One file of readings.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Segment {
    chain: u64,
    first: u64,
    path: PathBuf,
}

/// What a report takes along.
pub(crate) struct Packed {
    pub(crate) upto: Option<ReadingMark>,
    pub(crate) more: bool,
    pub(crate) bytes: Vec<u8>,
}

impl Readings {
    /// Opens what is there. What a power cut has left half written at the end was never said to be kept: it goes.
    pub(crate) fn open(folder: PathBuf, agent: AgentId, room_bytes: u64) -> io::Result<Self> {
        settle(&folder)?;
        Self::open_settled(folder, agent, room_bytes)
    }

    fn open_settled(folder: PathBuf, agent: AgentId, room_bytes: u64) -> io::Result<Self> {
        let mut readings =
            Self { folder, agent, room_bytes, chain: 0, head: None, current: None, delivered: None };
        for segment in readings.segments()?.into_iter().rev() {
            if let Some(last) = mend(&segment.path)? {
                readings.chain = last.mark.chain;
                readings.head = Some((last.mark, last.digest));
                readings.current = Some(segment);
                return Ok(readings);
            }
            // Nothing in it can be read.
            fs::remove_file(&segment.path)?;
        }
        readings.chain = u64::from_be_bytes(random());
        Ok(readings)
    }

    /// The newest reading.
    pub(crate) fn head(&self) -> Option<ReadingMark> {
        self.head.map(|(mark, _)| mark)
    }

    /// The last reading of each of these devices that is still here, as far as the newest files have it.
    pub(crate) fn last_of(&self, devices: &[DeviceName]) -> io::Result<Vec<(DeviceName, Observation)>> {
        let mut last = BTreeMap::new();
        for segment in self.segments()?.iter().rev() {
            let mut of_file = BTreeMap::new();
            for reading in read_all(&segment.path)?.iter().filter_map(|signed| signed.read().ok()) {
                of_file.insert(reading.device, reading.seen);
            }
            for (device, seen) in of_file.into_iter().filter(|(device, _)| devices.contains(device)) {
                last.entry(device).or_insert(seen);
            }
            if last.len() >= devices.len() {
                break;
            }
        }
        Ok(last.into_iter().collect())
    }

    /// Signs an observation as the next reading, and makes it durable.
    pub(crate) fn keep(
        &mut self,
        key: &SigningKey,
        device: DeviceName,
        seen: Observation,
        anomalies: Vec<Anomaly>,
    ) -> io::Result<ReadingMark> {
        let (mark, signed) = self.next(key, device, seen, anomalies);
        let path = self.file_for(mark.index)?;
        let mut file = OpenOptions::new().append(true).open(&path)?;
        let before = file.metadata()?.len();
        let written = file.write_all(&signed.framed()).and_then(|()| file.sync_all());
        if let Err(err) = written {
            // Half a reading must not stand before the next one.
            file.set_len(before)?;
            return Err(err);
        }
        self.head = Some((mark, signed.digest()));
        Ok(mark)
    }

    /// An observation as the next reading.
    fn next(
        &self,
        key: &SigningKey,
        device: DeviceName,
        seen: Observation,
        anomalies: Vec<Anomaly>,
    ) -> (ReadingMark, SignedReading) {
        let (index, previous) = match self.head {
            Some((mark, digest)) => (mark.index.saturating_add(1), digest),
            None => (1, Digest([0; 32])),
        };
        let mark = ReadingMark { chain: self.chain, index };
        let reading = Reading { agent: self.agent.clone(), mark, previous, device, seen, anomalies };
        (mark, SignedReading::sign(&reading, key))
    }

    /// The reading at this place; `None`: it is not kept any more.
    pub(crate) fn linked_at(&self, mark: ReadingMark) -> io::Result<Option<Linked>> {
        let linked = |signed: &SignedReading| {
            let reading = signed.read().ok().filter(|reading| reading.mark == mark)?;
            Some(Linked { digest: signed.digest(), previous: reading.previous })
        };
        let before = |segment: &Segment| segment.chain == mark.chain && segment.first <= mark.index;
        let Some(segment) = self.segments()?.into_iter().rfind(before) else { return Ok(None) };
        Ok(read_all(&segment.path)?.iter().find_map(linked))
    }

    /// Begins another chain with the readings after this index, signed anew in their new places (PROTOCOL 14.10). A power cut
    /// leaves the old chain or the new one, whole.
    pub(crate) fn begin_anew(&mut self, key: &SigningKey, after: u64) -> io::Result<Option<ReadingMark>> {
        let (next, last) = (beside(&self.folder, "next"), beside(&self.folder, "last"));
        settle(&self.folder)?;
        private_folder(&next)?;
        let mut anew = Self::open_settled(next.clone(), self.agent.clone(), self.room_bytes)?;
        for segment in self.segments()?.iter().filter(|segment| segment.chain == self.chain) {
            anew.copy(key, &segment.path, after)?;
        }
        sync_folder(&next)?;
        fs::rename(&self.folder, &last)?;
        if let Err(err) = fs::rename(&next, &self.folder) {
            settle(&self.folder)?;
            return Err(err);
        }
        sync_parent(&self.folder)?;
        *self = Self::open_settled(self.folder.clone(), self.agent.clone(), self.room_bytes)?;
        if let Err(err) = remove_tree(&last) {
            tracing::warn!(%err, "Cannot remove the chain that was left; the next start tries again");
        }
        Ok(self.head())
    }

    /// Takes over the readings of a file of another chain after an index there.
    fn copy(&mut self, key: &SigningKey, from: &Path, after: u64) -> io::Result<()> {
        let mut open: Option<(PathBuf, File)> = None;
        for signed in read_all(from)? {
            let Ok(reading) = signed.read() else { continue };
            if reading.mark.index <= after {
                continue;
            }
            let (mark, signed) = self.next(key, reading.device, reading.seen, reading.anomalies);
            let path = self.file_for(mark.index)?;
            let mut file = match open.take() {
                Some((at, file)) if at == path => file,
                other => {
                    other.map_or(Ok(()), |(_, file)| file.sync_all())?;
                    OpenOptions::new().append(true).open(&path)?
                }
            };
            file.write_all(&signed.framed())?;
            open = Some((path, file));
            self.head = Some((mark, signed.digest()));
        }
        open.map_or(Ok(()), |(_, file)| file.sync_all())
    }

    /// The manager has everything up to here.
    pub(crate) fn delivered(&mut self, upto: Option<ReadingMark>) {
        self.delivered = upto;
    }

    /// As many readings after this one as a report may hold. Of another chain: from the beginning.
    pub(crate) fn pack(&self, after: Option<ReadingMark>) -> io::Result<Packed> {
        let after = after.filter(|mark| mark.chain == self.chain).map_or(0, |mark| mark.index);
        let mut packer = Packer::default();
        let mut upto = None;
        let segments = self.segments()?;
        for (at, segment) in segments.iter().enumerate() {
            let next = segments.get(at.saturating_add(1));
            if segment.chain != self.chain || next.is_some_and(|next| next.first <= after.saturating_add(1)) {
                continue;
            }
            for signed in read_all(&segment.path)? {
                let Ok(reading) = signed.read() else { continue };
                if reading.mark.index <= after {
                    continue;
                }
                if !packer.push(&signed)? {
                    return Ok(Packed { upto, more: true, bytes: packer.finish()? });
                }
                upto = Some(reading.mark);
            }
        }
        Ok(Packed { upto, more: false, bytes: packer.finish()? })
    }

    /// The file that takes the reading of this index.
    fn file_for(&mut self, index: u64) -> io::Result<PathBuf> {
        if let Some(current) = &self.current
            && fs::metadata(&current.path)?.len() < self.room_bytes.div_ceil(FILES_IN_ROOM)
        {
            return Ok(current.path.clone());
        }
        self.make_room()?;
        // A box without devices has no such folder.
        if !self.folder.is_dir() {
            private_folder(&self.folder)?;
            sync_parent(&self.folder)?;
        }
        let path = self.folder.join(format!("{:016x}-{index:020}.log", self.chain));
        OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?;
        sync_folder(&self.folder)?;
        self.current = Some(Segment { chain: self.chain, first: index, path: path.clone() });
        Ok(path)
    }

    /// Makes room if there is too little: what the manager has goes first, then all but one reading a day of each device
    /// from the oldest files, then the oldest files.
    fn make_room(&self) -> io::Result<()> {
        let mut segments = self.segments()?;
        // The newest file holds the chain's head.
        segments.pop();
        let size = |segment: &Segment| fs::metadata(&segment.path).map(|metadata| metadata.len());
        let mut total = segments.iter().map(size).sum::<io::Result<u64>>()?;
        let mut steps = segments.iter().enumerate();
        while let Some((at, segment)) = steps.next().filter(|_| total > self.room_bytes) {
            let before = size(segment)?;
            let next = segments.get(at.saturating_add(1));
            let is_delivered = self.delivered.is_some_and(|mark| {
                mark.chain != segment.chain
                    || next.is_some_and(|next| next.first <= mark.index.saturating_add(1))
            });
            let after = if is_delivered { 0 } else { thin(&segment.path)? };
            // One that was thinned before is as small as it gets.
            if after.saturating_mul(10) > before.saturating_mul(9) || after == 0 {
                fs::remove_file(&segment.path)?;
                total = total.saturating_sub(before);
            } else {
                total = total.saturating_sub(before.saturating_sub(after));
            }
        }
        Ok(())
    }

    /// All files, oldest first; of a chain that was lost before those of the present one.
    fn segments(&self) -> io::Result<Vec<Segment>> {
        let mut segments = Vec::new();
        let entries = match fs::read_dir(&self.folder) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(segments),
            other => other?,
        };
        for entry in entries {
            segments.extend(Segment::of(&entry?.path()));
        }
        segments.sort_by_key(|segment| (segment.chain == self.chain, segment.chain, segment.first));
        Ok(segments)
    }
}

/// A folder beside that of the readings.
fn beside(folder: &Path, ending: &str) -> PathBuf {
    folder.with_added_extension(ending)
}

/// Finishes or takes back what a power cut has left of a change of chains.
fn settle(folder: &Path) -> io::Result<()> {
    let (next, last) = (beside(folder, "next"), beside(folder, "last"));
    if !folder.exists() && last.exists() {
        fs::rename(&last, folder)?;
        sync_parent(folder)?;
    }
    remove_tree(&next)?;
    remove_tree(&last)
}

impl Segment {
    fn of(path: &Path) -> Option<Self> {
        let (chain, first) = path.file_name()?.to_str()?.strip_suffix(".log")?.split_once('-')?;
        let chain = u64::from_str_radix(chain, 16).ok()?;
        Some(Self { chain, first: first.parse().ok()?, path: path.to_owned() })
    }
}

/// The last reading of a file.
struct Last {
    mark: ReadingMark,
    digest: Digest,
}

/// Cuts off what cannot be read at a file's end; gives its last reading, if there is one.
fn mend(path: &Path) -> io::Result<Option<Last>> {
    let length = fs::metadata(path)?.len();
    let mut from = BufReader::new(File::open(path)?);
    let (mut good, mut last) = (0_u64, None);
    while let Ok(Some(signed)) = read_framed(&mut from) {
        let Ok(reading) = signed.read() else { break };
        good = good.saturating_add(signed.framed().len() as u64);
        last = Some(Last { mark: reading.mark, digest: signed.digest() });
    }
    if good < length && last.is_some() {
        tracing::warn!(file = %path.display(), bytes = length.saturating_sub(good), "Half a reading goes");
        let file = OpenOptions::new().write(true).open(path)?;
        file.set_len(good)?;
        file.sync_all()?;
    }
    Ok(last)
}

/// Every reading of a file, up to the first that cannot be read.
fn read_all(path: &Path) -> io::Result<Vec<SignedReading>> {
    let mut from = BufReader::new(File::open(path)?);
    let mut all = Vec::new();
    loop {
        match read_framed(&mut from) {
            Ok(Some(signed)) => all.push(signed),
            Ok(None) | Err(ReadingError::Packed(_) | ReadingError::Decode(_)) => return Ok(all),
            Err(ReadingError::Inflate(err)) => return Err(err),
        }
    }
}

/// Leaves the last reading of each device and day; gives the file's new size.
fn thin(path: &Path) -> io::Result<u64> {
    let day = |at: UnixMillis| at.0.div_euclid(DAY_MS);
    let mut kept = BTreeMap::new();
    for signed in read_all(path)? {
        let Ok(reading) = signed.read() else { continue };
        kept.insert((reading.device, day(reading.seen.taken_at)), (reading.mark.index, signed));
    }
    let mut kept: Vec<_> = kept.into_values().collect();
    kept.sort_by_key(|(index, _)| *index);
    let bytes: Vec<u8> = kept.iter().flat_map(|(_, signed)| signed.framed()).collect();
    write_whole(path, &bytes)?;
    Ok(bytes.len() as u64)
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "tests may overflow and fail")]
mod tests;
