//! Opens the reports of a window of mails on all cores, while the loop fetches the next window: the public-key work of a mail
//! takes longer than all else about it. Decides nothing: whose key counts is looked up again by the transaction that takes the
//! mails.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mailio::MailKey;
use shared::KeyId;
use shared::keys::VerifyingKey;
use tokio::task::JoinSet;

use super::Shared;
use super::mail_in::Incoming;
use super::unseal::{Opened, UnsealError, claimed_sender, open_report};
use crate::store::{Tx, TxResult};

/// What opening a report with a sender's key has given.
pub(super) struct Tried {
    pub(super) key: VerifyingKey,
    pub(super) result: Result<Opened, UnsealError>,
}

/// A mail that was fetched. Tried, if it claims to be of an agent that was known then.
pub(super) struct Mail {
    pub(super) key: MailKey,
    pub(super) content: Incoming,
    pub(super) tried: Option<Tried>,
}

/// The mails of a window, while they are being opened.
pub(super) struct Opening {
    tasks: JoinSet<(usize, Vec<Mail>, Duration)>,
}

/// The keys of those who claim to have sent these mails, as far as they are known.
pub(super) fn senders(tx: &Tx<'_>, mails: &[(MailKey, Incoming)]) -> TxResult<BTreeMap<KeyId, VerifyingKey>> {
    let mut keys = BTreeMap::new();
    for claimed in mails.iter().filter_map(|(_, content)| claimed(content)) {
        if !keys.contains_key(&claimed)
            && let Some(sender) = tx.sender(claimed)?
        {
            keys.insert(claimed, sender.key);
        }
    }
    Ok(keys)
}

fn claimed(content: &Incoming) -> Option<KeyId> {
    let Incoming::Attachment(bytes) = content else { return None };
    claimed_sender(bytes).ok()
}

impl Opening {
    pub(super) fn begin(
        shared: &Arc<Shared>,
        senders: BTreeMap<KeyId, VerifyingKey>,
        mails: Vec<(MailKey, Incoming)>,
    ) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let share = mails.len().div_ceil(cores).max(1);
        let senders = Arc::new(senders);
        let mut tasks = JoinSet::new();
        let mut mails = mails.into_iter();
        for place in 0..cores {
            let some: Vec<_> = mails.by_ref().take(share).collect();
            let (shared, senders) = (Arc::clone(shared), Arc::clone(&senders));
            tasks.spawn_blocking(move || {
                let began = Instant::now();
                let open =
                    |(key, content)| Mail { key, tried: try_open(&shared, &senders, &content), content };
                let opened = some.into_iter().map(open).collect();
                (place, opened, began.elapsed())
            });
        }
        Self { tasks }
    }

    /// The mails in their order, and the time that all cores have spent on them.
    pub(super) async fn done(mut self) -> (Vec<Mail>, Duration) {
        let mut shares = BTreeMap::new();
        let mut spent = Duration::ZERO;
        while let Some(joined) = self.tasks.join_next().await {
            match joined {
                Ok((place, mails, time)) => {
                    shares.insert(place, mails);
                    spent = spent.saturating_add(time);
                }
                // Nobody ends these tasks: it was a panic, and goes on being one.
                Err(err) => {
                    if let Ok(panic) = err.try_into_panic() {
                        std::panic::resume_unwind(panic)
                    }
                }
            }
        }
        (shares.into_values().flatten().collect(), spent)
    }
}

fn try_open(shared: &Shared, senders: &BTreeMap<KeyId, VerifyingKey>, content: &Incoming) -> Option<Tried> {
    let key = senders.get(&claimed(content)?)?.clone();
    let Incoming::Attachment(bytes) = content else { return None };
    let result = open_report(bytes, &shared.keys.open, &key);
    Some(Tried { key, result })
}
