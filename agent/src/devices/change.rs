//! `devices add` and `devices remove`: changes of devices.toml that are read back before they take the file's place.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use drivers::access::{EditError, Entry, with_device, without_device};
use drivers::{Depth, Drivers, PollFault};
use shared::device::DeviceName;

use super::{secret, show};
use crate::exit::{Outside, Usage};
use crate::files::{now, unless_missing, write_whole};
use crate::home::Home;

/// How a device is asked.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DriverName {
    /// SNMP 1, 2c or 3.
    Snmp,
    /// IPP, for printers.
    Ipp,
    /// The computer that the agent runs on.
    Host,
    /// A program that prints what `devices poll --json` prints.
    Exec,
}

/// What `devices add` is told.
#[derive(Args)]
pub(crate) struct AddArgs {
    /// The device's name here.
    name: String,
    /// How it is asked.
    #[arg(long)]
    driver: DriverName,
    /// snmp: name or address, with a port if it is not 161; ipp: ipp://… or ipps://…
    #[arg(long)]
    address: Option<String>,
    /// snmp: 1, 2c or 3 [default: 2c].
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
    /// snmp 1 and 2c: file with the community [default: public].
    #[arg(long, value_name = "FILE")]
    community_file: Option<PathBuf>,
    /// snmp 3, and a login of ipps: the user.
    #[arg(long)]
    user: Option<String>,
    /// ipps: file with the password of the login.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// snmp 3: md5, sha1, sha224, sha256, sha384 or sha512.
    #[arg(long, value_name = "ALGORITHM")]
    auth: Option<String>,
    /// snmp 3: file with the password for it.
    #[arg(long, value_name = "FILE")]
    auth_password_file: Option<PathBuf>,
    /// snmp 3: des, aes128, aes192 or aes256.
    #[arg(long, value_name = "ALGORITHM")]
    privacy: Option<String>,
    /// snmp 3: file with the password for it.
    #[arg(long, value_name = "FILE")]
    privacy_password_file: Option<PathBuf>,
    /// snmp 3: the context, of agents that speak for several devices.
    #[arg(long)]
    context: Option<String>,
    /// ipps: accept any certificate; nobody has signed those of printers. What is said cannot be read on the way, but
    /// nobody can tell who the other side is.
    #[arg(long)]
    self_signed: bool,
    /// host: tell whether this program runs, and since when. May be given several times.
    #[arg(long = "watch-program", value_name = "NAME")]
    watch_programs: Vec<String>,
    /// exec: the program and its arguments.
    #[arg(last = true)]
    command: Vec<String>,
    /// What it is, where it does not say so itself: printer, mfp, scanner, fax, pc, ups, print-server, other.
    #[arg(long)]
    class: Option<String>,
    /// Time for one request [default: 2s].
    #[arg(long)]
    timeout: Option<String>,
    /// Add it without asking it first.
    #[arg(long)]
    no_check: bool,
}

/// What `devices remove` is told.
#[derive(Args)]
pub(crate) struct RemoveArgs {
    /// The device's name here.
    name: String,
}

impl AddArgs {
    fn entry(&self) -> Result<Entry, Usage> {
        let some = |list: &Vec<String>| Some(list.clone()).filter(|list| !list.is_empty());
        let is_snmp = self.driver == DriverName::Snmp;
        let has_community = is_snmp && self.version.as_deref() != Some("3");
        let has_login = self.driver == DriverName::Ipp && self.user.is_some();
        // A variable that is set for other devices is none of this one's.
        let from = |wanted: bool, file: &Option<PathBuf>, variable: &str| match (wanted, file) {
            (false, None) => Ok(None),
            _ => secret::read(file.as_ref(), variable),
        };
        Ok(Entry {
            name: self.name.clone(),
            driver: self
                .driver
                .to_possible_value()
                .map_or_else(String::new, |name| name.get_name().to_owned()),
            address: self.address.clone(),
            version: self.version.clone(),
            community: from(has_community, &self.community_file, "MAILFLEET_COMMUNITY")?,
            user: self.user.clone(),
            password: from(has_login, &self.password_file, "MAILFLEET_DEVICE_PASSWORD")?,
            auth: self.auth.clone(),
            auth_password: from(self.auth.is_some(), &self.auth_password_file, "MAILFLEET_AUTH_PASSWORD")?,
            privacy: self.privacy.clone(),
            privacy_password: from(
                self.privacy.is_some(),
                &self.privacy_password_file,
                "MAILFLEET_PRIVACY_PASSWORD",
            )?,
            context: self.context.clone(),
            self_signed: self.self_signed.then_some(true),
            command: some(&self.command),
            watch_programs: some(&self.watch_programs),
            class: self.class.clone(),
            timeout: self.timeout.clone(),
        })
    }
}

/// Adds a device, after it was asked.
///
/// # Errors
/// It is wrong, its name is taken, it does not answer, or the list cannot be written. The list is as it was.
pub(crate) async fn add(home: &Home, drivers: &Drivers, args: &AddArgs) -> anyhow::Result<()> {
    let path = home.devices();
    let entry = args.entry()?;
    // Before it is asked: a name that is taken is said at once.
    with_device(&read(&path)?, &entry).map_err(|err| named(&path, &err))?;
    if !args.no_check {
        let device = entry.device().map_err(Usage::because)?;
        let mut seen = drivers.poll(&device, Depth::Full, now).await.map_err(|fault| refused(&fault))?;
        seen.class = device.class.unwrap_or(seen.class);
        show(device.name.as_str(), &seen);
    }
    let list = with_device(&read(&path)?, &entry).map_err(|err| named(&path, &err))?;
    write(&path, &list)?;
    say!("Added to {}. An agent that runs reads it when it starts again.", path.display());
    Ok(())
}

/// Takes a device out.
///
/// # Errors
/// There is none of this name, or the list cannot be written. The list is as it was.
pub(crate) fn remove(home: &Home, args: &RemoveArgs) -> anyhow::Result<()> {
    let path = home.devices();
    let name = DeviceName::parse(&args.name).map_err(Usage::because)?;
    let list = without_device(&read(&path)?, &name).map_err(|err| named(&path, &err))?;
    write(&path, &list)?;
    say!("Taken out of {}. An agent that runs reads it when it starts again.", path.display());
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<String> {
    let mut list = String::new();
    let read = std::fs::read_to_string(path).map(|text| list = text);
    unless_missing(read).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(list)
}

fn write(path: &Path, list: &str) -> anyhow::Result<()> {
    write_whole(path, list.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
}

fn named(path: &Path, err: &EditError) -> Usage {
    Usage(format!("{}: {}", path.display(), shared::error::chain(err)))
}

/// Why a device that does not answer well is not added. What a person can put right here is exit code 2.
fn refused(fault: &PollFault) -> anyhow::Error {
    let text = format!("{fault}\nNothing was changed; --no-check adds the device all the same.");
    match fault {
        PollFault::Unreachable { .. } | PollFault::NoAnswer { .. } => Outside(text).into(),
        PollFault::Refused { .. } | PollFault::Untrusted { .. } | PollFault::Unsupported { .. } => {
            Usage(text).into()
        }
        PollFault::Garbage { .. } | PollFault::Local(_) => anyhow::anyhow!(text),
    }
}
