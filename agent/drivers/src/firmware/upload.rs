//! An image as the body of one HTTP request, over TCP or TLS: what the handlers `http-upload`, `swupdate` and `ipp` share. An
//! answer that comes before all has left is heard at once.

use std::pin::pin;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, split};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::{CONNECT_LIMIT, Halt, Image, Job, Pushed, cut};
use crate::Drivers;
use crate::access::Trust;
use crate::http::{self, HttpFault, Told};

/// A connection of either kind.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// What stands around an image in a request.
pub(super) struct Around {
    /// The request's head, with the length of all that follows.
    pub(super) head: String,
    /// Before the image.
    pub(super) before: Vec<u8>,
    /// Behind it.
    pub(super) after: Vec<u8>,
}

impl Around {
    /// Bytes of the body.
    pub(super) fn length(&self, image: &Image) -> u64 {
        let around = self.before.len().saturating_add(self.after.len());
        image.bytes().saturating_add(around as u64)
    }
}

/// Whether the site or the bundle wants TLS.
pub(super) fn tls(job: &Job<'_>) -> Option<Trust> {
    let wanted = (job.setting("tls") == Some("yes")).then_some(Trust::Known);
    job.access().tls.or(wanted)
}

/// Connects.
pub(super) async fn connect(
    drivers: &Drivers,
    job: &Job<'_>,
    usual: u16,
    tls: Option<Trust>,
) -> Result<Box<dyn Stream>, String> {
    let stream: TcpStream = job.connect(usual).await?;
    let Some(trust) = tls else { return Ok(Box::new(stream)) };
    let host = job.host()?;
    let config = drivers.ipp.tls(trust == Trust::Any).map_err(|fault| fault.to_string())?;
    let name = ServerName::try_from(host.clone()).map_err(|err| format!("{host}: {err}"))?;
    match timeout(CONNECT_LIMIT, TlsConnector::from(config).connect(name, stream)).await {
        Ok(Ok(stream)) => Ok(Box::new(stream)),
        Ok(Err(err)) => Err(format!("TLS with {host}: {err}")),
        Err(_) => Err(format!("TLS with {host}: no answer within {} s", CONNECT_LIMIT.as_secs())),
    }
}

/// Sends it, and hears what is said about it.
pub(super) async fn upload(
    job: &Job<'_>,
    stream: Box<dyn Stream>,
    image: &mut Image,
    around: &Around,
    wants_body: bool,
) -> Result<Told, Pushed> {
    let (mut read, mut write) = split(stream);
    // While the image leaves, silence is all that is expected.
    let whole = job.deadline.saturating_duration_since(tokio::time::Instant::now());
    let mut told = pin!(http::told(&mut read, whole, wants_body));
    let head = [around.head.as_bytes(), &around.before].concat();
    job.step(write.write_all(&head)).await.map_err(Pushed::NotBegun)?;
    match job.send(image, &mut write, told.as_mut()).await {
        Ok(()) => {}
        Err(Halt::Early(Ok(told))) => return Err(early(image, &told)),
        Err(Halt::Early(Err(fault))) => return Err(cut(image, in_words(&fault))),
        Err(Halt::Changed(why)) => return Err(cut(image, why)),
        // What it has said before it closed says why.
        Err(Halt::Broken(why)) => {
            return Err(match timeout(CONNECT_LIMIT, told).await {
                Ok(Ok(told)) => early(image, &told),
                Ok(Err(_)) | Err(_) => cut(image, why),
            });
        }
    }
    let unclear = |why: String| Pushed::Unclear(format!("all of it was sent, and then: {why}"));
    let rest = async {
        write.write_all(&around.after).await?;
        write.flush().await
    };
    job.step(rest).await.map_err(unclear)?;
    let answered = async { Ok(told.await) };
    job.step(answered).await.map_err(unclear)?.map_err(|fault| unclear(in_words(&fault)))
}

/// What an answer means that comes before all has left.
fn early(image: &Image, told: &Told) -> Pushed {
    match told.status {
        // Asked for later, or for a login.
        status @ 400..=499 => Pushed::Refused(format!("HTTP {status}")),
        status => cut(image, format!("HTTP {status}")),
    }
}

pub(super) fn in_words(fault: &HttpFault) -> String {
    match fault {
        HttpFault::Silent => "it does not answer".to_owned(),
        HttpFault::Broken(why) => why.clone(),
        HttpFault::Garbage(why) => format!("its answer makes no sense: {why}"),
    }
}
