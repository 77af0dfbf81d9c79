//! One line of a server, read with a bound. Knows no protocol.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// Longest line that is taken. The protocols say 512 bytes; real servers say more.
pub(crate) const LINE_MAX_BYTES: usize = 4_096;

/// The next line, with its end.
pub(crate) async fn line<R: AsyncBufRead + Unpin>(from: &mut R) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    loop {
        let have = from.fill_buf().await?;
        if have.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let end = have.iter().position(|b| *b == b'\n');
        let taken = end.map_or(have.len(), |at| at.saturating_add(1));
        out.extend(have.iter().take(taken));
        from.consume(taken);
        if end.is_some() {
            return Ok(out);
        }
        if out.len() > LINE_MAX_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a reply line beyond 4096 bytes"));
        }
    }
}
