//! A device for tests: an SNMP agent on loopback that serves a recording and misbehaves as told. Its codec is that of the
//! library; what decides is written here, by RFC 1157 and RFC 3416.
#![allow(clippy::cast_possible_truncation, reason = "small numbers of our own")]

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use async_snmp::message::{CommunityMessage, CommunityPdu};
use async_snmp::{
    DecodeConfig, ErrorIndex, Oid, OutboundErrorStatus, Pdu, PduType, ResponsePdu, Value, VarBind, Version,
};

/// Objects of a device, by name.
pub type Rows = BTreeMap<Oid, Value>;

/// How a device misbehaves.
#[derive(Clone, Default)]
pub struct Bend {
    /// Says nothing at all.
    pub is_silent: bool,
    /// What becomes of GETBULK.
    pub bulk: Bulk,
    /// Waits before each answer.
    pub wait: Duration,
    /// Does not get the first datagrams.
    pub lost: u32,
    /// Says nothing to requests that reach into this part.
    pub silent_part: Option<Oid>,
    /// genErr for requests that reach into this part.
    pub broken_part: Option<Oid>,
    /// A column whose cells go on for ever.
    pub endless: Option<Oid>,
    /// A column whose cells come in falling order.
    pub falling: Option<Oid>,
    /// Answers longer than this are too big.
    pub most_bytes: Option<usize>,
    /// Answers bytes that are no SNMP.
    pub is_garbage: bool,
}

/// How a device takes GETBULK.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Bulk {
    /// It answers.
    #[default]
    Answered,
    /// It says nothing.
    Unheard,
    /// It answers genErr.
    Refused,
}

/// A device on loopback; ends with its value.
pub struct Station {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it says; may change while it is asked.
    pub rows: Arc<Mutex<Rows>>,
    /// Datagrams that came.
    pub requests: Arc<AtomicU32>,
    /// It says nothing for as long as this is set: switched off, or on its way up.
    pub is_away: Arc<AtomicBool>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Station {
    /// A good device.
    #[must_use]
    pub fn serve(rows: Rows) -> Self {
        Self::bent(rows, Bend::default())
    }

    /// One that misbehaves.
    #[must_use]
    pub fn bent(rows: Rows, bend: Bend) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let (rows, ends) = (Arc::new(Mutex::new(rows)), Arc::new(AtomicBool::new(false)));
        let requests = Arc::new(AtomicU32::new(0));
        let is_away = Arc::new(AtomicBool::new(false));
        let (held, ended, counted) = (Arc::clone(&rows), Arc::clone(&ends), Arc::clone(&requests));
        let away = Arc::clone(&is_away);
        let thread = std::thread::spawn(move || run(&socket, &held, &bend, &ended, &counted, &away));
        Self { address, rows, requests, is_away, ends, thread: Some(thread) }
    }
}

impl Drop for Station {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        let _ = UdpSocket::bind("127.0.0.1:0").map(|s| s.send_to(&[0], self.address));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(
    socket: &UdpSocket,
    rows: &Mutex<Rows>,
    bend: &Bend,
    ends: &AtomicBool,
    requests: &AtomicU32,
    is_away: &AtomicBool,
) {
    let mut buffer = vec![0_u8; 65_536];
    let mut lost = bend.lost;
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        if ends.load(Ordering::Relaxed) {
            return;
        }
        requests.fetch_add(1, Ordering::Relaxed);
        if is_away.load(Ordering::Relaxed) {
            continue;
        }
        if lost > 0 {
            lost -= 1;
            continue;
        }
        std::thread::sleep(bend.wait);
        let reply = written(&buffer[..length], rows)
            .or_else(|| reply(&buffer[..length], &rows.lock().unwrap(), bend));
        if let Some(reply) = reply.filter(|_| !bend.is_silent) {
            let _ = socket.send_to(&reply, from);
        }
    }
}

