//! What keeps modules from being replaced (M9): leases of work that must not be interrupted, and programs
//! that run. The shell has looked; what of it counts is decided here.

use core::time::Duration;

use minicbor::{Decode, Encode};
use shared::bundle::ModuleKind;
use shared::message::{Hindrance, WaitReason};
use shared::{Label, UnixMillis};

use crate::facts::Module;

/// Names one run of the box's system: another one after each restart of the box.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct BootId(#[n(0)] pub Label);

/// Somebody's word that modules are not to be replaced for a while. Never without an owner, a reason and an
/// end: a lock that nobody can explain blocks a box for months.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Who has taken it.
    pub owner: Label,
    /// What for.
    pub reason: Label,
    /// When it was taken, by the box's clock.
    pub taken: UnixMillis,
    /// Its end.
    pub end: LeaseEnd,
    /// Names of the modules that it is about; empty: all.
    pub modules: Vec<Label>,
}

/// When a lease ends by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseEnd {
    /// At this time, by the box's clock.
    At(UnixMillis),
    /// With this run of the box's system.
    Restart(BootId),
}

impl Lease {
    /// Whether it counts now, by the box's clock. None counts for longer than `most` from when it was taken, and
    /// one from further ahead than that is a wrong clock's: a forgotten lease must not block a box for ever.
    #[must_use]
    pub fn in_force(&self, now: UnixMillis, boot: &BootId, most: Duration) -> bool {
        let lasts = match &self.end {
            LeaseEnd::At(end) => now < *end,
            LeaseEnd::Restart(during) => during == boot,
        };
        lasts && now < self.taken.plus(most) && self.taken <= now.plus(most)
    }

    fn is_about(&self, modules: &[Module]) -> bool {
        self.modules.is_empty() || modules.iter().any(|module| self.modules.contains(&module.name))
    }
}

/// A module's file is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// The module's name.
    pub module: Label,
    /// A process that runs it or has it loaded.
    pub pid: u32,
}

/// What is in use on the box.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InUse {
    /// When this was read, by the box's clock: leases know no other.
    pub read_at: UnixMillis,
    /// Leases that are there, whether they still count or not.
    pub leases: Vec<Lease>,
    /// Modules that run.
    pub running: Vec<Running>,
}

/// What is about to be done to the modules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Before {
    /// The script's `pre`, which stops residents.
    #[n(0)]
    Pre,
    /// The switch of the files.
    #[n(1)]
    Switch,
}

/// The first thing that is in the way, leases first.
pub(crate) fn hindrance(
    modules: &[Module],
    before: Before,
    found: &InUse,
    boot: &BootId,
    lease_max: Duration,
) -> Option<Hindrance> {
    let held =
        found.leases.iter().find(|l| l.in_force(found.read_at, boot, lease_max) && l.is_about(modules));
    if let Some(lease) = held {
        let about = Label::lossy(&format!("{}: {}", lease.owner, lease.reason));
        return Some(Hindrance { reason: WaitReason::Leased, about: Some(about) });
    }
    let kind_of = |name: &Label| modules.iter().find(|m| m.name == *name).map(|m| m.kind);
    found.running.iter().find_map(|running| {
        let verb = match (kind_of(&running.module)?, before) {
            // It is for `pre` to stop residents, and with them the users of libraries.
            (ModuleKind::Resident | ModuleKind::Library, Before::Pre) => return None,
            (ModuleKind::Resident, Before::Switch) | (ModuleKind::OnDemand, _) => "runs as",
            (ModuleKind::Library, Before::Switch) => "is used by",
            // A file that is read may be replaced: its reader keeps the old one. An agent replaces itself.
            (ModuleKind::Script | ModuleKind::Data | ModuleKind::Agent | ModuleKind::Firmware, _) => {
                return None;
            }
        };
        let about = Label::lossy(&format!("{} {verb} process {}", running.module, running.pid));
        Some(Hindrance { reason: WaitReason::ModuleRunning, about: Some(about) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::{Digest, ModulePath};

    const HOUR: Duration = Duration::from_secs(3_600);
    const NOW: UnixMillis = UnixMillis(1_750_000_000_000);

    fn boot(name: &str) -> BootId {
        BootId(Label::lossy(name))
    }

    fn lease(end: LeaseEnd) -> Lease {
        let text = Label::lossy;
        Lease { owner: text("billing"), reason: text("metering run"), taken: NOW, end, modules: vec![] }
    }

    fn module(name: &str, kind: ModuleKind) -> Module {
        Module {
            name: Label::lossy(name),
            version: Label::lossy("1"),
            date: Label::lossy("2026-01-01"),
            path: ModulePath::parse(name).unwrap(),
            mode: 0o755,
            bytes: 1,
            digest: Digest::of(b"x"),
            kind,
        }
    }

    #[test]
    fn a_lease_counts_until_its_end_and_never_longer_than_the_box_allows() {
        let counts = |lease: &Lease, at: UnixMillis| lease.in_force(at, &boot("a"), HOUR * 24);
        let short = lease(LeaseEnd::At(NOW.plus(HOUR)));
        assert!(counts(&short, NOW) && !counts(&short, NOW.plus(HOUR)));
        let forgotten = lease(LeaseEnd::At(NOW.plus(HOUR * 24 * 365)));
        assert!(counts(&forgotten, NOW.plus(HOUR * 23)) && !counts(&forgotten, NOW.plus(HOUR * 24)));
        // The clock was set back by an hour, and by years.
        assert!(counts(&forgotten, NOW.minus(HOUR)) && !counts(&forgotten, NOW.minus(HOUR * 24 * 365)));
    }

    #[test]
    fn a_lease_until_the_restart_is_void_in_the_next_run_of_the_box() {
        let lease = lease(LeaseEnd::Restart(boot("a")));
        assert!(lease.in_force(NOW, &boot("a"), HOUR));
        assert!(!lease.in_force(NOW, &boot("b"), HOUR));
        assert!(!lease.in_force(NOW.plus(HOUR), &boot("a"), HOUR));
    }

    #[test]
    fn a_lease_is_about_the_modules_that_it_names_or_all() {
        let modules = [module("abcd", ModuleKind::Data)];
        let found = |names: &[&str]| InUse {
            read_at: NOW,
            leases: vec![Lease {
                modules: names.iter().map(|name| Label::lossy(name)).collect(),
                ..lease(LeaseEnd::At(NOW.plus(HOUR)))
            }],
            running: vec![],
        };
        let held = |names: &[&str]| hindrance(&modules, Before::Pre, &found(names), &boot("a"), HOUR);
        assert_eq!(held(&[]).unwrap().to_string(), "a lease is held (billing: metering run)");
        assert!(held(&["other", "abcd"]).is_some());
        assert_eq!(held(&["other"]), None);
    }

    #[test]
    fn what_runs_is_in_the_way_by_its_kind_and_by_what_comes_next() {
        use ModuleKind::{Agent, Data, Firmware, Library, OnDemand, Resident, Script};
        for (kind, pre, switch) in [
            (Resident, false, true),
            (OnDemand, true, true),
            (Library, false, true),
            (Script, false, false),
            (Data, false, false),
            (Agent, false, false),
            (Firmware, false, false),
        ] {
            let modules = [module("abcd", kind)];
            let running = vec![Running { module: Label::lossy("abcd"), pid: 12 }];
            let found = InUse { read_at: NOW, leases: vec![], running };
            let at = |before| hindrance(&modules, before, &found, &boot("a"), HOUR).is_some();
            assert_eq!((at(Before::Pre), at(Before::Switch)), (pre, switch), "{kind}");
        }
    }
}
