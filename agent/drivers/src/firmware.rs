//! How firmware gets to a device: one handler for each way, one answer for all of them, [`Pushed`]. A handler asks a device
//! whether it may be updated now, sends it one image, and says truthfully how far that got. It remembers nothing.
//!
//! Whether a device is updated at all, when, and whether a transfer may be repeated, is `agent-core`'s. That a device has its new
//! firmware is proven by nothing here but by what it says of itself afterwards ([`Drivers::poll`]).
//!
//! Every transfer ends the way that it is: while an image is on its way by TCP alone, the connection is set so that its loss, a
//! cancelled task and the end of the agent reset it. No device takes half an image for a whole one because the connection was closed.

mod ftp;
mod image;
mod ipp;
mod job;
mod judge;
mod page;
mod program;
mod raw9100;
mod swupdate;
mod talk;
mod tftp;
mod upload;

use std::path::Path;
use std::time::Duration;

use shared::bundle::{FirmwareEntry, FirmwareHandler, same_version};
use shared::device::Observation;
use shared::time::UnixMillis;
use shared::{Digest, Label};
use tokio::time::Instant;

use crate::access::{Access, Device};
use crate::{Depth, Drivers};
use image::Image;
use job::{CONNECT_LIMIT, Halt, Job, cut, end_badly, end_well, said};

pub use judge::is_idle;

/// One image, as its bundle describes it.
#[derive(Clone, Copy, Debug)]
pub struct Package<'a> {
    /// Which devices it is for, and how it gets there.
    pub entry: &'a FirmwareEntry,
    /// Its size.
    pub bytes: u64,
    /// Its digest.
    pub digest: Digest,
}

/// What a device says to the question whether it may be updated now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It may.
    Ready {
        /// The version of this firmware that it shows now.
        shows: Label,
    },
    /// Not at this moment.
    NotNow {
        /// Why.
        reason: String,
        /// It makes sense to ask again after so long.
        hold: Duration,
    },
    /// Somebody at the device, or the device itself, puts it off (R7).
    Deferred {
        /// By so long.
        by: Duration,
    },
    /// Never like this: a person has to change something first.
    Refused {
        /// Why.
        reason: String,
    },
    /// It does not answer.
    Silent {
        /// In which way.
        reason: String,
    },
}

/// How a transfer has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// The device has the whole image, and the handler's protocol has ended as it ends when all is well.
    Sent {
        /// Bytes of the image.
        bytes: u64,
        /// From the first connection to the end.
        took: Duration,
    },
    /// Not one byte of the image has left the agent.
    NotBegun(String),
    /// It was cut: the device does not have the whole image.
    Incomplete(String),
    /// The device may have the whole image, and nobody knows what it does with it.
    Unclear(String),
    /// The device itself says that it does not take this image.
    Refused(String),
}

impl Drivers {
    /// Asks a device whether it may be updated now: what its site allows, what it is and shows, whether it is idle and well,
    /// whether its port is open, and what the handler's own request says (R7). Sends nothing of the image. A device of whose version
    /// nothing follows is only told with that version.
    pub async fn ask_firmware(
        &self,
        device: &Device,
        package: &Package<'_>,
        now: impl Fn() -> UnixMillis + Sync,
    ) -> Answer {
        let entry = package.entry;
        let job = Job::new(device, package, &|_| {});
        let settings = device.firmware.refusal(entry.handler).map_or_else(|| job.check(), Err);
        if let Err(reason) = settings {
            return Answer::Refused { reason };
        }
        let seen = match self.poll(device, Depth::Full, now).await {
            Ok(seen) => seen,
            Err(fault) if fault.is_silence() => return Answer::Silent { reason: fault.to_string() },
            Err(fault) => return Answer::Refused { reason: fault.to_string() },
        };
        let shows = match judge::judge(entry, &seen) {
            Ok(shows) => shows,
            Err(answer) => return answer,
        };
        if same_version(&shows, &entry.version) || !entry.goes_over(&shows) {
            return Answer::Ready { shows };
        }
        self.handler_asks(&job, &seen).await.err().unwrap_or(Answer::Ready { shows })
    }

