//! The handler `raw9100`: an image written to a printer's raw port as if it were a job. The port has no answer: that all went well is
//! said here if the printer has closed the connection after the last byte, and proven only by the version that it shows afterwards.
//!
//! Settings: `port` (9100), `pjl` = `none` | `upgrade` (HP's frame around the image, `@PJL UPGRADE SIZE=…`).

use std::pin::pin;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};

use super::{Halt, Image, Job, Pushed, cut, end_badly, end_well};
use crate::limits::FIRMWARE_CHATTER_MAX_BYTES;

/// Where printers take jobs as they are.
pub(super) const PORT: u16 = 9100;

pub(super) const SETTINGS: &[&str] = &["port", "pjl"];

/// Leaves whatever language the printer was in (PJL's universal exit).
const EXIT: &str = "\x1b%-12345X";

pub(super) fn check(job: &Job<'_>) -> Result<(), String> {
    job.word("pjl", &["none", "upgrade"]).map(|_| ())
}

/// Sends it.
pub(super) async fn push(job: &Job<'_>, image: &mut Image) -> Result<(), Pushed> {
    let is_framed = job.word("pjl", &["none", "upgrade"]).map_err(Pushed::NotBegun)? == "upgrade";
    let mut stream = job.connect(PORT).await.map_err(Pushed::NotBegun)?;
    end_badly(&stream).map_err(Pushed::NotBegun)?;
    let frame = format!("{EXIT}@PJL UPGRADE SIZE={}\r\n", image.bytes());
    let (before, after) = if is_framed { (frame.as_str(), EXIT) } else { ("", "") };
    {
        let (mut read, mut write) = stream.split();
        let mut closed = pin!(heard_out(&mut read));
        job.step(write.write_all(before.as_bytes())).await.map_err(Pushed::NotBegun)?;
        job.send(image, &mut write, closed.as_mut()).await.map_err(|halt| match halt {
            Halt::Early(_) => cut(image, "the printer closed the connection"),
            Halt::Broken(why) | Halt::Changed(why) => cut(image, why),
        })?;
        job.step(write.write_all(after.as_bytes())).await.map_err(Pushed::Unclear)?;
    }
    let unclear = |why: String| Pushed::Unclear(format!("all of it was sent, and then: {why}"));
    end_well(&stream).map_err(|err| unclear(err.to_string()))?;
    job.step(stream.shutdown()).await.map_err(unclear)?;
    // Who closes has read all of it: a connection with unread bytes in it is reset instead (RFC 1122 §4.2.2.13).
    job.step(heard_out(&mut stream)).await.map_err(unclear)
}

/// Reads and forgets whatever the printer says, so that it is not held up, until it closes.
async fn heard_out(from: &mut (impl AsyncRead + Unpin)) -> std::io::Result<()> {
    let mut piece = [0_u8; 1024];
    let mut heard: u64 = 0;
    loop {
        let count = from.read(&mut piece).await?;
        if count == 0 {
            return Ok(());
        }
        heard = heard.saturating_add(count as u64);
        if heard > FIRMWARE_CHATTER_MAX_BYTES {
            return Err(std::io::Error::other("it talks without an end"));
        }
    }
}
