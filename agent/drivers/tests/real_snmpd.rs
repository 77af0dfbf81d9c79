//! Against the SNMP agent of Debian (net-snmp), another implementation of the protocol: every version, every algorithm, and
//! what a wrong password looks like. Starts it on loopback in a folder of its own, and stops it by its pid.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests may panic")]

mod common;

use std::fs;
use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{device, look};
use drivers::{Depth, Drivers, PollFault, Profiles};
use shared::device::{DeviceClass, Status};
use shared::time::UnixMillis;
use tempfile::TempDir;

/// Longest time until it answers; it reads its configuration first.
const START_LIMIT: Duration = Duration::from_secs(20);

const USERS: [(&str, &str, &str); 8] = [
    ("md5des", "MD5", "DES"),
    ("sha1aes", "SHA", "AES"),
    ("sha224aes", "SHA-224", "AES"),
    ("sha256aes", "SHA-256", "AES"),
    ("sha384aes192", "SHA-384", "AES-192-C"),
    ("sha512aes256", "SHA-512", "AES-256-C"),
    ("sha1aes256", "SHA", "AES-256-C"),
    ("plain", "SHA", ""),
];

struct Snmpd {
    child: Child,
    address: String,
    home: TempDir,
}

impl Snmpd {
    async fn start() -> Self {
        let home = TempDir::new().unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap().to_string();
        drop(socket);
        let mut conf = format!("rocommunity public 127.0.0.1\nagentaddress udp:{address}\nsysName box-17\n");
        for (user, auth, privacy) in USERS {
            let privacy_part =
                if privacy.is_empty() { String::new() } else { format!("{privacy} privpass123") };
            conf.push_str(&format!("createUser {user} {auth} authpass123 {privacy_part}\n"));
            conf.push_str(&format!("rouser {user} {}\n", if privacy.is_empty() { "auth" } else { "priv" }));
        }
        fs::write(home.path().join("snmpd.conf"), conf).unwrap();
        let mut snmpd = Self { child: Self::spawn(&home), address, home };
        snmpd.wait_until_it_answers().await;
        snmpd
    }

