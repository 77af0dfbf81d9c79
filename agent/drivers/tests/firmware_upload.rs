//! The handlers `http-upload`, `ftp`, `exec` and `ipp` against servers and programs that answer as a test says.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests may panic")]

mod common;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use common::package::{Parcel, open_device, ready, sent};
use common::printer::{Printer, answer, http};
use drivers::firmware::{Answer, Pushed};
use shared::bundle::FirmwareHandler;
use testkit::flash::{Flasher, Temper, image};

const AWAY: Duration = Duration::from_millis(100);

/// A server that takes one connection after the other, each as it is told.
fn server<T: Send + 'static>(
    times: usize,
    mut what: impl FnMut(TcpStream) -> T + Send + 'static,
) -> (SocketAddr, JoinHandle<Vec<T>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (address, std::thread::spawn(move || (0..times).map(|_| what(listener.accept().unwrap().0)).collect()))
}

/// Reads a request to its end: its head and its body.
fn request(stream: &mut TcpStream) -> (String, Vec<u8>) {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "{head}");
    }
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap_or("0");
    let mut body = vec![0; length.parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    (head, body)
}

fn table(address: SocketAddr, more: &str) -> String {
    format!("port = {}\n{more}", address.port())
}

#[tokio::test]
async fn an_image_is_a_file_of_a_form_between_its_other_fields() {
    let (address, heard) = server(1, |mut stream| {
        let heard = request(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\nUpgrade started").unwrap();
        heard
    });
    let content = image("main", "2.0", 300_000);
    let settings = [
        ("path", "/upgrade.cgi"),
        ("field", "image"),
        ("file", "fw.bin"),
        ("form", "action=write&reboot=1"),
        ("success", "Upgrade started"),
    ];
    let parcel = Parcel::new(content.clone(), FirmwareHandler::HttpUpload, &settings);
    let device = open_device("127.0.0.1:1", &table(address, "user = \"admin\"\npassword = \"s3cret\"\n"));
    assert_eq!(sent(&parcel.push(&device).await.0), 300_000);
    let (head, body) = heard.join().unwrap().remove(0);
    assert!(head.starts_with("POST /upgrade.cgi HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nAuthorization: Basic YWRtaW46czNjcmV0\r\n"), "{head}");
    let boundary = head.split("boundary=").nth(1).unwrap().split('\r').next().unwrap();
    let expected = [
        format!("--{boundary}\r\nContent-Disposition: form-data; name=\"action\"\r\n\r\nwrite\r\n")
            .as_bytes(),
        format!("--{boundary}\r\nContent-Disposition: form-data; name=\"reboot\"\r\n\r\n1\r\n").as_bytes(),
        format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"image\"; filename=\"fw.bin\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        )
        .as_bytes(),
        &content,
        format!("\r\n--{boundary}--\r\n").as_bytes(),
    ]
    .concat();
    assert!(body == expected, "{}", String::from_utf8_lossy(&body[..300]));
}

#[tokio::test]
async fn who_refuses_an_image_before_he_has_it_is_heard_at_once() {
    let (address, refused) = server(1, |mut stream| {
        stream.write_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n").unwrap();
        // It reads until the agent has gone, which it does long before the end.
        let mut heard = Vec::new();
        let _ = stream.read_to_end(&mut heard);
        heard.len()
    });
    let bytes = 30_000_000;
    let parcel = Parcel::new(image("main", "2.0", bytes), FirmwareHandler::HttpUpload, &[]);
    let device = open_device("127.0.0.1:1", &table(address, "password = \"s3cret\"\n"));
    let (pushed, _) = parcel.push(&device).await;
    assert_eq!(pushed, Pushed::Refused("HTTP 401".to_owned()));
    assert!(refused.join().unwrap()[0] < bytes);
}

#[tokio::test]
async fn who_takes_an_image_and_says_nothing_or_hangs_up_leaves_it_unclear() {
    let (address, closed) = server(2, {
        let mut answers = ["", "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"].into_iter();
        move |mut stream| {
            request(&mut stream);
            stream.write_all(answers.next().unwrap().as_bytes()).unwrap();
        }
    });
    let parcel = Parcel::new(image("main", "2.0", 5_000), FirmwareHandler::HttpUpload, &[("method", "put")]);
    let device = open_device("127.0.0.1:1", &table(address, ""));
    for why in ["all of it was sent, and then: it ended inside its answer", "HTTP 500"] {
        let (Pushed::Unclear(said), _) = parcel.push(&device).await else { panic!("{why}") };
        assert!(said.contains(why), "{said}");
    }
    closed.join().unwrap();
}

#[tokio::test]
async fn a_device_that_is_asked_by_http_may_put_its_update_off() {
    let printer = Flasher::start("U-1", Temper::Takes, AWAY);
    let answers = [
        "HTTP/1.1 503 Later\r\nRetry-After: 1200\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\n{\"answer\": \"deferred\", \"seconds\": 1200}",
        "HTTP/1.1 200 OK\r\n\r\n{\"answer\": \"refused\", \"reason\": \"locked by its owner\"}",
        "HTTP/1.1 200 OK\r\n\r\n{\"answer\": \"ready\"}",
    ];
    let (address, asked) = server(4, {
        let mut answers = answers.into_iter();
        move |mut stream| {
            let head = request(&mut stream).0;
            stream.write_all(answers.next().unwrap().as_bytes()).unwrap();
            head
        }
    });
    let parcel = Parcel::new(image("main", "2.0", 5_000), FirmwareHandler::HttpUpload, &[("ask", "/may")]);
    let device = open_device(&printer.station.address.to_string(), &table(address, ""));
    let deferred = Answer::Deferred { by: Duration::from_secs(1_200) };
    assert_eq!(parcel.ask(&device).await, deferred);
    assert_eq!(parcel.ask(&device).await, deferred);
    assert_eq!(parcel.ask(&device).await, Answer::Refused { reason: "locked by its owner".to_owned() });
    assert_eq!(parcel.ask(&device).await, ready("1.0"));
    let heads = asked.join().unwrap();
    assert!(heads[0].starts_with("GET /may HTTP/1.1\r\n"), "{}", heads[0]);
}

/// What a server has heard: lines and a file.
type Heard = (Vec<String>, Vec<u8>);

/// An FTP server that says what it is told to say, line by line, and takes the file to its end or breaks it.
fn ftp(last: &'static str, cut: bool) -> (SocketAddr, JoinHandle<Vec<Heard>>) {
    server(1, move |stream| {
        let data = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut say = stream.try_clone().unwrap();
        let mut lines = Vec::new();
        let mut file = Vec::new();
        say.write_all(b"220-A screenful\r\n of conditions\r\n220 ready\r\n").unwrap();
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            lines.push(line.clone());
            let word = line.split(' ').next().unwrap().to_owned();
            let [high, low] = data.local_addr().unwrap().port().to_be_bytes();
            let reply = match word.as_str() {
                "USER" => "331 password\r\n".to_owned(),
                "PASS" => "230 in\r\n".to_owned(),
                "TYPE" => "200 binary\r\n".to_owned(),
                "EPSV" => "500 what\r\n".to_owned(),
                // An address of somebody else: nobody may go there.
                "PASV" => format!("227 Entering Passive Mode (192,0,2,99,{high},{low}).\r\n"),
                "STOR" => "150 come\r\n".to_owned(),
                _ => "221 bye\r\n".to_owned(),
            };
            say.write_all(reply.as_bytes()).unwrap();
            if word == "STOR" {
                let (mut from, _) = data.accept().unwrap();
                if cut {
                    let mut piece = [0; 1_000];
                    from.read_exact(&mut piece).unwrap();
                    drop(from);
                } else {
                    from.read_to_end(&mut file).unwrap();
                }
                say.write_all(last.as_bytes()).unwrap();
            }
        }
        (lines, file)
    })
}

