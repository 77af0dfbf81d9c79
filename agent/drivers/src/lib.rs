//! How an agent asks the devices beside it: one driver for each way, one answer for all of them, an
//! [`Observation`]. A driver says what a device says; it remembers nothing between two looks.
//!
//! Not here: what follows from two looks (edges, anomalies, when to ask again), which is `agent-core`'s.

pub mod access;
pub mod fault;

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
