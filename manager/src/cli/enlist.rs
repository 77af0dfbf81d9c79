//! Adds agents and writes their invitations: all of the rows or none, and safe to run again at any point.
//!
//! The store is written first, in one transaction, the files after it. Whoever stops in between runs the same
//! command again: an agent that is there with the same data is no error, and its invitation is written anew
//! with a new secret unless the file that is there is the one that counts. The other order would leave
//! invitations about that the manager does not know.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use mailfleet::home::Home;
use mailfleet::import::{AgentRow, RowError};
use mailfleet::registry::{self, Terms};
use mailfleet::store::{AgentRecord, AgentState, NewAgent, Store, Tx, TxResult};
use mailfleet::system::{now, random};
use manager_core::select::ATTRIBUTE;
use shared::invitation::Invitation;
use shared::limits::{INVITATION_LIFE, INVITATION_MAX_BYTES};
use shared::{AgentId, Digest, MailAddress, UnixMillis};
use zeroize::Zeroizing;

use super::audited::{self, Deeds};
use super::fail::{Fail, Kind, Next as _};
use super::files::{clear_leftovers, folder_of, sync_filesystem, write_unsynced};
use super::progress::count_bar;
use super::{open, show};

/// What became of the rows.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Enlisted {
    pub(crate) added: usize,
    pub(crate) there: usize,
    pub(crate) written: usize,
    pub(crate) kept: usize,
    pub(crate) enrolled: usize,
    /// Rows with the address of another agent.
    pub(crate) sharing: usize,
}

/// What every invitation of this manager says.
pub(crate) struct Inviter {
    template: Invitation,
}

/// A file to write once the store has its secret.
struct ToWrite {
    path: PathBuf,
    invitation: Invitation,
}

impl Inviter {
    pub(crate) fn new(home: &Home) -> Result<Self, Fail> {
        let keys = home.keys().map_err(open::home_failed)?;
        let config = home.config().map_err(open::home_failed)?;
        let created = now();
        let nobody = AgentId::parse("nobody").map_err(|err| Fail::plain(Kind::Usage, err))?;
        let template = Invitation {
            agent: nobody,
            mail: config.mail.address.clone(),
            classes: Vec::new(),
            manager: config.mail.address,
            trust: keys.trust,
            secret: Zeroizing::new([0; 32]),
            created,
            expires: created.plus(INVITATION_LIFE),
        };
        Ok(Self { template })
    }

    /// A new invitation, with a new secret.
    pub(crate) fn invite(
        &self,
        agent: &AgentId,
        mail: &MailAddress,
        classes: &[shared::Label],
    ) -> Invitation {
        Invitation {
            agent: agent.clone(),
            mail: mail.clone(),
            classes: classes.to_vec(),
            secret: Zeroizing::new(random()),
            ..self.template.clone()
        }
    }

    /// Refuses to write over a file that is not an invitation of this manager for this agent.
    pub(crate) fn may_write(&self, path: &Path, agent: &AgentId) -> Result<Option<Invitation>, String> {
        let Ok(metadata) = fs::symlink_metadata(path) else {
            let folder = folder_of(path);
            let missing = || format!("the folder {} for its invitation is not there", folder.display());
            return if folder.is_dir() { Ok(None) } else { Err(missing()) };
        };
        if !metadata.is_file() || metadata.len() > INVITATION_MAX_BYTES {
            return Err(format!("{} is there and is no invitation", path.display()));
        }
        let text = Zeroizing::new(fs::read_to_string(path).unwrap_or_default());
        match Invitation::parse(&text) {
            Ok(there) if there.agent != *agent => {
                Err(format!("{} is the invitation of {}", path.display(), there.agent))
            }
            Ok(there) if there.trust != self.template.trust => Err(format!(
                "{} is an invitation of another manager, or from before the keys changed",
                path.display()
            )),
            Ok(there) => Ok(Some(there)),
            // A cut-off or altered invitation is of no use to anyone.
            Err(_) if text.is_empty() || text.starts_with("# mailfleet invitation") => Ok(None),
            Err(_) => Err(format!("{} is there and is no invitation", path.display())),
        }
    }
}

