//! Plays a device's recorded bytes to a driver, without a connection. For fuzz targets and tests.

use shared::UnixMillis;
use shared::device::Observation;

use crate::{Depth, PollFault, PrinterUrl, ipp};

/// What is made of a printer that answers with these bytes: HTTP, and IPP in it.
///
/// # Errors
/// As [`crate::Drivers::poll`].
pub async fn printer(
    url: &PrinterUrl,
    said: &[u8],
    depth: Depth,
    now: UnixMillis,
) -> Result<Observation, PollFault> {
    ipp::replayed(url, said, depth, now).await
}
