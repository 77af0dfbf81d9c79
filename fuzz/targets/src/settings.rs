//! What an operator hands in: configurations, bundle descriptions, lists of agents, expressions; and what an agent
//! reads from its own disk: its state, and the leases that other programs of the box take.

use std::collections::BTreeSet;
use std::path::Path;

use agent_core::{
    AgentCore, BillDays, BootId, Event, LEASE_MAX_DEFAULT, LeaseEnd, Profile, Program, Rules, State,
};
use mailfleet::config::Config;
use mailfleet::import;
use mailfleet_agent::ledger::{self, Unreadable};
use mailfleet_agent::{lease, wish};
use manager_core::select::{Facts, Selection};
use shared::bundle::BundleSpec;
use shared::limits::SLOTS_MAX_COUNT;
use shared::{AgentId, EnvelopeId, Label, UnixMillis};

use crate::harness::{harmless, told, told_operator};
use crate::texts::stays_below;

/// The CSV of `agent import`.
pub(crate) fn agents_csv(data: &[u8]) -> bool {
    match import::read(data) {
        Ok(rows) => {
            let ids: BTreeSet<_> = rows.iter().map(|(_, row)| &row.id).collect();
            assert_eq!(ids.len(), rows.len(), "two agents of one ID");
            !rows.is_empty()
        }
        Err(errors) => {
            assert!(!errors.is_empty(), "refused without a reason");
            assert!(errors.iter().all(|err| !err.why.is_empty() && err.line > 0), "{errors:?}");
            false
        }
    }
}

struct Agent;

impl Facts for Agent {
    fn values(&self, key: &str) -> Vec<&str> {
        match key {
            "id" => vec!["A0007"],
            "class" => vec!["office-gateway", "pilot"],
            "site" => vec!["Tokyo West"],
            _ => vec![],
        }
    }
}

/// The expression of `--where`.
pub(crate) fn selection(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    match Selection::parse(&text) {
        Ok(selection) => {
            // A longer or deeper text may be over a limit.
            if let Ok(opposite) = Selection::parse(&format!("not ({text})")) {
                assert_ne!(selection.selects(&Agent), opposite.selects(&Agent), "\"not\" turns it round");
            }
            true
        }
        Err(err) => {
            told_operator(&err);
            assert!(err.position >= 1 && err.position <= text.chars().count().saturating_add(1), "{err}");
            false
        }
    }
}

/// The state of an agent; its checksum is put right.
pub(crate) fn agent_state(data: &[u8]) -> bool {
    if let Err(Unreadable::Because(why)) = ledger::decode(data) {
        assert!(!why.is_empty());
    }
    match ledger::decode(&ledger::summed(data)) {
        Ok(state) => {
            let again = ledger::decode(&ledger::summed(&state.encode()));
            assert_eq!(again.ok().as_ref(), Some(&state), "a state reads back");
            restarted(state);
            true
        }
        Err(Unreadable::Later(err)) => {
            told(&err);
            false
        }
        Err(Unreadable::Because(why)) => {
            assert!(!why.is_empty());
            false
        }
    }
}

/// An agent goes on from any state that it can read, at whatever time its clock shows.
fn restarted(state: State) {
    let Ok(agent) = AgentId::parse("A1") else { return };
    let floor = state.fresh.clock_floor();
    // One that wants all that its operator can want: bills, too, are worked out from any time.
    let bill = BillDays { days: BTreeSet::from([1, 31]), utc_offset_minutes: -720 };
    let profile = Profile { agent, classes: Vec::new(), rules: Rules::default(), counters_every: None, bill };
    let mut core = AgentCore::new(profile, state);
    let mut effects = Vec::new();
    // Another run of the box's system than that in which the seeds wait for its restart.
    core.step(
        floor,
        Event::Started { recovered: true, boot: boot("second"), program: Program::default() },
        &mut effects,
    );
    core.step(UnixMillis(i64::MAX), Event::Tick, &mut effects);
    let wake = core.next_wake();
    let again = ledger::decode(&ledger::summed(&core.state().encode()));
    assert_eq!(again.ok().as_ref(), Some(core.state()), "what it made of it reads back");
    assert!(wake.is_none_or(|(_, why)| !why.is_empty()));
}

fn boot(name: &str) -> BootId {
    BootId(Label::lossy(name))
}

/// When the lease of each input was taken.
const TAKEN: UnixMillis = UnixMillis(1_795_000_000_000);

/// A lease, which any program of the box may write.
pub(crate) fn lease(data: &[u8]) -> bool {
    let lease = match lease::parse("billing", &String::from_utf8_lossy(data), TAKEN) {
        Ok(lease) => lease,
        Err(err) => {
            told(&err);
            return false;
        }
    };
    assert_eq!((lease.owner.as_str(), lease.taken), ("billing", TAKEN));
    harmless(lease.reason.as_str());
    let counts = |at| lease.in_force(at, &boot("first"), LEASE_MAX_DEFAULT);
    assert!(!counts(TAKEN.plus(LEASE_MAX_DEFAULT)), "no lease counts for longer than the box allows");
    match lease.end {
        LeaseEnd::At(end) => assert!(!counts(end), "a lease is over at its end"),
        LeaseEnd::Restart(_) => assert!(
            !lease.in_force(TAKEN, &boot("first"), LEASE_MAX_DEFAULT)
                || !lease.in_force(TAKEN, &boot("second"), LEASE_MAX_DEFAULT),
            "a lease is of one run of the box"
        ),
    }
    true
}

/// A wish of a person at the site.
pub(crate) fn wish(data: &[u8]) -> bool {
    let order = EnvelopeId([7; 16]);
    match wish::parse(order, &String::from_utf8_lossy(data)) {
        Ok(wish) => {
            assert_eq!(wish.order, order);
            harmless(wish.by.as_str());
            true
        }
        Err(err) => {
            told(&err);
            false
        }
    }
}

/// `agent.toml`.
pub(crate) fn agent_toml(data: &[u8]) -> bool {
    match mailfleet_agent::config::parse(Path::new("agent.toml"), &String::from_utf8_lossy(data)) {
        Ok(config) => {
            assert!(config.root.is_absolute() && !config.poll.is_zero() && !config.script_timeout.is_zero());
            assert!(config.restart_command.first().is_none_or(|program| !program.is_empty()));
            assert_eq!(config.lease_mode & 0o700, 0o700, "an agent can use its own folder");
            true
        }
        Err(err) => {
            told_operator(&err);
            false
        }
    }
}

/// `manager.toml`.
pub(crate) fn manager_toml(data: &[u8]) -> bool {
    match Config::parse(Path::new("manager.toml"), &String::from_utf8_lossy(data)) {
        Ok(config) => {
            assert!((1..=SLOTS_MAX_COUNT).contains(&config.recipients_per_mail));
            assert!(!config.poll.is_zero() && config.mails_per_minute > 0);
            true
        }
        Err(err) => {
            told_operator(&err);
            false
        }
    }
}

/// `bundle.toml`.
pub(crate) fn bundle_toml(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    let lines = text.lines().count().saturating_add(1);
    match BundleSpec::parse(&text) {
        Ok(spec) => {
            let names: BTreeSet<_> = spec.modules.iter().map(|module| &module.name).collect();
            assert!(!names.is_empty() && names.len() == spec.modules.len());
            for module in &spec.modules {
                stays_below(module.path.as_str());
                stays_below(module.file.path.as_str());
                assert!((1..=lines).contains(&module.file.line));
            }
            true
        }
        Err(err) => {
            told_operator(&err);
            assert!((1..=lines).contains(&err.line), "line {} of {lines}", err.line);
            false
        }
    }
}
