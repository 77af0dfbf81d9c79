//! A line that counts: takes connections on loopback, passes their bytes on to another port, and counts them in both
//! directions. Understands nothing of them.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The line; takes no more connections once this is dropped.
#[derive(Debug)]
pub struct Relay {
    /// Where it listens.
    pub port: u16,
    carried: Arc<AtomicU64>,
    ends: Arc<AtomicBool>,
}

impl Relay {
    /// A line to a port of this box.
    ///
    /// # Panics
    /// There is no port to listen on.
    #[must_use]
    pub fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap().port();
        let (carried, ends) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (counted, ended) = (Arc::clone(&carried), Arc::clone(&ends));
        std::thread::spawn(move || {
            for near in listener.incoming() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(near) = near else { return };
                // Servers that are down end the connection, as they do without a line between.
                let Ok(far) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                pass_on(&near, &far, &counted);
                pass_on(&far, &near, &counted);
            }
        });
        Self { port: own, carried, ends }
    }

    /// Bytes so far, in both directions.
    #[must_use]
    pub fn carried(&self) -> u64 {
        self.carried.load(Ordering::Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        let _wakes = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// Copies one direction in a thread that ends with it.
fn pass_on(from: &TcpStream, to: &TcpStream, carried: &Arc<AtomicU64>) {
    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    let carried = Arc::clone(carried);
    let _no_delay = to.set_nodelay(true);
    std::thread::spawn(move || {
        let mut buffer = [0u8; 65_536];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            carried.fetch_add(count as u64, Ordering::Relaxed);
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _gone = to.shutdown(Shutdown::Write);
    });
}
