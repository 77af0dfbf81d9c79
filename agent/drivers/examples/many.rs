//! How much it costs to ask many devices at once: `cargo run --release -p drivers --example many -- 500`. A second process
//! serves that many devices on loopback, so that the figures are those of asking alone. Beside it, if it is installed, net-snmp's
//! `snmpbulkwalk` reads the table of alerts of the same devices, which is less than a look for faults.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a measurement")]
#![allow(clippy::arithmetic_side_effects, reason = "small numbers of our own")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Bend, device, fixture, reply};
use drivers::{Depth, Drivers, Profiles};
use shared::time::UnixMillis;
use tokio::net::UdpSocket;
use tokio::runtime::Builder;
use tokio::task::JoinSet;

/// Ticks of the kernel's accounting in one second, the same on every Linux of today.
const TICKS_PER_SECOND: u64 = 100;

fn main() {
    let mut arguments = env::args().skip(1);
    let first = arguments.next();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    if first.as_deref() == Some("serve") {
        let count = arguments.next().unwrap().parse().unwrap();
        return runtime.block_on(serve(count));
    }
    let count: u16 = first.map_or(500, |count| count.parse().unwrap());
    let mut server = Command::new(env::current_exe().unwrap())
        .args(["serve", &count.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let addresses: Vec<String> = lines.take(count.into()).map(Result::unwrap).collect();
    for depth in [Depth::Faults, Depth::Faults, Depth::Full] {
        runtime.block_on(ask(&addresses, depth));
    }
    walk(&addresses);
    let _ = server.kill();
    let _ = server.wait();
}

/// Has the table of alerts read by `snmpbulkwalk`, a process for each device, two at a time.
fn walk(addresses: &[String]) {
    let (since, before) = (Instant::now(), children_cpu_time());
    let (mut running, mut whole) = (Vec::new(), 0_u32);
    let mut end =
        |child: Child| whole += u32::from(child.wait_with_output().is_ok_and(|out| out.status.success()));
    for address in addresses {
        let child = Command::new("snmpbulkwalk")
            .args(["-v2c", "-c", "public", "-On", "-t", "5", address, "1.3.6.1.2.1.43.18.1"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(child) = child else { return println!("snmpbulkwalk is not installed") };
        running.push(child);
        if running.len() == 2 {
            end(running.remove(0));
        }
    }
    running.into_iter().for_each(&mut end);
    println!(
        "snmpbulkwalk, alerts alone: {whole} of {} answered, {:?}, CPU {:?}",
        addresses.len(),
        since.elapsed(),
        children_cpu_time() - before,
    );
}

/// Devices of one recording, each at an address of its own; ends when it is killed.
async fn serve(count: u16) {
    let rows = Arc::new(fixture("08-alerts"));
    for index in 0..count {
        let [high, low] = index.to_be_bytes();
        let socket = UdpSocket::bind((Ipv4Addr::new(127, 1, high, low.max(1)), 0)).await.unwrap();
        println!("{}", socket.local_addr().unwrap());
        let rows = Arc::clone(&rows);
        tokio::spawn(async move {
            let mut buffer = vec![0_u8; 4_096];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                if let Some(reply) = reply(&buffer[..length], &rows, &Bend::default()) {
                    let _ = socket.send_to(&reply, from).await;
                }
            }
        });
    }
    std::io::stdout().flush().unwrap();
    std::future::pending::<()>().await;
}

async fn ask(addresses: &[String], depth: Depth) {
    let drivers = Arc::new(Drivers::new(Profiles::read([]).unwrap()));
    let (since, cpu) = (Instant::now(), cpu_time());
    let mut polls = JoinSet::new();
    for address in addresses {
        let (drivers, device) = (Arc::clone(&drivers), device(address, "timeout = \"5s\""));
        polls.spawn(async move { drivers.poll(&device, depth, || UnixMillis(0)).await });
    }
    let mut answered = 0_u32;
    while let Some(polled) = polls.join_next().await {
        answered += u32::from(polled.unwrap().is_ok());
    }
    let requests = drivers.snmp_requests();
    println!(
        "{depth:?}: {answered} of {} answered, {requests} requests, {:?}, CPU {:?}, {} kB at most",
        addresses.len(),
        since.elapsed(),
        cpu_time() - cpu,
        peak_kb(),
    );
}

/// Time that this process has computed.
fn cpu_time() -> Duration {
    stat_ticks(11)
}

/// Time that processes which it has started have computed.
fn children_cpu_time() -> Duration {
    stat_ticks(13)
}

fn stat_ticks(first: usize) -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[first].parse::<u64>().unwrap() + fields[first + 1].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND)
}

/// Most memory that this process has held.
fn peak_kb() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
