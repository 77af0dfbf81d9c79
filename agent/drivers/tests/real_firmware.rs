//! Firmware handlers against programs that others have written: SWUpdate, Pure-FTPd, lighttpd with WebDAV, and curl as a device that
//! fetches by TFTP (Debian packages swupdate, cpio, openssl, pure-ftpd, lighttpd, lighttpd-mod-webdav, curl). Each is started
//! on loopback in a folder of its own, and stopped by its pid.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests may panic")]

mod common;

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::package::{Parcel, open_device, sent};
use drivers::firmware::Pushed;
use shared::bundle::FirmwareHandler;
use tempfile::TempDir;

/// Longest time until something happens.
const LIMIT: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);

fn path() -> String {
    format!("/usr/sbin:{}", std::env::var("PATH").unwrap_or_default())
}

/// Whether these are installed; `scripts/test` installs them, and then they must be there.
fn has(programs: &[&str]) -> bool {
    let is_there = |program: &str| path().split(':').any(|folder| Path::new(folder).join(program).exists());
    let missing: Vec<_> = programs.iter().filter(|program| !is_there(program)).collect();
    if missing.is_empty() {
        return true;
    }
    assert!(std::env::var_os("MAILFLEET_TEST_ALL").is_none(), "missing: {missing:?}");
    println!("skipped: {missing:?} are missing; scripts/test installs them");
    false
}

fn port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A server in a folder of its own; ends with its value.
struct Server {
    child: Child,
    port: u16,
    home: PathBuf,
}

