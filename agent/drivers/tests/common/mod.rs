//! What tests of the drivers share: a device that is asked as `devices.toml` says.
#![allow(dead_code, unused_imports, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::arithmetic_side_effects, reason = "tests may panic")]

pub(crate) mod package;
pub(crate) mod printer;

use drivers::{Depth, Device, Drivers, PollFault, Profiles};
use shared::device::Observation;
use shared::time::UnixMillis;

pub(crate) use testkit::station::{Bend, Bulk, Rows, Station, fixture, fixtures, oid, recording, reply};

/// Asks a station for what it says.
pub(crate) trait Asked {
    fn device(&self) -> Device;
    async fn full(&self) -> Observation;
    async fn faults(&self) -> Observation;
}

impl Asked for Station {
    fn device(&self) -> Device {
        device(&self.address.to_string(), "")
    }

    async fn full(&self) -> Observation {
        look(&self.device(), Depth::Full).await.unwrap()
    }

    async fn faults(&self) -> Observation {
        look(&self.device(), Depth::Faults).await.unwrap()
    }
}

/// A device of `devices.toml`, with more lines of it.
pub(crate) fn device(address: &str, more: &str) -> Device {
    let timeout = if more.contains("timeout") { "" } else { "timeout = \"300ms\"" };
    let text =
        format!("[[device]]\nname = \"it\"\ndriver = \"snmp\"\naddress = \"{address}\"\n{timeout}\n{more}\n");
    drivers::read_devices(&text).unwrap().remove(0)
}

pub(crate) async fn look(device: &Device, depth: Depth) -> Result<Observation, PollFault> {
    let drivers = Drivers::new(Profiles::read([]).unwrap());
    drivers.poll(device, depth, || UnixMillis(1_000)).await
}
