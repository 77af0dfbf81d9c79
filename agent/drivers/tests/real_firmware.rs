//! Firmware handlers against programs that others have written: SWUpdate, Pure-FTPd, lighttpd with WebDAV (`testkit::takers`), and
//! curl as a device that fetches by TFTP.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests may panic")]

mod common;

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::package::{Parcel, open_device, sent};
use drivers::firmware::Pushed;
use shared::bundle::FirmwareHandler;
use tempfile::TempDir;
use testkit::takers::{PASSWORD, Taker, has};

/// Longest time until something happens.
const LIMIT: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);

/// A device whose files go to this server.
fn device(taker: &Taker, more: &str) -> drivers::Device {
    open_device("127.0.0.1:1", &format!("port = {}\n{more}", taker.port))
}

fn content() -> Vec<u8> {
    (0..3_000_000_u32).map(|at| (at % 251) as u8).collect()
}

fn until(what: &str, is_it: impl Fn() -> bool) {
    let since = Instant::now();
    while !is_it() {
        assert!(since.elapsed() < LIMIT, "{what}");
        std::thread::sleep(PAUSE);
    }
}

#[tokio::test]
async fn swupdate_installs_what_its_maker_signed_and_says_so() {
    let Some(server) = Taker::swupdate(&content()) else { return };
    let device = device(&server, "");
    let image = fs::read(server.path("up.swu")).unwrap();
    let parcel = Parcel::new(image.clone(), FirmwareHandler::SwUpdate, &[]);
    let installed = || fs::read(server.path("out/image.bin")).ok();
    let (pushed, progress) = parcel.push(&device).await;
    assert_eq!(sent(&pushed), image.len() as u64, "{}", server.log());
    assert_eq!(progress.last(), Some(&(image.len() as u64)));
    assert!(installed() == Some(content()));
    parcel.activate(&device).await.unwrap();
    // One that was changed on its way to the maker's shop.
    fs::remove_file(server.path("out/image.bin")).unwrap();
    let mut bad = image;
    let middle = bad.len() / 2;
    bad[middle] ^= 1;
    let (pushed, _) = Parcel::new(bad, FirmwareHandler::SwUpdate, &[]).push(&device).await;
    let Pushed::Refused(why) = pushed else { panic!("{pushed:?}\n{}", server.log()) };
    assert!(why.starts_with("it did not install it: ") && why.len() > 40, "{why}");
    let (pushed, _) =
        Parcel::new(b"no cpio".repeat(1_000), FirmwareHandler::SwUpdate, &[]).push(&device).await;
    assert!(matches!(pushed, Pushed::Refused(_)), "{pushed:?}");
}

#[tokio::test]
async fn pure_ftpd_has_the_file_whole_after_a_login_and_nothing_without() {
    let Some(server) = Taker::pure_ftpd() else { return };
    let (store, content) = (server.path("store"), content());
    let parcel =
        Parcel::new(content.clone(), FirmwareHandler::Ftp, &[("path", "fw.bin"), ("success", "transferred")]);
    let (pushed, _) = parcel.push(&device(&server, "user = \"printer\"\npassword = \"wrong\"\n")).await;
    let Pushed::Refused(why) = pushed else { panic!("{pushed:?}") };
    assert!(why.starts_with("it does not accept this user and password") && !why.contains("wrong"), "{why}");
    let device = device(&server, &format!("user = \"printer\"\npassword = \"{PASSWORD}\"\n"));
    let (pushed, _) = parcel.push(&device).await;
    assert_eq!(sent(&pushed), 3_000_000, "{}", server.log());
    assert!(fs::read(store.join("fw.bin")).unwrap() == content);
    // What has changed does not become a whole file: its last piece never leaves.
    let mut changed = content;
    changed[1_000] ^= 1;
    fs::write(&parcel.file, changed).unwrap();
    let (pushed, _) = parcel.push(&device).await;
    assert!(matches!(pushed, Pushed::Incomplete(_)), "{pushed:?}");
    assert!(fs::metadata(store.join("fw.bin")).map_or(0, |file| file.len()) < 3_000_000);
}

#[tokio::test]
async fn lighttpd_has_the_file_after_a_put_with_the_right_password() {
    let Some(server) = Taker::lighttpd() else { return };
    let content = content();
    let settings = [("method", "put"), ("path", "/fw.bin"), ("status", "201")];
    let parcel = Parcel::new(content.clone(), FirmwareHandler::HttpUpload, &settings);
    let (pushed, _) = parcel.push(&device(&server, "user = \"admin\"\npassword = \"wrong\"\n")).await;
    assert_eq!(pushed, Pushed::Refused("HTTP 401".to_owned()), "{}", server.log());
    let login = format!("user = \"admin\"\npassword = \"{PASSWORD}\"\n");
    let (pushed, _) = parcel.push(&device(&server, &login)).await;
    assert_eq!(sent(&pushed), 3_000_000, "{}", server.log());
    assert!(fs::read(server.path("root/fw.bin")).unwrap() == content);
}

/// Fetches a file by TFTP; its exit code and its content.
fn fetch(port: u16, name: &str, more: &[&str], to: &Path) -> (Option<i32>, Vec<u8>) {
    let url = format!("tftp://127.0.0.1:{port}/{name}");
    let ran =
        Command::new("curl").args(["-s", "-m", "20", "-o"]).arg(to).args(more).arg(url).status().unwrap();
    (ran.code(), fs::read(to).unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_fetches_its_image_by_tftp_in_blocks_that_it_asks_for() {
    if !has(&["curl"]) {
        return;
    }
    let home = TempDir::new().unwrap();
    // A whole number of blocks of 512 bytes, so that an empty one ends it; and blocks of another size, of which the last is short.
    for (bytes, more) in [(51_200, &["--tftp-no-options"][..]), (1_000_000, &["--tftp-blksize", "1400"])] {
        let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let content: Vec<u8> = (0..bytes).map(|at: u32| (at % 251) as u8).collect();
        let settings = [("file", "fw.bin"), ("for", "20s")];
        let parcel = Parcel::new(content.clone(), FirmwareHandler::TftpServe, &settings);
        let device = open_device("127.0.0.1:1", &format!("listen = \"127.0.0.1:{port}\"\n"));
        let push = tokio::spawn(async move { parcel.push(&device).await });
        until("it is offered", || UdpSocket::bind(("127.0.0.1", port)).is_err());
        let (code, _) = fetch(port, "other.bin", &[], &home.path().join("other"));
        assert_eq!(code, Some(68), "no such file");
        let (code, fetched) = fetch(port, "fw.bin", more, &home.path().join("got"));
        assert_eq!(code, Some(0), "{more:?}");
        assert!(fetched == content);
        let (pushed, progress) = push.await.unwrap();
        assert_eq!(sent(&pushed), u64::from(bytes));
        assert_eq!(progress.last(), Some(&u64::from(bytes)));
    }
}

#[tokio::test]
async fn who_does_not_fetch_his_image_has_not_begun() {
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let parcel = Parcel::new(vec![7; 5_000], FirmwareHandler::TftpServe, &[("for", "200ms")]);
    let table = format!("host = \"127.0.0.2\"\nlisten = \"127.0.0.1:{port}\"\n");
    let (pushed, _) = parcel.push(&open_device("127.0.0.1:1", &table)).await;
    assert_eq!(pushed, Pushed::NotBegun("it did not fetch the image while it was offered".to_owned()));
}
