//! The driver for SNMP devices: printers and MFPs first, also UPSs and PCs.
//!
//! `plan` says what is asked, `fetch` gets it whatever the device does, `wire` speaks; `read` understands what came, purely,
//! with a `profile` of the device's maker.

mod ask;
mod fetch;
mod mib;
mod oid;
mod plan;
mod profile;
mod read;
mod refusal;
mod rows;
mod text;
mod wire;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use shared::Label;
use shared::device::Observation;
use shared::time::UnixMillis;
use tokio::time::{Instant, timeout_at};

use crate::Depth;
use crate::access::{Device, Snmp, SnmpIdentity};
use crate::fault::PollFault;
use crate::limits::{FAULTS_LIMIT, FULL_LIMIT};
use ask::AskFault;
use fetch::Fetch;
use oid::Oid;
use profile::Profile;
use read::View;
use wire::{Net, Wire};

pub use profile::{ProfileError, Profiles};
// What the words and numbers of the Printer-MIB mean, for printers that say them by IPP.
pub(crate) use read::{capacity, colour_word, kind_word, level, parts, wants_power_cycle};

/// What polls of SNMP devices share.
pub(crate) struct Shared {
    net: Net,
    profiles: Profiles,
    requests: AtomicU64,
}

impl Shared {
    pub(crate) fn new(profiles: Profiles) -> Self {
        Self { net: Net::default(), profiles, requests: AtomicU64::new(0) }
    }

    /// Requests so far.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

/// One look at one device.
pub(crate) async fn poll(
    shared: &Shared,
    device: &Device,
    snmp: &Snmp,
    depth: Depth,
    clock: impl Fn() -> UnixMillis + Sync,
) -> Result<Observation, PollFault> {
    let limit = match depth {
        Depth::Faults => FAULTS_LIMIT,
        Depth::Full => FULL_LIMIT,
    };
    let reason = |fault: AskFault| poll_fault(fault, snmp, device.timeout, limit);
    let deadline =
        Instant::now().checked_add(limit).ok_or_else(|| PollFault::Local("no clock".to_owned()))?;
    let ready = timeout_at(deadline, shared.net.wire(snmp, device.timeout)).await;
    let slow = || AskFault::Unreachable("nobody tells the address of this name in time".to_owned());
    let mut wire = ready.unwrap_or_else(|_| Err(slow())).map_err(reason)?;
    let is_v3 = matches!(snmp.identity, SnmpIdentity::V3 { .. });
    let was_known = is_v3 && shared.net.knows(&wire);
    let mut came = look(shared, &wire, device, depth, deadline, &clock).await;
    if was_known && matches!(came, Err(AskFault::Silent | AskFault::Refused(_))) {
        // Perhaps another device stands there now: whom we knew is not asked again.
        shared.net.forget(&wire);
        wire = shared.net.wire(snmp, device.timeout).await.map_err(reason)?;
        came = look(shared, &wire, device, depth, deadline, &clock).await;
    }
    if is_v3 && came == Err(AskFault::Silent) && shared.net.knows(&wire) {
        // It has said who it is, and then nothing to this user.
        let why = timeout_at(deadline, refusal::reason(&shared.net, snmp, device.timeout)).await;
        came = Err(AskFault::Refused(why.unwrap_or_else(|_| refusal::UNSAID.to_owned())));
    }
    if is_v3 && matches!(came, Err(AskFault::Refused(_))) {
        // So that the next time it has to say who it is again, or is silent.
        shared.net.forget(&wire);
    }
    came.map_err(reason)
}

/// Restarts a printer: prtGeneralReset (RFC 3805), by the community that may write, or as the user of version 3. One that is gone
/// before it answers has done it too.
pub(crate) async fn restart(
    shared: &Shared,
    snmp: &Snmp,
    community: &str,
    timeout: Duration,
) -> Result<(), String> {
    let community = community.to_owned();
    let identity = match &snmp.identity {
        SnmpIdentity::V1 { .. } => SnmpIdentity::V1 { community },
        SnmpIdentity::V2c { .. } => SnmpIdentity::V2c { community },
        v3 @ SnmpIdentity::V3 { .. } => v3.clone(),
    };
    let writer = Snmp { address: snmp.address.clone(), identity };
    let wire = shared.net.wire(&writer, timeout).await.map_err(|fault| fault.to_string())?;
    let object = [mib::PRT_RESET, &[1]].concat();
    match wire.set(&Oid::new(&object), POWER_CYCLE).await {
        Ok(()) | Err(AskFault::Silent) => Ok(()),
        Err(fault) => Err(format!("cannot restart {}: {fault}", snmp.address)),
    }
}

/// `powerCycleReset` of PrtGeneralResetTC.
const POWER_CYCLE: i32 = 4;

async fn look(
    shared: &Shared,
    wire: &Wire,
    device: &Device,
    depth: Depth,
    deadline: Instant,
    clock: &(impl Fn() -> UnixMillis + Sync),
) -> Result<Observation, AskFault> {
    let mut fetch = Fetch::new(wire, deadline);
    let came = plan::gather(&mut fetch, &shared.profiles, device.class, depth).await;
    shared.requests.fetch_add(fetch.requests().into(), Ordering::Relaxed);
    let (class, profile) = came?;
    let faults_read = plan::faults_read(&fetch, class);
    let (rows, left_out) = fetch.finish();
    let none = Profile::default();
    let view = View::new(&rows, profile.unwrap_or(&none));
    let mut seen = read::observation(&view, class, depth, faults_read, clock());
    seen.left_out.extend(left_out.iter().map(|text| Label::lossy(text)));
    seen.bound();
    Ok(seen)
}

fn poll_fault(fault: AskFault, snmp: &Snmp, timeout: Duration, limit: Duration) -> PollFault {
    let address = snmp.address.clone();
    let tries = crate::limits::RETRIES.saturating_add(1);
    match fault {
        AskFault::Silent => PollFault::NoAnswer {
            address,
            limit_ms: u64::try_from(timeout.saturating_mul(tries).min(limit).as_millis()).unwrap_or(u64::MAX),
            hint: match snmp.identity {
                SnmpIdentity::V1 { .. } | SnmpIdentity::V2c { .. } => {
                    "; it is off or asleep, or the community or the version is wrong: SNMP answers neither"
                }
                SnmpIdentity::V3 { .. } => "; it is off or asleep, or does not know version 3",
            },
        },
        AskFault::Refused(why) => PollFault::Refused { address, why: refusal::in_words(&why) },
        AskFault::Unreachable(why) => PollFault::Unreachable { address, why },
        AskFault::Garbage(why) => PollFault::Garbage { address, why },
        AskFault::Nothing => PollFault::Unsupported { address, driver: "snmp", why: fault.to_string() },
        AskFault::Object { .. } => PollFault::Garbage { address, why: fault.to_string() },
        AskFault::Local(why) => PollFault::Local(why),
    }
}
