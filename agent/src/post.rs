//! Seals reports and hands them to the mail. A report is sealed once, and its bytes are kept before they
//! are sent, so that whatever is sent again is the same envelope with the same ID.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use agent_core::{Outgoing as Report_, PostResult, ReportSeq};
use mailio::{Attachment, AutoKind, Outgoing, SendError, Sender, Sent};
use shared::envelope::{NewSmall, seal_small};
use shared::error::chain;
use shared::keys::{SealingKey, SigningKey};
use shared::message::{CounterReport, Report, encode};
use shared::{Digest, EnvelopeId, Label, MailAddress};

use crate::config::{Config, Listener};
use crate::files::{now, random, rng, sync_folder, write_whole};
use crate::readings::{Packed, Readings};
use crate::stop::Stop;

/// The way of reports out of this box.
pub(crate) struct Post {
    folder: PathBuf,
    from: MailAddress,
    manager: MailAddress,
    copies: Vec<Listener>,
    sender: Sender,
    /// The mail was not reachable when it was last tried.
    pub(crate) unreachable: bool,
}

/// A sealed report.
struct Sealed {
    id: EnvelopeId,
    bytes: Vec<u8>,
}

impl Post {
    pub(crate) fn new(folder: PathBuf, config: &Config) -> Self {
        let (settings, manager, copies) = (&config.mail, config.manager.clone(), config.copies.clone());
        let sender = Sender::new(settings.clone());
        Self { folder, from: settings.address.clone(), manager, copies, sender, unreachable: false }
    }

    /// Those who get a copy of this report.
    fn listeners(&self, report: &Report) -> impl Iterator<Item = &Listener> {
        let (faults, counters) = (matches!(report, Report::Faults(_)), matches!(report, Report::Counters(_)));
        self.copies.iter().filter(move |one| (faults && one.faults) || (counters && one.counters))
    }

    /// Sends one report. `None`: told to stop before it was known what became of it.
    pub(crate) async fn send(
        &mut self,
        outgoing: &Report_,
        sign_key: &SigningKey,
        seal_key: &SealingKey,
        readings: &Readings,
        stop: &mut Stop,
    ) -> Option<PostResult> {
        let later = |text: &str| Some(PostResult::Later(Label::lossy(text)));
        let sealed = match self.sealed(outgoing, sign_key, seal_key, readings) {
            Ok(sealed) => sealed,
            Err(err) => return later(&format!("cannot keep the sealed report: {err}")),
        };
        let mail = self.mail(&outgoing.report, sealed);
        let result = tokio::select! {
            result = self.sender.send(&mail) => result,
            () = stop.wanted() => return None,
        };
        self.unreachable = result.is_err();
        match result {
            // The manager comes first, and alone decides: a listener that takes no mail holds up nothing.
            Ok(sent) => match own_result(sent) {
                Some(Sent::Done) => Some(PostResult::Done),
                Some(Sent::Never(why)) => Some(PostResult::Never(Label::lossy(&why.to_string()))),
                Some(Sent::Later(why)) => later(&why.to_string()),
                None => later("the mail program gave no result"),
            },
            Err(err @ SendError::TooLarge { .. }) => Some(PostResult::Never(Label::lossy(&chain(&err)))),
            Err(err) => later(&chain(&err)),
        }
    }

    /// Ends the connection: the next report may be hours away.
    pub(crate) async fn close(&mut self) {
        self.sender.close().await;
    }

    /// Removes a report's sealed bytes.
    pub(crate) fn forget(&self, report: ReportSeq) -> io::Result<()> {
        for (_, path) in self.kept()?.into_iter().filter(|(sequence, _)| *sequence == report.0) {
            fs::remove_file(path)?;
        }
        Ok(())
    }

