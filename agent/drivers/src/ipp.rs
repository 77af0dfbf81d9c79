//! The driver for printers that speak IPP (RFC 8010, 8011): one request for the printer's attributes, over HTTP or HTTPS.
//!
//! `url` says where, `crate::http` and `tls` carry, `wire` has the form, `read` understands what came, purely. The library `ipp`
//! is not used: a printer could end the agent with collections inside collections, and one value of a wrong length costs
//! the whole answer.

mod read;
mod tls;
mod url;
mod wire;

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use shared::Label;
use shared::device::Observation;
use shared::time::UnixMillis;
use tokio::io::{AsyncRead, AsyncWrite, join, sink};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::Depth;
use crate::access::{Device, Ipp, Login};
use crate::fault::PollFault;
use crate::http::{self, HttpFault, Reply};
use crate::limits::{FAULTS_LIMIT, FULL_LIMIT};
use wire::Answer;

pub use url::PrinterUrl;
pub(crate) use wire::{job_answer, job_request};

/// What polls of IPP printers share: how TLS is done, read once from the system's certificates.
#[derive(Default)]
pub(crate) struct Shared {
    known: OnceLock<Arc<ClientConfig>>,
    any: OnceLock<Arc<ClientConfig>>,
}

impl Shared {
    pub(crate) fn tls(&self, accepts_any: bool) -> Result<Arc<ClientConfig>, PollFault> {
        let cell = if accepts_any { &self.any } else { &self.known };
        if let Some(config) = cell.get() {
            return Ok(Arc::clone(config));
        }
        let config = tls::config(accepts_any).map_err(|err| PollFault::Local(format!("TLS: {err}")))?;
        Ok(Arc::clone(cell.get_or_init(|| Arc::new(config))))
    }
}

/// One look at one printer.
pub(crate) async fn poll(
    shared: &Shared,
    device: &Device,
    ipp: &Ipp,
    depth: Depth,
    clock: impl Fn() -> UnixMillis + Sync,
) -> Result<Observation, PollFault> {
    let limit = match depth {
        Depth::Faults => FAULTS_LIMIT,
        Depth::Full => FULL_LIMIT,
    };
    let ask = Ask { url: &ipp.url, step: device.timeout, login: ipp.login.as_ref() };
    let wanted = read::wanted(depth);
    let reply = match timeout(limit, ask.post(shared, ipp.self_signed, &wanted)).await {
        Ok(reply) => reply?,
        Err(_) => return Err(ask.silent(limit)),
    };
    ask.understood(reply, depth, clock())
}

/// What is made of a printer that says these bytes, without a connection. Their end is the end of it.
pub(crate) async fn replayed(
    url: &PrinterUrl,
    said: &[u8],
    depth: Depth,
    now: UnixMillis,
) -> Result<Observation, PollFault> {
    let ask = Ask { url, step: FAULTS_LIMIT, login: None };
    let reply = ask.exchange(&mut join(said, sink()), &read::wanted(depth)).await?;
    ask.understood(reply, depth, now)
}

/// One printer, and the longest time that it may take for one step.
struct Ask<'a> {
    url: &'a PrinterUrl,
    step: Duration,
    login: Option<&'a Login>,
}

