//! One HTTP/1.1 request and its answer (RFC 9112), over any stream, with a limit on everything the other side can send.
//! Not more of HTTP than printers speak: no redirects, no compression, no connection that is used twice. What sends whole
//! files writes its own request, and only has the answer from here.

use std::io;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::access::Login;
use crate::ipp::PrinterUrl;
use crate::limits::{HTTP_BODY_MAX_BYTES, HTTP_HEAD_MAX_BYTES, HTTP_INTERIM_MAX_COUNT};

/// Read from the stream in pieces of this size.
const PIECE_BYTES: usize = 4 * 1024;

/// The answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Where it says that the printer is.
    pub(crate) location: Option<String>,
    /// Whether HTTP Basic is among the logins that it names, if it names any.
    pub(crate) offers_basic: Option<bool>,
    pub(crate) body: Vec<u8>,
}

/// What somebody says to a file that was sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) status: u16,
    /// After so many seconds it may be asked again, if it says so.
    pub(crate) retry_after: Option<u64>,
    /// The body, if it is wanted; as much of it as came.
    pub(crate) body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HttpFault {
    /// Nothing came for as long as one step may take.
    Silent,
    /// The connection broke.
    Broken(String),
    /// What came is no HTTP, or more than an answer can have.
    Garbage(String),
}

impl HttpFault {
    pub(crate) fn of(err: &io::Error) -> Self {
        Self::Broken(err.to_string())
    }
}

/// Posts `body` as IPP and reads the answer. `step` is the longest time without a byte.
pub(crate) async fn post<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    url: &PrinterUrl,
    login: Option<&Login>,
    body: &[u8],
    step: Duration,
) -> Result<Reply, HttpFault> {
    let authorization = login.map(authorization).unwrap_or_default();
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/ipp\r\nContent-Length: {}\r\n\
         Accept: application/ipp\r\nUser-Agent: mailfleet-agent\r\n{authorization}Connection: close\r\n\r\n",
        url.path(),
        url.authority(),
        body.len()
    );
    let request = [head.as_bytes(), body].concat();
    let write = async {
        stream.write_all(&request).await?;
        stream.flush().await
    };
    let written = timeout(step, write).await.map_err(|_| HttpFault::Silent)?;
    let mut source = Source { stream, step, came: Vec::new(), at: 0, has_ended: false };
    let reply = source.reply().await;
    match (written, reply) {
        // Who refuses a request may close before it was read; what was answered says why.
        (_, Ok(reply)) => Ok(reply),
        (Err(err), Err(_)) => Err(HttpFault::of(&err)),
        (Ok(()), Err(fault)) => Err(fault),
    }
}

/// Reads an answer to what was sent already. `step` is the longest time without a byte. A body is read only if it is `wanted`:
/// SWUpdate says a length of it that is none, and then keeps the connection.
pub(crate) async fn told<S: AsyncRead + Unpin>(
    stream: &mut S,
    step: Duration,
    wanted: bool,
) -> Result<Told, HttpFault> {
    let mut source = Source { stream, step, came: Vec::new(), at: 0, has_ended: false };
    let head = source.head().await?;
    let (status, retry_after) = (head.status, head.retry_after);
    let is_there = wanted && !matches!(status, 204 | 304);
    let body = if is_there { source.body(head.length).await? } else { Vec::new() };
    Ok(Told { status, retry_after, body })
}

/// RFC 7617, said with the first request: whoever is asked each minute need not be asked twice.
pub(crate) fn authorization(login: &Login) -> String {
    let Login { user, password } = login;
    format!("Authorization: Basic {}\r\n", STANDARD.encode(format!("{user}:{password}")))
}

/// The answer's bytes.
struct Source<'s, S> {
    stream: &'s mut S,
    step: Duration,
    came: Vec<u8>,
    /// So much of it is used.
    at: usize,
    has_ended: bool,
}

/// How long a body is.
enum Length {
    Chunked,
    Bytes(usize),
    UntilEnd,
}

