//! Plays a device's recorded bytes to a driver, without a connection. For fuzz targets and tests.

use shared::UnixMillis;
use shared::bundle::FirmwareHandler;
use shared::device::Observation;

use crate::firmware::{self, Pushed};
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

/// What a handler of firmware makes of these bytes: replies of an FTP server, a request of a device by TFTP, frames of SWUpdate's web
/// socket, the last line of a program, a web page's word on whether the device may be updated.
///
/// # Errors
/// They are no success.
pub async fn firmware(handler: FirmwareHandler, said: &[u8]) -> Result<(), Pushed> {
    firmware::replayed(handler, said).await
}
