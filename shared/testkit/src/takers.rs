//! Programs that others have written and that take firmware: SWUpdate, Pure-FTPd, and lighttpd with WebDAV (Debian packages swupdate,
//! cpio, openssl, pure-ftpd, lighttpd, lighttpd-mod-webdav). Each runs on loopback in a folder of its own, and is stopped by its pid.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Longest time until a server answers.
const LIMIT: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);

/// The password that Pure-FTPd (user `printer`) and lighttpd (user `admin`) want.
pub const PASSWORD: &str = "s3cret";

fn path() -> String {
    format!("/usr/sbin:{}", std::env::var("PATH").unwrap_or_default())
}

/// Whether these programs are installed; `scripts/test` installs them, and then they must be there.
///
/// # Panics
/// They must be there, and are not.
#[must_use]
pub fn has(programs: &[&str]) -> bool {
    let is_there = |program: &str| path().split(':').any(|folder| Path::new(folder).join(program).exists());
    let missing: Vec<_> = programs.iter().filter(|program| !is_there(program)).collect();
    if missing.is_empty() {
        return true;
    }
    assert!(std::env::var_os("MAILFLEET_TEST_ALL").is_none(), "missing: {missing:?}");
    println!("skipped: {missing:?} are missing; scripts/test installs them");
    false
}

/// An image of SWUpdate that puts `image.bin` into `out`, signed by its maker.
const MAKE_SWU: &str = r#"
    mkdir -p out www
    openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=maker \
        -addext extendedKeyUsage=emailProtection -addext keyUsage=digitalSignature 2>/dev/null
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

/// A server that takes files; ends with its value.
#[derive(Debug)]
pub struct Taker {
    child: Child,
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    home: TempDir,
}

impl Taker {
    /// SWUpdate, which takes only what its maker signed. `up.swu` holds such an image; once it is installed, this content is in
    /// `out/image.bin`. `None`: it is not installed here.
    ///
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn swupdate(content: &[u8]) -> Option<Self> {
        if !has(&["swupdate", "cpio", "openssl"]) {
            return None;
        }
        let home = TempDir::new().unwrap();
        fs::write(home.path().join("image.bin"), content).unwrap();
        run(home.path(), MAKE_SWU);
        let www = home.path().join("www").display().to_string();
        Some(Self::start(home, "swupdate", |port| {
            let web = format!("-p 127.0.0.1:{port} -r {www}");
            ["-k", "cert.pem", "-H", "board:1.0", "-v", "-w", &web].map(str::to_owned).to_vec()
        }))
    }

    /// Pure-FTPd, which stores in `store`. `None`: it is not installed here, or nobody here may start it.
    ///
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn pure_ftpd() -> Option<Self> {
        if !has(&["pure-ftpd", "pure-pw"]) {
            return None;
        }
        let home = TempDir::new().unwrap();
        if fs::metadata(home.path()).unwrap().uid() != 0 {
            println!("skipped: Pure-FTPd starts only as root");
            return None;
        }
        let store = home.path().join("store");
        fs::create_dir(&store).unwrap();
        std::os::unix::fs::chown(&store, Some(65_534), Some(65_534)).unwrap();
        let add = "pure-pw useradd printer -f passwd -F users -u 65534 -g 65534 -d \"$PWD/store\" -m";
        run(home.path(), &format!("printf '{PASSWORD}\\n{PASSWORD}\\n' | {add}"));
        let users = format!("puredb:{}", home.path().join("users").display());
        let pid = home.path().join("pid").display().to_string();
        Some(Self::start(home, "pure-ftpd", |port| {
            ["-S", &format!("127.0.0.1,{port}"), "-l", &users, "-u", "1", "-g", &pid, "-H", "-E"]
                .map(str::to_owned)
                .to_vec()
        }))
    }

    /// lighttpd, which takes files by PUT into `root`. `None`: it is not installed here.
    ///
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn lighttpd() -> Option<Self> {
        if !has(&["lighttpd"]) {
            return None;
        }
        let home = TempDir::new().unwrap();
        fs::create_dir(home.path().join("root")).unwrap();
        fs::write(home.path().join("users"), format!("admin:{PASSWORD}\n")).unwrap();
        let (folder, configuration) = (home.path().display().to_string(), home.path().join("lighttpd.conf"));
        Some(Self::start(home, "lighttpd", |port| {
            let text = format!(
                "server.bind = \"127.0.0.1\"\nserver.port = {port}\nserver.document-root = \"{folder}/root\"\n\
                 server.upload-dirs = (\"{folder}\")\nserver.modules = (\"mod_auth\", \"mod_authn_file\", \"mod_webdav\")\n\
                 webdav.activate = \"enable\"\nauth.backend = \"plain\"\nauth.backend.plain.userfile = \"{folder}/users\"\n\
                 auth.require = (\"/\" => (\"method\" => \"basic\", \"realm\" => \"it\", \"require\" => \"valid-user\"))\n"
            );
            fs::write(&configuration, text).unwrap();
            ["-D", "-f", &configuration.display().to_string()].map(str::to_owned).to_vec()
        }))
    }

    fn start(home: TempDir, program: &str, arguments: impl Fn(u16) -> Vec<String>) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let log = File::create(home.path().join("log")).unwrap();
        // SWUpdate unpacks there, and clears up.
        let folder = home.path().join("tmp");
        fs::create_dir(&folder).unwrap();
        let child = Command::new(program)
            .args(arguments(port))
            .env("PATH", path())
            .env("TMPDIR", folder)
            .current_dir(home.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut taker = Self { child, port, home };
        let since = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = taker.child.try_wait().unwrap();
            assert!(ended.is_none() && since.elapsed() < LIMIT, "{program}: {ended:?}\n{}", taker.log());
            std::thread::sleep(PAUSE);
        }
        taker
    }

    /// A file of its folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// What it has said so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }
}

impl Drop for Taker {
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
