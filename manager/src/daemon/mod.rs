//! The daemon: three loops over the store, mail in, tick, mail out. Each can die at any point: what it had
//! not committed did not happen, and what it had said twice is recognised by its receivers.
//!
//! Not here: decisions. What a report means and what is due is asked of `manager-core`.

mod mail_in;
mod mail_out;
mod pause;
mod seal;
mod tick;
mod unseal;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use mailio::{MailError, SendError};
use thiserror::Error;
use tokio::sync::Notify;

use crate::config::Config;
use crate::home::{Home, HomeError, HomeLock, Keys};
use crate::store::{Store, StoreError};
use shared::error::chain;

use mail_in::MailIn;
use mail_out::MailOut;
use pause::Pause;
use tick::Tick;

pub use seal::queue_query;

/// A daemon that has a home for itself.
#[derive(Debug)]
pub struct Daemon {
    shared: Arc<Shared>,
    _lock: HomeLock,
}

/// What the loops share.
#[derive(Debug)]
struct Shared {
    home: Home,
    config: Config,
    keys: Keys,
    /// Rung when the store has something new for the tick.
    news: Notify,
    /// Rung when the outbox has something new.
    outbox: Notify,
}

/// Why the daemon, or one pass of it, came to a stop.
#[derive(Debug, Error)]
pub enum DaemonError {
    /// The home: configuration, keys, lock.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The mailbox.
    #[error("cannot read the mailbox")]
    Mailbox(#[from] MailError),
    /// The way out.
    #[error("cannot send mail")]
    Send(#[from] SendError),
    /// A file of the home.
    #[error("cannot use the file {}", .0.display())]
    File(std::path::PathBuf, #[source] std::io::Error),
    /// An order could not be sealed.
    #[error("cannot seal an order")]
    Seal(#[from] shared::envelope::SealError),
}

/// What one pass over everything did.
#[derive(Debug, Default)]
pub struct Pass {
    /// Mails taken in.
    pub mails_in: u64,
    /// Mails handed to the relay.
    pub mails_out: u64,
    /// What did not work: the mailbox, the relay.
    pub failures: Vec<DaemonError>,
}

impl Daemon {
    /// Takes the home's lock, reads configuration and keys, and clears leftovers.
    ///
    /// # Errors
    /// Another daemon works here, or something of the home cannot be used.
    pub fn start(home: Home) -> Result<Self, DaemonError> {
        let lock = home.lock()?;
        let config = home.config()?;
        let keys = home.keys()?;
        let mut store = Store::open(&home.store_path())?;
        seal::clear_leftovers(&home, &mut store)?;
        let shared = Shared { home, config, keys, news: Notify::new(), outbox: Notify::new() };
        Ok(Self { shared: Arc::new(shared), _lock: lock })
    }

    /// Works until `until` is done. Whatever is in the middle then is left as it is committed.
    ///
    /// # Errors
    /// The store cannot be used any more. Mail that does not work is logged and tried again.
    pub async fn run(&self, until: impl Future<Output = ()>) -> Result<(), DaemonError> {
        tokio::select! {
            result = mail_in_loop(&self.shared) => result,
            result = tick_loop(&self.shared) => result,
            result = mail_out_loop(&self.shared) => result,
            () = until => Ok(()),
        }
    }

    /// Does once what is due now: takes in all mail, plans, sends.
    ///
    /// # Errors
    /// The store cannot be used.
    pub async fn once(&self) -> Result<Pass, DaemonError> {
        let mut pass = Pass::default();
        let mut mail_in = MailIn::new(&self.shared)?;
        match mail_in.pass().await {
            Ok(n) => pass.mails_in = n,
            Err(err @ DaemonError::Store(_)) => return Err(err),
            Err(err) => pass.failures.push(err),
        }
        Tick::new(&self.shared)?.pass()?;
        let mut mail_out = MailOut::new(&self.shared)?;
        let failed = mail_out.pass().await;
        pass.mails_out = mail_out.sent_count();
        match failed {
            Ok(()) => {}
            Err(err @ DaemonError::Store(_)) => return Err(err),
            Err(err) => pass.failures.push(err),
        }
        mail_in.close().await;
        mail_out.close().await;
        Ok(pass)
    }
}

async fn mail_in_loop(shared: &Arc<Shared>) -> Result<(), DaemonError> {
    let mut pause = Pause::new(shared.config.poll);
    let mut mail_in = MailIn::new(shared)?;
    loop {
        match mail_in.pass().await {
            Ok(n) => {
                pause.worked();
                if n > 0 {
                    tracing::info!(mails = n, "took in mail");
                    shared.news.notify_one();
                    shared.outbox.notify_one();
                }
            }
            Err(err @ DaemonError::Store(_)) => return Err(err),
            Err(err) => pause.failed(&err),
        }
        tokio::time::sleep(pause.length()).await;
    }
}

async fn tick_loop(shared: &Arc<Shared>) -> Result<(), DaemonError> {
    let mut tick = Tick::new(shared)?;
    loop {
        let next = tick.pass()?;
        shared.outbox.notify_one();
        // Another process (a command beside this daemon) may change the store at any time, unheard.
        let wait = next.unwrap_or(shared.config.poll).min(shared.config.poll);
        let _ = tokio::time::timeout(wait, shared.news.notified()).await;
    }
}

async fn mail_out_loop(shared: &Arc<Shared>) -> Result<(), DaemonError> {
    let mut pause = Pause::new(shared.config.poll);
    let mut mail_out = MailOut::new(shared)?;
    loop {
        match mail_out.pass().await {
            Ok(()) => {
                pause.worked();
                shared.news.notify_one();
            }
            Err(err @ DaemonError::Store(_)) => return Err(err),
            Err(err) => pause.failed(&err),
        }
        if pause.is_calm() {
            let wait = mail_out.next_try()?.unwrap_or(pause.length()).min(pause.length());
            let _ = tokio::time::timeout(wait.max(Duration::from_millis(20)), shared.outbox.notified()).await;
        } else {
            tokio::time::sleep(pause.length()).await;
        }
    }
}

impl DaemonError {
    /// True if trying again by itself cannot help.
    #[must_use]
    pub fn needs_operator(&self) -> bool {
        match self {
            Self::Mailbox(err) => err.turn() == mailio::Turn::Operator,
            Self::Send(err) => err.turn() == mailio::Turn::Operator,
            Self::Home(_) | Self::Seal(_) => true,
            Self::Store(_) | Self::File(..) => false,
        }
    }

    fn log(&self) {
        if self.needs_operator() {
            tracing::error!(error = chain(self), "needs the operator");
        } else {
            tracing::warn!(error = chain(self), "tried again later");
        }
    }
}
