//! IMAP4rev1 (RFC 3501) over async-imap's parser.
//!
//! Only the parser: async-imap 0.12.0's FETCH, STORE and EXPUNGE end at the tagged line without reading
//! whether it says OK, and take a lost connection for the end of the list (its issue 95; Delta Chat lost mail
//! by it, chatmail core #5009). Here each command's tagged answer is checked, the end of the connection is
//! an error, and nothing is concluded about a mail that was not itself seen.
//!
//! Never sent: SEARCH (one line of 200,000 numbers is parsed in quadratic time), ESEARCH and BINARY (their
//! answers are parse errors).

pub(crate) mod ahead;
pub(crate) mod command;
pub(crate) mod folder;
pub(crate) mod idle;
pub(crate) mod inbox;
pub(crate) mod restless;
pub(crate) mod session;
