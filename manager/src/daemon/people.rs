//! Letters between the manager and people: questions to administrators and what their replies do (N8), what is done (N5), and what the
//! operator and the vendor have to know. Everything is in the store before it is said.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use mailio::Disposal;
use manager_core::consent::{Answer, Language, token_in, understand};
use manager_core::letter::{Kind, Letter, Template};
use manager_core::rollout::{ConsentTerms, HoldReason};
use manager_core::window::Zone;
use manager_core::{Applied, Campaign, CampaignId, TargetEvent, TargetState, notice};
use shared::message::{Ended, Interval, Report};
use shared::{AgentId, Digest, MailAddress, UnixMillis};

use super::{Shared, carry};
use crate::store::{AgentRecord, ConsentRecord, Tx, TxResult};
use crate::system::{new_envelope_id, random};

/// A letter that could not be mailed for so long is given up; what it says stays in the store.
const LETTER_LIFE: Duration = Duration::from_secs(3 * 24 * 3600);

/// Boxes named in a letter.
const BOXES_MAX: usize = 50;

/// Characters of the names of sites in a subject.
const SITE_MAX_CHARS: usize = 40;

/// Scripts whose last words stand in a notice.
const OUTPUTS_MAX: usize = 5;

const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// What a letter is about: boxes of one administrator.
struct Party {
    admin: MailAddress,
    agents: Vec<AgentRecord>,
}

impl Party {
    /// These agents by their administrators and their language.
    fn of(tx: &Tx<'_>, agents: &[AgentId]) -> TxResult<Vec<Self>> {
        let mut parties: BTreeMap<(String, Language), Self> = BTreeMap::new();
        for agent in agents {
            let Some(record) = tx.agent(agent)? else { continue };
            let Some(admin) = record.admin.clone() else { continue };
            let key = (admin.as_str().to_ascii_lowercase(), record.terms.language);
            parties.entry(key).or_insert_with(|| Self { admin, agents: Vec::new() }).agents.push(record);
        }
        Ok(parties.into_values().collect())
    }

    fn language(&self) -> Language {
        self.agents.first().map_or_else(Language::default, |agent| agent.terms.language)
    }

    fn zone(&self) -> Zone {
        self.agents.first().map_or_else(Zone::utc, |agent| agent.terms.zone.clone())
    }

    fn sites(&self) -> String {
        let sites: BTreeSet<&str> =
            self.agents.iter().map(|agent| agent.site.as_str()).filter(|s| !s.is_empty()).collect();
        let first = sites.first().copied().unwrap_or(self.admin.domain());
        let more = sites.len().saturating_sub(1);
        let name: String = first.chars().take(SITE_MAX_CHARS).collect();
        if more == 0 { name } else { format!("{name} (+{more})") }
    }

    fn count(&self) -> String {
        match (self.language(), self.agents.len()) {
            (Language::Japanese, count) => format!("{count} 台"),
            (Language::English, 1) => "1 box".to_owned(),
            (Language::English, count) => format!("{count} boxes"),
        }
    }

    fn boxes(&self) -> String {
        let line = |agent: &AgentRecord| {
            let texts = [agent.id.as_str(), agent.site.as_str(), agent.note.as_str()];
            let texts: Vec<&str> = texts.into_iter().filter(|text| !text.is_empty()).collect();
            format!("    {}", texts.join(", "))
        };
        let mut lines: Vec<String> = self.agents.iter().take(BOXES_MAX).map(line).collect();
        let more = self.agents.len().saturating_sub(BOXES_MAX);
        if more > 0 {
            lines.push(format!("    (+{more})"));
        }
        lines.join("\n")
    }

    /// What every letter says.
    fn values(&self, campaign: &Campaign, notes: &str) -> BTreeMap<&'static str, String> {
        let nothing = match self.language() {
            Language::English => "(the vendor does not say)",
            Language::Japanese => "(記載なし)",
        };
        BTreeMap::from([
            ("version", campaign.bundle.software_version.to_string()),
            ("site", self.sites()),
            ("count", self.count()),
            ("boxes", self.boxes()),
            ("notes", if notes.is_empty() { nothing.to_owned() } else { notes.to_owned() }),
        ])
    }
}

