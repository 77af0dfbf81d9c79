//! Tick: plans each live campaign and carries the plan out, in one transaction. Takes no hint: it reads the
//! store, so running it twice does nothing the second time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use manager_core::trust::heartbeat_due;
use manager_core::{CampaignId, plan};
use shared::UnixMillis;
use shared::bundle::Form;
use shared::limits::ORDER_LIFE_MAX;
use shared::message::Order;
use shared::time::format_duration;

use super::answers::{acknowledge, write_alerts};
use super::carry::carry_out;
use super::devices_in::{LEVELS_KEPT, day};
use super::forms::Forms;
use super::seal::{Batch, bundle_body, heartbeat, queue_batches, small_body};
use super::{DaemonError, Shared, device_plans, rekey};
use crate::store::{NewBody, OrderKind, Store, Tx, TxResult};
use crate::system::now;

/// Expired orders are kept for late answers and for people.
const KEEP_EXPIRED: Duration = Duration::from_secs(30 * 24 * 3600);
const FORGET_EVERY: Duration = Duration::from_secs(24 * 3600);

/// Keys are asked for in weeks and years; the look goes through all agents.
const LOOK_AT_KEYS_EVERY: Duration = Duration::from_secs(3600);

/// The loop's hands.
pub(super) struct Tick {
    shared: Arc<Shared>,
    store: Store,
    /// When old orders were forgotten last.
    forgot_at: Option<UnixMillis>,
    /// When the age of the agents' keys was looked at last.
    looked_at_keys: Option<UnixMillis>,
}

/// What a pass over the campaigns did.
#[derive(Debug, Default)]
pub(super) struct Ticked {
    /// Time until something is due by itself.
    pub(super) next: Option<Duration>,
    /// Whether anything was due.
    pub(super) acted: bool,
    /// What did not work: a bundle file that cannot be read, a disk that is full.
    pub(super) failures: Vec<DaemonError>,
}

impl Tick {
    pub(super) fn new(shared: &Arc<Shared>) -> Result<Self, DaemonError> {
        let store = Store::open(&shared.home.store_path())?;
        Ok(Self { shared: Arc::clone(shared), store, forgot_at: None, looked_at_keys: None })
    }

    /// Plans all live campaigns and does what is due. A campaign that cannot go on holds up no other.
    pub(super) fn pass(&mut self) -> Result<Ticked, DaemonError> {
        let now = now();
        if self.forgot_at.is_none_or(|at| now.since(at) > FORGET_EVERY) {
            let keep = self.shared.config.keep_readings;
            self.store.write(|tx| forget(tx, keep, now))?;
            self.forgot_at = Some(now);
        }
        let answered = self.answer(now)?;
        if self.shared.config.listens_only {
            return Ok(Ticked { acted: answered, ..Ticked::default() });
        }
        let (mut next, beaten) = self.beat(now)?;
        let asked = self.ask_for_keys(now)?;
        next = [next, self.store.read(|tx| tx.next_owed())?].into_iter().flatten().min();
        let mut ticked = Ticked { acted: beaten || asked || answered, ..Ticked::default() };
        for id in self.store.read(|tx| tx.live_campaigns())? {
            match self.seal_bundle(id, now) {
                Ok(()) => {}
                Err(err @ DaemonError::Store(_)) => return Err(err),
                // Its other orders (queries, withdrawals) need no bundle, so the campaign is planned all the same.
                Err(err) => ticked.failures.push(err),
            }
            let shared = &self.shared;
            let (wake, acted) = self.store.write(|tx| carry_out(tx, shared, id, now))?;
            next = [next, wake].into_iter().flatten().min();
            ticked.acted |= acted;
        }
        let (planned, due) = self.plan_devices(now)?;
        ticked.acted |= planned;
        next = [next, due].into_iter().flatten().min();
        ticked.next = next.map(|at| at.since(now));
        Ok(ticked)
    }

    /// Mails the plans for devices that are due. Gives when the next one is.
    fn plan_devices(&mut self, now: UnixMillis) -> Result<(bool, Option<UnixMillis>), DaemonError> {
        let mut planned = false;
        while !self.store.read(|tx| tx.due_plans(now, 1))?.is_empty() {
            let shared = &self.shared;
            planned |= self.store.write(|tx| device_plans::mail_plans(tx, shared, now))?;
        }
        Ok((planned, self.store.read(|tx| tx.next_due_plan(now))?))
    }

    /// Says what is owed to agents, and writes the alerts that are due. Looks first: a write that has nothing to do would
    /// wait for the other loops and wake the disk.
    fn answer(&mut self, now: UnixMillis) -> Result<bool, DaemonError> {
        let due = self.store.read(|tx| {
            let owed = tx.next_owed()?.is_some_and(|at| at <= now);
            Ok(owed || !tx.untold()?.is_empty())
        })?;
        if !due {
            return Ok(false);
        }
        let listens_only = self.shared.config.listens_only;
        Ok(self.store.write(|tx| {
            let mut answered = false;
            // PROTOCOL 8.7: agents hear of the manager that they obey, and of no other.
            if listens_only {
                tx.owe_nothing()?;
                return write_alerts(tx, now);
            }
            // More than one message holds may be owed to an agent.
            while acknowledge(tx, now)? {
                answered = true;
            }
            Ok(write_alerts(tx, now)? || answered)
        })?)
    }

