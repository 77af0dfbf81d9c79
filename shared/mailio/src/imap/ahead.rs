//! Small mails that were read together, before they are asked for one by one: a command for each of ten thousand mails
//! costs more than their bytes. Keeps them in memory, bounded; knows nothing of connections that fail.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::MailError;
use crate::imap::folder::BODY_WINDOW_BYTES;
use crate::imap::session::Session;
use crate::mailbox::MailKey;
use crate::net::Duplex;

/// What is read ahead at a time: 1,000 reports of 4 KB.
const AHEAD_MAX_BYTES: u64 = 4 * 1024 * 1024;

/// Whole mails, by UIDVALIDITY and UID.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    mails: BTreeMap<(u32, u32), Vec<u8>>,
}

impl Ahead {
    pub(crate) fn forget(&mut self) {
        self.mails.clear();
    }

    /// The mail, if it was read; once.
    pub(crate) fn take(&mut self, key: (u32, u32)) -> Option<Vec<u8>> {
        self.mails.remove(&key)
    }

    /// Reads those of these mails, with their sizes, that fit. After an error the session must be dropped.
    pub(crate) async fn fill<S: Duplex>(
        &mut self,
        session: &mut Session<S>,
        mails: &[(&MailKey, u64)],
    ) -> Result<(), MailError> {
        let validity = session.uid_validity;
        let (mut wanted, mut total_bytes) = (BTreeSet::new(), 0u64);
        for (key, size) in mails {
            let sum = total_bytes.saturating_add(*size);
            let (of, uid) = key.as_uid()?;
            if of == validity && *size < BODY_WINDOW_BYTES && sum <= AHEAD_MAX_BYTES {
                wanted.insert(uid);
                total_bytes = sum;
            }
        }
        let uids: Vec<u32> = wanted.iter().copied().collect();
        let whole = |body: &[u8]| u64::try_from(body.len()).is_ok_and(|n| n > 0 && n < BODY_WINDOW_BYTES);
        session
            .bodies(&uids, total_bytes, |uid, body| {
                if wanted.contains(&uid) && whole(body) {
                    self.mails.insert((validity, uid), body.to_vec());
                }
            })
            .await
    }
}