/// The template of a letter: the user's, if it is there and right.
fn template(shared: &Shared, kind: Kind, language: Language) -> Option<Template> {
    let file = |end: &str| {
        let path = shared.home.dir().join("templates").join(format!(
            "{}.{}.{end}",
            kind.as_str(),
            language.as_str()
        ));
        fs::read_to_string(path).ok()
    };
    if let Some(text) = file("txt") {
        match Template::parse(kind, &text, file("html").as_deref()) {
            Ok(template) => return Some(template),
            Err(err) => {
                tracing::error!(letter = kind.as_str(), language = language.as_str(), %err, "a template in the folder templates is not right; the built-in one is used")
            }
        }
    }
    Template::built_in(kind, language).ok()
}

/// Asks the administrators of these agents, each once for all that is theirs.
pub(super) fn ask(
    tx: &Tx<'_>,
    shared: &Shared,
    campaign: &mut Campaign,
    agents: &[AgentId],
    now: UnixMillis,
) -> TxResult<()> {
    let Some(terms) = campaign.rollout.consent else { return Ok(()) };
    let words = tx.campaign_words(campaign.id)?;
    let bytes = tx.bundle(campaign.bundle.digest)?.map_or(0, |bundle| bundle.bytes);
    for party in Party::of(tx, agents)? {
        let Some(template) = template(shared, Kind::Consent, party.language()) else { continue };
        let token: String = random::<{ manager_core::consent::TOKEN_CHARS }>()
            .iter()
            .filter_map(|byte| BASE32.get(usize::from(byte & 31)).copied().map(char::from))
            .collect();
        let mut values = party.values(campaign, &words.notes);
        values.extend(question(campaign, &party, terms, &token, bytes, now));
        let until = now.plus(Duration::from_millis(terms.patience_ms));
        tx.add_consent(&ConsentRecord {
            token: Digest::of(token.as_bytes()),
            campaign: campaign.id,
            bundle: campaign.bundle.digest,
            admin: party.admin.clone(),
            zone: party.zone().as_str().to_owned(),
            asked_at: now,
            until,
            explained: false,
        })?;
        tx.add_letter(new_envelope_id(), &party.admin, &template.fill(&values), now, until)?;
        tx.log(
            now,
            "",
            &format!("campaign {}: {} was asked about {}", campaign.id, party.admin, party.count()),
        )?;
        for agent in &party.agents {
            campaign.apply(now, &agent.id, &TargetEvent::ConsentAsked);
        }
    }
    Ok(())
}

fn question(
    campaign: &Campaign,
    party: &Party,
    terms: ConsentTerms,
    token: &str,
    bytes: u64,
    now: UnixMillis,
) -> [(&'static str, String); 5] {
    let zone = party.zone();
    let until = now.plus(Duration::from_millis(terms.patience_ms));
    let later = until.plus(Duration::from_secs(7 * 24 * 3600));
    [
        ("size", size(bytes)),
        ("when", when(campaign, party, now)),
        ("deadline", zone.local(until)),
        ("later", zone.local(later).chars().take(10).collect()),
        ("token", format!("[mf-{token}]")),
    ]
}

fn size(bytes: u64) -> String {
    let kilobytes = bytes.div_ceil(1_000);
    if kilobytes < 1_000 { format!("{kilobytes} kB") } else { format!("{} MB", kilobytes.div_ceil(1_000)) }
}

/// When it would be installed, by the site's clock.
fn when(campaign: &Campaign, party: &Party, now: UnixMillis) -> String {
    let zone = party.zone();
    let times = campaign.rollout.times;
    let begin = times.install_at.or(times.send_at).unwrap_or(now).max(now);
    let until = begin.plus(campaign.settings.order_life);
    let open = party.agents.first().and_then(|agent| {
        let intervals = carry::intervals(campaign, agent, begin, until)?;
        intervals.first().copied()
    });
    match (party.language(), open) {
        (_, Some(Interval { from, until })) => format!("{} – {}", zone.local(from), zone.local(until)),
        (Language::English, None) if begin > now => format!("from {} on", zone.local(begin)),
        (Language::English, None) => "as soon as you have agreed".to_owned(),
        (Language::Japanese, None) if begin > now => format!("{} 以降", zone.local(begin)),
        (Language::Japanese, None) => "ご同意後すぐ".to_owned(),
    }
}

/// A mail of a person in which a token stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) from: Option<MailAddress>,
    pub(super) subject: String,
    pub(super) text: String,
}

