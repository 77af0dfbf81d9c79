//! Who takes part: each device of the site against the catalogue and the plan (R3, R12, PROTOCOL 18.2). Whoever cannot is named, with the reason.

use std::collections::{BTreeMap, BTreeSet};

use shared::bundle::same_version;
use shared::device::{DeviceName, Identity};
use shared::limits::DEVICE_UPDATES_MAX_COUNT;
use shared::message::UpdateReason;
use shared::{Label, UnixMillis};

use super::{Catalogue, Known, Stage, Update, Updates};
use crate::agent::AgentCore;

/// A type of firmware that a device is to have, or why it is not.
struct Wanted {
    kind: Label,
    image: Option<u32>,
    old: Option<Label>,
    verdict: Result<(), UpdateReason>,
}

impl Wanted {
    /// The device takes no part at all.
    fn none(reason: UpdateReason) -> Self {
        Self { kind: Label::default(), image: None, old: None, verdict: Err(reason) }
    }
}

impl AgentCore {
    /// Another catalogue takes the old one's place when nothing is under way that belongs to it (PROTOCOL 18.11).
    pub(crate) fn swap_catalogue(&mut self, now: UnixMillis) {
        let installed = self.state.installed.as_ref().and_then(|installed| installed.catalogue.as_ref());
        let updates = &mut self.state.updates;
        if installed == updates.catalogue.as_ref() || updates.list.iter().any(|u| u.stage.is_under_way()) {
            return;
        }
        updates.catalogue = installed.cloned();
        let identities = &self.known.identities;
        // What became of the last transfer nobody knows, whatever comes now: it goes on waiting for the manager's word.
        updates.list.retain_mut(|update| {
            let image = installed.and_then(|catalogue| catalogue.for_update(update, identities));
            update.image = image;
            update.told = false;
            if let Some(why) = update.doubt.clone() {
                update.enter(now, Stage::Unknown(why));
            }
            update.doubt.is_some() && image.is_some()
        });
        let in_force = updates.catalogue.as_ref().map(|catalogue| catalogue.bundle);
        for kept in updates.plans.iter_mut().filter(|kept| Some(kept.plan.bundle) == in_force) {
            kept.answered = false;
        }
        updates.follow_plan(now);
        self.known.all_stale = true;
        self.dirty = true;
    }

    /// Looks again at devices of which something has changed.
    pub(crate) fn survey(&mut self, now: UnixMillis) {
        let Some(devices) = self.known.devices.as_ref().filter(|_| self.known.open.is_some()) else { return };
        let stale = std::mem::take(&mut self.known.stale);
        let names: Vec<DeviceName> = if std::mem::take(&mut self.known.all_stale) {
            let planned = self.state.updates.plan().into_iter().flat_map(|kept| kept.plan.devices.keys());
            let listed = self.state.updates.list.iter().map(|update| &update.device);
            let all: BTreeSet<&DeviceName> = devices.iter().chain(planned).chain(listed).collect();
            all.into_iter().cloned().collect()
        } else {
            stale.into_iter().collect()
        };
        for name in names {
            self.dirty |= self.state.updates.survey_one(now, &name, &self.known);
        }
    }
}

impl Updates {
    /// True if something has changed.
    fn survey_one(&mut self, now: UnixMillis, name: &DeviceName, known: &Known) -> bool {
        let identity = known.identities.get(name);
        let mut wanted = match self.wanted(name, known) {
            Some(wanted) => wanted,
            // It has not said yet what it is: what is known of it stays.
            None if self.list.iter().any(|update| update.device == *name && update.image.is_some()) => {
                return false;
            }
            None => vec![Wanted::none(UpdateReason::NotSeen)],
        };
        let (mut changed, mut lost) = (false, false);
        self.list.retain_mut(|update| {
            if update.device != *name {
                return true;
            }
            let at = wanted.iter().position(|one| one.kind == update.kind);
            let found = at.map(|at| wanted.remove(at));
            if !update.stage.waits() && !matches!(update.stage, Stage::NotRegistered(_)) {
                return true;
            }
            let Some(found) = found else {
                if let Some(why) = update.doubt.clone() {
                    changed |= update.stage.waits();
                    update.enter(now, Stage::Unknown(why));
                    return true;
                }
                (changed, lost) = (true, true);
                return false;
            };
            let before = update.clone();
            update.review(now, found);
            changed |= *update != before;
            true
        });
        for one in wanted {
            changed = true;
            self.add(now, name, identity, one);
        }
        if lost && let Some(bundle) = self.catalogue.as_ref().map(|catalogue| catalogue.bundle) {
            let in_force = self.plans.iter_mut().filter(|kept| kept.plan.bundle == bundle);
            in_force.for_each(|kept| kept.answered = false);
        }
        self.list.sort_by(|a, b| (&a.device, a.image, &a.kind).cmp(&(&b.device, b.image, &b.kind)));
        changed
    }