impl<S: AsyncRead + Unpin> Source<'_, S> {
    async fn reply(&mut self) -> Result<Reply, HttpFault> {
        let Head { status, location, offers_basic, length, .. } = self.head().await?;
        // What somebody says who is no IPP printer is not read.
        let body = if status == 200 { self.body(length).await? } else { Vec::new() };
        Ok(Reply { status, location, offers_basic, body })
    }

    async fn head(&mut self) -> Result<Head, HttpFault> {
        let mut interim: u32 = 0;
        loop {
            let head = Head::read(self).await?;
            if !(100..200).contains(&head.status) {
                return Ok(head);
            }
            interim = interim.saturating_add(1);
            if interim > HTTP_INTERIM_MAX_COUNT {
                return Err(garbage("one \"continue\" after the other"));
            }
        }
    }

    async fn body(&mut self, length: Length) -> Result<Vec<u8>, HttpFault> {
        match length {
            Length::Bytes(count) => {
                checked(count)?;
                self.exactly(count).await
            }
            Length::UntilEnd => {
                while self.more().await? {
                    checked(self.unread().len())?;
                }
                Ok(self.take(self.unread().len()))
            }
            Length::Chunked => {
                let mut body = Vec::new();
                loop {
                    let mut room = HTTP_HEAD_MAX_BYTES;
                    let line = self.line(&mut room).await?;
                    let size = line.split(';').next().unwrap_or_default().trim();
                    let size =
                        usize::from_str_radix(size, 16).map_err(|_| garbage("a chunk without a size"))?;
                    if size == 0 {
                        return Ok(body);
                    }
                    checked(body.len().saturating_add(size))?;
                    body.extend(self.exactly(size).await?);
                    if !self.line(&mut room).await?.is_empty() {
                        return Err(garbage("a chunk that is longer than its size"));
                    }
                }
            }
        }
    }

    /// One line without its end; takes its bytes from `room`.
    async fn line(&mut self, room: &mut usize) -> Result<String, HttpFault> {
        let end = loop {
            if let Some(at) = self.unread().iter().position(|byte| *byte == b'\n') {
                break at.saturating_add(1);
            }
            if self.unread().len() > *room {
                return Err(garbage("a head without an end"));
            }
            if !self.more().await? {
                return Err(HttpFault::Broken("it ended inside its answer".to_owned()));
            }
        };
        *room = room.checked_sub(end).ok_or_else(|| garbage("a head without an end"))?;
        Ok(String::from_utf8_lossy(&self.take(end)).trim_end_matches(['\r', '\n']).to_owned())
    }

    async fn exactly(&mut self, count: usize) -> Result<Vec<u8>, HttpFault> {
        while self.unread().len() < count {
            if !self.more().await? {
                return Err(HttpFault::Broken("it ended inside its answer".to_owned()));
            }
        }
        Ok(self.take(count))
    }

    fn unread(&self) -> &[u8] {
        self.came.get(self.at..).unwrap_or_default()
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        let taken = self.unread().get(..count).unwrap_or_default().to_vec();
        self.at = self.at.saturating_add(taken.len());
        taken
    }

    /// Reads a piece; false at the end.
    async fn more(&mut self) -> Result<bool, HttpFault> {
        if self.has_ended {
            return Ok(false);
        }
        let mut piece = [0_u8; PIECE_BYTES];
        let read = timeout(self.step, self.stream.read(&mut piece)).await.map_err(|_| HttpFault::Silent)?;
        let count = match read {
            Ok(count) => count,
            // Printers close TLS without saying so; whether something is missing, the lengths tell.
            Err(err) if err.kind() == io::ErrorKind::UnexpectedEof => 0,
            Err(err) => return Err(HttpFault::of(&err)),
        };
        self.has_ended = count == 0;
        self.came.drain(..self.at);
        self.at = 0;
        self.came.extend_from_slice(piece.get(..count).unwrap_or_default());
        Ok(count > 0)
    }
}

/// What is used of the head of an answer.
struct Head {
    status: u16,
    location: Option<String>,
    offers_basic: Option<bool>,
    retry_after: Option<u64>,
    length: Length,
}

impl Head {
    async fn read<S: AsyncRead + Unpin>(source: &mut Source<'_, S>) -> Result<Self, HttpFault> {
        let mut room = HTTP_HEAD_MAX_BYTES;
        let first = source.line(&mut room).await?;
        let status = first.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1));
        let status = status.and_then(|status| status.parse().ok()).ok_or_else(|| garbage("no HTTP"))?;
        let length = Length::UntilEnd;
        let mut head = Self { status, location: None, offers_basic: None, retry_after: None, length };
        loop {
            let line = source.line(&mut room).await?;
            if line.is_empty() {
                return Ok(head);
            }
            let Some((name, value)) = line.split_once(':') else { continue };
            head.take(&name.to_ascii_lowercase(), value.trim())?;
        }
    }

    fn take(&mut self, name: &str, value: &str) -> Result<(), HttpFault> {
        match name {
            "location" => self.location = Some(value.to_owned()),
            // A date is nothing to somebody whose clock may be wrong.
            "retry-after" => self.retry_after = value.parse().ok(),
            // One line may name several, and there may be several lines.
            "www-authenticate" => {
                let has_basic = value.to_ascii_lowercase().contains("basic");
                self.offers_basic = Some(has_basic || self.offers_basic == Some(true));
            }
            "transfer-encoding" if value.to_ascii_lowercase().ends_with("chunked") => {
                self.length = Length::Chunked;
            }
            // RFC 9112 §6.3: chunks count more.
            "content-length" if !matches!(self.length, Length::Chunked) => {
                let count = value.parse().map_err(|_| garbage("a length that is no number"))?;
                self.length = Length::Bytes(count);
            }
            _ => {}
        }
        Ok(())
    }
}

