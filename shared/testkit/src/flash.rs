//! A printer for tests that takes firmware on its raw port: on loopback, with an SNMP agent whose versions and uptime change as a
//! printer's do, and with a temper. It counts what was sent to it: a device that got two transfers at once, or a second one while
//! it was flashing, says so.

#![allow(clippy::cast_possible_truncation, reason = "small numbers of our own")]

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use async_snmp::Value;

use crate::station::{Rows, Station, oid};

/// Between two looks of the printer at its own clock.
const TICK: Duration = Duration::from_millis(20);

/// What a printer does with an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Temper {
    /// It flashes, restarts and shows the new version.
    #[default]
    Takes,
    /// It restarts and shows the old version.
    Forgets,
    /// It takes the image and does nothing: its maker has switched firmware by jobs off.
    Ignores,
    /// It flashes and is not seen again.
    Vanishes,
    /// It breaks the connection after so many bytes.
    Cuts(usize),
    /// Its plug is pulled while it flashes: it comes back out of order, without this firmware.
    Dies,
    /// It takes no byte.
    Stalls,
}

/// What came by one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Bytes of it.
    pub bytes: usize,
    /// True if it was a whole image.
    pub is_whole: bool,
}

/// What happens inside.
struct Inside {
    temper: Temper,
    away: Duration,
    booted: Instant,
    /// When it is back, and what it shows then.
    flashing: Option<(Instant, Flash)>,
    taken: Vec<Taken>,
    open: usize,
    /// What nobody may do to a printer, as it happened.
    wrongs: Vec<String>,
}

/// How a flash ends.
struct Flash {
    component: String,
    version: Option<String>,
    is_back: bool,
}

/// The printer; ends with its value.
pub struct Flasher {
    /// Its SNMP agent.
    pub station: Station,
    /// Its raw port.
    pub raw: SocketAddr,
    inside: Arc<Mutex<Inside>>,
    ends: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// An image for such a printer: it says what it is, and is filled up to its size.
#[must_use]
pub fn image(component: &str, version: &str, bytes: usize) -> Vec<u8> {
    let mut image = format!("flash {component} {version} {bytes}\n").into_bytes();
    let filler = (0..bytes.saturating_sub(image.len())).map(|at| b'a' + (at % 26) as u8);
    image.extend(filler.collect::<Vec<_>>());
    image
}

/// Where Konica Minolta keeps the version of the main program, and those of others with their names.
const MAIN: &str = "1.3.6.1.4.1.18334.1.1.1.1.6.1.0";
const NAMES: &str = "1.3.6.1.4.1.18334.1.1.1.5.5.1.1.2";
const VERSIONS: &str = "1.3.6.1.4.1.18334.1.1.1.5.5.1.1.3";
/// sysUpTime and hrSystemUptime.
const UPTIMES: [&str; 2] = ["1.3.6.1.2.1.1.3.0", "1.3.6.1.2.1.25.1.1.0"];

fn rows(serial: &str) -> Rows {
    let text = |text: &str| Value::OctetString(text.as_bytes().to_vec().into());
    let number = Value::Integer;
    [
        ("1.3.6.1.2.1.1.1.0", text("KONICA MINOLTA bizhub C250i")),
        ("1.3.6.1.2.1.1.2.0", Value::ObjectIdentifier(oid("1.3.6.1.4.1.18334.1.2.1.2"))),
        ("1.3.6.1.2.1.1.5.0", text("second-floor")),
        ("1.3.6.1.2.1.25.3.2.1.2.1", Value::ObjectIdentifier(oid("1.3.6.1.2.1.25.3.1.5"))),
        ("1.3.6.1.2.1.25.3.2.1.3.1", text("KONICA MINOLTA bizhub C250i")),
        ("1.3.6.1.2.1.25.3.2.1.5.1", number(2)),
        ("1.3.6.1.2.1.25.3.5.1.1.1", number(3)),
        ("1.3.6.1.2.1.25.3.5.1.2.1", Value::OctetString(vec![0].into())),
        ("1.3.6.1.2.1.43.5.1.1.17.1", text(serial)),
        ("1.3.6.1.2.1.43.10.2.1.4.1.1", Value::Counter32(4711)),
        (MAIN, text("1.0")),
    ]
    .into_iter()
    .map(|(name, value)| (oid(name), value))
    .chain([(oid(NAMES).child(1), text("feeder")), (oid(VERSIONS).child(1), text("1.0"))])
    .collect()
}

impl Flasher {
    /// A printer of this serial number, with version 1.0 of the components `main` and `feeder`. It is away for so long when it
    /// restarts.
    #[must_use]
    pub fn start(serial: &str, temper: Temper, away: Duration) -> Self {
        let station = Station::serve(rows(serial));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let raw = listener.local_addr().unwrap();
        let inside = Inside {
            temper,
            away,
            booted: Instant::now() - Duration::from_secs(3_600),
            flashing: None,
            taken: Vec::new(),
            open: 0,
            wrongs: Vec::new(),
        };
        let (inside, ends) = (Arc::new(Mutex::new(inside)), Arc::new(AtomicBool::new(false)));
        let (held, ended) = (Arc::clone(&inside), Arc::clone(&ends));
        let port = std::thread::spawn(move || listen(&listener, &held, &ended));
        let (held, ended) = (Arc::clone(&inside), Arc::clone(&ends));
        let (rows, is_away) = (Arc::clone(&station.rows), Arc::clone(&station.is_away));
        let life = std::thread::spawn(move || live(&held, &ended, &rows, &is_away));
        Self { station, raw, inside, ends, threads: vec![port, life] }
    }

    /// From now on it has another temper.
    pub fn becomes(&self, temper: Temper) {
        self.inside.lock().unwrap().temper = temper;
    }