/// What an administrator wants.
pub(super) fn take_reply(tx: &Tx<'_>, shared: &Shared, reply: &Reply, now: UnixMillis) -> TxResult<Disposal> {
    let Some(token) = token_in(&reply.subject) else { return Ok(Disposal::Junk) };
    let token = Digest::of(token.as_bytes());
    let Some(consent) = tx.consent(token)? else { return Ok(Disposal::Junk) };
    let named = |from: &MailAddress| from.as_str().eq_ignore_ascii_case(consent.admin.as_str());
    let from = reply.from.as_ref().map_or("nobody".to_owned(), ToString::to_string);
    if !reply.from.as_ref().is_some_and(named) {
        // The letter was forwarded, or seen on its way: only who was asked can answer.
        tx.log(now, "", &format!("an answer for {} came from {from}: not taken", consent.admin))?;
        return Ok(Disposal::Junk);
    }
    let zone = Zone::parse(&consent.zone).unwrap_or_else(|_| Zone::utc());
    let Some(answer) = understand(&reply.text, &zone, now) else {
        tx.log(now, "", &format!("an answer of {from} was not understood"))?;
        if !consent.explained && now < consent.until {
            explain(tx, shared, &consent, &reply.subject, now)?;
        }
        return Ok(Disposal::Done);
    };
    let Some(mut campaign) = tx.campaign(consent.campaign)? else { return Ok(Disposal::Junk) };
    let name = answer_name(answer, &zone);
    if now >= consent.until {
        tx.log(now, "", &format!("campaign {}: {from} answered {name} too late", campaign.id))?;
        return Ok(Disposal::Done);
    }
    tx.consent_answered(token, &name, now)?;
    let mut changed = 0usize;
    for record in tx.agents_of_admin(&consent.admin)? {
        let agent = record.id.clone();
        let Some(before) = campaign.targets.get(&agent).cloned() else { continue };
        if answer == Answer::Always && before.consent.is_some() {
            let terms =
                crate::registry::Terms { consent: manager_core::consent::Standing::Always, ..record.terms };
            tx.set_terms(&agent, &terms)?;
        }
        if campaign.apply(now, &agent, &TargetEvent::Answered(answer)) == Applied::Changed
            && let Some(target) = campaign.targets.get(&agent)
        {
            carry::save_changed(tx, shared, campaign.id, &agent, Some(&before), target, now)?;
            changed = changed.saturating_add(1);
        }
    }
    let counts = format!("it counts for {changed} agents");
    tx.audit(
        now,
        &format!("{} (by mail)", consent.admin),
        &format!("campaign {} answered {name}: {counts}", campaign.id),
    )?;
    tx.log(now, "", &format!("campaign {}: {from} answered {name}; {counts}", campaign.id))?;
    Ok(Disposal::Done)
}

fn answer_name(answer: Answer, zone: &Zone) -> String {
    match answer {
        Answer::Yes => "yes".to_owned(),
        Answer::Always => "always".to_owned(),
        Answer::No => "no".to_owned(),
        Answer::Later(at) => format!("later, {}", zone.local(at)),
    }
}