fn checked(count: usize) -> Result<(), HttpFault> {
    if count > HTTP_BODY_MAX_BYTES {
        return Err(garbage(&format!("more than {HTTP_BODY_MAX_BYTES} bytes")));
    }
    Ok(())
}

fn garbage(why: &str) -> HttpFault {
    HttpFault::Garbage(why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is made of an answer's bytes; then the connection ends.
    async fn answered(bytes: &[u8]) -> Result<Reply, HttpFault> {
        let (mut ours, mut theirs) = tokio::io::duplex(4 * 1024 * 1024);
        theirs.write_all(bytes).await.unwrap();
        theirs.shutdown().await.unwrap();
        let url = PrinterUrl::parse("ipp://mfp/ipp/print").unwrap();
        post(&mut ours, &url, None, b"asked", Duration::from_secs(2)).await
    }

    async fn body(bytes: &[u8]) -> Vec<u8> {
        answered(bytes).await.unwrap().body
    }

    #[tokio::test]
    async fn bodies_of_every_kind_of_length_are_read() {
        assert_eq!(body(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbodyX").await, b"body");
        assert_eq!(body(b"HTTP/1.0 200 OK\n\nbody").await, b"body");
        let chunked = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n\
            2;x=y\r\nbo\r\n002\r\ndy\r\n0\r\n\r\n";
        assert_eq!(body(chunked).await, b"body");
        let interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody";
        assert_eq!(body(interim).await, b"body");
    }

    #[tokio::test]
    async fn who_says_no_is_heard_and_what_else_it_says_is_not_read() {
        let reply =
            answered(b"HTTP/1.1 301 Moved\r\nLOCATION: https://a/\r\nContent-Length: 9999999\r\n\r\n");
        let reply = reply.await.unwrap();
        assert_eq!((reply.status, reply.location.as_deref()), (301, Some("https://a/")));
        assert_eq!(reply.body, b"");
    }

    #[tokio::test]
    async fn what_is_cut_off_is_no_answer() {
        for bytes in [
            &b""[..],
            b"HTTP/1.1 200 OK\r\nContent-Le",
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbody",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbo",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n",
        ] {
            assert!(matches!(answered(bytes).await, Err(HttpFault::Broken(_))), "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn what_is_no_http_or_too_much_of_it_is_refused_before_it_is_kept() {
        let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(40_000));
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(10_000));
        let interim = "HTTP/1.1 100 Continue\r\n\r\n".repeat(100);
        let flood = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(2_000_000));
        let chunks = format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}",
            "1\r\nx\r\n".repeat(1_100_000)
        );
        for bytes in [
            "SSH-2.0-OpenSSH_9.2\r\n\r\n",
            "HTTP/1.1 yes\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1048577\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxyz\r\n",
            &long,
            &many,
            &interim,
            &flood,
        ] {
            let found = answered(bytes.as_bytes()).await;
            assert!(matches!(found, Err(HttpFault::Garbage(_))), "{:.60}: {found:?}", bytes);
        }
        // Longer than what lies between the two at a time.
        let (mut ours, mut theirs) = tokio::io::duplex(64 * 1024);
        let sent = tokio::spawn(async move { theirs.write_all(chunks.as_bytes()).await });
        let url = PrinterUrl::parse("ipp://mfp").unwrap();
        let found = post(&mut ours, &url, None, b"asked", Duration::from_secs(2)).await;
        assert!(matches!(found, Err(HttpFault::Garbage(_))), "{found:?}");
        drop(ours);
        assert!(sent.await.unwrap().is_err(), "the rest was not read");
    }

    #[tokio::test]
    async fn silence_inside_an_answer_is_silence() {
        let (mut ours, mut theirs) = tokio::io::duplex(1024);
        theirs.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbo").await.unwrap();
        let url = PrinterUrl::parse("ipp://mfp").unwrap();
        let found = post(&mut ours, &url, None, b"asked", Duration::from_millis(50)).await;
        assert_eq!(found, Err(HttpFault::Silent));
    }
}
