//! A compressed connection (RFC 4978), as IMAP servers offer it: what they say is inflated, by as much as is asked for and
//! with 32 KiB of memory. What is said to them is a few commands, which go out as stored blocks, so that there is no
//! compressor. How much may come in altogether, the reader above it decides.

use core::pin::Pin;
use core::task::{Context, Poll, ready};
use std::io;

use flate2::{Decompress, FlushDecompress, Status};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::net::Duplex;

/// Compressed bytes read at a time.
const INPUT_BYTES: usize = 8 * 1024;

/// Bytes of one stored block; its length has 16 bits.
const BLOCK_MAX_BYTES: usize = 0xffff;

/// The compressed connection.
#[derive(Debug)]
pub(crate) struct Deflated<S> {
    inner: S,
    inflater: Decompress,
    input: Vec<u8>,
    /// How much of it was inflated.
    used: usize,
    /// The inflater may hold more than there was room for.
    holds: bool,
    output: Vec<u8>,
    /// How much of it was written.
    written: usize,
}

impl<S: Duplex> Deflated<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self {
            inner,
            inflater: Decompress::new(false),
            input: Vec::new(),
            used: 0,
            holds: false,
            output: Vec::new(),
            written: 0,
        }
    }

    /// Inflates what there is. True if that gave bytes, or the end.
    fn inflate(&mut self, buf: &mut ReadBuf<'_>) -> io::Result<bool> {
        let room = buf.initialize_unfilled();
        let (before_in, before_out) = (self.inflater.total_in(), self.inflater.total_out());
        let input = self.input.get(self.used..).unwrap_or_default();
        let status = self.inflater.decompress(input, room, FlushDecompress::Sync).map_err(damaged)?;
        let taken = usize::try_from(self.inflater.total_in().saturating_sub(before_in)).map_err(damaged)?;
        let given = usize::try_from(self.inflater.total_out().saturating_sub(before_out)).map_err(damaged)?;
        if taken == 0 && given == 0 && !input.is_empty() && status != Status::StreamEnd {
            return Err(damaged("it goes on with nothing"));
        }
        self.used = self.used.saturating_add(taken);
        self.holds = given == room.len();
        buf.advance(given);
        Ok(given > 0 || status == Status::StreamEnd)
    }

    fn drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.output.len() {
            let rest = self.output.get(self.written..).unwrap_or_default();
            let count = ready!(Pin::new(&mut self.inner).poll_write(cx, rest))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written = self.written.saturating_add(count);
        }
        self.output.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }
}

fn damaged(why: impl core::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the compressed connection is damaged: {why}"))
}

impl<S: Duplex> AsyncRead for Deflated<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            if (this.holds || this.used < this.input.len()) && this.inflate(buf)? {
                return Poll::Ready(Ok(()));
            }
            if this.used < this.input.len() {
                continue;
            }
            this.used = 0;
            this.input.resize(INPUT_BYTES, 0);
            let mut read = ReadBuf::new(&mut this.input);
            let polled = Pin::new(&mut this.inner).poll_read(cx, &mut read);
            let count = read.filled().len();
            this.input.truncate(count);
            ready!(polled)?;
            if count == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: Duplex> AsyncWrite for Deflated<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.drain(cx))?;
        let block = buf.get(..BLOCK_MAX_BYTES).unwrap_or(buf);
        let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
        // Not the last block, stored; its length and, to be sure, the same with all bits turned.
        this.output.push(0);
        this.output.extend_from_slice(&length.to_le_bytes());
        this.output.extend_from_slice(&(!length).to_le_bytes());
        this.output.extend_from_slice(block);
        Poll::Ready(Ok(block.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.drain(cx))?;
        Pin::new(&mut this.inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.drain(cx))?;
        Pin::new(&mut this.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use tokio::io::{AsyncReadExt, AsyncWriteExt, join, sink};

    use super::*;

    fn run<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
    }

    fn squeezed(pieces: &[&[u8]]) -> Vec<u8> {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        for piece in pieces {
            encoder.write_all(piece).unwrap();
            encoder.flush().unwrap();
        }
        encoder.get_ref().clone()
    }

    #[test]
    fn what_a_server_has_compressed_reads_back_through_any_window() {
        let long: Vec<u8> = (0..500_000u32).map(|n| (n / 7 % 251) as u8).collect();
        let bytes = squeezed(&[b"* OK hello\r\n", &long, b"", b"m1 OK\r\n"]);
        for window in [1, 7, 4_096, 1_000_000] {
            let mut stream = Deflated::new(join(bytes.as_slice(), sink()));
            let (mut out, mut buf) = (Vec::new(), vec![0; window]);
            loop {
                let count = run(stream.read(&mut buf)).unwrap();
                if count == 0 {
                    break;
                }
                out.extend_from_slice(&buf[..count]);
            }
            assert!(out == [b"* OK hello\r\n", long.as_slice(), b"m1 OK\r\n"].concat(), "{window}");
        }
    }

    #[test]
    fn what_is_said_is_a_stream_that_every_inflater_reads() {
        let mut stream = Deflated::new(join(tokio::io::empty(), Vec::new()));
        let long = vec![b'x'; 200_000];
        run(async {
            stream.write_all(b"m1 NOOP\r\n").await.unwrap();
            stream.flush().await.unwrap();
            stream.write_all(&long).await.unwrap();
            stream.flush().await.unwrap();
        });
        let bytes = stream.inner.writer().clone();
        let mut out = vec![0; 9 + long.len()];
        flate2::read::DeflateDecoder::new(bytes.as_slice()).read_exact(&mut out).unwrap();
        assert!(out == [b"m1 NOOP\r\n", long.as_slice()].concat());
    }

    #[test]
    fn damage_is_an_error_and_the_end_is_an_end() {
        // There is no such kind of block.
        let mut stream = Deflated::new(join([6; 10].as_slice(), sink()));
        let err = run(stream.read(&mut [0; 100])).unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::InvalidData);
        // A last block ends the stream, whatever follows it.
        let mut stream = Deflated::new(join([3, 0, 1, 2, 3].as_slice(), sink()));
        assert_eq!(run(stream.read(&mut [0; 100])).unwrap(), 0);
        let bytes = squeezed(&[b"cut"]);
        let mut stream = Deflated::new(join(&bytes[..3], sink()));
        while run(stream.read(&mut [0; 100])).unwrap() > 0 {}
    }
}