impl Ask<'_> {
    fn address(&self) -> String {
        self.url.to_string()
    }

    fn silent(&self, limit: Duration) -> PollFault {
        PollFault::NoAnswer {
            address: self.address(),
            limit_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
            hint: "; it is off or asleep, or slower than its timeout",
        }
    }

    async fn post(&self, shared: &Shared, self_signed: bool, wanted: &[&str]) -> Result<Reply, PollFault> {
        let place = (self.url.host(), self.url.port());
        let connected = timeout(self.step, TcpStream::connect(place)).await;
        let tcp = connected.map_err(|_| self.silent(self.step))?;
        let mut tcp =
            tcp.map_err(|err| PollFault::Unreachable { address: self.address(), why: err.to_string() })?;
        if !self.url.is_tls() {
            return self.exchange(&mut tcp, wanted).await;
        }
        let config = shared.tls(self_signed)?;
        let name = ServerName::try_from(self.url.host().to_owned())
            .map_err(|err| PollFault::Local(format!("{}: {err}", self.url.host())))?;
        let shake = timeout(self.step, TlsConnector::from(config).connect(name, tcp)).await;
        let mut tls = shake.map_err(|_| self.silent(self.step))?.map_err(|err| self.tls_fault(&err))?;
        self.exchange(&mut tls, wanted).await
    }

    async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        wanted: &[&str],
    ) -> Result<Reply, PollFault> {
        let request = wire::request(&self.address(), wanted);
        http::post(stream, self.url, self.login, &request, self.step).await.map_err(|fault| match fault {
            HttpFault::Silent => self.silent(self.step),
            HttpFault::Broken(why) => PollFault::Unreachable { address: self.address(), why },
            HttpFault::Garbage(why) => PollFault::Garbage { address: self.address(), why },
        })
    }

    /// What the printer's answer means.
    fn understood(&self, reply: Reply, depth: Depth, taken_at: UnixMillis) -> Result<Observation, PollFault> {
        let answer = self.answer(reply, &read::wanted(depth))?;
        read::observation(&answer.attributes, depth, taken_at).map_err(|why| PollFault::Unsupported {
            address: self.address(),
            driver: "ipp",
            why,
        })
    }

    /// What the printer's answer in HTTP holds, or why it is none in IPP.
    fn answer(&self, reply: Reply, wanted: &[&str]) -> Result<Answer, PollFault> {
        let address = self.address();
        let Reply { status, location, offers_basic, body } = reply;
        let unsupported =
            |why: String| PollFault::Unsupported { address: address.clone(), driver: "ipp", why };
        match (status, location) {
            (200, _) => {}
            (401 | 403 | 407, _) => {
                let why = self.login_fault(status, offers_basic);
                return Err(PollFault::Refused { address, why: format!("{why} (HTTP {status})") });
            }
            (426, _) => return Err(unsupported("it wants TLS (HTTP 426): ask it by ipps://".to_owned())),
            (301 | 302 | 303 | 307 | 308, Some(place)) => {
                let place = Label::lossy(&place);
                return Err(unsupported(format!(
                    "it says that it is at {place}: ask it there by ipp:// or ipps://"
                )));
            }
            (404 | 405, _) => {
                return Err(unsupported(format!(
                    "HTTP {status}: no printer is at this path; many have /ipp/print"
                )));
            }
            _ => return Err(unsupported(format!("HTTP {status}"))),
        }
        let answer = wire::read(&body, wanted)
            .map_err(|why| PollFault::Garbage { address: address.clone(), why: format!("no IPP: {why}") })?;
        let said =
            answer.message.as_deref().map(|text| format!(": {}", Label::lossy(text))).unwrap_or_default();
        match answer.status {
            // "Successful", also if it does not know all that was asked for.
            0..=0x00ff => Ok(answer),
            0x0401..=0x0403 => {
                let why = self.login_fault(401, None);
                Err(PollFault::Refused { address, why: format!("{why}{said}") })
            }
            0x0406 => Err(unsupported(format!("no printer is at this path{said}"))),
            0x0501 => Err(unsupported(format!("it does not tell its attributes{said}"))),
            0x0502 | 0x0507 => Err(PollFault::Refused { address, why: format!("it is busy{said}") }),
            status => Err(unsupported(format!("IPP status {status:#06x}{said}"))),
        }
    }

    /// What to do about a printer that does not answer this login.
    fn login_fault(&self, status: u16, offers_basic: Option<bool>) -> &'static str {
        match (self.login, status) {
            _ if offers_basic == Some(false) => {
                "it wants another login than HTTP Basic, the only one that this driver has"
            }
            (Some(_), 403) => "this user may not ask it",
            (Some(_), _) => "it does not accept this user and password",
            (None, _) if self.url.is_tls() => "it wants a login: set user and password",
            (None, _) => {
                "it wants a login: set user and password, and ask it by ipps://, so that nobody reads them"
            }
        }
    }

    fn tls_fault(&self, err: &io::Error) -> PollFault {
        let address = self.address();
        let cause = err.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match cause {
            Some(rustls::Error::InvalidCertificate(why)) => PollFault::Untrusted {
                address,
                why: format!(
                    "nobody known here has signed its certificate ({why}); self_signed = true accepts it"
                ),
            },
            Some(why) => PollFault::Unsupported { address, driver: "ipp", why: format!("TLS: {why}") },
            None => PollFault::Unreachable { address, why: format!("TLS: {err}") },
        }
    }
}
