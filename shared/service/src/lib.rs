//! What a daemon says to systemd: that it is ready, what it does, that it is alive, that it stops; and its log
//! in the form that the journal reads. Callers: `run` of `agent` and of `manager`. And [`panics`]: what a program makes of them.
//!
//! It opens no connections but the one to `$NOTIFY_SOCKET`, knows nothing of mail and decides nothing. Started
//! by a person or by anything else than systemd, a daemon says nothing here and logs as a program does.
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, reason = "tests may overflow and fail"))]

pub mod journal;
mod notify;
pub mod panics;
mod watchdog;

use std::convert::Infallible;
use std::ffi::OsStr;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use notify::Socket;
use watchdog::Watchdog;

/// More than this of a status line is cut off: `systemctl status` shows one line.
const STATUS_MAX_CHARS: usize = 200;

/// The line to the service manager. Clones are the same line. The default one leads nowhere: nothing that is
/// said to it goes out.
#[derive(Clone, Debug, Default)]
pub struct Service(Option<Arc<Line>>);

#[derive(Debug)]
struct Line {
    socket: Socket,
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    status: String,
    watchdog: Option<Watchdog>,
    stopping: bool,
}

impl Service {
    /// The line that `$NOTIFY_SOCKET` and `$WATCHDOG_USEC` describe; none of them is needed.
    #[must_use]
    pub fn from_env() -> Self {
        let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return Self::default() };
        Self::open(&socket, watchdog_from_env()).unwrap_or_else(|err| {
            tracing::warn!(?socket, %err, "Cannot use the socket of the service manager");
            Self::default()
        })
    }

    /// `watchdog`: after how long a silence systemd takes this daemon for hung.
    fn open(socket: &OsStr, watchdog: Option<Duration>) -> io::Result<Self> {
        let told = Told { watchdog: watchdog.map(Watchdog::new), ..Told::default() };
        Ok(Self(Some(Arc::new(Line { socket: Socket::open(socket)?, told: Mutex::new(told) }))))
    }

    /// Whether anybody listens: a status that is costly to find out need not be.
    #[must_use]
    pub fn is_heard(&self) -> bool {
        self.0.is_some()
    }

    /// The daemon can work from now on.
    pub fn ready(&self) {
        self.say("READY=1");
    }

    /// The daemon ends. Its status does not change any more.
    pub fn stopping(&self) {
        let Some(mut told) = self.told() else { return };
        told.stopping = true;
        drop(told);
        self.say("STOPPING=1\nSTATUS=stopping");
    }

    /// What the daemon does, in one line for people.
    pub fn status(&self, text: &str) {
        let Some(mut told) = self.told() else { return };
        let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let line = line.chars().take(STATUS_MAX_CHARS).collect();
        if told.status == line || told.stopping {
            return;
        }
        let message = format!("STATUS={line}");
        told.status = line;
        drop(told);
        self.say(&message);
    }

    /// The loop `who` is alive, and will say so again `within` this time at the latest. Once a loop breaks its
    /// promise, systemd hears nothing more and starts the daemon anew.
    ///
    /// Costs next to nothing, so it can stand in a loop over the pieces of a file: while a thread works on
    /// one, [`Service::watch`] has no turn, and this speaks for it.
    pub fn promise(&self, who: &'static str, within: Duration) {
        let now = Instant::now();
        if let Some(watchdog) = self.told().as_deref_mut().and_then(|told| told.watchdog.as_mut()) {
            watchdog.promise(now, who, within);
        }
        self.ping(now);
    }

    /// Tells systemd that all loops are alive, for as long as they keep their promises. Belongs into the thread
    /// that the loops run in: if that one hangs, this falls silent with it.
    pub async fn watch(&self) -> Infallible {
        loop {
            let Some(pause) = self.ping(Instant::now()) else { return std::future::pending().await };
            tokio::time::sleep(pause).await;
        }
    }

    /// Pings if it is time to. Gives the time to the next ping, if there is a watchdog.
    fn ping(&self, now: Instant) -> Option<Duration> {
        let mut told = self.told()?;
        let watchdog = told.watchdog.as_mut()?;
        if let Some(who) = watchdog.newly_late(now) {
            tracing::error!(who, "A loop does not come round any more; systemd will start this daemon anew");
        }
        let is_due = watchdog.take_ping(now);
        let pause = watchdog.next_ping(now);
        drop(told);
        if is_due {
            self.say("WATCHDOG=1");
        }
        Some(pause)
    }

    fn told(&self) -> Option<MutexGuard<'_, Told>> {
        // Plain values, whole after every statement: a panic elsewhere leaves nothing half done.
        self.0.as_ref().map(|line| line.told.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A service manager that does not listen must not hold up the work.
    fn say(&self, message: &str) {
        let Some(line) = &self.0 else { return };
        if let Err(err) = line.socket.send(message) {
            tracing::debug!(%err, message, "The service manager does not listen");
        }
    }
}

