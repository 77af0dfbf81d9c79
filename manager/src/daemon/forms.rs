//! In which form a bundle goes to whom, and which sealed bodies there are for that. Who gets a delta is the core's to decide.

use std::collections::{BTreeMap, BTreeSet};

use manager_core::{Action, Campaign};
use shared::AgentId;
use shared::bundle::Form;

use crate::store::{Tx, TxResult};

/// The forms of a campaign's bundle.
pub(super) struct Forms {
    bodies: BTreeMap<Form, i64>,
    /// Agents that have reported what a delta was made for.
    fitting: BTreeMap<AgentId, u8>,
}

impl Forms {
    pub(super) fn of(tx: &Tx<'_>, campaign: &Campaign, bodies: BTreeMap<Form, i64>) -> TxResult<Self> {
        Ok(Self { bodies, fitting: tx.fitting_deltas(campaign)? })
    }

    fn form(&self, campaign: &Campaign, agent: &AgentId) -> Form {
        let fitting = self.fitting.get(agent).copied();
        campaign.targets.get(agent).map_or(Form::Full, |target| target.form(fitting))
    }

    /// Forms that are to be mailed and are not sealed.
    pub(super) fn missing(&self, campaign: &Campaign, action: &Action) -> BTreeSet<Form> {
        let Action::Install { agents } = action else { return BTreeSet::new() };
        let forms = agents.iter().map(|agent| self.form(campaign, agent));
        forms.filter(|form| !self.bodies.contains_key(form)).collect()
    }

    /// The action without agents whose form is not sealed; `None`: nobody is left.
    pub(super) fn sealed(&self, campaign: &Campaign, action: Action) -> Option<Action> {
        let Action::Install { mut agents } = action else { return Some(action) };
        agents.retain(|agent| self.bodies.contains_key(&self.form(campaign, agent)));
        (!agents.is_empty()).then_some(Action::Install { agents })
    }

    /// The agents by what is mailed to them.
    pub(super) fn groups(
        &self,
        campaign: &Campaign,
        agents: Vec<AgentId>,
    ) -> BTreeMap<(Form, i64), Vec<AgentId>> {
        let mut groups: BTreeMap<(Form, i64), Vec<AgentId>> = BTreeMap::new();
        for agent in agents {
            let form = self.form(campaign, &agent);
            if let Some(body) = self.bodies.get(&form) {
                groups.entry((form, *body)).or_default().push(agent);
            }
        }
        groups
    }
}
