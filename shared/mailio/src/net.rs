//! TCP and TLS: connects with limits, trusts what the settings say, and hands out one stream type. Speaks no
//! mail protocol. TLS is rustls with ring; there is no way to switch the checks off.

use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::deflate::Deflated;
use crate::error::NetError;
use crate::settings::{Progress, Timeouts};
use crate::traffic::{Counted, Traffic};

/// A connection that tells of its progress.
#[derive(Debug)]
pub(crate) struct Stream {
    way: Way,
    progress: Progress,
}

/// With or without TLS.
#[derive(Debug)]
enum Way {
    Plain(Counted<TcpStream>),
    Tls(Box<TlsStream<Counted<TcpStream>>>),
    /// One of the above, compressed.
    Deflated(Box<Deflated<Stream>>),
}

/// What a session speaks over: a [`Stream`], or a server's recorded bytes (`replay`).
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send + fmt::Debug {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + fmt::Debug> Duplex for T {}

/// One server and what is needed to connect to it.
#[derive(Clone, Debug)]
pub(crate) struct Peer<'a> {
    pub(crate) host: &'a str,
    pub(crate) port: u16,
    pub(crate) ca_file: Option<&'a Path>,
    pub(crate) timeouts: Timeouts,
    pub(crate) progress: &'a Progress,
    pub(crate) traffic: &'a Traffic,
}

impl Peer<'_> {
    /// Looks the name up and connects.
    pub(crate) async fn connect(&self) -> Result<Stream, NetError> {
        let failed = |source| NetError::Connect { host: self.host.to_owned(), port: self.port, source };
        let work = async { TcpStream::connect((self.host, self.port)).await.map_err(failed) };
        let tcp = limited(self.host, "connect", self.timeouts.connect, work).await??;
        // Without it, Nagle and delayed acknowledgements cost 44 ms a mail (measured with lettre, 2026-11).
        tcp.set_nodelay(true).map_err(failed)?;
        self.progress.moved();
        let tcp = Counted::new(tcp, self.traffic.clone());
        Ok(Stream { way: Way::Plain(tcp), progress: self.progress.clone() })
    }

    /// Puts TLS on a plain stream.
    pub(crate) async fn secure(&self, stream: Stream) -> Result<Stream, NetError> {
        let Stream { way: Way::Plain(tcp), progress } = stream else { return Ok(stream) };
        let failed = |source| NetError::Tls { host: self.host.to_owned(), source };
        let config = config(self.ca_file)?;
        let name = ServerName::try_from(self.host.to_owned()).map_err(|err| failed(io::Error::other(err)))?;
        let connector = TlsConnector::from(Arc::new(config));
        let shake =
            limited(self.host, "TLS handshake", self.timeouts.tls, connector.connect(name, tcp)).await?;
        match shake {
            Ok(tls) => Ok(Stream { way: Way::Tls(Box::new(tls)), progress }),
            // rustls reports its own findings as InvalidData; the rest is a broken connection.
            Err(err) if err.kind() == io::ErrorKind::InvalidData => Err(failed(err)),
            Err(err) => Err(broken(self.host, "TLS handshake", err)),
        }
    }
}

/// Runs one step with its limit.
pub(crate) async fn limited<F: Future>(
    host: &str,
    phase: &'static str,
    limit: Duration,
    work: F,
) -> Result<F::Output, NetError> {
    tokio::time::timeout(limit, work).await.map_err(|_| NetError::Timeout {
        host: host.to_owned(),
        phase,
        limit,
    })
}

/// An IO error of a step: the ends of connections in their many forms are one error.
pub(crate) fn broken(host: &str, phase: &'static str, err: io::Error) -> NetError {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    // Peers that end TLS without close_notify are common and look like UnexpectedEof (himalaya #529).
    if matches!(err.kind(), UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe) {
        return NetError::Closed { host: host.to_owned(), phase, text: String::new() };
    }
    NetError::Io { host: host.to_owned(), phase, source: err }
}

fn config(ca_file: Option<&Path>) -> Result<ClientConfig, NetError> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(path) => {
            let failed = |source| NetError::CaFile { path: path.to_owned(), source };
            let certs = CertificateDer::pem_file_iter(path).map_err(|err| failed(io::Error::other(err)))?;
            for cert in certs {
                let cert = cert.map_err(|err| failed(io::Error::other(err)))?;
                roots.add(cert).map_err(|err| failed(io::Error::other(err)))?;
            }
            if roots.is_empty() {
                return Err(failed(io::Error::other("expected PEM certificates, found none")));
            }
        }
        None => {
            // Some distributions ship certificates that rustls cannot read; the others still count.
            let (_, _ignored) =
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|err| NetError::Tls { host: String::new(), source: io::Error::other(err) })?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

impl Stream {
    /// The same connection, compressed from now on in both directions.
    pub(crate) fn deflated(self) -> Self {
        // The one below tells of its progress.
        Self { way: Way::Deflated(Box::new(Deflated::new(self))), progress: Progress::default() }
    }

    /// Passes on what an operation gave, and tells of it if it gave something.
    fn told<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if matches!(result, Poll::Ready(Ok(_))) {
            self.progress.moved();
        }
        result
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let read = match &mut this.way {
            Way::Plain(s) => Pin::new(s).poll_read(cx, buf),
            Way::Tls(s) => Pin::new(s).poll_read(cx, buf),
            Way::Deflated(s) => Pin::new(s).poll_read(cx, buf),
        };
        this.told(read)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = match &mut this.way {
            Way::Plain(s) => Pin::new(s).poll_write(cx, buf),
            Way::Tls(s) => Pin::new(s).poll_write(cx, buf),
            Way::Deflated(s) => Pin::new(s).poll_write(cx, buf),
        };
        this.told(written)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().way {
            Way::Plain(s) => Pin::new(s).poll_flush(cx),
            Way::Tls(s) => Pin::new(s).poll_flush(cx),
            Way::Deflated(s) => Pin::new(s).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().way {
            Way::Plain(s) => Pin::new(s).poll_shutdown(cx),
            Way::Tls(s) => Pin::new(s).poll_shutdown(cx),
            Way::Deflated(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}