    /// What there is to do, in a line.
    pub(super) fn summary(&mut self) -> Result<String, DaemonError> {
        let (campaigns, agents) =
            self.store.read(|tx| Ok((tx.live_campaigns()?.len(), tx.queued_count()?)))?;
        let poll = format_duration(self.shared.config.poll);
        Ok(format!("polling every {poll}, {campaigns} campaigns under way, mail for {agents} agents waits"))
    }

    /// Mails a heartbeat to every enrolled agent if one is due (PROTOCOL 12.1). Gives when the next one is.
    fn beat(&mut self, now: UnixMillis) -> Result<(Option<UnixMillis>, bool), DaemonError> {
        let config = &self.shared.config;
        let (Some(every), Some(heartbeat)) = (config.heartbeat, heartbeat(config)) else {
            return Ok((None, false));
        };
        let Some(last) = self.store.read(|tx| tx.last_heartbeat())? else {
            // The first period begins: who enrols in it hears of the manager by that.
            self.store.write(|tx| tx.heartbeat_made(now))?;
            return Ok((Some(now.plus(every)), false));
        };
        let due = heartbeat_due(last, every, now);
        if due > now {
            return Ok((Some(due), false));
        }
        let made = self.store.write(|tx| {
            let agents = tx.enrolled_agents()?;
            if agents.is_empty() {
                return Ok(false);
            }
            // One that waits for the relay says less than this one.
            tx.drop_queued_heartbeats()?;
            tx.heartbeat_made(now)?;
            let body = tx.add_body(&small_body(&Order::Heartbeat(heartbeat)))?;
            let life = every.saturating_mul(2).min(ORDER_LIFE_MAX);
            let batch = Batch { body, kind: OrderKind::Heartbeat, campaign: None, now, life };
            queue_batches(tx, &batch, &agents, config.recipients_per_mail)?;
            Ok(true)
        })?;
        Ok((made.then(|| now.plus(every)), made))
    }

    /// Asks agents for new keys, if it is time to. True if it has.
    fn ask_for_keys(&mut self, now: UnixMillis) -> Result<bool, DaemonError> {
        if self.looked_at_keys.is_some_and(|at| at <= now && now.since(at) < LOOK_AT_KEYS_EVERY) {
            return Ok(false);
        }
        self.looked_at_keys = Some(now);
        let asked = self.store.write(|tx| rekey::ask_for_keys(tx, &self.shared.config, now))?;
        if asked > 0 {
            tracing::info!(agents = asked, "asked for new keys");
        }
        Ok(asked > 0)
    }

    /// Makes the sealed bodies of a campaign's orders that it needs and does not have: outside the transaction
    /// that uses them, because it can take a while.
    fn seal_bundle(&mut self, id: CampaignId, now: UnixMillis) -> Result<(), DaemonError> {
        let needed = self.store.read(|tx| {
            let Some(campaign) = tx.campaign(id)? else { return Ok(None) };
            let (bodies, has_deltas) =
                (tx.campaign_bodies(id)?, !tx.deltas(campaign.bundle.digest)?.is_empty());
            if !has_deltas && !bodies.is_empty() {
                return Ok(None);
            }
            let due = plan(&campaign, &tx.fleet(&campaign)?, now);
            let forms = Forms::of(tx, &campaign, bodies)?;
            let missing: BTreeSet<Form> =
                due.actions.iter().flat_map(|action| forms.missing(&campaign, action)).collect();
            let bundle = if missing.is_empty() { None } else { tx.bundle(campaign.bundle.digest)? };
            Ok(bundle.map(|bundle| (bundle, campaign, missing, has_deltas)))
        })?;
        let Some((bundle, campaign, missing, has_deltas)) = needed else { return Ok(()) };
        let scheduled = campaign.rollout.times.is_scheduled();
        for form in missing {
            let cut = has_deltas.then_some(form);
            let body: NewBody = bundle_body(&self.shared.home, &bundle, &campaign.bundle, scheduled, cut)?;
            self.store.write(|tx| {
                let body = tx.add_body(&body)?;
                tx.add_campaign_body(id, form, body)
            })?;
        }
        Ok(())
    }
}

/// Forgets what is too old to be of use. Faults and readings stay as long as the operator says.
fn forget(tx: &Tx<'_>, keep: Duration, now: UnixMillis) -> TxResult<()> {
    tx.forget_former_keys(now)?;
    tx.forget_orders(now.minus(KEEP_EXPIRED))?;
    tx.forget_alerts(now.minus(KEEP_EXPIRED))?;
    tx.forget_readings(now.minus(keep))?;
    tx.forget_faults(now.minus(keep))?;
    tx.forget_levels(day(now.minus(LEVELS_KEPT)))
}
