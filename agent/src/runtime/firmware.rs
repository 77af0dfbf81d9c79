//! Updates of devices, done: each question and each transfer is a task of its own, beside mail and looks, and puts what came of it
//! on a board for the main loop. Translates between the core and the handlers; decides nothing.
//!
//! A transfer ends with its task, and the tasks end with the agent: the device's connection is reset then, and what was under way
//! is known from the state.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use agent_core::{Effect, Event, Image, PushEnd, Readiness, Shown, UpdateName};
use drivers::firmware::{Answer, Package, Pushed, is_idle};
use drivers::{Depth, Device, Drivers};
use service::panics::caught_while;
use shared::Label;
use shared::device::DeviceName;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::{RunError, Shell};
use crate::files::now;

/// What is being done with devices.
#[derive(Default)]
pub(crate) struct Flashing {
    tasks: JoinSet<()>,
    board: Arc<Board>,
}

#[derive(Default)]
struct Board {
    state: Mutex<OnBoard>,
    news: Notify,
}

#[derive(Default)]
struct OnBoard {
    ended: Vec<Event>,
    /// Bytes that have left in transfers that go on.
    going: BTreeMap<UpdateName, u64>,
}

impl Board {
    /// A task that panicked has left the board as it was.
    fn lock(&self) -> MutexGuard<'_, OnBoard> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, event: Event) {
        self.lock().ended.push(event);
        self.news.notify_one();
    }
}

impl Flashing {
    /// Ends when something new is on the board.
    pub(super) async fn news(&self) {
        self.board.news.notified().await;
    }

    /// Takes what is on the board; how transfers go comes before how they have ended.
    pub(super) fn take(&mut self) -> Vec<Event> {
        while self.tasks.try_join_next().is_some() {}
        let OnBoard { ended, going } = std::mem::take(&mut *self.board.lock());
        let going = going.into_iter().map(|(update, sent_bytes)| Event::PushGoes { update, sent_bytes });
        going.chain(ended).collect()
    }

    /// Waits until one of the tasks has ended; false: there is none.
    async fn one_ends(&mut self) -> bool {
        self.tasks.join_next().await.is_some()
    }
}

/// What a task works with.
struct Task {
    drivers: Arc<Drivers>,
    device: Device,
    update: UpdateName,
    image: Box<Image>,
    file: PathBuf,
    board: Arc<Board>,
}

impl Shell {
    /// The devices that the site has opened for updates.
    pub(super) fn open_for_firmware(&self) -> Vec<DeviceName> {
        let open = self.watcher.devices().iter().filter(|device| device.firmware.allowed);
        open.map(|device| device.name.clone()).collect()
    }

    /// Begins what the core wants of a device.
    pub(super) fn attend_device(&mut self, effect: Effect) -> Option<Event> {
        let (Effect::AskDevice { update, image }
        | Effect::PushFirmware { update, image }
        | Effect::ActivateFirmware { update, image }
        | Effect::ReadFirmware { update, image }) = &effect
        else {
            return None;
        };
        let device = self.watcher.devices().iter().find(|device| device.name == update.device);
        let Some(device) = device.cloned() else { return Some(gone(&effect, update.clone())) };
        let task = Task {
            drivers: self.watcher.drivers(),
            device,
            update: update.clone(),
            image: image.clone(),
            file: self.disk.root().join(image.path.as_str()),
            board: Arc::clone(&self.flashing.board),
        };
        tracing::debug!(device = %update.device, kind = %update.kind, effect = effect.name(), "Begins");
        self.flashing.tasks.spawn(async move {
            let event = match effect {
                Effect::PushFirmware { .. } => task.push().await,
                Effect::ActivateFirmware { .. } => task.activate().await,
                Effect::ReadFirmware { .. } => task.read().await,
                _ => task.ask().await,
            };
            task.board.put(event);
        });
        None
    }

    /// Nothing that a single run has begun with a device is broken off by its end.
    pub(super) async fn see_devices_through(&mut self) -> Result<(), RunError> {
        loop {
            self.looked().await?;
            self.alive.step();
            tokio::select! {
                ended = self.flashing.one_ends() => if !ended { return Ok(()) },
                () = self.stop.wanted() => return Err(RunError::Stopped),
            }
        }
    }
}

