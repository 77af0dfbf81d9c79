//! `devices discover`: asks each address of a network who it is, and shows what could stand in devices.toml. Only when
//! somebody calls it; it writes nothing.

use std::collections::BTreeSet;
use std::io::{IsTerminal as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use drivers::access::Entry;
use drivers::{Access, Depth, Device, Drivers, PollFault};
use shared::device::{DeviceClass, Observation};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{range, secret};
use crate::exit::Usage;
use crate::files::now;
use crate::limits::DISCOVER_AT_A_TIME;
use crate::say;

/// Longest part of a device's name that is made of its model.
const NAME_MODEL_MAX_CHARS: usize = 40;

/// What `devices discover` is told.
#[derive(Args)]
pub(crate) struct DiscoverArgs {
    /// The network, such as 192.0.2.0/24 (at most a /20), or one address.
    network: String,
    /// File with the community to ask with [default: MAILFLEET_COMMUNITY, else public].
    #[arg(long, value_name = "FILE")]
    community_file: Option<PathBuf>,
    /// Time for one request.
    #[arg(long, default_value = "1s")]
    timeout: String,
    /// Port of SNMP.
    #[arg(long, value_name = "PORT", default_value_t = 161)]
    snmp_port: u16,
    /// Port of IPP.
    #[arg(long, value_name = "PORT", default_value_t = 631)]
    ipp_port: u16,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// How addresses are asked.
struct Way {
    drivers: Arc<Drivers>,
    community: Option<String>,
    timeout: String,
    /// The same, read.
    step: Duration,
    snmp_port: u16,
    ipp_port: u16,
}

/// What is at an address.
enum Place {
    /// Nobody that answers.
    Silent,
    /// A device that can be asked as the entry says; it has no name and no secrets yet.
    Device(Box<(Entry, Observation)>),
    /// Somebody who answers and cannot be used.
    Unusable(PollFault),
}

/// A device that was found.
struct Found {
    address: IpAddr,
    entry: Entry,
    seen: Observation,
    /// Its name, if it stands in the list.
    known_as: Option<String>,
}

/// Looks for devices.
///
/// # Errors
/// The network, the time or the community cannot be used.
pub(crate) async fn discover(
    drivers: Arc<Drivers>,
    known: &[Device],
    args: &DiscoverArgs,
) -> anyhow::Result<ExitCode> {
    let addresses = range::addresses(&args.network).map_err(Usage)?;
    let step = shared::time::parse_duration(&args.timeout).map_err(Usage::because)?;
    let community = secret::read(args.community_file.as_ref(), "MAILFLEET_COMMUNITY")?;
    let way = Way {
        drivers,
        community,
        timeout: args.timeout.clone(),
        step,
        snmp_port: args.snmp_port,
        ipp_port: args.ipp_port,
    };
    // A time that cannot be used is said before anybody is asked.
    way.snmp("2c", SocketAddr::from(([127, 0, 0, 1], args.snmp_port))).device().map_err(Usage::because)?;
    let total = addresses.len();
    let has_community = way.community.is_some();
    let mut places = ask_all(Arc::new(way), addresses).await;
    places.sort_by_key(|(address, _)| *address);
    let mut found = Vec::new();
    let mut unusable = Vec::new();
    for (address, place) in places {
        match place {
            Place::Silent => {}
            Place::Device(device) => {
                let (entry, seen) = *device;
                let known_as = known_as(known, address);
                found.push(Found { address, entry, seen, known_as });
            }
            Place::Unusable(fault) => unusable.push((address, fault)),
        }
    }
    name_all(&mut found, known);
    if args.json {
        print_json(total, &found, &unusable)?;
    } else {
        print(total, &found, &unusable, has_community);
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks all of them, some at a time, and tells a terminal how far it is.
async fn ask_all(way: Arc<Way>, addresses: Vec<IpAddr>) -> Vec<(IpAddr, Place)> {
    let total = addresses.len();
    let mut waiting = addresses.into_iter();
    let mut tasks = JoinSet::new();
    let mut places = Vec::new();
    let shows_progress = std::io::stderr().is_terminal();
    loop {
        while tasks.len() < DISCOVER_AT_A_TIME {
            let Some(address) = waiting.next() else { break };
            let way = Arc::clone(&way);
            tasks.spawn(async move { (address, way.ask(address).await) });
        }
        let Some(ended) = tasks.join_next().await else { break };
        places.extend(ended.ok());
        if shows_progress {
            let answered = places.iter().filter(|(_, place)| !matches!(place, Place::Silent)).count();
            // What a terminal does not show is no reason to stop.
            let _ = write!(std::io::stderr(), "\r{} of {total} asked, {answered} answered", places.len());
        }
    }
    if shows_progress {
        let _ = writeln!(std::io::stderr());
    }
    places
}

impl Way {
    fn snmp(&self, version: &str, place: SocketAddr) -> Entry {
        let address = if place.port() == 161 { place.ip().to_string() } else { place.to_string() };
        Entry {
            name: "asked".to_owned(),
            driver: "snmp".to_owned(),
            address: Some(address),
            version: Some(version.to_owned()).filter(|version| version != "2c"),
            community: self.community.clone(),
            timeout: Some(self.timeout.clone()),
            ..Entry::default()
        }
    }

    fn ipp(&self, is_tls: bool, place: SocketAddr) -> Entry {
        let scheme = if is_tls { "ipps" } else { "ipp" };
        let host = match place.ip() {
            IpAddr::V6(v6) => format!("[{v6}]"),
            IpAddr::V4(v4) => v4.to_string(),
        };
        let port = if place.port() == 631 { String::new() } else { format!(":{}", place.port()) };
        Entry {
            name: "asked".to_owned(),
            driver: "ipp".to_owned(),
            address: Some(format!("{scheme}://{host}{port}/ipp/print")),
            self_signed: is_tls.then_some(true),
            timeout: Some(self.timeout.clone()),
            ..Entry::default()
        }
    }

    /// Who is at an address: by SNMP 2c, else 1, else by IPP, if something listens there.
    async fn ask(&self, address: IpAddr) -> Place {
        let snmp = SocketAddr::new(address, self.snmp_port);
        let mut place = self.poll(self.snmp("2c", snmp)).await;
        if matches!(place, Place::Unusable(PollFault::NoAnswer { .. })) {
            place = self.poll(self.snmp("1", snmp)).await;
        }
        let by_snmp = match place {
            found @ Place::Device(_) => return found,
            Place::Unusable(fault) if !fault.is_silence() => Some(fault),
            Place::Unusable(_) | Place::Silent => None,
        };
        let ipp = SocketAddr::new(address, self.ipp_port);
        // This connection is closed before the next: some printers have no more than one.
        let is_open = timeout(self.step, TcpStream::connect(ipp)).await.is_ok_and(|tried| tried.is_ok());
        let by_ipp = if is_open { self.by_ipp(ipp).await } else { Place::Silent };
        match (by_ipp, by_snmp) {
            (found @ Place::Device(_), _) => found,
            // What answers SNMP is more likely to be meant than what only listens.
            (_, Some(fault)) => Place::Unusable(fault),
            (place, None) => place,
        }
    }

    async fn by_ipp(&self, place: SocketAddr) -> Place {
        match self.poll(self.ipp(false, place)).await {
            // It may want TLS, and says so in its own way, or hangs up.
            Place::Unusable(fault) => match self.poll(self.ipp(true, place)).await {
                found @ Place::Device(_) => found,
                Place::Silent | Place::Unusable(_) => Place::Unusable(fault),
            },
            other => other,
        }
    }

    async fn poll(&self, entry: Entry) -> Place {
        let device = match entry.device() {
            Ok(device) => device,
            Err(err) => return Place::Unusable(PollFault::Local(err.to_string())),
        };
        match self.drivers.poll(&device, Depth::Faults, now).await {
            Ok(mut seen) => {
                seen.bound();
                Place::Device(Box::new((Entry { timeout: None, community: None, ..entry }, seen)))
            }
            Err(fault) => Place::Unusable(fault),
        }
    }
}

/// The name of the device that the list asks at this address.
fn known_as(known: &[Device], address: IpAddr) -> Option<String> {
    let is_it = |device: &&Device| match &device.access {
        Access::Snmp(snmp) => {
            let host = snmp.address.parse::<SocketAddr>().map(|place| place.ip());
            host.or_else(|_| snmp.address.parse()).is_ok_and(|host| host == address)
        }
        Access::Ipp(ipp) => ipp.url.host().parse::<IpAddr>().is_ok_and(|host| host == address),
        Access::Host { .. } | Access::Exec { .. } => false,
    };
    known.iter().find(is_it).map(|device| device.name.to_string())
}

/// Gives each a name of its own, made of its model and the end of its address.
fn name_all(found: &mut [Found], known: &[Device]) {
    let mut taken: BTreeSet<String> = known.iter().map(|device| device.name.to_string()).collect();
    for found in found {
        let address = found.address.to_string();
        let end = address.rsplit(['.', ':']).next().unwrap_or_default();
        let identity = &found.seen.identity;
        let model = identity.model.as_ref().or(identity.vendor.as_ref()).map(|text| plain(text.as_str()));
        let model = model.filter(|text| !text.is_empty()).unwrap_or_else(|| found.seen.class.to_string());
        let short = format!("{model}-{end}");
        let name = if taken.contains(&short) { format!("{model}-{}", plain(&address)) } else { short };
        taken.insert(name.clone());
        found.entry.name = name;
    }
}

/// Letters and digits in lower case, with `-` for what is between them.
fn plain(text: &str) -> String {
    let mut out = String::new();
    for c in text.to_lowercase().chars() {
        if c.is_ascii_alphanumeric() {
            out.push(c);
        } else if !out.is_empty() && !out.ends_with('-') {
            out.push('-');
        }
    }
    let out: String = out.chars().take(NAME_MODEL_MAX_CHARS).collect();
    out.trim_end_matches('-').to_owned()
}

/// One line for a person.
fn in_words(found: &Found) -> String {
    let identity = &found.seen.identity;
    let words = [&identity.vendor, &identity.model, &identity.host];
    let words: Vec<_> = words.into_iter().flatten().map(ToString::to_string).collect();
    let serial = identity.serial.as_ref().map(|serial| format!(", serial {serial}")).unwrap_or_default();
    format!("{}: {} {}{serial}, {}", found.address, found.seen.class, words.join(" "), found.seen.status)
}

fn print(total: usize, found: &[Found], unusable: &[(IpAddr, PollFault)], has_community: bool) {
    for found in found {
        say!("# {}", in_words(found));
        match &found.known_as {
            Some(name) => say!("# It stands in devices.toml as \"{name}\".\n"),
            None => {
                // An entry that was asked can be written.
                say::print(format_args!("{}", found.entry.to_toml().unwrap_or_default()));
                if found.entry.driver == "snmp" && has_community {
                    say!("# and its community, with which it was asked");
                }
                say!("");
            }
        }
    }
    for (_, fault) in unusable {
        say!("# {fault}");
    }
    let silent = total.saturating_sub(found.len()).saturating_sub(unusable.len());
    say!(
        "# {total} asked: {} found, {} that cannot be used, {silent} silent. SNMP does not answer a wrong community.",
        found.len(),
        unusable.len()
    );
}

fn print_json(total: usize, found: &[Found], unusable: &[(IpAddr, PollFault)]) -> anyhow::Result<()> {
    let device = |found: &Found| {
        let identity = &found.seen.identity;
        let text = |label: &Option<shared::Label>| label.as_ref().map(ToString::to_string);
        let class: DeviceClass = found.seen.class;
        serde_json::json!({
            "device": found.entry.name,
            "known_as": found.known_as,
            "driver": found.entry.driver,
            "address": found.entry.address,
            "version": found.entry.version,
            "self_signed": found.entry.self_signed,
            "class": class.as_str(),
            "vendor": text(&identity.vendor),
            "model": text(&identity.model),
            "serial": text(&identity.serial),
            "host": text(&identity.host),
        })
    };
    let failed = |(address, fault): &(IpAddr, PollFault)| serde_json::json!({ "address": address.to_string(), "why": fault.to_string() });
    let document = serde_json::json!({
        "asked": total,
        "found": found.iter().map(device).collect::<Vec<_>>(),
        "failed": unusable.iter().map(failed).collect::<Vec<_>>(),
    });
    say!("{}", serde_json::to_string_pretty(&document)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::{Label, UnixMillis};

    fn found(address: &str, model: &str) -> Found {
        let mut seen = Observation::of(DeviceClass::Printer, UnixMillis(0));
        seen.identity.model = Some(Label::lossy(model)).filter(|label| !label.is_empty());
        Found { address: address.parse().unwrap(), entry: Entry::default(), seen, known_as: None }
    }

    #[test]
    fn each_device_has_a_name_of_its_own_that_a_list_can_have() {
        let mut all = vec![
            found("192.0.2.7", "HP LaserJet (M507)"),
            found("192.0.3.7", "HP LaserJet M507"),
            found("192.0.2.8", ""),
            found("192.0.2.9", "プリンタ"),
            found("2001:db8::7", &"x".repeat(190)),
        ];
        name_all(&mut all, &[]);
        let names: Vec<_> = all.iter().map(|found| found.entry.name.as_str()).collect();
        assert_eq!(
            names[..4],
            ["hp-laserjet-m507-7", "hp-laserjet-m507-192-0-3-7", "printer-8", "printer-9"]
        );
        for name in names {
            assert!(shared::device::DeviceName::parse(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn a_device_that_stands_in_the_list_is_known() {
        let known = drivers::read_devices(
            "[[device]]\nname = \"a\"\ndriver = \"snmp\"\naddress = \"192.0.2.1:1161\"\n\
             [[device]]\nname = \"b\"\ndriver = \"ipp\"\naddress = \"ipps://192.0.2.2/\"\n",
        );
        let known = known.unwrap();
        let name = |address: &str| known_as(&known, address.parse().unwrap());
        assert_eq!((name("192.0.2.1").as_deref(), name("192.0.2.2").as_deref()), (Some("a"), Some("b")));
        assert_eq!(name("192.0.2.3"), None);
    }
}
