//! Asks the devices, each in its own rhythm and never twice at a time, and puts what they say on a board for the main
//! loop. A device that does not answer holds up no other.
//!
//! What was not taken from the board yet is replaced by what is newer: after a long install only the last look counts.
//! A full look is not replaced by a short one.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agent_core::{Event, Look, LookFault};
use drivers::{Depth, Device, DevicesError, Drivers, ProfileError, Profiles, read_devices};
use service::panics::caught_while;
use shared::Label;
use shared::device::{DeviceName, Observation};
use thiserror::Error;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::config::Rhythm;
use crate::files::now;

/// Devices that are asked at a time: each holds some buffers, and a small line is shared with mail.
const AT_A_TIME: usize = 64;
/// Files in the folder of profiles that are looked at.
const PROFILE_FILES_MAX_COUNT: usize = 1_000;
/// Time for one look in all, beyond the limits of its requests.
const LOOK_LIMIT: Duration = Duration::from_secs(50);

/// The devices and whoever asks them.
pub(crate) struct Watcher {
    devices: Vec<Device>,
    /// The list could not be read: nobody knows which devices there are.
    unknown: bool,
    drivers: Arc<Drivers>,
    rhythm: Rhythm,
    board: Arc<Board>,
    tasks: JoinSet<()>,
}

#[derive(Default)]
struct Board {
    state: Mutex<OnBoard>,
    news: Notify,
}

#[derive(Default)]
struct OnBoard {
    full: BTreeMap<DeviceName, Result<Box<Observation>, LookFault>>,
    short: BTreeMap<DeviceName, Result<Box<Observation>, LookFault>>,
    again: BTreeSet<DeviceName>,
}

