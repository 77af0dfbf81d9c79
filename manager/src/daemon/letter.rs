//! Makes the mail of an order: seals a header over a kept body for its recipients. Touches no store and no mail server, so that it
//! can be done on another core.

use std::path::PathBuf;
use std::sync::Arc;

use mailio::{Attachment, AutoKind, Outgoing};
use manager_core::parts::Load;
use shared::MailAddress;
use shared::envelope::{Cut, NewHeader, SealError, seal_head, seal_part_head};
use shared::keys::SealingKey;

use super::parts::Cuts;
use super::{DaemonError, Shared};
use crate::store::{BodyPlace, BodyRecord, Due};
use crate::system::{now, rng};

const NOTE: &str = "This mail carries a sealed order of a mailfleet manager for the machines that read this mailbox.\n\
                    It is not meant for people: please leave it in place.\n";

/// All that the mail is made of.
pub(super) struct Letter {
    shared: Arc<Shared>,
    header: NewHeader,
    body: BodyRecord,
    load: Load,
    /// How the body is cut, if it does not go whole.
    cut: Option<Cut>,
    recipients: Vec<SealingKey>,
    to: Vec<MailAddress>,
}

impl Letter {
    /// # Errors
    /// The body's file cannot be read.
    pub(super) fn new(
        shared: &Arc<Shared>,
        cuts: &mut Cuts,
        (due, load): (&Due, Load),
        body: BodyRecord,
        to: Vec<MailAddress>,
    ) -> Result<Self, DaemonError> {
        let header = NewHeader {
            id: due.envelope,
            created: due.created,
            expires: due.expires,
            sequence: due.sequence,
            body: body.sealed,
        };
        let cut = match (load, &body.place) {
            (Load::Part { part_bytes, .. } | Load::Head { part_bytes }, BodyPlace::File(name)) => {
                Some(cuts.get(due.body, &shared.home.bodies().join(name), part_bytes)?.clone())
            }
            _ => None,
        };
        let recipients = due.recipients.iter().map(|recipient| recipient.seal_key.clone()).collect();
        Ok(Self { shared: Arc::clone(shared), header, body, load, cut, recipients, to })
    }

    /// The mail.
    ///
    /// # Errors
    /// A recipient's key that cannot be sealed to.
    pub(super) fn seal(self) -> Result<Outgoing, SealError> {
        let Self { shared, header, body, load, cut, recipients, to } = self;
        let (keys, key) = (&shared.keys, &body.key);
        let head = match &cut {
            Some(cut) => {
                let part = if let Load::Part { index, .. } = load { Some(index) } else { None };
                seal_part_head(&header, (cut, part), key, &recipients, &keys.order, &mut rng())?
            }
            None => seal_head(&header, key, &recipients, &keys.order, &mut rng())?,
        };
        // PROTOCOL 11.5: an agent that does not know the order key yet learns of it here.
        let head = [keys.introduction.as_slice(), &head].concat();
        let file = |name: &String| -> PathBuf { shared.home.bodies().join(name) };
        let attachment = match (&body.place, load) {
            (BodyPlace::Here(bytes), _) => Attachment::Bytes([head.as_slice(), bytes].concat()),
            (BodyPlace::File(name), Load::Whole) => Attachment::HeadAndFile { head, file: file(name) },
            (BodyPlace::File(name), Load::Part { span, .. }) => {
                let (from, bytes) = (span.from, span.bytes());
                Attachment::HeadAndSlice { head, file: file(name), from, bytes }
            }
            (BodyPlace::File(_), Load::Head { .. }) => Attachment::Bytes(head),
        };
        Ok(Outgoing {
            from: shared.config.mail.address.clone(),
            to,
            envelope: header.id,
            subject: "order".to_owned(),
            note: NOTE.to_owned(),
            date: now(),
            in_reply_to: None,
            auto: AutoKind::Generated,
            attachment,
        })
    }
}
