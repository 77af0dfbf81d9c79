//! A printer for tests: a server on loopback that takes one request after the other and answers as it is told. Written by
//! hand, by RFC 8010 and RFC 9112, and shares nothing with the driver.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// What a printer does with a request.
pub(crate) type Behaviour = Box<dyn Fn(&mut TcpStream, &[u8]) -> std::io::Result<()> + Send>;

/// A printer on loopback; ends with its value.
pub(crate) struct Printer {
    pub(crate) address: SocketAddr,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Printer {
    /// One that answers every request with these bytes, and closes.
    pub(crate) fn saying(answer: Vec<u8>) -> Self {
        Self::doing(Box::new(move |stream, _| stream.write_all(&answer)))
    }

    /// One that does as it is told; `request` is the body.
    pub(crate) fn doing(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let ends = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&ends);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(mut stream) = stream else { continue };
                // Who asks may have gone, as it does from a printer that talks too much.
                let _ = request(&mut stream).and_then(|request| behaviour(&mut stream, &request));
            }
        });
        Self { address, ends, thread: Some(thread) }
    }

    pub(crate) fn url(&self) -> String {
        format!("ipp://{}/ipp/print", self.address)
    }
}

impl Drop for Printer {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Reads a request to its end; its body.
fn request(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut piece = [0_u8; 4096];
    loop {
        let count = stream.read(&mut piece)?;
        bytes.extend_from_slice(&piece[..count]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, _)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap_or("0");
            let length: usize = length.parse().unwrap();
            let body = &bytes[head.len() + 4..];
            if body.len() >= length {
                return Ok(body.to_vec());
            }
        }
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// An attribute of IPP with its values.
pub(crate) fn attribute(tag: u8, name: &str, values: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    for (at, value) in values.iter().enumerate() {
        out.push(tag);
        for bytes in [if at == 0 { name.as_bytes() } else { b"" }, value] {
            out.extend(u16::try_from(bytes.len()).unwrap().to_be_bytes());
            out.extend(bytes);
        }
    }
    out
}

/// An answer of IPP with these attributes of a printer.
pub(crate) fn answer(status: u16, attributes: &[Vec<u8>]) -> Vec<u8> {
    let mut out = vec![1, 1];
    out.extend(status.to_be_bytes());
    out.extend([0, 0, 0, 1, 0x01]);
    out.extend(attribute(0x47, "attributes-charset", &[b"utf-8"]));
    out.extend(attribute(0x48, "attributes-natural-language", &[b"en"]));
    if status != 0 {
        out.extend(attribute(0x41, "status-message", &[b"because"]));
    }
    out.push(0x04);
    out.extend(attributes.concat());
    out.push(0x03);
    out
}

/// The attributes of a small printer.
pub(crate) fn small() -> Vec<Vec<u8>> {
    vec![
        attribute(0x23, "printer-state", &[&[0, 0, 0, 3]]),
        attribute(0x44, "printer-state-reasons", &[b"toner-low-warning"]),
        attribute(0x41, "printer-make-and-model", &[b"Acme LaserStar 7"]),
        attribute(0x41, "printer-device-id", &[b"MFG:Acme;MDL:LaserStar 7;SN:S-0007;"]),
        attribute(0x21, "printer-impressions-completed", &[&[0, 0, 0x10, 0]]),
        attribute(0x42, "marker-names", &[b"Black Toner"]),
        attribute(0x44, "marker-types", &[b"toner"]),
        attribute(0x21, "marker-levels", &[&[0, 0, 0, 9]]),
    ]
}

/// HTTP around a body.
pub(crate) fn http(body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/ipp\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}