    /// Removes the sealed bytes of all other reports.
    pub(crate) fn tidy(&self, keep: &[ReportSeq]) -> io::Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if !sequence_of(&path).is_some_and(|sequence| keep.contains(&ReportSeq(sequence))) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    fn kept(&self) -> io::Result<Vec<(u64, PathBuf)>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            all.extend(sequence_of(&path).map(|sequence| (sequence, path)));
        }
        Ok(all)
    }

    fn sealed(
        &self,
        outgoing: &Report_,
        sign_key: &SigningKey,
        seal_key: &SealingKey,
        readings: &Readings,
    ) -> io::Result<Sealed> {
        let message = encode(&outgoing.report);
        // The message's digest in the name: after a state was lost, a number may stand for another report.
        let digest = Digest::of(&message).to_hex();
        let prefix = format!("{}-{}-", outgoing.sequence.0, digest.get(..16).unwrap_or_default());
        for (_, path) in self.kept()? {
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            let id = name.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix(".env"));
            if let Some(id) = id.and_then(|hex| EnvelopeId::parse_hex(hex).ok()) {
                return Ok(Sealed { id, bytes: fs::read(path)? });
            }
        }
        let new = NewSmall {
            id: EnvelopeId(random()),
            created: outgoing.created,
            expires: outgoing.expires,
            sequence: outgoing.sequence.0,
        };
        // Readings are many, and the state is saved often: they come in only now.
        let message = match &outgoing.report {
            Report::Counters(report) => {
                let Packed { upto, more, bytes } = readings.pack(report.after)?;
                encode(&Report::Counters(CounterReport { upto, more, packed: bytes, ..report.clone() }))
            }
            _ => message,
        };
        // PROTOCOL 8.7: one envelope, a slot for each.
        let listeners = self.listeners(&outgoing.report).map(|listener| listener.key.clone());
        let recipients: Vec<SealingKey> = [seal_key.clone()].into_iter().chain(listeners).collect();
        let bytes =
            seal_small(&new, &message, &recipients, sign_key, &mut rng()).map_err(io::Error::other)?;
        write_whole(&self.folder.join(format!("{prefix}{}.env", new.id)), &bytes)?;
        sync_folder(&self.folder)?;
        Ok(Sealed { id: new.id, bytes })
    }

    fn mail(&self, report: &Report, sealed: Sealed) -> Outgoing {
        // PROTOCOL 5.2: reports answer to the order's envelope ID; mail programs then show both in one thread.
        let (subject, in_reply_to) = match report {
            Report::Enrol(_) => ("enrolment request", None),
            Report::Progress(progress) => ("install progress", Some(progress.order)),
            Report::Ended(ended) => ("install result", Some(ended.order)),
            Report::Versions(versions) => ("version report", versions.query),
            Report::Cancelled(answer) => ("cancel result", Some(answer.order)),
            Report::Standing(_) => ("standing", None),
            Report::Rekeyed(rekeyed) => ("new keys", Some(rekeyed.order)),
            Report::Faults(_) => ("device faults", None),
            Report::Counters(report) => ("device counters", report.query),
            Report::Fetch(fetch) => ("bundle request", Some(fetch.schedule)),
            Report::Parts(ask) => ("parts request", Some(ask.order)),
            Report::Tested(tested) => ("test result", Some(tested.order)),
            Report::DeviceUpdates(updates) => ("device updates", Some(updates.plan)),
        };
        Outgoing {
            from: self.from.clone(),
            to: [&self.manager]
                .into_iter()
                .chain(self.listeners(report).map(|listener| &listener.to))
                .cloned()
                .collect(),
            envelope: sealed.id,
            subject: subject.to_owned(),
            note: format!("This is an automatic {subject}. Its content is sealed for the manager."),
            date: now(),
            in_reply_to,
            auto: if in_reply_to.is_some() { AutoKind::Replied } else { AutoKind::Generated },
            attachment: Attachment::Bytes(sealed.bytes),
        }
    }
}

/// What became of the manager's copy.
fn own_result(sent: Vec<Sent>) -> Option<Sent> {
    let mut sent = sent.into_iter();
    let own = sent.next();
    for other in sent {
        if let Sent::Never(why) | Sent::Later(why) = other {
            tracing::warn!(%why, "A copy of a report was not taken for its listener");
        }
    }
    own
}

/// The number at the start of a kept report's name.
fn sequence_of(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    name.strip_suffix(".env")?.split_once('-')?.0.parse().ok()
}