/// Says once what an answer looks like.
fn explain(
    tx: &Tx<'_>,
    shared: &Shared,
    consent: &ConsentRecord,
    subject: &str,
    now: UnixMillis,
) -> TxResult<()> {
    let agents = tx.agents_of_admin(&consent.admin)?;
    let party = (!agents.is_empty()).then(|| Party { admin: consent.admin.clone(), agents });
    let language = party.as_ref().map_or_else(Language::default, Party::language);
    let Some(template) = template(shared, Kind::Unclear, language) else { return Ok(()) };
    let token = token_in(subject).map_or(String::new(), |token| format!("[mf-{token}]"));
    let values =
        BTreeMap::from([("token", token), ("site", party.map_or(String::new(), |party| party.sites()))]);
    tx.add_letter(new_envelope_id(), &consent.admin, &template.fill(&values), now, now.plus(LETTER_LIFE))?;
    tx.consent_explained(consent.token)
}

/// Tells an administrator what the boxes of a campaign have now, once all of them have ended.
pub(super) fn tell_done(
    tx: &Tx<'_>,
    shared: &Shared,
    id: CampaignId,
    admin: &MailAddress,
    now: UnixMillis,
) -> TxResult<()> {
    if !shared.config.tell_administrators {
        return Ok(());
    }
    let mut done: Vec<AgentRecord> = Vec::new();
    let mut head = None;
    for record in tx.agents_of_admin(admin)? {
        let Some(campaign) = tx.campaign_for(id, &record.id)? else { continue };
        let Some(target) = campaign.targets.get(&record.id) else { continue };
        if !target.state.is_end() || campaign.tries_again(target) {
            return Ok(());
        }
        if target.state == TargetState::Verified {
            done.push(record);
        }
        head = Some(campaign);
    }
    let Some(campaign) = head.filter(|_| !done.is_empty()) else { return Ok(()) };
    if !tx.told(id, admin)? {
        return Ok(());
    }
    let party = Party { admin: admin.clone(), agents: done };
    let Some(template) = template(shared, Kind::Done, party.language()) else { return Ok(()) };
    let letter = template.fill(&party.values(&campaign, &tx.campaign_words(id)?.notes));
    tx.add_letter(new_envelope_id(), admin, &letter, now, now.plus(LETTER_LIFE))
}

/// Tells the operator, and the vendor whose bundle it is, that a campaign has halted.
pub(super) fn tell_halted(
    tx: &Tx<'_>,
    shared: &Shared,
    campaign: &Campaign,
    why: &HoldReason,
    now: UnixMillis,
) -> TxResult<()> {
    let mut outputs = BTreeMap::new();
    for (agent, target) in &campaign.targets {
        let Some(order) = target.order().filter(|_| target.state == TargetState::Failed) else { continue };
        if outputs.len() >= OUTPUTS_MAX {
            break;
        }
        if let Some(Report::Ended(Ended { output: Some(output), .. })) = tx.ended_report(agent, order)? {
            outputs.insert(agent.clone(), output.as_str().to_owned());
        }
    }
    let operator = shared.config.operator.iter();
    tell(tx, operator, notice::halted(campaign, why, &outputs), now)?;
    // Only a release that did not work is the vendor's: not an operator's own stop.
    let is_released = !matches!(why, HoldReason::Operator(_));
    let vendor = tx.campaign_words(campaign.id)?.vendor.filter(|_| is_released);
    tell(tx, vendor.iter(), notice::returned(campaign, why, &outputs), now)
}

/// Tells the operator that a campaign has ended.
pub(super) fn tell_finished(
    tx: &Tx<'_>,
    shared: &Shared,
    campaign: &Campaign,
    now: UnixMillis,
) -> TxResult<()> {
    tell(tx, shared.config.operator.iter(), notice::finished(campaign), now)
}

fn tell<'a>(
    tx: &Tx<'_>,
    to: impl Iterator<Item = &'a MailAddress>,
    mail: manager_core::alert::Mail,
    now: UnixMillis,
) -> TxResult<()> {
    let letter = Letter { subject: mail.subject, text: mail.text, html: None };
    for address in to {
        tx.add_letter(new_envelope_id(), address, &letter, now, now.plus(LETTER_LIFE))?;
    }
    Ok(())
}