    async fn handler_asks(&self, job: &Job<'_>, seen: &Observation) -> Result<(), Answer> {
        match job.entry().handler {
            FirmwareHandler::Raw9100 => job.knock(raw9100::PORT).await,
            FirmwareHandler::Ftp => ftp::ask(job).await,
            FirmwareHandler::HttpUpload => page::ask(self, job).await,
            FirmwareHandler::TftpServe => Ok(()),
            FirmwareHandler::Ipp => ipp::ask(job),
            FirmwareHandler::SwUpdate => job.knock(swupdate::PORT).await,
            FirmwareHandler::Exec => program::ask(job, seen).await,
        }
    }

    /// Sends an image to a device. The caller has verified the file; it is read once, in constant memory, and what no longer fits its
    /// digest ends before its last bytes. `progress` is told how many bytes have left. Ends by itself, after a time that grows
    /// with the image, or when nothing moves for as long as `devices.toml` allows. Dropped on its way, it is cut.
    pub async fn push_firmware(
        &self,
        device: &Device,
        file: &Path,
        package: &Package<'_>,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Pushed {
        let job = Job::new(device, package, progress);
        let handler = package.entry.handler;
        let allowed = device.firmware.refusal(handler).map_or_else(|| job.check(), Err);
        if let Err(why) = allowed {
            return Pushed::NotBegun(why);
        }
        let mut image = match Image::open(file, package).await {
            Ok(image) => image,
            Err(why) => return Pushed::NotBegun(why),
        };
        let began = Instant::now();
        // Boxed: the largest of them would be part of every caller.
        let ended = match handler {
            FirmwareHandler::Raw9100 => Box::pin(raw9100::push(&job, &mut image)).await,
            FirmwareHandler::Ftp => Box::pin(ftp::push(&job, &mut image)).await,
            FirmwareHandler::HttpUpload => Box::pin(page::push(self, &job, &mut image)).await,
            FirmwareHandler::TftpServe => Box::pin(tftp::push(self, &job, &mut image)).await,
            FirmwareHandler::Ipp => Box::pin(ipp::push(self, &job, &mut image)).await,
            FirmwareHandler::SwUpdate => Box::pin(swupdate::push(self, &job, &mut image)).await,
            FirmwareHandler::Exec => Box::pin(program::push(&job, file, &mut image)).await,
        };
        match ended {
            Ok(()) => Pushed::Sent { bytes: package.bytes, took: began.elapsed() },
            Err(pushed) => pushed,
        }
    }

    /// Makes a device use what was sent to it, where that is a step of its own: a restart by SNMP if the bundle says
    /// `activate = "reset"`, SWUpdate's restart, a program's own. Often there is nothing to do.
    ///
    /// # Errors
    /// Why it was not done, for a person.
    pub async fn activate_firmware(&self, device: &Device, package: &Package<'_>) -> Result<(), String> {
        let job = Job::new(device, package, &|_| {});
        if let Some(why) = device.firmware.refusal(package.entry.handler) {
            return Err(why);
        }
        match package.entry.handler {
            FirmwareHandler::SwUpdate => swupdate::restart(self, &job).await,
            FirmwareHandler::Exec => program::activate(&job).await,
            _ if job.setting("activate") == Some("reset") => self.restart(device).await,
            _ => Ok(()),
        }
    }

    /// Restarts a printer by SNMP (prtGeneralReset).
    async fn restart(&self, device: &Device) -> Result<(), String> {
        let Access::Snmp(snmp) = &device.access else {
            return Err("only a device that is asked by SNMP can be restarted by it".to_owned());
        };
        let community = device.firmware.write_community.as_ref();
        let community = community.ok_or("devices.toml has no write_community below [device.firmware]")?;
        crate::snmp::restart(&self.snmp, snmp, &community.0, device.timeout).await
    }
}

/// What a handler makes of bytes that a device has said, without a connection.
pub(crate) async fn replayed(handler: FirmwareHandler, said: &[u8]) -> Result<(), Pushed> {
    match handler {
        FirmwareHandler::Ftp => ftp::replayed(said).await,
        FirmwareHandler::TftpServe => tftp::replayed(said),
        FirmwareHandler::SwUpdate => swupdate::replayed(said).await,
        FirmwareHandler::Exec => program::replayed(said),
        FirmwareHandler::HttpUpload => talk::answer(said).map_err(|answer| match answer {
            Answer::Refused { reason } => Pushed::Refused(reason),
            Answer::NotNow { reason, .. } => Pushed::NotBegun(reason),
            other => Pushed::NotBegun(format!("{other:?}")),
        }),
        FirmwareHandler::Raw9100 | FirmwareHandler::Ipp => Ok(()),
    }
}
