//! The driver for IPP against a printer that is written by hand: what it says, and what it says badly, slowly or for ever.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests may panic")]

mod common;

use std::io::Write;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use common::look;
use common::printer::{Printer, answer, attribute, http, small};
use drivers::{Depth, Device, PollFault};
use shared::device::{DeviceClass, FaultClass, Level, Status};

fn device(url: &str) -> Device {
    let text =
        format!("[[device]]\nname = \"it\"\ndriver = \"ipp\"\naddress = \"{url}\"\ntimeout = \"300ms\"\n");
    drivers::read_devices(&text).unwrap().remove(0)
}

async fn fault(printer: &Printer) -> PollFault {
    look(&device(&printer.url()), Depth::Full).await.unwrap_err()
}

async fn said(answer: impl Into<Vec<u8>>) -> PollFault {
    fault(&Printer::saying(answer.into())).await
}

#[tokio::test]
async fn a_printer_is_read() {
    let printer = Printer::saying(http(&answer(0, &small())));
    let seen = look(&device(&printer.url()), Depth::Full).await.unwrap();
    assert_eq!((seen.class, seen.status), (DeviceClass::Printer, Status::Warning));
    assert_eq!(seen.identity.serial.unwrap().as_str(), "S-0007");
    assert_eq!((seen.counters[0].value, seen.supplies[0].level), (4_096, Level::Amount(9)));
    assert_eq!((seen.faults[0].code.as_str(), seen.faults[0].class), ("ipp:toner-low", FaultClass::C));
    let short = look(&device(&printer.url()), Depth::Faults).await.unwrap();
    assert_eq!(short.faults, seen.faults);
    assert!(short.counters.is_empty() && short.supplies.is_empty());
}

#[tokio::test]
async fn a_request_names_the_printer_and_asks_only_for_what_is_read() {
    let printer = Printer::doing(Box::new(|stream, request| {
        let text = String::from_utf8_lossy(request);
        let asks = |name: &str| text.contains(name);
        let good = request.starts_with(&[1, 1, 0, 0x0b, 0, 0, 0, 1, 1])
            && asks("ipp://127.0.0.1:")
            && asks("printer-state-reasons")
            && !asks("marker-levels")
            && !asks("media-col-database");
        stream.write_all(&if good {
            http(&answer(0, &small()))
        } else {
            b"HTTP/1.1 400 Bad\r\n\r\n".to_vec()
        })
    }));
    look(&device(&printer.url()), Depth::Faults).await.unwrap();
}

#[tokio::test]
async fn an_answer_in_chunks_and_in_single_bytes_is_read() {
    let printer = Printer::doing(Box::new(|stream, _| {
        stream.set_nodelay(true)?;
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        for byte in answer(0, &small()) {
            stream.write_all(&[b'1', b'\r', b'\n', byte, b'\r', b'\n'])?;
        }
        stream.write_all(b"0\r\n\r\n")
    }));
    assert_eq!(look(&device(&printer.url()), Depth::Full).await.unwrap().supplies.len(), 1);
}