    /// From now on it prints, or does nothing.
    pub fn prints(&self, is_printing: bool) {
        let status = Value::Integer(if is_printing { 4 } else { 3 });
        self.station.rows.lock().unwrap().insert(oid("1.3.6.1.2.1.25.3.5.1.1.1"), status);
    }

    /// What was sent to it, in order.
    #[must_use]
    pub fn taken(&self) -> Vec<Taken> {
        self.inside.lock().unwrap().taken.clone()
    }

    /// What nobody may do to a printer and somebody did.
    #[must_use]
    pub fn wrongs(&self) -> Vec<String> {
        self.inside.lock().unwrap().wrongs.clone()
    }

    /// The version that it shows.
    #[must_use]
    pub fn version(&self, component: &str) -> Option<String> {
        let rows = self.station.rows.lock().unwrap();
        let Some(Value::OctetString(bytes)) = rows.get(&place(component)) else { return None };
        Some(String::from_utf8_lossy(bytes).into_owned())
    }
}

impl Drop for Flasher {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn place(component: &str) -> async_snmp::Oid {
    if component == "main" { oid(MAIN) } else { oid(VERSIONS).child(1) }
}

/// The raw port: each connection is read by a thread of its own, so that two at once show.
fn listen(listener: &TcpListener, inside: &Arc<Mutex<Inside>>, ends: &Arc<AtomicBool>) {
    let mut readers = Vec::new();
    while !ends.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => {
                let (inside, ends) = (Arc::clone(inside), Arc::clone(ends));
                readers.push(std::thread::spawn(move || take(stream, &inside, &ends)));
            }
            Err(_) => std::thread::sleep(TICK),
        }
    }
    for reader in readers {
        let _ = reader.join();
    }
}

/// Reads one connection to its end.
fn take(mut stream: TcpStream, inside: &Mutex<Inside>, ends: &AtomicBool) {
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(TICK)).unwrap();
    let mut came = Vec::new();
    let mut piece = [0_u8; 16 * 1024];
    let is_whole = loop {
        let temper = inside.lock().unwrap().temper;
        if ends.load(Ordering::Relaxed) || matches!(temper, Temper::Cuts(most) if came.len() >= most) {
            break false;
        }
        if temper == Temper::Stalls {
            std::thread::sleep(TICK);
            continue;
        }
        match stream.read(&mut piece) {
            Ok(0) => break is_image(&came),
            Ok(count) => {
                if came.is_empty() {
                    inside.lock().unwrap().begins();
                }
                came.extend_from_slice(&piece[..count]);
            }
            Err(err) if matches!(err.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => break false,
        }
    };
    if came.is_empty() {
        return;
    }
    let mut inside = inside.lock().unwrap();
    inside.open -= 1;
    inside.taken.push(Taken { bytes: came.len(), is_whole });
    if is_whole {
        inside.flashes(&came);
    }
}

/// The component, the version and the size that an image says, and whether it has that size.
fn said(image: &[u8]) -> Option<(String, String, usize)> {
    let line = image.split(|byte| *byte == b'\n').next()?;
    let line = String::from_utf8_lossy(line).into_owned();
    let mut words = line.strip_prefix("flash ")?.split(' ');
    Some((words.next()?.to_owned(), words.next()?.to_owned(), words.next()?.parse().ok()?))
}

fn is_image(came: &[u8]) -> bool {
    said(came).is_some_and(|(_, _, bytes)| bytes == came.len())
}

impl Inside {
    fn begins(&mut self) {
        self.open += 1;
        if self.open > 1 {
            self.wrongs.push("two transfers at once".to_owned());
        }
        if self.flashing.is_some() {
            self.wrongs.push("a transfer while it was flashing".to_owned());
        }
    }

    fn flashes(&mut self, image: &[u8]) {
        let Some((component, version, _)) = said(image) else { return };
        let flash = |version: Option<&str>, is_back| Flash {
            component: component.clone(),
            version: version.map(str::to_owned),
            is_back,
        };
        let flash = match self.temper {
            Temper::Takes | Temper::Cuts(_) | Temper::Stalls => flash(Some(&version), true),
            Temper::Forgets => flash(Some("1.0"), true),
            Temper::Vanishes => flash(None, false),
            Temper::Dies => flash(None, true),
            Temper::Ignores => return,
        };
        self.flashing = Some((Instant::now() + self.away, flash));
    }
}

/// The printer's own clock: its uptime grows, and it comes back.
fn live(inside: &Mutex<Inside>, ends: &AtomicBool, rows: &Mutex<Rows>, is_away: &AtomicBool) {
    while !ends.load(Ordering::Relaxed) {
        let mut inside = inside.lock().unwrap();
        is_away.store(inside.flashing.is_some(), Ordering::Relaxed);
        if let Some((_, flash)) =
            inside.flashing.take_if(|(at, flash)| flash.is_back && Instant::now() >= *at)
        {
            inside.booted = Instant::now();
            let mut rows = rows.lock().unwrap();
            let place = place(&flash.component);
            match flash.version {
                Some(version) => {
                    rows.insert(place, Value::OctetString(version.into_bytes().into()));
                }
                None => {
                    rows.remove(&place);
                    // hrDeviceStatus down(5).
                    rows.insert(oid("1.3.6.1.2.1.25.3.2.1.5.1"), Value::Integer(5));
                }
            }
        }
        let up = (inside.booted.elapsed().as_millis() / 10) as u32;
        drop(inside);
        for uptime in UPTIMES {
            rows.lock().unwrap().insert(oid(uptime), Value::TimeTicks(up));
        }
        std::thread::sleep(TICK);
    }
}
