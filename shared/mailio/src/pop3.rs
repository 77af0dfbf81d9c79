//! POP3 (RFC 1939, with CAPA, STLS and AUTH of RFC 2449, 2595 and 5034), for sites that have nothing else.
//!
//! A session sees the mailbox as it was at its login, and what it deletes is gone when it ends with QUIT: one that
//! is lost has deleted nothing, and its mails are seen again. There are no folders, so junk that is not to be deleted
//! stays where it is and is passed over.
//!
//! The client is ours: the crate for it (async-pop 1.1.3) holds a whole mail in memory and links another TLS.
//!
//! Never used: numbers of mails beyond their session, APOP (MD5), and servers without UIDL and TOP, with which
//! nothing could be told apart or decided before it is downloaded.

pub(crate) mod inbox;
pub(crate) mod login;
pub(crate) mod open;
pub(crate) mod session;
pub(crate) mod unstuff;
