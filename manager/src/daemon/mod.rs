//! The daemon: loops over the store, mail in, tick, mail out, and programs of alerts. Each can die at any point: what it had
//! not committed did not happen, and what it had said twice is recognised by its receivers.
//!
//! Not here: decisions. What a report means and what is due is asked of `manager-core`.

mod alert_out;
mod answers;
mod carry;
mod device_plans;
mod devices_in;
mod flights;
mod forms;
mod letter;
mod line;
mod mail_in;
mod mail_out;
mod opening;
mod parts;
mod pause;
mod people;
mod rekey;
mod seal;
mod taken;
mod tick;
mod undelivered;
mod unseal;
mod updates_in;
mod watched;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use mailio::{MailError, SendError};
use service::Service;
use thiserror::Error;
use tokio::sync::Notify;

use crate::config::Config;
use crate::home::{Home, HomeError, HomeLock, Keys};
use crate::store::{Store, StoreError};
use crate::system::now;

use mail_in::MailIn;
use mail_out::MailOut;
use pause::{Grumble, Pause};
use tick::Tick;
use watched::{ALERTS, MAIL_IN, MAIL_OUT, TICK};

pub use rekey::queue_rekey;
pub use seal::{Question, queue_query};

/// No loop comes round faster than this, whatever its deadlines say.
const SHORTEST: Duration = Duration::from_millis(20);

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
    /// Rung when a program may have an alert to read.
    alerts: Notify,
    service: Service,
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
        Self::start_service(home, Service::default())
    }

    /// As [`Daemon::start`]; its loops tell `service` that they are alive and what they do.
    ///
    /// # Errors
    /// As [`Daemon::start`].
    pub fn start_service(home: Home, service: Service) -> Result<Self, DaemonError> {
        let lock = home.lock()?;
        let config = home.config()?;
        let keys = home.keys()?;
        let mut store = Store::open(&home.store_path())?;
        seal::clear_leftovers(&home, &mut store)?;
        let [news, outbox, alerts] = [(); 3].map(|()| Notify::new());
        let shared = Shared { home, config, keys, news, outbox, alerts, service };
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
            result = alert_loop(&self.shared) => result,
            never = self.shared.service.watch() => match never {},
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
        pass.failures.extend(Tick::new(&self.shared)?.pass()?.failures);
        let mut mail_out = MailOut::new(&self.shared)?;
        let failed = mail_out.pass().await;
        pass.mails_out = mail_out.sent_count();
        match failed {
            Ok(_) => {}
            Err(err @ DaemonError::Store(_)) => return Err(err),
            Err(err) => pass.failures.push(err),
        }
        mail_in.close().await;
        mail_out.close().await;
        alert_out::run_commands(&self.shared, &mut Store::open(&self.shared.home.store_path())?).await?;
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
        shared.rests(MAIL_IN, pause.length());
        if pause.is_calm() {
            mail_in.wait(pause.length()).await;
        } else {
            tokio::time::sleep(pause.length()).await;
        }
    }
}

async fn tick_loop(shared: &Arc<Shared>) -> Result<(), DaemonError> {
    let mut tick = Tick::new(shared)?;
    let mut log = Grumble::default();
    loop {
        let next = tick_step(shared, &mut tick, &mut log)?;
        // Another process (a command beside this daemon) may change the store at any time, unheard.
        let wait = next.unwrap_or(shared.config.poll).min(shared.config.poll);
        if shared.service.is_heard() {
            shared.service.status(&tick.summary()?);
        }
        shared.rests(TICK, wait);
        let _ = tokio::time::timeout(wait.max(SHORTEST), shared.news.notified()).await;
    }
}

/// Rings for the outbox only if it has put something in: the loops wake each other, and two bells that ring
/// for nothing would never be still.
fn tick_step(shared: &Shared, tick: &mut Tick, log: &mut Grumble) -> Result<Option<Duration>, DaemonError> {
    let ticked = tick.pass()?;
    if ticked.acted {
        shared.outbox.notify_one();
        shared.alerts.notify_one();
    }
    match ticked.failures.first() {
        Some(err) => log.failed(err),
        None => log.worked(),
    }
    Ok(ticked.next)
}

async fn mail_out_loop(shared: &Arc<Shared>) -> Result<(), DaemonError> {
    let mut pause = Pause::new(shared.config.poll);
    let mut mail_out = MailOut::new(shared)?;
    loop {
        match mail_out_step(shared, &mut mail_out).await {
            Ok(()) => pause.worked(),
            Err(err @ DaemonError::Store(_)) => return Err(err),
            Err(err) => pause.failed(&err),
        }
        shared.rests(MAIL_OUT, pause.length());
        if pause.is_calm() {
            let wait = mail_out.next_try()?.unwrap_or(pause.length()).min(pause.length());
            let _ = tokio::time::timeout(wait.max(SHORTEST), shared.outbox.notified()).await;
        } else {
            tokio::time::sleep(pause.length()).await;
        }
    }
}

/// Runs the programs of alerts. A loop of its own: one that hangs until its limit holds up no mail.
async fn alert_loop(shared: &Arc<Shared>) -> Result<(), DaemonError> {
    let mut store = Store::open(&shared.home.store_path())?;
    loop {
        alert_out::run_commands(shared, &mut store).await?;
        let next = alert_out::next_command(&mut store)?.map(|at| at.since(now()));
        let wait = next.unwrap_or(shared.config.poll).min(shared.config.poll);
        shared.rests(ALERTS, wait);
        let _ = tokio::time::timeout(wait.max(SHORTEST), shared.alerts.notified()).await;
    }
}

/// Rings for the tick only if the relay was asked about something.
async fn mail_out_step(shared: &Shared, mail_out: &mut MailOut) -> Result<(), DaemonError> {
    if mail_out.pass().await? > 0 {
        shared.news.notify_one();
    }
    Ok(())
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(dir: &std::path::Path) -> Arc<Shared> {
        let spool = dir.join("post");
        let address = shared::MailAddress::parse("manager@lab.test").unwrap();
        mailio::Mailbox::create_spool(&spool, &address).unwrap();
        let url = format!("spool:{}", spool.display());
        let choices = crate::config::Choices {
            address,
            send: url.clone(),
            receive: url,
            ca: None,
            password_file: None,
        };
        let home = Home::create(&dir.join("home"), &crate::config::new_text(&choices)).unwrap();
        Store::create(&home.store_path()).unwrap();
        let (config, keys) = (home.config().unwrap(), home.keys().unwrap());
        let [news, outbox, alerts] = [(); 3].map(|()| Notify::new());
        Arc::new(Shared { home, config, keys, news, outbox, alerts, service: Service::default() })
    }

    async fn is_rung(bell: &Notify) -> bool {
        tokio::time::timeout(Duration::ZERO, bell.notified()).await.is_ok()
    }

    #[test]
    fn loops_that_had_nothing_to_do_do_not_wake_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let shared = shared(dir.path());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            tick_step(&shared, &mut Tick::new(&shared).unwrap(), &mut Grumble::default()).unwrap();
            assert!(!is_rung(&shared.outbox).await);
            mail_out_step(&shared, &mut MailOut::new(&shared).unwrap()).await.unwrap();
            assert!(!is_rung(&shared.news).await);
        });
    }
}
