//! Stands between an IMAP server and async-imap's parser and bounds what may come in.
//!
//! async-imap 0.12.0 makes room for a literal as soon as its size is announced, up to 512 MiB: one line of a
//! server would be enough to kill a small box. So literals are measured before the parser sees them, and each
//! command has a budget of bytes.
//!
//! Where a literal may be is decided by the line's beginning: `{9}` at the end of a free text is no literal to the
//! parser, and what it hid would pass unmeasured. imap-proto 0.17.0 also calls itself for each parenthesis: some
//! 2,000 of them overflow the stack, which ends the process. And it panics, which ends the process too, at three things
//! that a server may say unasked: `INTERNALDATE NIL`, a name in METADATA that is no UTF-8, and a byte beyond ASCII
//! directly after a response code, as in `OK [ALERT]é`. The first two are refused; in the last the byte becomes a space.
//! Parses nothing else.

use core::pin::Pin;
use core::task::{Context, Poll, ready};
use std::io;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::net::Duplex;

/// A response line outside literals.
const LINE_MAX_BYTES: usize = 64 * 1024;

/// Opening parentheses of one response, outside literals. What is asked for here needs three, a greeting or a list
/// of namespaces some more.
const OPEN_MAX: usize = 16;

/// So much of a line tells its kind: `* 4294967295 FETCH `.
const HEAD_BYTES: usize = 19;

const METADATA: &[u8] = b"* METADATA";

/// Its first letter stands in it once, which [`Scan::spells_date`] relies on.
const DATE: &[u8] = b"INTERNALDATE";

/// The guarded stream.
#[derive(Debug)]
pub(crate) struct Guarded<S> {
    inner: S,
    scan: Scan,
}

#[derive(Debug)]
struct Scan {
    literal_max_bytes: u64,
    budget_bytes: u64,
    /// Bytes left of the literal that is passing through.
    literal_left: u64,
    line_bytes: usize,
    /// The line's first bytes.
    head: Vec<u8>,
    /// Its opening parentheses so far. Closing ones do not count: inside a quoted text they close nothing.
    open_count: usize,
    /// How many letters of [`DATE`] it ends with.
    date_letters: usize,
    /// The byte before was a `]`.
    after_code: bool,
    tail: Tail,
}

/// How much of `{digits}` CR LF the current line ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tail {
    Other,
    Digits(u64),
    Closed(u64),
    Cr(u64),
}

impl<S: Duplex> Guarded<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self { inner, scan: Scan::new(0, 0) }
    }

    /// What the next command may answer: single literals and all bytes together.
    pub(crate) fn allow(&mut self, literal_max_bytes: u64, budget_bytes: u64) {
        self.scan.literal_max_bytes = literal_max_bytes;
        self.scan.budget_bytes = budget_bytes;
    }

    pub(crate) fn into_inner(self) -> S {
        self.inner
    }
}

impl Scan {
    fn new(literal_max_bytes: u64, budget_bytes: u64) -> Self {
        Self {
            literal_max_bytes,
            budget_bytes,
            literal_left: 0,
            line_bytes: 0,
            head: Vec::new(),
            open_count: 0,
            date_letters: 0,
            after_code: false,
            tail: Tail::Other,
        }
    }

    fn check(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        let count = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.budget_bytes =
            self.budget_bytes.checked_sub(count).ok_or_else(|| refuse("more bytes than were asked for"))?;
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.literal_left > 0 {
                let taken = usize::try_from(self.literal_left).unwrap_or(usize::MAX).min(rest.len());
                rest = rest.get_mut(taken..).unwrap_or_default();
                self.literal_left =
                    self.literal_left.saturating_sub(u64::try_from(taken).unwrap_or(u64::MAX));
                continue;
            }
            let Some((b, tail)) = rest.split_first_mut() else { break };
            rest = tail;
            if self.after_code && !b.is_ascii() {
                *b = b' ';
            }
            self.after_code = *b == b']';
            self.line_byte(*b)?;
        }
        Ok(())
    }

    fn line_byte(&mut self, b: u8) -> io::Result<()> {
        self.line_bytes = self.line_bytes.saturating_add(1);
        if self.line_bytes > LINE_MAX_BYTES {
            return Err(refuse("a line beyond 65536 bytes"));
        }
        if self.head.len() < HEAD_BYTES {
            self.head.push(b);
            if self.head.eq_ignore_ascii_case(METADATA) {
                return Err(refuse("metadata that nobody asked for"));
            }
        }
        if self.spells_date(b) && is_fetch(&self.head) {
            return Err(refuse("a date that nobody asked for"));
        }
        self.open_count = self.open_count.saturating_add(usize::from(b == b'('));
        if self.open_count > OPEN_MAX {
            return Err(refuse("more than 16 parentheses in a line"));
        }
        self.tail = match (self.tail, b) {
            (_, b'{') => Tail::Digits(0),
            (Tail::Digits(n), b'0'..=b'9') => {
                Tail::Digits(n.saturating_mul(10).saturating_add(u64::from(b.saturating_sub(b'0'))))
            }
            (Tail::Digits(n), b'+') => Tail::Digits(n),
            (Tail::Digits(n), b'}') => Tail::Closed(n),
            (Tail::Closed(n), b'\r') => Tail::Cr(n),
            (Tail::Closed(n) | Tail::Cr(n), b'\n') => return self.literal(n),
            (_, b'\n') => {
                self.line_bytes = 0;
                self.open_count = 0;
                self.head.clear();
                Tail::Other
            }
            _ => Tail::Other,
        };
        Ok(())
    }

    fn spells_date(&mut self, b: u8) -> bool {
        let goes_on = |at: usize| DATE.get(at).is_some_and(|letter| letter.eq_ignore_ascii_case(&b));
        self.date_letters = match self.date_letters {
            at if goes_on(at) => at.saturating_add(1),
            _ => usize::from(goes_on(0)),
        };
        self.date_letters == DATE.len()
    }

    fn literal(&mut self, size: u64) -> io::Result<()> {
        if !is_fetch(&self.head) {
            return Err(refuse("a literal outside of FETCH"));
        }
        if size > self.literal_max_bytes {
            return Err(refuse(&format!(
                "a literal of {size} bytes, allowed are {}",
                self.literal_max_bytes
            )));
        }
        self.literal_left = size;
        self.tail = Tail::Other;
        Ok(())
    }
}

