//! Reads mails of strangers: which kind, the attachment, a bounce's facts. Pure: bytes in, values out, in
//! constant memory and linear time, whatever the bytes are.
//!
//! Why not mail-parser for bodies: version 0.11.9 overflows the stack on 0.9 MB of nested `message/rfc822`
//! (an abort, not a panic) and takes quadratic time on many boundaries. It only decodes single header
//! values here. Nested messages are opaque bytes to this reader.

pub mod classify;
pub mod dsn;
pub mod extract;
pub mod header;
pub mod reply;
pub mod walk;

/// Levels of multipart within each other. Our own mail has one; a gateway may wrap it in another.
pub const DEPTH_MAX: usize = 4;

/// Parts of one mail. Our own has two.
pub const PARTS_MAX: usize = 64;

/// One header block.
pub const HEADER_MAX_BYTES: usize = 64 * 1024;