    fn spawn(home: &TempDir) -> Child {
        let log = fs::OpenOptions::new().create(true).append(true).open(home.path().join("log")).unwrap();
        let path = format!("/usr/sbin:{}", std::env::var("PATH").unwrap_or_default());
        Command::new("snmpd")
            .env("PATH", path)
            .env("SNMP_PERSISTENT_DIR", home.path().join("kept"))
            .args(["-f", "-m", "", "-C", "-Lo", "-c"])
            .arg(home.path().join("snmpd.conf"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("snmpd is needed: scripts/test installs it (Debian package snmpd)")
    }

    async fn wait_until_it_answers(&mut self) {
        let since = Instant::now();
        while look(&device(&self.address, ""), Depth::Faults).await.is_err() {
            let ended = self.child.try_wait().unwrap();
            let log = fs::read_to_string(self.home.path().join("log")).unwrap();
            assert!(
                ended.is_none() && since.elapsed() < START_LIMIT,
                "snmpd does not answer: {ended:?}\n{log}"
            );
        }
    }

    fn v3(&self, user: &str, auth: &str, privacy: &str, passwords: (&str, &str)) -> drivers::Device {
        let mut lines = format!("version = \"3\"\nuser = \"{user}\"\n");
        if !auth.is_empty() {
            lines.push_str(&format!("auth = \"{auth}\"\nauth_password = \"{}\"\n", passwords.0));
        }
        if !privacy.is_empty() {
            lines.push_str(&format!("privacy = \"{privacy}\"\nprivacy_password = \"{}\"\n", passwords.1));
        }
        lines.push_str("timeout = \"2s\"");
        device(&self.address, &lines)
    }
}

impl Drop for Snmpd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_real_pc_is_read_by_every_version() {
    let snmpd = Snmpd::start().await;
    for version in ["1", "2c"] {
        let pc = device(&snmpd.address, &format!("version = \"{version}\"\ntimeout = \"2s\""));
        let seen = look(&pc, Depth::Full).await.unwrap();
        assert_eq!((seen.class, seen.status), (DeviceClass::Pc, Status::Idle), "{version}");
        assert_eq!(seen.identity.host.as_ref().unwrap().as_str(), "box-17", "{version}");
        assert!(seen.uptime.unwrap().of_host, "{version}");
        let has = |name: &str| seen.counters.iter().any(|c| c.name.as_str() == name && c.value > 0);
        assert!(has("memory-size") && has("processes"), "{version}: {:#?}", seen.counters);
    }
}

#[tokio::test]
async fn version_3_works_with_every_algorithm() {
    let snmpd = Snmpd::start().await;
    let good = ("authpass123", "privpass123");
    for (user, auth, privacy) in [
        ("md5des", "md5", "des"),
        ("sha1aes", "sha1", "aes128"),
        ("sha224aes", "sha224", "aes128"),
        ("sha256aes", "sha256", "aes128"),
        ("sha384aes192", "sha384", "aes192"),
        ("sha512aes256", "sha512", "aes256"),
        ("sha1aes256", "sha1", "aes256"),
        ("plain", "sha1", ""),
    ] {
        let seen = look(&snmpd.v3(user, auth, privacy, good), Depth::Faults).await;
        let seen = seen.unwrap_or_else(|err| panic!("{user}: {err}"));
        assert_eq!(seen.class, DeviceClass::Pc, "{user}");
    }
}

#[tokio::test]
async fn a_wrong_user_and_each_wrong_password_are_told_apart() {
    let snmpd = Snmpd::start().await;
    let good = ("authpass123", "privpass123");
    let user = "the user is wrong";
    let auth = "auth_password or auth is wrong";
    let privacy = "privacy_password or privacy is wrong";
    for (device, expected) in [
        (snmpd.v3("nobody", "sha256", "aes128", good), user),
        (snmpd.v3("nobody", "", "", good), user),
        (snmpd.v3("sha256aes", "sha256", "aes128", ("wrongpass123", good.1)), auth),
        (snmpd.v3("sha256aes", "sha512", "aes128", good), auth),
        (snmpd.v3("plain", "sha1", "", ("wrongpass123", good.1)), auth),
        (snmpd.v3("sha256aes", "sha256", "aes128", (good.0, "wrongpass123")), privacy),
        (snmpd.v3("sha256aes", "sha256", "des", good), privacy),
        (snmpd.v3("plain", "sha1", "aes128", good), "the user has no such auth or privacy"),
        (snmpd.v3("sha256aes", "", "", good), "only with auth or privacy"),
    ] {
        let fault = look(&device, Depth::Faults).await.unwrap_err();
        let PollFault::Refused { why, .. } = &fault else { panic!("{device:?}: {fault:?}") };
        println!("{why}");
        assert!(why.contains(expected), "{expected}: {why}");
        assert!(!fault.is_silence());
    }
}

#[tokio::test]
async fn an_agent_that_starts_again_is_still_known() {
    let mut snmpd = Snmpd::start().await;
    let drivers = Drivers::new(Profiles::read([]).unwrap());
    let pc = snmpd.v3("sha256aes", "sha256", "aes128", ("authpass123", "privpass123"));
    let ask = || drivers.poll(&pc, Depth::Faults, || UnixMillis(1));
    let first = ask().await.unwrap();
    let again = ask().await.unwrap();
    assert_eq!(first.class, again.class);
    let _ = snmpd.child.kill();
    let _ = snmpd.child.wait();
    assert!(ask().await.unwrap_err().is_silence());
    snmpd.child = Snmpd::spawn(&snmpd.home);
    snmpd.wait_until_it_answers().await;
    assert_eq!(ask().await.unwrap().class, DeviceClass::Pc);
}