impl Server {
    fn start(home: &Path, program: &str, arguments: impl Fn(u16) -> Vec<String>) -> Self {
        let port = port();
        let log = File::create(home.join("log")).unwrap();
        // SWUpdate unpacks there, and clears up.
        let folder = home.join("tmp");
        fs::create_dir(&folder).unwrap();
        let child = Command::new(program)
            .args(arguments(port))
            .env("PATH", path())
            .env("TMPDIR", folder)
            .current_dir(home)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut server = Self { child, port, home: home.to_owned() };
        let since = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = server.child.try_wait().unwrap();
            assert!(ended.is_none() && since.elapsed() < LIMIT, "{program}: {ended:?}\n{}", server.log());
            std::thread::sleep(PAUSE);
        }
        server
    }

    fn log(&self) -> String {
        fs::read_to_string(self.home.join("log")).unwrap_or_default()
    }

    fn device(&self, more: &str) -> drivers::Device {
        open_device("127.0.0.1:1", &format!("port = {}\n{more}", self.port))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(home: &Path, script: &str) {
    let ran =
        Command::new("sh").args(["-ec", script]).env("PATH", path()).current_dir(home).output().unwrap();
    assert!(ran.status.success(), "{script}: {}", String::from_utf8_lossy(&ran.stderr));
}

fn until(what: &str, is_it: impl Fn() -> bool) {
    let since = Instant::now();
    while !is_it() {
        assert!(since.elapsed() < LIMIT, "{what}");
        std::thread::sleep(PAUSE);
    }
}

/// An image of SWUpdate that puts a file into `out`, signed by its maker.
const MAKE_SWU: &str = r#"
    mkdir -p out www
    openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=maker \
        -addext extendedKeyUsage=emailProtection -addext keyUsage=digitalSignature 2>/dev/null
    head -c 2000000 /dev/urandom >image.bin
    cat >sw-description <<EOF
software = {
    version = "2.0";
    hardware-compatibility: [ "1.0" ];
    files: ({ filename = "image.bin"; path = "$PWD/out/image.bin"; sha256 = "$(sha256sum image.bin | cut -d' ' -f1)"; });
};
EOF
    openssl cms -sign -in sw-description -out sw-description.sig -signer cert.pem -inkey key.pem -outform DER \
        -nosmimecap -binary
    printf 'sw-description\nsw-description.sig\nimage.bin\n' | cpio -o -H crc >up.swu 2>/dev/null
"#;

#[tokio::test]
async fn swupdate_installs_what_its_maker_signed_and_says_so() {
    if !has(&["swupdate", "cpio", "openssl"]) {
        return;
    }
    let home = TempDir::new().unwrap();
    run(home.path(), MAKE_SWU);
    let server = Server::start(home.path(), "swupdate", |port| {
        let web = format!("-p 127.0.0.1:{port} -r {}", home.path().join("www").display());
        ["-k", "cert.pem", "-H", "board:1.0", "-v", "-w", &web].map(str::to_owned).to_vec()
    });
    let device = server.device("");
    let image = fs::read(home.path().join("up.swu")).unwrap();
    let parcel = Parcel::new(image.clone(), FirmwareHandler::SwUpdate, &[]);
    let installed = || fs::read(home.path().join("out/image.bin")).ok();
    let (pushed, progress) = parcel.push(&device).await;
    assert_eq!(sent(&pushed), image.len() as u64, "{}", server.log());
    assert_eq!(progress.last(), Some(&(image.len() as u64)));
    assert!(installed() == Some(fs::read(home.path().join("image.bin")).unwrap()));
    parcel.activate(&device).await.unwrap();
    // One that was changed on its way to the maker's shop.
    fs::remove_file(home.path().join("out/image.bin")).unwrap();
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
    if !has(&["pure-ftpd", "pure-pw"]) {
        return;
    }
    let home = TempDir::new().unwrap();
    if fs::metadata(home.path()).unwrap().uid() != 0 {
        println!("skipped: Pure-FTPd starts only as root");
        return;
    }
    let store = home.path().join("store");
    fs::create_dir(&store).unwrap();
    std::os::unix::fs::chown(&store, Some(65_534), Some(65_534)).unwrap();
    run(
        home.path(),
        "printf 's3cret\\ns3cret\\n' | pure-pw useradd printer -f passwd -F users -u 65534 -g 65534 -d \"$PWD/store\" -m",
    );
    let server = Server::start(home.path(), "pure-ftpd", |port| {
        let users = format!("puredb:{}", home.path().join("users").display());
        let pid = home.path().join("pid").display().to_string();
        ["-S", &format!("127.0.0.1,{port}"), "-l", &users, "-u", "1", "-g", &pid, "-H", "-E"]
            .map(str::to_owned)
            .to_vec()
    });
    let content: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
    let parcel =
        Parcel::new(content.clone(), FirmwareHandler::Ftp, &[("path", "fw.bin"), ("success", "transferred")]);
    let (pushed, _) = parcel.push(&server.device("user = \"printer\"\npassword = \"wrong\"\n")).await;
    let Pushed::Refused(why) = pushed else { panic!("{pushed:?}") };
    assert!(why.starts_with("it does not accept this user and password") && !why.contains("wrong"), "{why}");
    let device = server.device("user = \"printer\"\npassword = \"s3cret\"\n");
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
    if !has(&["lighttpd"]) {
        return;
    }
    let home = TempDir::new().unwrap();
    let root = home.path().join("root");
    fs::create_dir(&root).unwrap();
    fs::write(home.path().join("users"), "admin:s3cret\n").unwrap();
    let (folder, configuration) = (home.path().display(), home.path().join("lighttpd.conf"));
    let server = Server::start(home.path(), "lighttpd", |port| {
        let text = format!(
            "server.bind = \"127.0.0.1\"\nserver.port = {port}\nserver.document-root = \"{folder}/root\"\n\
             server.upload-dirs = (\"{folder}\")\nserver.modules = (\"mod_auth\", \"mod_authn_file\", \"mod_webdav\")\n\
             webdav.activate = \"enable\"\nauth.backend = \"plain\"\nauth.backend.plain.userfile = \"{folder}/users\"\n\
             auth.require = (\"/\" => (\"method\" => \"basic\", \"realm\" => \"it\", \"require\" => \"valid-user\"))\n"
        );
        fs::write(&configuration, text).unwrap();
        ["-D", "-f", &configuration.display().to_string()].map(str::to_owned).to_vec()
    });
    let content: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
    let settings = [("method", "put"), ("path", "/fw.bin"), ("status", "201")];
    let parcel = Parcel::new(content.clone(), FirmwareHandler::HttpUpload, &settings);
    let (pushed, _) = parcel.push(&server.device("user = \"admin\"\npassword = \"wrong\"\n")).await;
    assert_eq!(pushed, Pushed::Refused("HTTP 401".to_owned()), "{}", server.log());
    let (pushed, _) = parcel.push(&server.device("user = \"admin\"\npassword = \"s3cret\"\n")).await;
    assert_eq!(sent(&pushed), 3_000_000, "{}", server.log());
    assert!(fs::read(root.join("fw.bin")).unwrap() == content);
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