/// Adds the rows' agents and writes their invitations.
pub(crate) fn enlist(
    home: &Home,
    rows: &[(u64, AgentRow)],
    file_of: &dyn Fn(&AgentId) -> PathBuf,
) -> Result<Result<Enlisted, Vec<RowError>>, Fail> {
    let inviter = Inviter::new(home)?;
    let mut store = open::store(home)?;
    let decided = audited::change(&mut store, |tx| {
        let mut deeds = Deeds::new();
        Ok((decide(tx, rows, &inviter, file_of, &mut deeds)?, deeds))
    });
    let decided = decided.map_err(open::store_failed)?;
    let (mut enlisted, files) = match decided {
        Ok(decided) => decided,
        Err(errors) => return Ok(Err(errors)),
    };
    enlisted.written = write_files(&files)?;
    Ok(Ok(enlisted))
}

type Decided = Result<(Enlisted, Vec<ToWrite>), Vec<RowError>>;

/// Checks every row before the first is written.
fn decide(
    tx: &Tx<'_>,
    rows: &[(u64, AgentRow)],
    inviter: &Inviter,
    file_of: &dyn Fn(&AgentId) -> PathBuf,
    deeds: &mut Deeds,
) -> TxResult<Decided> {
    let there: BTreeMap<AgentId, AgentRecord> = tx.agents()?.into_iter().map(|a| (a.id.clone(), a)).collect();
    let mut errors = Vec::new();
    let mut files: Vec<Option<Invitation>> = Vec::new();
    for (line, row) in rows {
        let checked = match there.get(&row.id) {
            Some(record) => same(record, row),
            None if tx.agent(&row.id)?.is_some() => Err(format!(
                "id: {} was removed; IDs are not used again, so that old mail fits nobody",
                row.id
            )),
            None => Ok(()),
        };
        match checked.and_then(|()| inviter.may_write(&file_of(&row.id), &row.id)) {
            Ok(file) => files.push(file),
            Err(why) => errors.push(RowError { line: *line, why }),
        }
    }
    if !errors.is_empty() {
        return Ok(Err(errors));
    }
    let mut enlisted = Enlisted { sharing: sharing(&there, rows), ..Enlisted::default() };
    let mut to_write = Vec::new();
    for ((_, row), file) in rows.iter().zip(files) {
        let record = there.get(&row.id);
        if let Some(invitation) = enter(tx, row, record, file, inviter, &mut enlisted)? {
            deeds.push(match record {
                None => format!("agent {} added, mail {}", row.id, row.mail),
                Some(_) => format!("agent {} invited anew", row.id),
            });
            to_write.push(ToWrite { path: file_of(&row.id), invitation });
        }
    }
    Ok(Ok((enlisted, to_write)))
}

/// How many rows have the address of another agent.
fn sharing(there: &BTreeMap<AgentId, AgentRecord>, rows: &[(u64, AgentRow)]) -> usize {
    let mut at: BTreeMap<String, BTreeSet<&AgentId>> = BTreeMap::new();
    let known = there.values().map(|agent| (&agent.mail, &agent.id));
    for (mail, id) in known.chain(rows.iter().map(|(_, row)| (&row.mail, &row.id))) {
        at.entry(mail.as_str().to_ascii_lowercase()).or_default().insert(id);
    }
    let shared = |mail: &MailAddress| {
        at.get(&mail.as_str().to_ascii_lowercase()).is_some_and(|agents| agents.len() > 1)
    };
    rows.iter().filter(|(_, row)| shared(&row.mail)).count()
}

/// True to the word: the same row twice is fine, another one for the same agent is not.
fn same(record: &AgentRecord, row: &AgentRow) -> Result<(), String> {
    let list =
        |labels: &[shared::Label]| labels.iter().map(ToString::to_string).collect::<Vec<_>>().join(";");
    let admin = |a: &Option<MailAddress>| a.as_ref().map_or(String::new(), ToString::to_string);
    let mut pairs = vec![
        ("class", list(&record.classes), list(&row.classes)),
        ("site", record.site.to_string(), row.site.to_string()),
        ("note", record.note.to_string(), row.note.to_string()),
        ("admin", admin(&record.admin), admin(&row.admin)),
    ];
    let attributes = row.terms.attributes.keys().map(|name| format!("{ATTRIBUTE}{name}"));
    let keys: Vec<String> = registry::KEYS.iter().map(ToString::to_string).chain(attributes).collect();
    // A file need not have the columns that were not there when the agent was added.
    let unset = Terms::default();
    for key in keys.iter().filter(|key| row.terms.get(key) != unset.get(key)) {
        pairs.push((key, record.terms.get(key), row.terms.get(key)));
    }
    // An enrolled agent has told itself where it reads its mail.
    if record.state != AgentState::Enrolled {
        pairs.insert(0, ("mail", record.mail.to_string(), row.mail.to_string()));
    }
    match pairs.into_iter().find(|(_, has, found)| has != found) {
        None => Ok(()),
        Some((column, has, found)) => Err(format!(
            "{column}: {} is there already with \"{has}\", found \"{found}\"; {}",
            record.id,
            // Its mailbox is none of the operator's words: the box says itself where it reads its mail.
            if column == "mail" {
                "the box says where it reads its mail when it enrols"
            } else {
                "`mailfleet agent set` changes an agent's data"
            }
        )),
    }
}