#[tokio::test]
async fn a_printer_that_wants_its_password_as_the_user_and_says_that_it_flashes_is_understood() {
    let (address, heard) = ftp("226-Data Connection Closed.\r\n226 Entering FirmWareUpdate mode.\r\n", false);
    let settings = [("path", "fw.djf"), ("login", "password"), ("success", "Entering FirmWareUpdate mode")];
    let parcel = Parcel::new(image("main", "2.0", 200_000), FirmwareHandler::Ftp, &settings);
    let device = open_device("127.0.0.1:1", &table(address, "password = \"s3cret\"\n"));
    assert_eq!(sent(&parcel.push(&device).await.0), 200_000);
    let (lines, file) = heard.join().unwrap().remove(0);
    assert_eq!(lines, ["USER s3cret", "PASS ", "TYPE I", "EPSV", "PASV", "STOR fw.djf", "QUIT"]);
    assert!(file == parcel.content);
}

#[tokio::test]
async fn an_ftp_server_that_cuts_refuses_or_says_something_else_is_believed() {
    let table = |address| table(address, "user = \"u\"\npassword = \"s3cret\"\n");
    let push = async |last, cut, bytes| {
        let (address, heard) = ftp(last, cut);
        let parcel =
            Parcel::new(image("main", "2.0", bytes), FirmwareHandler::Ftp, &[("success", "Flashing")]);
        let (pushed, _) = parcel.push(&open_device("127.0.0.1:1", &table(address))).await;
        heard.join().unwrap();
        pushed
    };
    let cut = push("426 Connection closed; transfer aborted.\r\n", true, 20_000_000).await;
    assert!(matches!(&cut, Pushed::Incomplete(why) if why.contains("426 Connection closed")), "{cut:?}");
    let refused = push("552 No room.\r\n", false, 5_000).await;
    assert_eq!(refused, Pushed::Refused("552 No room.".to_owned()));
    let other = push("226 Stored.\r\n", false, 5_000).await;
    assert_eq!(other, Pushed::Unclear("it took the file and says: 226 Stored.".to_owned()));
}

/// A program of a site.
fn program(folder: &Path, text: &str) -> String {
    let path = folder.join("flash");
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    format!("command = [\"{}\", \"--slow\"]\n", path.display())
}

