//! Walks a mail's MIME parts as its bytes arrive and hands them to a [`Sink`]. Buffers at most one line of
//! 1,000 bytes and one header block; compares each line with at most four boundaries.
//!
//! Tolerated, because relays do it: LF or CRLF, changed boundaries and header order, text before, after and
//! between the parts, an enclosing multipart, blanks behind a boundary, lines of any length.

use crate::error::ContentError;
use crate::mime::header::Headers;
use crate::mime::{DEPTH_MAX, PARTS_MAX};

/// RFC 5322 allows 998; boundaries have at most 70 and stand at a line's start.
const LINE_MAX_BYTES: usize = 1_000;

/// Takes the parts of a mail.
pub trait Sink {
    /// What stops the walk.
    type Error: From<ContentError>;

    /// A leaf part begins; `true` asks for its body.
    ///
    /// # Errors
    /// Stops the walk.
    fn part(&mut self, headers: &Headers, depth: usize) -> Result<bool, Self::Error>;

    /// A piece of the body asked for, line ends included.
    ///
    /// # Errors
    /// Stops the walk.
    fn data(&mut self, bytes: &[u8]) -> Result<(), Self::Error>;

    /// The body asked for ended with its boundary (`whole`) or with the mail.
    ///
    /// # Errors
    /// Stops the walk.
    fn end(&mut self, whole: bool) -> Result<(), Self::Error>;

    /// True once it has what it wants: nothing that follows is looked at, so that nothing that follows, and
    /// no border between two pieces of a download, changes what was found.
    fn is_done(&self) -> bool {
        false
    }
}

enum State {
    Headers(Headers),
    /// A body that the sink wants or that is passed over.
    Body {
        wanted: bool,
    },
}

/// The walker; see the module text.
pub struct Walker<S> {
    sink: S,
    boundaries: Vec<Vec<u8>>,
    state: State,
    line: Vec<u8>,
    /// The current line went beyond the buffer; its rest is body and no boundary.
    long: bool,
    parts_count: usize,
    top: Option<Headers>,
}

impl<S: Sink> Walker<S> {
    /// Begins at a mail's first byte.
    pub fn new(sink: S) -> Self {
        Self {
            sink,
            boundaries: Vec::new(),
            state: State::Headers(Headers::default()),
            line: Vec::new(),
            long: false,
            parts_count: 0,
            top: None,
        }
    }

    /// The sink.
    pub fn sink(&self) -> &S {
        &self.sink
    }

    /// The mail's own headers, once they were read.
    pub fn top(&self) -> Option<&Headers> {
        self.top.as_ref()
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// Too deep, too many, too large, or the sink's.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), S::Error> {
        while !bytes.is_empty() && !self.sink.is_done() {
            let end = bytes.iter().position(|b| *b == b'\n').map_or(bytes.len(), |at| at.saturating_add(1));
            let (piece, rest) = bytes.split_at(end);
            bytes = rest;
            self.piece(piece)?;
        }
        Ok(())
    }

    /// The mail is over.
    ///
    /// # Errors
    /// The sink's.
    pub fn finish(mut self) -> Result<(S, Option<Headers>), S::Error> {
        if self.sink.is_done() {
            return Ok((self.sink, self.top));
        }
        if !self.line.is_empty() && !self.long {
            self.whole_line()?;
        }
        if let State::Headers(headers) = &mut self.state {
            let headers = core::mem::take(headers);
            self.headers_end(headers)?;
        }
        if matches!(self.state, State::Body { wanted: true }) {
            self.sink.end(self.boundaries.is_empty())?;
        }
        Ok((self.sink, self.top))
    }

    // Bytes of one line, with its end if it is there.
    fn piece(&mut self, piece: &[u8]) -> Result<(), S::Error> {
        let ended = piece.last() == Some(&b'\n');
        let fits = self.line.len().saturating_add(piece.len()) <= LINE_MAX_BYTES;
        let in_body = matches!(self.state, State::Body { .. });
        if self.long {
            self.body(piece)?;
            self.long = !ended;
            return Ok(());
        }
        if in_body && !fits {
            let line = core::mem::take(&mut self.line);
            self.body(&line)?;
            self.body(piece)?;
            self.long = !ended;
            return Ok(());
        }
        // Header lines may be longer than body lines; their block has its own bound.
        if !in_body && self.line.len().saturating_add(piece.len()) > crate::mime::HEADER_MAX_BYTES {
            return Err(ContentError::HeadersTooLarge.into());
        }
        self.line.extend_from_slice(piece);
        if ended { self.whole_line() } else { Ok(()) }
    }

    fn body(&mut self, bytes: &[u8]) -> Result<(), S::Error> {
        match self.state {
            State::Body { wanted: true } => self.sink.data(bytes),
            State::Body { wanted: false } | State::Headers(_) => Ok(()),
        }
    }

    fn whole_line(&mut self) -> Result<(), S::Error> {
        let line = core::mem::take(&mut self.line);
        let bare = line.strip_suffix(b"\n").unwrap_or(&line);
        let bare = bare.strip_suffix(b"\r").unwrap_or(bare);
        let done = if let Some((level, closes)) = self.boundary(bare) {
            self.delimiter(level, closes)
        } else if let State::Headers(headers) = &mut self.state {
            if bare.is_empty() {
                let headers = core::mem::take(headers);
                self.headers_end(headers)
            } else {
                headers.line(bare).map_err(Into::into)
            }
        } else {
            self.body(&line)
        };
        // Keeps the buffer's memory for the next line.
        self.line = line;
        self.line.clear();
        done
    }

    /// Which open multipart a line belongs to, and whether it closes that.
    fn boundary(&self, line: &[u8]) -> Option<(usize, bool)> {
        let text = line.strip_prefix(b"--")?.trim_ascii_end();
        for (level, boundary) in self.boundaries.iter().enumerate().rev() {
            if let Some(tail) = text.strip_prefix(boundary.as_slice())
                && (tail.is_empty() || tail == b"--")
            {
                return Some((level, !tail.is_empty()));
            }
        }
        None
    }

    fn delimiter(&mut self, level: usize, closes: bool) -> Result<(), S::Error> {
        let old = core::mem::replace(&mut self.state, State::Body { wanted: false });
        match old {
            State::Body { wanted: true } => self.sink.end(true)?,
            State::Body { wanted: false } => {}
            // A part without an empty line after its headers: it has no body.
            State::Headers(headers) => {
                self.headers_end(headers)?;
                if matches!(self.state, State::Body { wanted: true }) {
                    self.sink.end(true)?;
                }
            }
        }
        self.boundaries.truncate(if closes { level } else { level.saturating_add(1) });
        self.state = if closes { State::Body { wanted: false } } else { State::Headers(Headers::default()) };
        Ok(())
    }

    fn headers_end(&mut self, headers: Headers) -> Result<(), S::Error> {
        self.parts_count = self.parts_count.saturating_add(1);
        if self.parts_count > PARTS_MAX {
            return Err(ContentError::TooManyParts.into());
        }
        let boundary = headers.parameter("content-type", "boundary").filter(|b| (1..=200).contains(&b.len()));
        let wanted = match boundary {
            Some(boundary) if headers.content_type().starts_with("multipart/") => {
                if self.boundaries.len() >= DEPTH_MAX {
                    return Err(ContentError::NestedTooDeep.into());
                }
                self.boundaries.push(boundary.trim_end().as_bytes().to_vec());
                false
            }
            _ => self.sink.part(&headers, self.boundaries.len())?,
        };
        self.state = State::Body { wanted };
        if self.top.is_none() {
            self.top = Some(headers);
        }
        Ok(())
    }
}