/// The device is not in the list any more.
fn gone(effect: &Effect, update: UpdateName) -> Event {
    let why = Label::lossy("the site's list does not have this device any more");
    match effect {
        Effect::PushFirmware { .. } => Event::Pushed { update, end: PushEnd::NotBegun(why) },
        Effect::ActivateFirmware { .. } => Event::Activated { update, result: Err(why) },
        Effect::ReadFirmware { .. } => Event::FirmwareRead { update, result: Err(why) },
        _ => Event::DeviceAnswered { update, answer: Readiness::NotNow(why, None) },
    }
}

const PANICKED: &str = "the handler panicked at what the device says";

impl Task {
    fn package(&self) -> Package<'_> {
        let Image { entry, bytes, digest, .. } = &*self.image;
        Package { entry, bytes: *bytes, digest: *digest }
    }

    async fn ask(&self) -> Event {
        let package = self.package();
        let asked = caught_while(self.drivers.ask_firmware(&self.device, &package, now)).await;
        let answer = match asked {
            Some(Answer::Ready { shows }) => Readiness::Ready(Some(shows)),
            Some(Answer::NotNow { reason, hold }) => Readiness::NotNow(Label::lossy(&reason), Some(hold)),
            Some(Answer::Deferred { by }) => Readiness::Deferred(by),
            Some(Answer::Refused { reason }) => Readiness::Refused(Label::lossy(&reason)),
            Some(Answer::Silent { reason }) => Readiness::Silent(Label::lossy(&reason)),
            None => Readiness::NotNow(Label::lossy(PANICKED), None),
        };
        tracing::info!(device = %self.update.device, kind = %self.update.kind, ?answer, "A device was asked whether it is ready");
        Event::DeviceAnswered { update: self.update.clone(), answer }
    }

    async fn push(&self) -> Event {
        let UpdateName { device, kind } = &self.update;
        let (package, version) = (self.package(), &self.image.entry.version);
        tracing::info!(%device, %kind, %version, bytes = package.bytes, "Sending firmware to a device");
        let sent = AtomicU64::new(0);
        let progress = |bytes| {
            sent.store(bytes, Ordering::Relaxed);
            // Nobody is woken for it: who looks next sees it.
            self.board.lock().going.insert(self.update.clone(), bytes);
        };
        let pushing = self.drivers.push_firmware(&self.device, &self.file, &package, &progress);
        let pushed = caught_while(pushing).await.unwrap_or_else(|| Pushed::Unclear(PANICKED.to_owned()));
        let sent_bytes = sent.load(Ordering::Relaxed);
        tracing::info!(%device, %kind, %version, sent_bytes, ?pushed, "The transfer to a device has ended");
        let end = match pushed {
            Pushed::Sent { bytes, took } => PushEnd::Sent { bytes, took },
            Pushed::NotBegun(why) => PushEnd::NotBegun(Label::lossy(&why)),
            Pushed::Incomplete(why) => PushEnd::Incomplete(sent_bytes, Label::lossy(&why)),
            Pushed::Unclear(why) => PushEnd::Unclear(sent_bytes, Label::lossy(&why)),
            Pushed::Refused(why) => PushEnd::Refused(Label::lossy(&why)),
        };
        // It is over: what it has said on its way counts no more.
        self.board.lock().going.remove(&self.update);
        Event::Pushed { update: self.update.clone(), end }
    }

    async fn activate(&self) -> Event {
        let package = self.package();
        let told = caught_while(self.drivers.activate_firmware(&self.device, &package)).await;
        let result = told.unwrap_or_else(|| Err(PANICKED.to_owned())).map_err(|why| Label::lossy(&why));
        if let Err(why) = &result {
            tracing::warn!(device = %self.update.device, %why, "A device was not told to take its firmware");
        }
        Event::Activated { update: self.update.clone(), result }
    }

    async fn read(&self) -> Event {
        let looked = caught_while(self.drivers.poll(&self.device, Depth::Full, now)).await;
        let result = match looked {
            Some(Ok(seen)) => Ok(Shown {
                version: self.image.entry.shown_by(&seen.identity).cloned(),
                idle: is_idle(&seen),
            }),
            Some(Err(fault)) => Err(Label::lossy(&fault.to_string())),
            None => Err(Label::lossy(PANICKED)),
        };
        Event::FirmwareRead { update: self.update.clone(), result }
    }
}
