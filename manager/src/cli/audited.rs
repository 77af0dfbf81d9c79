//! How a command changes the store: with the rows of the audit log that say what a person has done, in one transaction. Commands
//! have no other way to write, which `house.rs` checks.

use mailfleet::store::{Store, StoreError, Tx, TxResult};
use mailfleet::system::{now, who};
use shared::AgentId;

use super::show;

/// Agents named in one row.
const NAMED: usize = 20;

/// What was done, a sentence for each thing; empty: nothing was.
pub(crate) type Deeds = Vec<String>;

/// Changes the store by a person's command.
///
/// # Errors
/// The database's, or a bad row; nothing is changed then.
pub(crate) fn change<T>(
    store: &mut Store,
    work: impl FnOnce(&Tx<'_>) -> TxResult<(T, Deeds)>,
) -> Result<T, StoreError> {
    store.write(|tx| {
        let (value, deeds) = work(tx)?;
        if !deeds.is_empty() {
            let (at, who) = (now(), who());
            deeds.iter().try_for_each(|deed| tx.audit(at, &who, deed))?;
        }
        Ok(value)
    })
}

/// Writes down what changes something else than the store.
///
/// # Errors
/// The database's.
pub(crate) fn note(store: &mut Store, deed: String) -> Result<(), StoreError> {
    change(store, |_| Ok(((), vec![deed])))
}

/// How many agents, and which, as far as there is room.
pub(crate) fn named(agents: &[AgentId]) -> String {
    let mut names: Vec<&str> = agents.iter().take(NAMED).map(AgentId::as_str).collect();
    if agents.len() > NAMED {
        names.push("…");
    }
    format!("{} ({})", show::count(agents.len(), "agent"), names.join(" "))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_few_agents_are_named_and_many_are_counted() {
        let agents =
            |count| (1..=count).map(|n| AgentId::parse(&format!("A{n}")).unwrap()).collect::<Vec<_>>();
        assert_eq!(named(&agents(1)), "1 agent (A1)");
        assert_eq!(named(&agents(2)), "2 agents (A1 A2)");
        let many = named(&agents(1_000));
        assert!(many.starts_with("1000 agents (A1 A2 ") && many.ends_with(" A20 …)"), "{many}");
    }
}