    /// What a device is to have. `None`: nobody knows yet what it is.
    fn wanted(&self, name: &DeviceName, known: &Known) -> Option<Vec<Wanted>> {
        let (Some(kept), Some(catalogue)) = (self.plan(), &self.catalogue) else { return Some(vec![]) };
        if kept.plan.choice(name).is_none() {
            return Some(vec![]);
        }
        let is_named = kept.plan.devices.contains_key(name);
        let only_if_named = |reason| Some(is_named.then(|| Wanted::none(reason)).into_iter().collect());
        if !known.devices.as_ref().is_some_and(|devices| devices.contains(name)) {
            return only_if_named(UpdateReason::UnknownDevice);
        }
        let identity = known.identities.get(name)?;
        let images = catalogue.images_for(identity);
        if images.is_empty() {
            return only_if_named(UpdateReason::NoFirmware);
        }
        if !known.open.as_ref().is_some_and(|open| open.contains(name)) {
            return Some(vec![Wanted::none(UpdateReason::NotAllowed)]);
        }
        let wanted = images.into_iter().filter_map(|at| {
            let entry = &catalogue.images.get(usize::try_from(at).ok()?)?.entry;
            let old = entry.shown_by(identity).cloned();
            let verdict = match &old {
                None => Err(UpdateReason::NoVersion),
                Some(old) if same_version(old, &entry.version) => Err(UpdateReason::HasIt),
                Some(old) if !entry.goes_over(old) => Err(UpdateReason::NotOverThis),
                Some(_) => Ok(()),
            };
            Some(Wanted { kind: entry.kind.clone(), image: Some(at), old, verdict })
        });
        Some(wanted.collect())
    }

    fn add(&mut self, now: UnixMillis, name: &DeviceName, identity: Option<&Identity>, wanted: Wanted) {
        let room = DEVICE_UPDATES_MAX_COUNT.saturating_sub(self.list.len());
        let wanted = match room {
            0 => return,
            1 => Wanted::none(UpdateReason::TooMany),
            _ => wanted,
        };
        let of =
            |field: fn(&Identity) -> &Option<Label>| identity.and_then(|identity| field(identity).clone());
        let allowed =
            self.plan().and_then(|kept| kept.plan.choice(name)).unwrap_or_default().transfers_allowed;
        self.list.push(Update {
            device: name.clone(),
            kind: wanted.kind,
            image: wanted.image,
            vendor: of(|identity| &identity.vendor),
            model: of(|identity| &identity.model),
            serial: of(|identity| &identity.serial),
            old: wanted.old,
            stage: wanted.verdict.map_or_else(Stage::NotRegistered, |()| Stage::Queued(None)),
            since: now,
            transfers: 0,
            tries: 0,
            allowed,
            put_off: None,
            began: None,
            sent_bytes: 0,
            rate: None,
            told: false,
            doubt: None,
        });
    }
}

impl Update {
    /// It has not begun: what is found now counts.
    fn review(&mut self, now: UnixMillis, found: Wanted) {
        self.image = found.image;
        match found.verdict {
            Ok(()) => {
                self.old = found.old;
                if matches!(self.stage, Stage::NotRegistered(_)) {
                    self.enter(now, Stage::Queued(None));
                }
            }
            // It has come by what was sent, and shows only now.
            Err(UpdateReason::HasIt) if self.transfers > 0 => self.enter(now, Stage::Done),
            Err(reason) => self.enter(now, Stage::NotRegistered(reason)),
        }
    }
}

impl Catalogue {
    /// The images for a device: of each type the first that is for it (PROTOCOL 18.1).
    fn images_for(&self, identity: &Identity) -> Vec<u32> {
        let mut kinds: Vec<String> = Vec::new();
        let mut images = Vec::new();
        for (at, image) in (0u32..).zip(&self.images) {
            let kind = image.entry.kind.as_str().to_lowercase();
            if image.entry.is_for(identity) && !kinds.contains(&kind) {
                kinds.push(kind);
                images.push(at);
            }
        }
        images
    }

    /// The image that an update of another catalogue would have here.
    fn for_update(&self, update: &Update, identities: &BTreeMap<DeviceName, Identity>) -> Option<u32> {
        let told =
            Identity { vendor: update.vendor.clone(), model: update.model.clone(), ..Identity::default() };
        let identity = identities.get(&update.device).unwrap_or(&told);
        let of_kind = |at: &u32| {
            let image = usize::try_from(*at).ok().and_then(|at| self.images.get(at));
            image.is_some_and(|image| image.entry.kind == update.kind)
        };
        self.images_for(identity).into_iter().find(of_kind)
    }
}