#[tokio::test]
async fn a_program_gets_all_it_needs_where_nobody_else_reads_it() {
    let printer = Flasher::start("U-2", Temper::Takes, AWAY);
    let folder = tempfile::tempdir().unwrap();
    let text = r#"cat > "$0.$2"; echo "$*" > "$0.args"; env > "$0.env"
        case $2 in
        ask) echo '{"answer": "ready"}';;
        push) echo '{"sent": 1000}'; echo '{"sent": 5000}'; echo '{"result": "sent"}';;
        esac"#;
    let more = program(folder.path(), text) + "user = \"admin\"\npassword = \"s3cret\"\nport = 99\n";
    let device = open_device(&printer.station.address.to_string(), &more);
    let parcel = Parcel::new(image("main", "2.0", 5_000), FirmwareHandler::Exec, &[("slot", "b")]);
    assert_eq!(parcel.ask(&device).await, ready("1.0"));
    let (pushed, progress) = parcel.push(&device).await;
    assert_eq!((sent(&pushed), progress), (5_000, vec![1_000, 5_000]));
    parcel.activate(&device).await.unwrap();
    let read = |ending: &str| std::fs::read_to_string(folder.path().join(format!("flash.{ending}"))).unwrap();
    let asked: serde_json::Value = serde_json::from_str(&read("ask")).unwrap();
    assert_eq!((&asked["shows"], &asked["file"]), (&"1.0".into(), &serde_json::Value::Null));
    let told: serde_json::Value = serde_json::from_str(&read("push")).unwrap();
    assert_eq!(told["file"], parcel.file.display().to_string());
    assert_eq!((&told["password"], &told["settings"]["slot"]), (&"s3cret".into(), &"b".into()));
    assert_eq!((&told["host"], &told["version"]), (&"127.0.0.1".into(), &"2.0".into()));
    assert_eq!(read("args"), "--slow activate\n");
    assert!(!read("env").contains("s3cret") && !read("args").contains("s3cret"));
}

#[tokio::test]
async fn what_a_program_says_of_a_transfer_is_believed_and_its_silence_is_not() {
    let push = async |text: &str| {
        let folder = tempfile::tempdir().unwrap();
        let device = open_device("127.0.0.1:1", &program(folder.path(), text));
        Parcel::new(image("main", "2.0", 5_000), FirmwareHandler::Exec, &[]).push(&device).await.0
    };
    assert_eq!(
        push(r#"echo '{"result": "not-begun", "reason": "no cable"}'; exit 1"#).await,
        Pushed::NotBegun("no cable".to_owned())
    );
    assert_eq!(
        push(r#"echo '{"result": "incomplete", "reason": "cable pulled"}'"#).await,
        Pushed::Incomplete("cable pulled".to_owned())
    );
    for (text, why) in [
        (r#"echo '{"result": "sent"}'; echo oops >&2; exit 3"#, "exit status: 3: oops"),
        ("exit 0", "exit status: 0"),
        ("kill -9 $$", "signal: 9"),
        (r#"echo '{"result": "well"}'"#, "exit status: 0"),
    ] {
        let pushed = push(text).await;
        assert!(matches!(&pushed, Pushed::Unclear(said) if said.contains(why)), "{text}: {pushed:?}");
    }
    let folder = tempfile::tempdir().unwrap();
    let device =
        open_device("127.0.0.1:1", &program(folder.path(), "echo no; exit 0").replace("flash\"", "none\""));
    let parcel = Parcel::new(image("main", "2.0", 5_000), FirmwareHandler::Exec, &[]);
    assert!(matches!(parcel.push(&device).await.0, Pushed::NotBegun(_)));
}

#[tokio::test]
async fn a_job_of_ipp_carries_an_image_only_where_the_bundle_says_so() {
    let content = image("main", "2.0", 100_000);
    let tail = content.clone();
    let printer = Printer::doing(Box::new(move |stream, body| {
        let is_job = body[2..4] == [0, 2] && body.ends_with(&tail);
        stream.write_all(&http(&answer(if is_job { 0 } else { 0x0400 }, &[])))
    }));
    let text = format!(
        "[[device]]\nname = \"it\"\ndriver = \"ipp\"\naddress = \"{}\"\n[device.firmware]\nallowed = true\n",
        printer.url()
    );
    let device = drivers::read_devices(&text).unwrap().remove(0);
    let parcel = Parcel::new(content.clone(), FirmwareHandler::Ipp, &[]);
    let (Pushed::NotBegun(why), _) = parcel.push(&device).await else { panic!() };
    assert!(why.starts_with("no device is known that takes firmware by IPP"), "{why}");
    let parcel = Parcel::new(content, FirmwareHandler::Ipp, &[("print_job", "yes")]);
    assert_eq!(sent(&parcel.push(&device).await.0), 100_000);
    let refusing = Printer::saying(http(&answer(0x040a, &[])));
    let text = text.replace(&printer.url(), &refusing.url());
    let device = drivers::read_devices(&text).unwrap().remove(0);
    let (pushed, _) = parcel.push(&device).await;
    assert_eq!(pushed, Pushed::Refused("IPP status 0x040a: because".to_owned()));
}
