//! A session and the mails that it knows by number, and what is asked about one of them.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use crate::error::{ContentError, FetchError, MailError};
use crate::net::Duplex;
use crate::pop3::session::{Ended, Session};

/// Header bytes kept of a mail.
const HEADER_KEPT_BYTES: usize = 16 * 1024;

/// Header bytes read of a mail, to keep the connection. A stranger may send 50 MB of them.
const HEADER_READ_BYTES: u64 = 256 * 1024;

/// A mail may be so much longer than its server says.
const SIZE_SLACK_BYTES: u64 = 64 * 1024;

/// A session and what it holds.
pub(crate) struct Open {
    pub(crate) session: Session,
    pub(crate) mails: BTreeMap<String, Mail>,
    /// Deleted in this session, if it ends well.
    pub(crate) deleted: BTreeSet<String>,
    /// Mails in the mailbox.
    pub(crate) count: u64,
    pub(crate) used: Instant,
}

/// A mail of the session.
#[derive(Clone, Copy)]
pub(crate) struct Mail {
    pub(crate) number: u32,
    pub(crate) size_bytes: u64,
}

impl Open {
    pub(crate) async fn delete(&mut self, id: &str, number: u32) -> Result<(), MailError> {
        if !self.deleted.contains(id) {
            self.session.command("DELE", &format!("DELE {number}")).await?;
            self.deleted.insert(id.to_owned());
        }
        self.used = Instant::now();
        Ok(())
    }

    /// Asks for a mail, unless the server has said that it is too large. Gives how many bytes of it are taken.
    pub(crate) async fn ask_for(&mut self, id: &str, size_max_bytes: u64) -> Result<u64, FetchError> {
        let mail = self.mails.get(id).copied().filter(|_| !self.deleted.contains(id));
        let mail = mail.ok_or(FetchError::Gone)?;
        if mail.size_bytes > size_max_bytes {
            return Err(ContentError::TooLarge { limit_bytes: size_max_bytes }.into());
        }
        self.session.command("RETR", &format!("RETR {}", mail.number)).await?;
        // Some servers count line ends once that are sent as two bytes.
        let likely = mail.size_bytes.saturating_mul(2).saturating_add(SIZE_SLACK_BYTES);
        Ok(likely.min(size_max_bytes.saturating_add(1)))
    }
}

impl<S: Duplex> Session<S> {
    /// A mail's first header bytes, and whether all of them were read.
    pub(crate) async fn top(&mut self, number: u32) -> Result<(Vec<u8>, Ended), MailError> {
        self.command("TOP", &format!("TOP {number} 0")).await?;
        let mut kept = Vec::new();
        let mut push = |bytes: &[u8]| {
            kept.extend(bytes.iter().take(HEADER_KEPT_BYTES.saturating_sub(kept.len())));
            Ok::<bool, MailError>(true)
        };
        let ended = self.body("TOP", HEADER_READ_BYTES, &mut push).await?;
        Ok((kept, ended))
    }
}