#[tokio::test]
async fn what_a_printer_refuses_and_why_is_told() {
    let refused = |fault: &PollFault| matches!(fault, PollFault::Refused { .. });
    let unsupported = |fault: &PollFault| matches!(fault, PollFault::Unsupported { .. });
    let login = said("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n").await;
    assert!(refused(&login) && login.to_string().contains("login"), "{login}");
    let login = said(http(&answer(0x0403, &[]))).await;
    assert!(refused(&login) && login.to_string().ends_with(": because"), "{login}");
    for (answered, why) in [
        (b"HTTP/1.1 426 Upgrade Required\r\n\r\n".to_vec(), "ipps://"),
        (b"HTTP/1.1 301 Moved\r\nLocation: https://a\x1b[2J/ipp\r\n\r\n".to_vec(), "https://a [2J/ipp"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n".to_vec(), "/ipp/print"),
        (b"HTTP/1.1 500 Oh\r\n\r\n".to_vec(), "HTTP 500"),
        (http(&answer(0x0406, &[])), "no printer is at this path: because"),
        (http(&answer(0x0501, &[])), "does not tell its attributes"),
        (http(&answer(0x0503, &[])), "0x0503"),
        (http(&answer(0, &small()[..1])), "printer-state-reasons"),
    ] {
        let fault = said(answered).await;
        assert!(unsupported(&fault) && fault.to_string().contains(why), "{fault}");
        assert!(!fault.to_string().contains('\x1b'));
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_garbage() {
    let whole = answer(0, &small());
    for bytes in [
        b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(),
        http(b"<html>Hello</html>"),
        http(&whole[..whole.len() - 1]),
        http(b""),
        http(&vec![0x04; 1_000_000]),
        http(&answer(0, &[attribute(0x34, "media-col", &[b""])])),
        b"HTTP/1.1 200 OK\r\nContent-Length: 4294967296\r\n\r\n".to_vec(),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n".to_vec(),
    ] {
        let fault = said(bytes.clone()).await;
        assert!(
            matches!(fault, PollFault::Garbage { .. }),
            "{:.40}: {fault}",
            String::from_utf8_lossy(&bytes)
        );
    }
}

#[tokio::test]
async fn a_printer_that_never_stops_talking_is_left() {
    let began = Instant::now();
    let forever = |head: &'static str, piece: Vec<u8>| {
        Printer::doing(Box::new(move |stream, _| {
            stream.write_all(head.as_bytes())?;
            loop {
                stream.write_all(&piece)?;
            }
        }))
    };
    let attributes = answer(0, &[attribute(0x44, "printer-state-reasons", &[b"jam"])]);
    for printer in [
        forever("HTTP/1.1 200 OK\r\n", b"X: y\r\n".repeat(100)),
        forever("HTTP/1.1 200 OK\r\n\r\n", attributes),
        forever("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"4\r\nabcd\r\n".repeat(100)),
        forever("", b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()),
    ] {
        let fault = fault(&printer).await;
        assert!(matches!(fault, PollFault::Garbage { .. }), "{fault}");
    }
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn attributes_without_number_do_not_fill_the_memory() {
    let many = attribute(0x44, "x", &[b"y"]).repeat(100_000);
    let printer = Printer::saying(http(&answer(0, &[small().concat(), many])));
    assert_eq!(look(&device(&printer.url()), Depth::Full).await.unwrap().supplies.len(), 1);
}

#[tokio::test]
async fn silence_is_silence_wherever_it_begins() {
    for begun in
        [&b""[..], b"HTTP/1.1 200 OK\r\nContent-", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc"]
    {
        let printer = Printer::doing(Box::new(move |stream, _| {
            stream.write_all(begun)?;
            // Until who asked is gone.
            std::io::copy(stream, &mut std::io::sink()).map(|_| ())
        }));
        let fault = fault(&printer).await;
        assert!(matches!(&fault, PollFault::NoAnswer { limit_ms: 300, .. }), "{fault:?}");
        assert!(fault.is_silence());
    }
}

#[tokio::test]
async fn a_printer_that_is_off_or_hangs_up_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let fault = look(&device(&format!("ipp://{address}/")), Depth::Full).await.unwrap_err();
    assert!(matches!(fault, PollFault::Unreachable { .. }) && fault.is_silence(), "{fault}");
    let fault = said(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc".to_vec()).await;
    assert!(matches!(fault, PollFault::Unreachable { .. }), "{fault}");
    let fault = look(&device("ipp://nobody.invalid/"), Depth::Full).await.unwrap_err();
    assert!(matches!(fault, PollFault::Unreachable { .. }), "{fault}");
}

#[tokio::test]
async fn a_printer_without_tls_does_not_speak_it() {
    let printer = Printer::saying(http(&answer(0, &small())));
    let fault = look(&device(&printer.url().replace("ipp://", "ipps://")), Depth::Full).await.unwrap_err();
    assert!(matches!(fault, PollFault::Unsupported { .. } | PollFault::NoAnswer { .. }), "{fault}");
}
