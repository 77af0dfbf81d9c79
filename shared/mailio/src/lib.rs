//! The only crate that opens mail connections: it sends and receives this product's mails over SMTP, IMAP,
//! POP3, `sendmail`, a Maildir or a spool of Maildirs.
//!
//! It does not know what an attachment means: sealing, parts, orders and reports are in `shared`. It keeps no
//! state on disk and retries nothing by itself beyond one stale connection; outbox, back-off and schedules are
//! the callers'. Callers: the mail loops of `agent` and `manager`, and `doctor`.
//!
//! Everything that comes from outside has a bound (bytes, lines, nesting, recipients) and every wait has a
//! limit ([`Timeouts`]). No code path downloads a mail that its headers do not claim as ours or as a bounce.
//!
//! ```no_run
//! # async fn example(settings: mailio::MailSettings, mail: mailio::Outgoing) -> Result<(), Box<dyn std::error::Error>> {
//! use mailio::{Class, Disposal, FetchError, Mailbox, Sender};
//!
//! for (to, sent) in mail.to.iter().zip(Sender::new(settings.clone()).send(&mail).await?) {
//!     println!("{to}: {sent:?}");
//! }
//! let mut mailbox = Mailbox::new(settings);
//! for found in mailbox.look(100).await? {
//!     let Class::Ours(marker) = found.class else { continue };
//!     let mut file = std::fs::File::create(format!("in/{}", marker.id))?;
//!     match mailbox.fetch(&found.key, 20_000_000, &mut file).await {
//!         Ok(_) => file.sync_all()?,
//!         Err(FetchError::Content(why)) => println!("{}: {why}", found.key),
//!         Err(other) => return Err(other.into()),
//!     }
//!     mailbox.dispose(&[(found.key, Disposal::Done)]).await?;
//! }
//! # Ok(())
//! # }
//! ```
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, reason = "tests may overflow and fail"))]

mod compose;
pub mod config;
mod deflate;
mod error;
mod faults;
mod fetch_error;
mod guarded;
mod imap;
mod line;
mod login;
mod mailbox;
mod maildir;
pub mod mime;
mod net;
mod outgoing;
mod pop3;
pub mod replay;
mod secret;
mod sender;
mod sendmail;
mod settings;
mod smtp;
mod text;
mod traffic;
mod url;

pub use error::{ContentError, FetchError, MailError, NetError, SendError, Turn};
pub use mailbox::{Disposal, Found, MailKey, Mailbox};
pub use mime::classify::{Class, Marker};
pub use mime::dsn::{Bounce, BounceAction, BouncedRecipient};
pub use mime::extract::Extracted;
pub use outgoing::{Attachment, AutoKind, Outgoing, Sent, Why};
pub use secret::{Secret, SecretError, SecretSource};
pub use sender::Sender;
pub use settings::{
    Extensions, JunkPolicy, MAILS_PER_CONNECTION_DEFAULT, MailSettings, Progress, SettingsError, Timeouts,
};
pub use traffic::{Carried, Traffic};
pub use url::{ReceiveUrl, SendUrl, TlsMode, UrlError};