/// The answer to one datagram; a wrong community gets none.
#[must_use]
pub fn reply(datagram: &[u8], rows: &Rows, bend: &Bend) -> Option<Vec<u8>> {
    let message = CommunityMessage::decode(datagram.to_vec().into(), DecodeConfig::default()).ok()?.value;
    let (version, community, pdu) = message.into_parts();
    if community.as_bytes() != b"public" {
        return None;
    }
    if bend.is_garbage {
        return Some(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec());
    }
    let CommunityPdu::Standard(pdu) = pdu else { return None };
    let found = answer(version, &pdu, rows, bend)?;
    let respond = |status, index: Option<u32>, binds: Vec<VarBind>| {
        let index = index.map(|index| ErrorIndex::new(index, binds.len()).unwrap());
        let response = ResponsePdu::new(version, pdu.request_id(), status, index, binds).unwrap();
        let raw = response.into_raw();
        let message = match version {
            Version::V1 => CommunityMessage::v1(community.clone(), raw),
            _ => CommunityMessage::v2c(community.clone(), raw),
        };
        message.unwrap().encode().unwrap().to_vec()
    };
    let reply = match found {
        Ok(binds) => respond(OutboundErrorStatus::NoError, None, binds),
        Err((status, index)) => respond(status, Some(index), pdu.varbinds().to_vec()),
    };
    let too_big = bend.most_bytes.is_some_and(|most| reply.len() > most);
    if too_big {
        let binds = if version == Version::V1 { pdu.varbinds().to_vec() } else { Vec::new() };
        return Some(respond(OutboundErrorStatus::TooBig, None, binds));
    }
    Some(reply)
}

/// The answer to a SET, which only who knows the community for it may send; what is set is a row from then on.
fn written(datagram: &[u8], rows: &Mutex<Rows>) -> Option<Vec<u8>> {
    let message = CommunityMessage::decode(datagram.to_vec().into(), DecodeConfig::default()).ok()?.value;
    let (version, community, pdu) = message.into_parts();
    let CommunityPdu::Standard(pdu) = pdu else { return None };
    if pdu.pdu_type() != PduType::SetRequest || community.as_bytes() != b"private" {
        return None;
    }
    let binds = pdu.varbinds().to_vec();
    rows.lock().unwrap().extend(binds.iter().map(|bind| (bind.oid.clone(), bind.value.clone())));
    let response = ResponsePdu::new(version, pdu.request_id(), OutboundErrorStatus::NoError, None, binds);
    let raw = response.unwrap().into_raw();
    let message = match version {
        Version::V1 => CommunityMessage::v1(community, raw),
        _ => CommunityMessage::v2c(community, raw),
    };
    Some(message.unwrap().encode().unwrap().to_vec())
}

type Found = Result<Vec<VarBind>, (OutboundErrorStatus, u32)>;

/// What a request finds; `None`: nothing is said.
fn answer(version: Version, pdu: &Pdu, rows: &Rows, bend: &Bend) -> Option<Found> {
    let is_bulk = pdu.pdu_type() == PduType::GetBulkRequest;
    if is_bulk && bend.bulk == Bulk::Unheard {
        return None;
    }
    if is_bulk && bend.bulk == Bulk::Refused {
        return Some(Err((OutboundErrorStatus::GenErr, 1)));
    }
    let mut at: Vec<Oid> = pdu.varbinds().iter().map(|bind| bind.oid.clone()).collect();
    let rounds = match pdu.get_bulk_fields() {
        Some((_, repetitions)) => repetitions,
        None => 1,
    };
    let mut binds = Vec::new();
    for _ in 0..rounds {
        for (index, oid) in at.iter_mut().enumerate() {
            let found = match pdu.pdu_type() {
                PduType::GetRequest => rows.get(oid).map(|value| (oid.clone(), value.clone())),
                _ => next(rows, oid, bend),
            };
            let reached = found.as_ref().map_or(&*oid, |(oid, _)| oid);
            let is_in = |part: &Option<Oid>| part.as_ref().is_some_and(|part| reached.starts_with(part));
            if is_in(&bend.silent_part) {
                return None;
            }
            let place = index as u32 + 1;
            if is_in(&bend.broken_part) {
                return Some(Err((OutboundErrorStatus::GenErr, place)));
            }
            match found {
                Some((oid_found, value)) => {
                    *oid = oid_found.clone();
                    binds.push(VarBind::new(oid_found, value));
                }
                None if version == Version::V1 => {
                    return Some(Err((OutboundErrorStatus::NoSuchName, place)));
                }
                None if pdu.pdu_type() == PduType::GetRequest => {
                    binds.push(VarBind::new(oid.clone(), Value::NoSuchInstance));
                }
                None => binds.push(VarBind::new(oid.clone(), Value::EndOfMibView)),
            }
        }
    }
    Some(Ok(binds))
}

