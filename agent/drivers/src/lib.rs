//! How an agent asks the devices beside it: one driver for each way, one answer for all of them, an
//! [`Observation`]. A driver says what a device says; it remembers nothing between two looks.
//!
//! Not here: what follows from two looks (edges, anomalies, when to ask again), which is `agent-core`'s.

pub mod access;
mod exec;
pub mod fault;
pub mod json;

use shared::UnixMillis;
use shared::device::Observation;

pub use access::{Access, Device, DevicesError, read_devices};
pub use fault::PollFault;

/// How much is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Status and faults: each minute (M2).
    Faults,
    /// Everything: each hour (M4), and when a person looks.
    Full,
}

/// Asks a device. Never has more than one request to it under way, gives up after the device's time limit, and bounds
/// what it reads. `now` is called when the answer is there.
///
/// # Errors
/// The device cannot be reached, does not answer, refuses, or gives no sense.
pub async fn poll(
    device: &Device,
    depth: Depth,
    now: impl Fn() -> UnixMillis,
) -> Result<Observation, PollFault> {
    match &device.access {
        Access::Exec { command } => exec::poll(device, command, depth, now).await,
        Access::Snmp(_) | Access::Ipp { .. } | Access::Host => {
            Err(PollFault::Local("this driver is not built in".to_owned()))
        }
    }
}