/// `$WATCHDOG_USEC`, if it is meant for this process.
fn watchdog_from_env() -> Option<Duration> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let ours = std::env::var_os("WATCHDOG_PID").is_none()
        || number("WATCHDOG_PID") == Some(u64::from(std::process::id()));
    number("WATCHDOG_USEC").filter(|usec| ours && *usec > 0).map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    use super::*;

    fn heard(systemd: &UnixDatagram) -> Vec<String> {
        systemd.set_nonblocking(true).unwrap();
        let mut buffer = [0u8; 4096];
        let mut all = Vec::new();
        while let Ok(n) = systemd.recv(&mut buffer) {
            all.push(String::from_utf8(buffer[..n].to_vec()).unwrap());
        }
        all
    }

    fn line(watchdog: Option<Duration>) -> (tempfile::TempDir, UnixDatagram, Service) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let systemd = UnixDatagram::bind(&path).unwrap();
        let service = Service::open(path.as_os_str(), watchdog).unwrap();
        (folder, systemd, service)
    }

    #[test]
    fn a_status_is_said_once_in_one_line_and_not_after_the_end() {
        let (_folder, systemd, service) = line(None);
        service.ready();
        service.status("reading\nmail");
        service.status("reading\nmail");
        service.stopping();
        service.status("polling");
        assert_eq!(heard(&systemd), ["READY=1", "STATUS=reading mail", "STOPPING=1\nSTATUS=stopping"]);
    }

    #[test]
    fn an_abstract_socket_is_reached() {
        let name = format!("mailfleet-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let systemd = UnixDatagram::bind_addr(&address).unwrap();
        Service::open(OsStr::new(&format!("@{name}")), None).unwrap().ready();
        assert_eq!(heard(&systemd), ["READY=1"]);
    }

    #[test]
    fn a_socket_of_another_kind_is_refused_and_no_socket_is_no_line() {
        assert!(Service::open(OsStr::new("vsock:2:1"), None).is_err());
        let nobody = Service::default();
        nobody.ready();
        nobody.promise("loop", Duration::ZERO);
        nobody.status("x");
    }

    #[test]
    fn a_manager_that_does_not_read_holds_nobody_up() {
        let (_folder, systemd, service) = line(None);
        for n in 0..10_000 {
            service.status(&n.to_string());
        }
        assert!(heard(&systemd).len() < 10_000);
    }

    #[test]
    fn a_loop_that_breaks_its_promise_silences_the_daemon_though_the_others_go_on() {
        let every = Duration::from_millis(40);
        let (_folder, systemd, service) = line(Some(every));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let lively = async {
            loop {
                service.promise("lively", Duration::from_secs(60));
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        runtime.block_on(async {
            service.promise("hung", Duration::from_millis(200));
            tokio::select! {
                never = service.watch() => match never {},
                () = lively => {}
                () = tokio::time::sleep(Duration::from_millis(400)) => {}
            }
        });
        // 200 ms at 20 ms each, whatever the machine does meanwhile: some, and no more than that.
        let pings = heard(&systemd).len();
        assert!((1..=11).contains(&pings), "{pings}");
    }
}
