//! How an agent asks the devices beside it: one driver for each way, one answer for all of them, an
//! [`Observation`]. A driver says what a device says; it remembers nothing of a device between two looks. And how firmware
//! gets to them: [`firmware`].
//!
//! Not here: what follows from two looks (edges, anomalies, when to ask again), which is `agent-core`'s.

pub mod access;
mod exec;
pub mod fault;
pub mod firmware;
mod host;
mod http;
mod ipp;
pub mod json;
mod limits;
pub mod replay;
mod snmp;

use shared::UnixMillis;
use shared::device::Observation;

pub use access::{Access, Device, DevicesError, FirmwareAccess, read_devices};
pub use fault::PollFault;
pub use ipp::PrinterUrl;
pub use snmp::{ProfileError, Profiles};

/// How much is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Status and faults: each minute (M2).
    Faults,
    /// Everything: each hour (M4), and when a person looks.
    Full,
}

/// What looks share: sockets, vendor profiles, certificates. One for the whole agent.
pub struct Drivers {
    snmp: snmp::Shared,
    ipp: ipp::Shared,
    host: host::Shared,
}

impl Drivers {
    /// With these vendor profiles. Opens nothing yet.
    #[must_use]
    pub fn new(profiles: Profiles) -> Self {
        Self { snmp: snmp::Shared::new(profiles), ipp: ipp::Shared::default(), host: host::Shared::default() }
    }

    /// SNMP requests so far; one that was sent again counts once.
    #[must_use]
    pub fn snmp_requests(&self) -> u64 {
        self.snmp.requests()
    }

    /// Asks a device. Never has more than one request to it under way, gives up after the device's time limit, and bounds
    /// what it reads. `now` is called when the answer is there.
    ///
    /// # Errors
    /// The device cannot be reached, does not answer, refuses, or gives no sense; or what is wrong with it could not be
    /// read. What else is missing stands in `left_out`.
    pub async fn poll(
        &self,
        device: &Device,
        depth: Depth,
        now: impl Fn() -> UnixMillis + Sync,
    ) -> Result<Observation, PollFault> {
        match &device.access {
            Access::Snmp(snmp) => snmp::poll(&self.snmp, device, snmp, depth, now).await,
            Access::Exec { command } => exec::poll(device, command, depth, now).await,
            Access::Ipp(ipp) => ipp::poll(&self.ipp, device, ipp, depth, now).await,
            Access::Host { programs } => host::poll(&self.host, device, programs, depth, now).await,
        }
    }
}