/// Enters one agent, or nothing if it is there; gives the invitation that is to be written.
fn enter(
    tx: &Tx<'_>,
    row: &AgentRow,
    record: Option<&AgentRecord>,
    file: Option<Invitation>,
    inviter: &Inviter,
    enlisted: &mut Enlisted,
) -> TxResult<Option<Invitation>> {
    let counted = |n: &mut usize| *n = n.saturating_add(1);
    let Some(record) = record else {
        let invitation = inviter.invite(&row.id, &row.mail, &row.classes);
        let agent = NewAgent {
            id: row.id.clone(),
            mail: row.mail.clone(),
            classes: row.classes.clone(),
            site: row.site.clone(),
            note: row.note.clone(),
            admin: row.admin.clone(),
            terms: row.terms.clone(),
            secret_digest: Digest::of(invitation.secret.as_slice()),
            invite_expires: invitation.expires,
        };
        tx.add_agent(&agent, invitation.created)?;
        counted(&mut enlisted.added);
        return Ok(Some(invitation));
    };
    counted(&mut enlisted.there);
    if record.state == AgentState::Enrolled {
        counted(&mut enlisted.enrolled);
        return Ok(None);
    }
    if counts(tx, &row.id, file.as_ref(), inviter.template.created)? {
        counted(&mut enlisted.kept);
        return Ok(None);
    }
    let invitation = inviter.invite(&row.id, &row.mail, &row.classes);
    let digest = Digest::of(invitation.secret.as_slice());
    tx.renew_invitation(&row.id, digest, invitation.expires)?;
    Ok(Some(invitation))
}

/// True if the file's secret is the one that the manager waits for.
fn counts(tx: &Tx<'_>, id: &AgentId, file: Option<&Invitation>, now: UnixMillis) -> TxResult<bool> {
    let (Some(file), Some(enrolment)) = (file, tx.enrolment(id)?) else { return Ok(false) };
    Ok(enrolment.secret_digest == Digest::of(file.secret.as_slice()) && now < file.expires)
}

/// Gives one agent a new invitation, and nothing else.
pub(crate) fn renew(
    store: &mut Store,
    inviter: &Inviter,
    record: &AgentRecord,
    path: &Path,
) -> Result<(), Fail> {
    let invitation = inviter.invite(&record.id, &record.mail, &record.classes);
    let digest = Digest::of(invitation.secret.as_slice());
    audited::change(store, |tx| {
        tx.renew_invitation(&record.id, digest, invitation.expires)?;
        Ok(((), vec![format!("agent {} invited anew", record.id)]))
    })
    .map_err(open::store_failed)?;
    write_files(&[ToWrite { path: path.to_owned(), invitation }]).map(drop)
}

fn write_files(files: &[ToWrite]) -> Result<usize, Fail> {
    if let Some(first) = files.first() {
        clear_leftovers(folder_of(&first.path));
    }
    let bar = count_bar("writing invitations", files.len());
    for (n, file) in files.iter().enumerate() {
        write_unsynced(&file.path, file.invitation.to_text().as_bytes(), 0o600)
            .map_err(|err| super::fail::cannot_write(err, &file.path))
            .next(format!(
                "{} of {} written; the agents are entered: make room and run the same command again, it goes on \
                 where it stopped",
                n,
                show::count(files.len(), "invitation")
            ))?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    // One sync for all: ten thousand single ones take minutes on a disk.
    if let Some(first) = files.first() {
        sync_filesystem(&first.path).map_err(|err| super::fail::cannot_write(err, &first.path))?;
    }
    Ok(files.len())
}