/// The list of devices cannot be used.
#[derive(Debug, Error)]
pub(crate) enum ListError {
    /// It cannot be read.
    #[error("cannot read {0}")]
    Io(String, #[source] io::Error),
    /// Others can read the passwords in it.
    #[error("{0}: others can read it, and passwords stand in it: expected mode 0600 (chmod 600 {0})")]
    Open(String),
    /// A device is wrong.
    #[error("{0}")]
    Bad(String, #[source] DevicesError),
    /// A vendor's profile is wrong.
    #[error("cannot use the profiles in {0}")]
    Profile(String, #[source] ProfileError),
}

/// Reads the list of devices; without a file there are none.
pub(crate) fn list(path: &Path) -> Result<Vec<Device>, ListError> {
    let file = path.display().to_string();
    let mode = match std::fs::metadata(path) {
        Ok(metadata) => metadata.permissions().mode(),
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(err) => return Err(ListError::Io(file, err)),
    };
    if mode & 0o077 != 0 {
        return Err(ListError::Open(file));
    }
    let text = std::fs::read_to_string(path).map_err(|err| ListError::Io(file.clone(), err))?;
    read_devices(&text).map_err(|err| ListError::Bad(file, err))
}

/// Reads a site's own profiles of vendors; without a folder there are only those that are built in.
pub(crate) fn profiles(folder: &Path) -> Result<Profiles, ListError> {
    let path = folder.display().to_string();
    let io = |err| ListError::Io(path.clone(), err);
    let mut files = Vec::new();
    match std::fs::read_dir(folder) {
        Ok(entries) => {
            for entry in entries.take(PROFILE_FILES_MAX_COUNT) {
                files.push(entry.map_err(io)?.path());
            }
        }
        Err(err) if err.kind() == io::ErrorKind::NotFound => {}
        Err(err) => return Err(io(err)),
    }
    files.retain(|file| file.extension().is_some_and(|ending| ending == "toml"));
    files.sort();
    let read = |file: &PathBuf| Ok((file.display().to_string(), std::fs::read_to_string(file)?));
    let texts: Vec<(String, String)> = files.iter().map(read).collect::<Result<_, _>>().map_err(io)?;
    let texts = texts.iter().map(|(file, text)| (file.as_str(), text.as_str()));
    Profiles::read(texts).map_err(|err| ListError::Profile(path.clone(), err))
}

impl Watcher {
    /// `None`: the list of devices could not be read.
    pub(crate) fn new(devices: Option<Vec<Device>>, profiles: Profiles, rhythm: Rhythm) -> Self {
        let unknown = devices.is_none();
        let devices = devices.unwrap_or_default();
        let drivers = Arc::new(Drivers::new(profiles));
        Self { devices, unknown, drivers, rhythm, board: Arc::default(), tasks: JoinSet::new() }
    }

    /// The devices, if the list could be read.
    pub(crate) fn names(&self) -> Option<Vec<DeviceName>> {
        let names = self.devices.iter().map(|device| device.name.clone());
        (!self.unknown).then(|| names.collect())
    }

    /// The devices that could be read.
    pub(crate) fn devices(&self) -> &[Device] {
        &self.devices
    }

    /// Who asks them.
    pub(crate) fn drivers(&self) -> Arc<Drivers> {
        Arc::clone(&self.drivers)
    }

    /// Begins to ask, spread over the time between two looks.
    pub(crate) fn start(&mut self) {
        let asker = self.asker();
        let count = u32::try_from(self.devices.len()).unwrap_or(u32::MAX).max(1);
        let spacing = self.rhythm.faults.checked_div(count).unwrap_or_default();
        let mut first = Instant::now();
        for device in self.devices.clone() {
            self.tasks.spawn(asker.clone().watch(device, first, self.rhythm));
            first = first.checked_add(spacing).unwrap_or(first);
        }
    }

    /// Asks each of these devices once, for everything those that are due.
    pub(crate) async fn once(&mut self, names: &BTreeSet<DeviceName>, due: &BTreeSet<DeviceName>) {
        let asker = self.asker();
        for device in self.devices.iter().filter(|device| names.contains(&device.name)).cloned() {
            let asker = asker.clone();
            let depth = if due.contains(&device.name) { Depth::Full } else { Depth::Faults };
            self.tasks.spawn(async move {
                asker.ask(&device, depth).await;
            });
        }
        while self.tasks.join_next().await.is_some() {}
    }

    fn asker(&self) -> Asker {
        let places = Arc::new(Semaphore::new(AT_A_TIME));
        Asker { drivers: self.drivers.clone(), places, board: self.board.clone() }
    }

    /// Ends when something new is on the board.
    pub(crate) async fn news(&self) {
        self.board.news.notified().await;
    }

    /// Takes what is on the board.
    pub(crate) fn take(&self) -> Vec<Event> {
        let (full, short) = {
            let mut on_board = self.board.lock();
            (std::mem::take(&mut on_board.full), std::mem::take(&mut on_board.short))
        };
        let full =
            full.into_iter().map(|(device, result)| Event::Looked { device, look: Look::Full, result });
        let short =
            short.into_iter().map(|(device, result)| Event::Looked { device, look: Look::Faults, result });
        full.chain(short).collect()
    }

    /// Takes the devices that are to be asked again.
    pub(crate) fn asked_again(&self) -> BTreeSet<DeviceName> {
        std::mem::take(&mut self.board.lock().again)
    }

    /// The device is asked for everything with its next look.
    pub(crate) fn again(&self, device: DeviceName) {
        tracing::info!(%device, "The device is asked for everything: a counter fell, or a bill is due");
        self.board.lock().again.insert(device);
    }
}

impl Board {
    /// A task that panicked has left the board as it was.
    fn lock(&self) -> MutexGuard<'_, OnBoard> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, device: DeviceName, depth: Depth, result: Result<Box<Observation>, LookFault>) {
        let mut on_board = self.lock();
        if depth == Depth::Full && result.is_ok() {
            on_board.short.remove(&device);
            on_board.full.insert(device, result);
        } else {
            on_board.short.insert(device, result);
        }
        drop(on_board);
        self.news.notify_one();
    }
}

/// What asking a device needs.
#[derive(Clone)]
struct Asker {
    drivers: Arc<Drivers>,
    places: Arc<Semaphore>,
    board: Arc<Board>,
}

impl Asker {
    /// Asks one device for ever.
    async fn watch(self, device: Device, first: Instant, rhythm: Rhythm) {
        let mut ticks = interval_at(first, rhythm.faults);
        // A look that took longer than a minute is not made up for by two in a row.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last_full: Option<Instant> = None;
        loop {
            ticks.tick().await;
            let asked_again = self.board.lock().again.remove(&device.name);
            let due = last_full.is_none_or(|at| at.elapsed() >= rhythm.everything);
            let depth = if due || asked_again { Depth::Full } else { Depth::Faults };
            if self.ask(&device, depth).await && depth == Depth::Full {
                last_full = Some(Instant::now());
            }
        }
    }

    /// Asks one device and puts what it says on the board. True if it has answered.
    async fn ask(&self, device: &Device, depth: Depth) -> bool {
        let result = {
            let _place = self.places.acquire().await;
            ask(&self.drivers, device, depth).await
        };
        let has_answered = result.is_ok();
        self.board.put(device.name.clone(), depth, result);
        has_answered
    }
}

async fn ask(drivers: &Drivers, device: &Device, depth: Depth) -> Result<Box<Observation>, LookFault> {
    let asked = tokio::time::timeout(LOOK_LIMIT, caught_while(drivers.poll(device, depth, now))).await;
    match asked {
        Ok(None) => {
            tracing::error!(device = %device.name, "The driver panicked at what the device says");
            Err(LookFault { silence: false, why: Label::lossy("its answer makes no sense to the driver") })
        }
        Ok(Some(Ok(mut seen))) => {
            seen.class = device.class.unwrap_or(seen.class);
            seen.bound();
            Ok(Box::new(seen))
        }
        Ok(Some(Err(fault))) => {
            tracing::debug!(device = %device.name, %fault, "A look failed");
            Err(LookFault { silence: fault.is_silence(), why: Label::lossy(&fault.to_string()) })
        }
        Err(_) => {
            let why = format!("no complete answer within {} s", LOOK_LIMIT.as_secs());
            Err(LookFault { silence: true, why: Label::lossy(&why) })
        }
    }
}