fn next(rows: &Rows, oid: &Oid, bend: &Bend) -> Option<(Oid, Value)> {
    if let Some(column) = bend.endless.as_ref().filter(|column| oid.starts_with(column)) {
        let last = oid.arcs().get(column.len()).copied().unwrap_or(0);
        return Some((column.child(last + 1), Value::from("on and on")));
    }
    if let Some(column) = bend.falling.as_ref().filter(|column| oid.starts_with(column)) {
        let last = oid.arcs().get(column.len()).copied().unwrap_or(1_000);
        return Some((column.child(last.saturating_sub(1)), Value::Integer(1)));
    }
    let mut after = rows.range((Bound::Excluded(oid.clone()), Bound::Unbounded));
    after.next().map(|(oid, value)| (oid.clone(), value.clone()))
}

/// Reads a recording in snmpsim's format: `OID|TAG|value`, `TAGx` in hexadecimal; `#` begins a comment.
#[must_use]
pub fn recording(text: &str) -> Rows {
    let mut rows = Rows::new();
    for line in text.lines().map(|line| line.trim_end_matches('\r')) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut parts = line.splitn(3, '|');
        let (oid, tag, text) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap_or(""));
        let bytes = match tag.strip_suffix('x') {
            Some(_) => unhex(text),
            None => text.as_bytes().to_vec(),
        };
        let number = || text.parse::<u32>().unwrap_or_else(|_| panic!("{line}"));
        let value = match tag.trim_end_matches('x') {
            "2" => Value::Integer(text.parse().unwrap_or_else(|_| panic!("{line}"))),
            "4" => Value::OctetString(bytes.into()),
            "5" => Value::Null,
            "6" => Value::ObjectIdentifier(Oid::parse(text.trim_start_matches('.')).unwrap()),
            "64" => {
                let parts: Vec<u8> = match tag {
                    "64x" => bytes,
                    _ => text.split('.').map(|part| part.parse().unwrap()).collect(),
                };
                Value::IpAddress(parts.try_into().unwrap())
            }
            "65" => Value::Counter32(number()),
            "66" => Value::Gauge32(number()),
            "67" => Value::TimeTicks(number()),
            "68" => Value::Opaque(bytes.into()),
            "70" => Value::Counter64(text.parse().unwrap()),
            _ => panic!("unknown tag: {line}"),
        };
        rows.insert(Oid::parse(oid).unwrap(), value);
    }
    rows
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().map(|c| c.to_digit(16).unwrap() as u8).collect();
    digits.chunks(2).map(|pair| pair[0] * 16 + pair[1]).collect()
}

/// The folder of our own recordings.
#[must_use]
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/devices")
}

/// One of our own recordings, without its ending.
#[must_use]
pub fn fixture(name: &str) -> Rows {
    let path = fixtures().join(name).with_extension("snmprec");
    recording(&std::fs::read_to_string(&path).unwrap_or_else(|err| panic!("{}: {err}", path.display())))
}

/// The name of an object.
#[must_use]
pub fn oid(text: &str) -> Oid {
    Oid::parse(text).unwrap()
}
