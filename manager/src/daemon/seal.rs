//! Makes sealed bodies and puts orders over them into the outbox. A body is sealed once; each batch of
//! recipients gets an envelope of its own over the same bytes (PROTOCOL 3.1, 4.2).

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use manager_core::{BundleFacts, CampaignId};
use shared::bundle::{BundleReader, Form};
use shared::envelope::{ContentKey, seal_body};
use shared::message::{DeltaHere, Heartbeat, InstallOrder, Order, encode};
use shared::{AgentId, EnvelopeId, Hasher, UnixMillis};

use super::DaemonError;
use crate::config::Config;
use crate::home::Home;
use crate::store::{BodyPlace, BundleRecord, NewBody, NewOrder, OrderKind, Store, Tx, TxResult};
use crate::system::{new_envelope_id, random, sync_parent};

/// Seals an order without payload.
pub(super) fn small_body(order: &Order) -> NewBody {
    let key = ContentKey::from_bytes(random());
    let mut content = Vec::new();
    // Writing into memory cannot fail.
    let sealed = seal_body(&key, &encode(order), &mut io::empty(), &mut content);
    match sealed {
        Ok(sealed) => NewBody { key, sealed, place: BodyPlace::Here(content) },
        Err(err) => unreachable!("sealing into memory: {err}"),
    }
}

/// Seals the install order with its bundle, or one form of a bundle that has deltas, into a new file. The file is on the disk when this returns; the
/// store must learn of it, or [`clear_leftovers`] removes it.
pub(super) fn bundle_body(
    home: &Home,
    bundle: &BundleRecord,
    facts: &BundleFacts,
    scheduled: bool,
    form: Option<Form>,
) -> Result<NewBody, DaemonError> {
    let source = home.bundles().join(&bundle.file);
    let unreadable = |err| DaemonError::File(source.clone(), err);
    let name = format!("{}.body", EnvelopeId(random()));
    let path = home.bodies().join(&name);
    let key = ContentKey::from_bytes(random());
    let order = Order::Install(InstallOrder {
        bundle: facts.digest,
        bundle_bytes: bundle.bytes,
        software_version: facts.software_version.clone(),
        scheduled,
        delta: match form {
            Some(Form::Delta(_)) => {
                let mut payload = payload_of(&source, form).map_err(unreadable)?;
                let mut hasher = HashingSink::default();
                io::copy(&mut payload, &mut hasher).map_err(unreadable)?;
                Some(DeltaHere { bytes: hasher.0.len(), digest: hasher.0.finish() })
            }
            Some(Form::Full) | None => None,
        },
    });
    let mut payload = payload_of(&source, form).map_err(unreadable)?;
    let file_error = |err| DaemonError::File(path.clone(), err);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(file_error)?;
    let mut out = BufWriter::new(file);
    let written = seal_body(&key, &encode(&order), &mut payload, &mut out).and_then(|sealed| {
        out.flush()?;
        out.get_ref().sync_all()?;
        sync_parent(&path)?;
        Ok(sealed)
    });
    match written {
        Ok(sealed) => Ok(NewBody { key, sealed, place: BodyPlace::File(name) }),
        Err(err) => {
            // Half a body is of no use, and its space may be what was missing.
            let _ = fs::remove_file(&path);
            Err(DaemonError::File(path, err))
        }
    }
}

/// What is mailed of a bundle's file: this form, or, of a bundle without deltas, all of it.
fn payload_of(file: &Path, form: Option<Form>) -> io::Result<Box<dyn Read>> {
    let file = BufReader::new(File::open(file)?);
    let Some(form) = form else { return Ok(Box::new(file)) };
    // Its signatures were checked when it was taken in, and are by the agents.
    let bundle = BundleReader::open(file).and_then(BundleReader::inspect_unverified);
    let cut = bundle.and_then(|bundle| bundle.into_form(form)).map_err(io::Error::other)?;
    Ok(Box::new(cut))
}

#[derive(Default)]
struct HashingSink(Hasher);

impl io::Write for HashingSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What agents are told to expect.
pub(super) fn heartbeat(config: &Config) -> Option<Heartbeat> {
    let every_ms = u64::try_from(config.heartbeat?.as_millis()).ok()?;
    Some(Heartbeat { every_ms })
}

/// What all envelopes of one action have in common.
pub(super) struct Batch {
    pub(super) body: i64,
    pub(super) kind: OrderKind,
    pub(super) campaign: Option<CampaignId>,
    pub(super) now: UnixMillis,
    pub(super) life: Duration,
}

/// Puts one envelope per batch of recipients into the outbox. Gives each with its recipients.
pub(super) fn queue_batches<'a>(
    tx: &Tx<'_>,
    batch: &Batch,
    agents: &'a [AgentId],
    recipients_per_mail: usize,
) -> TxResult<Vec<(EnvelopeId, &'a [AgentId])>> {
    let mut made = Vec::new();
    for agents in agents.chunks(recipients_per_mail.max(1)) {
        let envelope = new_envelope_id();
        tx.queue(&NewOrder {
            envelope,
            body: batch.body,
            kind: batch.kind,
            campaign: batch.campaign,
            created: batch.now,
            expires: batch.now.plus(batch.life),
            agents,
        })?;
        made.push((envelope, agents));
    }
    Ok(made)
}

/// What an operator asks agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Every module's version (M10).
    Versions,
    /// The counters that are collected (M5).
    Counters,
}

/// Puts an operator's query into the outbox, outside any campaign. Gives its envelopes.
///
/// # Errors
/// The store's.
pub fn queue_query(
    tx: &Tx<'_>,
    question: Question,
    agents: &[AgentId],
    recipients_per_mail: usize,
    life: Duration,
    now: UnixMillis,
) -> TxResult<Vec<EnvelopeId>> {
    let (order, kind) = match question {
        Question::Versions => (Order::QueryVersions, OrderKind::Query),
        Question::Counters => (Order::QueryCounters, OrderKind::Counters),
    };
    let body = tx.add_body(&small_body(&order))?;
    let batch = Batch { body, kind, campaign: None, now, life };
    let made = queue_batches(tx, &batch, agents, recipients_per_mail)?;
    Ok(made.into_iter().map(|(envelope, _)| envelope).collect())
}

/// Removes body files that the store does not know: a crash came between the file and its row.
pub(super) fn clear_leftovers(home: &Home, store: &mut Store) -> Result<(), DaemonError> {
    let known: BTreeSet<String> = store.read(|tx| tx.body_files())?.into_iter().collect();
    let folder = home.bodies();
    let file_error = |path: &Path| {
        let path = path.to_owned();
        move |err| DaemonError::File(path, err)
    };
    for entry in fs::read_dir(&folder).map_err(file_error(&folder))? {
        let entry = entry.map_err(file_error(&folder))?;
        let name = entry.file_name();
        if name.to_str().is_none_or(|name| !known.contains(name)) {
            let path = entry.path();
            fs::remove_file(&path).map_err(file_error(&path))?;
        }
    }
    Ok(())
}