/// True for the beginning of `* 12 FETCH …`.
fn is_fetch(head: &[u8]) -> bool {
    let Some(rest) = head.strip_prefix(b"* ") else { return false };
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    let word = rest.get(digits..).unwrap_or_default();
    digits > 0 && word.get(..7).is_some_and(|word| word.eq_ignore_ascii_case(b" FETCH "))
}

fn refuse(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the server sends {text}"))
}

impl<S: Duplex> AsyncRead for Guarded<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
        let new = buf.filled_mut().get_mut(before..).unwrap_or_default();
        Poll::Ready(this.scan.check(new))
    }
}

impl<S: Duplex> AsyncWrite for Guarded<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(max: u64, pieces: &[&[u8]]) -> io::Result<()> {
        let mut scan = Scan::new(max, 1_000_000);
        pieces.iter().try_for_each(|p| scan.check(&mut p.to_vec()))
    }

    #[test]
    fn what_the_parser_panics_at_does_not_reach_it() {
        for line in ["* 1 FETCH (UID 1 INTERNALDATE NIL)\r\n", "* 1 fetch (iinternaldate NIL)\r\n"] {
            assert!(scan(10, &[line.as_bytes()]).is_err(), "{line}");
        }
        assert!(scan(10, &[b"* 1 FETCH (INTERNAL", b"DATE NIL)\r\n"]).is_err());
        assert!(
            scan(40, &[b"* 1 FETCH (BODY[] {12}\r\nINTERNALDATE)\r\n"]).is_ok(),
            "a mail may speak of it"
        );
        assert!(scan(10, &[b"* metadata INBOX \xff\r\n"]).is_err());
        let mut scan = Scan::new(40, 1_000);
        let mut first = b"* OK [ALERT]".to_vec();
        let mut second = "é*\r\n* 1 FETCH (BODY[] {3}\r\n]é)\r\n".as_bytes().to_vec();
        scan.check(&mut first).unwrap();
        scan.check(&mut second).unwrap();
        assert_eq!(first, b"* OK [ALERT]");
        assert_eq!(second, b" \xa9*\r\n* 1 FETCH (BODY[] {3}\r\n]\xc3\xa9)\r\n", "literals are as they were");
    }

    #[test]
    fn a_large_literal_is_refused_when_announced_even_in_pieces() {
        assert!(scan(10, &[b"* 1 FETCH (BODY[] {10}\r\n{99}\r\n1234)\r\n"]).is_ok());
        assert!(scan(10, &[b"* 1 FETCH (BODY[] {1", b"1}", b"\r", b"\n"]).is_err());
        assert!(scan(10, &[b"* 1 FETCH (BODY[] {400000000}\r\n"]).is_err());
        assert!(scan(10, &[b"* 1 FETCH (BODY[] {99999999999999999999999}\r\n"]).is_err());
        assert!(scan(10, &[b"* OK text {99} more\r\n"]).is_ok());
    }

    #[test]
    fn a_literal_that_the_parser_would_not_see_hides_nothing() {
        for line in
            ["* OK {9}\r\n", "* CAPABILITY {9}\r\n", "m1 OK {9}\r\n", "+ {9}\r\n", "* 1 FETCHED {9}\r\n"]
        {
            assert!(scan(10, &[line.as_bytes()]).is_err(), "{line}");
        }
        assert!(scan(10, &[b"* 4294967295 fetch (BODY[] {9}\r\n123456789 BODY[1] {2}\r\n12)\r\n"]).is_ok());
        // The next line is a new one, whatever stood before it.
        assert!(scan(10, &[b"* 1 FETCH (UID 1)\r\n* OK {9}\r\n"]).is_err());
    }

    #[test]
    fn deep_nesting_is_refused_before_the_parser_calls_itself() {
        let nested = |count| format!("* 1 FETCH (BODYSTRUCTURE {}\r\n", "(".repeat(count));
        assert!(scan(10, &[nested(2_000).as_bytes()]).is_err());
        assert!(scan(10, &[&b"* 1 FETCH (BODYSTRUCTURE (\")\" ".repeat(20)]).is_err());
        assert!(scan(10, &[nested(4).as_bytes()]).is_ok());
        // A literal's bytes are not parsed, and each line counts anew.
        assert!(
            scan(99, &[b"* 1 FETCH (BODY[] {40}\r\n((((((((((((((((((((((((((((((((((((((((UID 1)\r\n"])
                .is_ok()
        );
        assert!(scan(10, &[&b"* LIST (\\NoSelect) (x) (y)\r\n".repeat(100)]).is_ok());
    }

    #[test]
    fn endless_lines_are_refused() {
        assert!(scan(10, &[&[b'x'; 70_000]]).is_err());
        assert!(scan(10, &[&b"* OK\r\n".repeat(1000)]).is_ok());
        assert!(scan(10, &[&b"* OK\r\n".repeat(200_000)]).is_err());
    }
}
