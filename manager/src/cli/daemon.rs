//! `run`: the daemon in the foreground. Also what the commands that wait need of it: its errors sorted, its
//! log, the signals that end it, and its work done beside a progress bar.

use std::future::Future;
use std::io::{self, IsTerminal as _, Write};
use std::path::Path;
use std::time::Duration;

use mailfleet::daemon::{Daemon, DaemonError, Pass};
use mailfleet::home::{Home, HomeError};
use service::{Service, journal};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use super::args::Run;
use super::fail::{Done, Fail, Kind, OrFail as _, Outcome};
use super::{open, progress, show};

/// How often a command that only watches looks whether the daemon it relies on is gone.
const TAKE_OVER: Duration = Duration::from_secs(3);

pub(crate) fn run(home: Option<&Path>, args: &Run) -> Outcome {
    let home = open::home(home)?;
    log_to_stderr(if args.once { "warn" } else { "info" });
    let service = if args.once { Service::default() } else { Service::from_env() };
    let daemon = Daemon::start_service(home, service.clone()).map_err(daemon_failed)?;
    runtime()?.block_on(async {
        if args.once {
            return once(&daemon).await;
        }
        tracing::info!(version = env!("CARGO_PKG_VERSION"), "mailfleet runs");
        service.ready();
        let ended = daemon.run(stop_signal()).await;
        service.stopping();
        ended.map_err(daemon_failed)?;
        tracing::info!("stopped");
        Ok(Done::All)
    })
}

async fn once(daemon: &Daemon) -> Outcome {
    let pass = daemon.once().await.map_err(daemon_failed)?;
    show::say(&format!("{} in, {} out", mails(pass.mails_in), mails(pass.mails_out)))?;
    first_failure(pass).map_or(Ok(Done::All), Err)
}

fn mails(n: u64) -> String {
    show::count(usize::try_from(n).unwrap_or(usize::MAX), "mail")
}

/// What did not work in a pass: the operator's turn goes before the outside's.
fn first_failure(mut pass: Pass) -> Option<Fail> {
    let at = pass.failures.iter().position(DaemonError::needs_operator).unwrap_or(0);
    if pass.failures.is_empty() { None } else { Some(daemon_failed(pass.failures.swap_remove(at))) }
}

/// Sorts what stopped the daemon by whose turn it is.
pub(crate) fn daemon_failed(err: DaemonError) -> Fail {
    match err {
        DaemonError::Home(err) => open::home_failed(err),
        DaemonError::Store(err) => open::store_failed(err),
        DaemonError::Mailbox(_) | DaemonError::Send(_) if err.needs_operator() => {
            Fail::plain(Kind::Usage, err)
                .next("mend the account, password or CA in manager.toml; `mailfleet doctor` checks them")
        }
        DaemonError::Mailbox(_) | DaemonError::Send(_) => Fail::plain(Kind::Outside, err)
            .next("nothing is lost, it is tried again; `mailfleet doctor` looks at the mail servers"),
        DaemonError::File(..) => Fail::plain(Kind::Outside, err).next("look at that disk's room and rights"),
        DaemonError::Seal(_) => Fail::plain(Kind::Usage, err),
    }
}

pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Fail> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .or_outside("cannot start the network part")
}

/// Done when the user or the system wants an end. Every step is committed, so there is nothing to wait for.
pub(crate) async fn stop_signal() {
    let Ok(mut term) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    let Ok(mut interrupt) = signal(SignalKind::interrupt()) else { return std::future::pending().await };
    tokio::select! {
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Log on standard error. `MAILFLEET_LOG=debug` shows more.
pub(crate) fn log_to_stderr(default: &str) {
    let wanted = std::env::var("MAILFLEET_LOG").ok().and_then(|text| text.parse::<Targets>().ok());
    let filter = wanted.or_else(|| default.parse().ok()).unwrap_or_default();
    let colour = io::stderr().is_terminal() && show::colour_wanted();
    let log = tracing_subscriber::fmt::layer().with_target(false).with_ansi(colour).with_writer(|| BesideBar);
    // Nobody can be told that nobody reads.
    let log = log.log_internal_errors(false);
    let registry = tracing_subscriber::registry();
    // Fails only if a log is set up already, which is as good.
    let _ = if journal::is_read() {
        registry.with(log.event_format(journal::Lines::new(false)).with_filter(filter)).try_init()
    } else {
        registry.with(log.with_filter(filter)).try_init()
    };
}

/// Writes log lines above a progress bar, not through it.
struct BesideBar;

impl Write for BesideBar {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        progress::beside(|| io::stderr().write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// How waiting came to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// What was waited for is there.
    Over,
    /// The user does not want to wait any longer.
    Interrupted,
}

/// Waits until `over` is done, and does the daemon's work meanwhile if no daemon runs. If one runs and goes
/// away, its work is taken over.
pub(crate) async fn work_until(
    home: &Home,
    over: impl Future<Output = Result<(), Fail>>,
) -> Result<Waited, Fail> {
    tokio::select! {
        // First, so that Ctrl-C is heard before the first line is on the screen.
        biased;
        () = stop_signal() => Ok(Waited::Interrupted),
        result = over => result.map(|()| Waited::Over),
        failed = work(home) => Err(failed),
    }
}

/// Ends only with an error.
async fn work(home: &Home) -> Fail {
    loop {
        match Daemon::start(home.clone()) {
            Ok(daemon) => {
                // A wrong password would be tried for ever; the user is here to be told.
                match daemon.once().await.map_err(daemon_failed) {
                    Err(failed) => return failed,
                    Ok(pass) if pass.failures.iter().any(DaemonError::needs_operator) => {
                        return first_failure(pass).unwrap_or_else(|| Fail::usage("mail does not work"));
                    }
                    Ok(pass) => log_failures(&pass),
                }
                if let Err(err) = daemon.run(std::future::pending()).await {
                    return daemon_failed(err);
                }
            }
            Err(DaemonError::Home(HomeError::Locked { .. })) => tokio::time::sleep(TAKE_OVER).await,
            Err(err) => return daemon_failed(err),
        }
    }
}

fn log_failures(pass: &Pass) {
    for err in &pass.failures {
        tracing::warn!(error = shared::error::chain(err), "tried again later");
    }
}
