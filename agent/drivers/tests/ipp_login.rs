//! A printer that wants a login: a server on loopback with TLS, whose certificate openssl makes for each test, as printers
//! make theirs.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests may panic")]

mod common;

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use common::look;
use common::printer::{answer, http, small};
use drivers::{Depth, PollFault};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use shared::device::Observation;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// RFC 7617 §2 has this pair and its form as an example.
const LOGIN: &str = "user = \"Aladdin\"\npassword = \"open sesame\"\n";
const AUTHORIZATION: &str = "Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==";

/// A certificate that nobody has signed, and its key.
fn certified(folder: &Path) -> ServerConfig {
    let (key, certificate) = (folder.join("key.pem"), folder.join("cert.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-subj", "/CN=printer", "-days", "2", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_file(&certificate).unwrap()],
            PrivateKeyDer::from_pem_file(&key).unwrap(),
        )
        .unwrap()
}

/// A printer that answers each request as `says` makes of its head; what it was asked is in `heads`.
struct Printer {
    port: u16,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Printer {
    async fn serve(says: fn(&str) -> Vec<u8>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(certified(folder.path())));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let heard = Arc::clone(&heads);
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let Ok(mut tls) = acceptor.accept(tcp).await else { continue };
                let head = head(&mut tls).await;
                let answer = says(&head);
                heard.lock().unwrap().push(head);
                // Who has heard enough may be gone.
                let _ = tls.write_all(&answer).await;
                let _ = tls.shutdown().await;
            }
        });
        Self { port, heads }
    }

    async fn look(&self, more: &str) -> Result<Observation, PollFault> {
        let text = format!(
            "[[device]]\nname = \"it\"\ndriver = \"ipp\"\naddress = \"ipps://127.0.0.1:{}/ipp/print\"\n\
             timeout = \"10s\"\n{more}",
            self.port
        );
        look(&drivers::read_devices(&text).unwrap().remove(0), Depth::Full).await
    }

    async fn refusal(&self, more: &str) -> String {
        match self.look(more).await {
            Err(fault @ PollFault::Refused { .. }) => fault.to_string(),
            other => panic!("{other:?}"),
        }
    }
}

/// The head of one request, which is read to its end.
async fn head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let count = stream.read(&mut piece).await.unwrap();
        assert!(count > 0, "half a request");
        bytes.extend_from_slice(&piece[..count]);
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
        if bytes.len() >= end.checked_add(4).unwrap().checked_add(length.parse().unwrap()).unwrap() {
            return head;
        }
    }
}

/// Answers this user alone.
fn guarded(head: &str) -> Vec<u8> {
    if head.lines().any(|line| line == AUTHORIZATION) {
        return http(&answer(0, &small()));
    }
    b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"printer\"\r\nContent-Length: 0\r\n\r\n"
        .to_vec()
}

fn digest_only(_: &str) -> Vec<u8> {
    b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Digest realm=\"p\", nonce=\"n\"\r\nContent-Length: 0\r\n\r\n".to_vec()
}

#[tokio::test]
async fn a_printer_that_wants_a_login_is_asked_with_it_once() {
    let printer = Printer::serve(guarded).await;
    let seen = printer.look(&format!("self_signed = true\n{LOGIN}")).await.unwrap();
    assert_eq!(seen.identity.serial.unwrap().as_str(), "S-0007");
    assert_eq!(printer.heads.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn what_is_wrong_with_a_login_is_said_and_the_login_is_not() {
    let printer = Printer::serve(guarded).await;
    let why = printer.refusal("self_signed = true\n").await;
    assert!(why.contains("it wants a login: set user and password"), "{why}");
    let wrong = "self_signed = true\nuser = \"Aladdin\"\npassword = \"s4711\"\n";
    let why = printer.refusal(wrong).await;
    assert!(why.contains("does not accept this user and password") && !why.contains("4711"), "{why}");
    let other = Printer::serve(digest_only).await;
    for more in ["", LOGIN] {
        let why = other.refusal(&format!("self_signed = true\n{more}")).await;
        assert!(why.contains("another login than HTTP Basic"), "{why}");
    }
}

#[tokio::test]
async fn who_has_a_certificate_that_nobody_knows_is_not_told_the_login() {
    let printer = Printer::serve(guarded).await;
    let fault = printer.look(LOGIN).await.unwrap_err();
    assert!(matches!(fault, PollFault::Untrusted { .. }), "{fault:?}");
    assert!(printer.heads.lock().unwrap().is_empty());
}
