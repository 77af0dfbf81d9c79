//! From the mailbox to the core: one mail at a time (M6). Downloads only what claims to be ours, verifies the
//! header's signature, and opens the envelope when the core says so. What is fresh is the core's to judge.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};

use agent_core::{
    Disposal, EnvelopeFacts, Event, JunkReason, KeyName, LEFT_MAX_COUNT, MailHandle, OpenFault, PartFacts,
    PartFault, Payload,
};
use mailio::{Class, ContentError, FetchError, Found, MailError, MailKey, Mailbox};
use shared::envelope::{Brings, EnvelopeError, Header, RawHead, check_body, check_part, open_body};
use shared::error::chain;
use shared::limits::{CHUNK_BYTES, HEADER_MAX_BYTES, MESSAGE_MAX_BYTES};
use shared::message::{Order, decode_order};
use shared::trust::{Statement, Trust, TrustError};
use shared::{Digest, EnvelopeId, Hasher, KeyId, Label};

use crate::alive::Alive;
use crate::files::{copy_seen, create_private, remove_if_there, sync_parent};
use crate::home::Home;
use crate::keys::Keys;
use crate::parts::is_missing;
use crate::trial;

/// Mails listed at a time: a flood of junk must not fill the memory. The next look shows the next ones; those that are left for
/// later stay before them.
const LOOK_MAX_COUNT: usize = 200 + LEFT_MAX_COUNT;

/// The mailbox, and the mail in hand.
pub(crate) struct Inbox {
    mailbox: Mailbox,
    /// Where the manager mails what the first does not take.
    second: Option<Mailbox>,
    /// Which of them the mails at hand are in.
    at: Which,
    home: Home,
    max_bundle_bytes: u64,
    last_handle: u64,
    in_hand: Option<InHand>,
    alive: Alive,
    /// Mails that have left the mailbox since the start.
    pub(crate) disposed: u64,
}

/// One of the agent's mailboxes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// Its own.
    First,
    /// The one for what the first does not take.
    Second,
}

/// The mail that is being read.
struct InHand {
    handle: MailHandle,
    key: MailKey,
    /// It may be downloaded.
    admitted: bool,
    head: Option<RawHead>,
    envelope: Option<(Header, RawHead)>,
    /// Where the body begins in the file.
    body_at: u64,
}

/// What was found out about a mail before the core is asked.
pub(crate) enum Taken {
    /// Something to tell the core.
    Event(Box<Event>),
    /// It claims to be ours, and is so large: the core says whether it is downloaded now.
    Offered(MailHandle, EnvelopeId, u64),
    /// An envelope whose signature is to be checked, once these statements are weighed.
    Claims(MailHandle, Vec<Statement>),
    /// It stays in the mailbox.
    Left(Left),
}

/// Why a mail stays in the mailbox.
pub(crate) enum Left {
    /// Somebody else has removed it.
    Gone,
    /// The connection failed.
    Unreachable(String),
    /// This box is to blame: a full disk, say.
    Local(String),
}

impl Inbox {
    pub(crate) fn new(
        mailbox: Mailbox,
        second: Option<Mailbox>,
        home: Home,
        max_bundle_bytes: u64,
        alive: Alive,
    ) -> Self {
        Self {
            mailbox,
            second,
            at: Which::First,
            home,
            max_bundle_bytes,
            last_handle: 0,
            in_hand: None,
            alive,
            disposed: 0,
        }
    }

    /// The mails that are there; none in a second mailbox that there is not.
    pub(crate) async fn look(&mut self, which: Which) -> Result<Vec<Found>, MailError> {
        self.at = which;
        if which == Which::Second && self.second.is_none() {
            return Ok(Vec::new());
        }
        self.mailbox().look(LOOK_MAX_COUNT).await
    }

    /// The mailbox that the mails at hand are in.
    fn mailbox(&mut self) -> &mut Mailbox {
        match (self.at, &mut self.second) {
            (Which::Second, Some(second)) => second,
            (Which::First | Which::Second, _) => &mut self.mailbox,
        }
    }

    /// Whether the mailbox can be read; leaves no connection open.
    pub(crate) async fn try_to_look(&mut self) -> Result<(), MailError> {
        trial::look(&mut self.mailbox).await
    }

    /// Rests until the next look: leaves the connection open only if its server tells of new mail.
    pub(crate) async fn rest(&mut self) {
        if !self.mailbox.listen() {
            self.mailbox.close().await;
        }
        if let Some(second) = &mut self.second {
            second.close().await;
        }
    }

    /// Completes when there may be new mail; never, if nothing tells of it. May be dropped at any point.
    pub(crate) async fn news(&mut self) {
        self.mailbox.news().await;
    }

    /// Ends the connections: the next look may be minutes away.
    pub(crate) async fn close(&mut self) {
        self.mailbox.close().await;
        if let Some(second) = &mut self.second {
            second.close().await;
        }
    }

    /// Largest attachment that can hold an order: bundle, message, header, one tag for each chunk.
    fn attachment_max_bytes(&self) -> u64 {
        let tags = self.max_bundle_bytes.div_ceil(CHUNK_BYTES as u64).saturating_mul(16);
        let rest = HEADER_MAX_BYTES.saturating_add(MESSAGE_MAX_BYTES).saturating_add(4096) as u64;
        self.max_bundle_bytes.saturating_add(tags).saturating_add(rest)
    }

    /// Takes a mail in hand.
    pub(crate) fn take(&mut self, found: Found) -> Taken {
        self.last_handle = self.last_handle.saturating_add(1);
        let mail = MailHandle(self.last_handle);
        let key = found.key;
        self.in_hand =
            Some(InHand { handle: mail, key, admitted: false, head: None, envelope: None, body_at: 0 });
        // PROTOCOL 1.1: headers only decide what is worth downloading.
        let reason = match found.class {
            Class::Ours(marker)
                if marker.attachment_bytes.is_some_and(|bytes| bytes > self.attachment_max_bytes()) =>
            {
                JunkReason::TooLarge
            }
            Class::Ours(marker) => return Taken::Offered(mail, marker.id, found.size),
            Class::Bounce => {
                tracing::warn!("A mail of this agent came back undelivered");
                JunkReason::Bounce
            }
            Class::AutoReply => JunkReason::AutoReply,
            Class::Foreign => JunkReason::Foreign,
        };
        Taken::Event(Box::new(Event::Junk { mail, reason }))
    }

    /// The mail in hand may be downloaded.
    pub(crate) fn admit(&mut self, mail: MailHandle) {
        if let Some(in_hand) = self.in_hand.as_mut().filter(|in_hand| in_hand.handle == mail) {
            in_hand.admitted = true;
        }
    }

    /// True if the mail is in hand and may be downloaded.
    pub(crate) fn is_admitted(&self, mail: MailHandle) -> bool {
        self.in_hand.as_ref().is_some_and(|in_hand| in_hand.handle == mail && in_hand.admitted)
    }

    /// Downloads the mail in hand.
    pub(crate) async fn fetch(&mut self, mail: MailHandle) -> Taken {
        let limit = self.attachment_max_bytes();
        let junk = |reason| Taken::Event(Box::new(Event::Junk { mail, reason }));
        let in_hand = self.in_hand.as_ref().filter(|in_hand| in_hand.handle == mail);
        let Some(key) = in_hand.map(|in_hand| in_hand.key.clone()) else { return Taken::Left(Left::Gone) };
        let path = self.home.incoming().join("mail");
        let mut file = match create_private(&path) {
            Ok(file) => file,
            Err(err) => return Taken::Left(Left::Local(format!("cannot keep a mail: {err}"))),
        };
        match self.mailbox().fetch(&key, limit, &mut file).await {
            Ok(_) => {}
            Err(FetchError::Content(err)) => {
                tracing::info!(err = chain(&err), "A mail that claims to be ours is not usable");
                return junk(match err {
                    ContentError::TooLarge { .. } => JunkReason::TooLarge,
                    ContentError::BadBase64 { .. }
                    | ContentError::Truncated { .. }
                    | ContentError::WrongSize { .. } => JunkReason::Damaged,
                    ContentError::NoAttachment
                    | ContentError::Encoding { .. }
                    | ContentError::NestedTooDeep
                    | ContentError::TooManyParts
                    | ContentError::HeadersTooLarge => JunkReason::Unreadable,
                });
            }
            Err(FetchError::Gone) => return Taken::Left(Left::Gone),
            Err(err @ FetchError::Transport(_)) => return Taken::Left(Left::Unreachable(chain(&err))),
            Err(err @ FetchError::Output(_)) => return Taken::Left(Left::Local(chain(&err))),
        }
        self.read_head(mail, file)
    }

    /// Reads the envelope's head and what introduces it. Nothing is believed yet.
    fn read_head(&mut self, mail: MailHandle, mut file: File) -> Taken {
        let mut read = || -> Result<(Vec<Statement>, RawHead, u64), EnvelopeError> {
            file.seek(SeekFrom::Start(0)).map_err(EnvelopeError::Read)?;
            let (statements, head) = RawHead::read_introduced(&mut file)?;
            Ok((statements, head, file.stream_position().map_err(EnvelopeError::Read)?))
        };
        match read() {
            Ok((statements, head, body_at)) => {
                if let Some(in_hand) = &mut self.in_hand {
                    in_hand.head = Some(head);
                    in_hand.body_at = body_at;
                }
                Taken::Claims(mail, statements)
            }
            Err(err) => refused(mail, &err),
        }
    }

    /// Checks the manager's signature over the head in hand.
    pub(crate) fn verify(&mut self, mail: MailHandle, trust: &Trust) -> Taken {
        let in_hand = self.in_hand.as_mut().filter(|in_hand| in_hand.handle == mail);
        let Some((in_hand, head)) = in_hand.and_then(|it| it.head.take().map(|head| (it, head))) else {
            return Taken::Left(Left::Gone);
        };
        // PROTOCOL 3.4: a key that the agent does not hold decides nothing.
        let Some(key) = trust.order_key(head.sender()) else {
            tracing::info!(sender = %head.sender(), "A mail is signed by a key that is not trusted");
            return Taken::Event(Box::new(Event::Junk { mail, reason: JunkReason::NotSigned }));
        };
        match head.verify(key) {
            Ok(header) => {
                let facts = facts_of(&header, head.sender());
                let event = match head.brings(&header) {
                    Ok(Brings::Whole) => Event::Envelope { mail, facts },
                    Ok(brings) => Event::Part { mail, facts, part: part_of(&header, brings) },
                    Err(err) => return refused(mail, &err),
                };
                in_hand.envelope = Some((header, head));
                Taken::Event(Box::new(event))
            }
            Err(err) => refused(mail, &err),
        }
    }

    /// Opens the envelope in hand; keeps an install order's bundle.
    pub(crate) fn open(&mut self, mail: MailHandle, keys: &Keys) -> Event {
        let opened = match self.in_hand.as_ref().filter(|in_hand| in_hand.handle == mail) {
            Some(InHand { envelope: Some((header, head)), body_at, .. }) => {
                let opened = File::open(self.home.incoming().join("mail")).map_err(|err| local(&err));
                opened
                    .and_then(|file| self.open_envelope(header, head.sender(), file, *body_at, keys))
                    .map(|opened| (facts_of(header, head.sender()), opened))
            }
            Some(_) | None => Err(OpenFault::Local(Label::lossy("the mail is not in hand"))),
        };
        match opened {
            Ok((facts, (order, payload, key))) => Event::Order { mail, facts, order, payload, key },
            Err(fault) => {
                tracing::warn!(?fault, "A mail of the manager was not opened");
                Event::NotOpened { mail, fault }
            }
        }
    }

    fn open_envelope(
        &self,
        header: &Header,
        sender: KeyId,
        mut file: File,
        body_at: u64,
        keys: &Keys,
    ) -> Result<(Order, Payload, KeyName), OpenFault> {
        let fault = |err: EnvelopeError| fault_of(&err);
        let (content_key, key) = keys.open_slot(header, sender).map_err(fault)?;
        file.seek(SeekFrom::Start(body_at)).map_err(|err| local(&err))?;
        check_body(header, &mut file).map_err(fault)?;
        file.seek(SeekFrom::Start(body_at)).map_err(|err| local(&err))?;
        let (message, mut payload) = open_body(header, &content_key, file).map_err(fault)?;
        let order = decode_order(&message).map_err(|err| {
            tracing::warn!(err = chain(&err), "An order cannot be read");
            OpenFault::Mail(JunkReason::Unreadable)
        })?;
        match &order {
            Order::Install(_) => {
                let payload = self.keep_bundle(header, &mut payload)?;
                Ok((order, payload, key))
            }
            Order::Enrolled(_)
            | Order::QueryVersions
            | Order::Cancel(_)
            | Order::Heartbeat(_)
            | Order::Rekey
            | Order::Acknowledge(_)
            | Order::QueryCounters
            | Order::Schedule(_)
            | Order::Test(_)
            | Order::DevicePlan(_) => {
                // PROTOCOL 5.3: bytes where no payload belongs make the message invalid.
                match payload.read(&mut [0u8; 1]) {
                    Ok(0) => Ok((order, Payload::Absent, key)),
                    Ok(_) => Err(OpenFault::Mail(JunkReason::Unreadable)),
                    Err(err) => Err(fault_of_payload(&err)),
                }
            }
        }
    }

    /// Keeps the part in hand, and its head if that is wanted.
    pub(crate) fn keep_part(&self, mail: MailHandle, with_head: bool, keys: &Keys) -> Event {
        let in_hand = self.in_hand.as_ref().filter(|in_hand| in_hand.handle == mail);
        let Some(InHand { envelope: Some((header, head)), body_at, .. }) = in_hand else {
            let fault = OpenFault::Local(Label::lossy("the mail is not in hand"));
            return Event::NotOpened { mail, fault };
        };
        let facts = facts_of(header, head.sender());
        let (part, result) = match head.brings(header) {
            Ok(brings) => {
                let kept = self.keep_what_it_brings(header, head, brings, (*body_at, with_head), keys);
                (part_of(header, brings), kept)
            }
            Err(err) => return Event::NotOpened { mail, fault: fault_of(&err) },
        };
        if let Err(fault) = &result {
            tracing::warn!(?fault, "A part of an order was not kept");
        }
        Event::PartKept { mail, facts, part, result }
    }

    fn keep_what_it_brings(
        &self,
        header: &Header,
        head: &RawHead,
        brings: Brings,
        (body_at, with_head): (u64, bool),
        keys: &Keys,
    ) -> Result<(), PartFault> {
        let fault = |err: EnvelopeError| PartFault::Open(fault_of(&err));
        let disk = |err: io::Error| PartFault::Open(local(&err));
        // Nothing is kept that could not be opened.
        keys.open_slot(header, head.sender()).map_err(fault)?;
        if header.body_bytes > self.attachment_max_bytes() {
            let text = format!("larger than the {} bytes that this agent takes", self.max_bundle_bytes);
            return Err(PartFault::Refused(Label::lossy(&text)));
        }
        let parts = self.home.parts();
        if let Brings::Part(span, info) = brings {
            let mut file = File::open(self.home.incoming().join("mail")).map_err(disk)?;
            file.seek(SeekFrom::Start(body_at)).map_err(disk)?;
            // PROTOCOL 17.3
            check_part(&info, &mut file).map_err(fault)?;
            file.seek(SeekFrom::Start(body_at)).map_err(disk)?;
            let mut see = |_: &[u8]| self.alive.step();
            parts.keep_bytes(header.body_digest, span.from, &mut file, &mut see).map_err(disk)?;
        }
        if with_head {
            parts.keep_head(header.id, &head.to_bytes()).map_err(disk)?;
        }
        Ok(())
    }

    /// Opens an order whose parts are all here.
    pub(crate) fn join(&self, order: EnvelopeId, body: Digest, trust: &Trust, keys: &Keys) -> Event {
        let result = self.open_parts(order, body, trust, keys);
        match &result {
            Ok(_) => tracing::info!(%order, "All parts of an order are here"),
            Err(fault) => tracing::warn!(%order, ?fault, "The parts of an order were not put together"),
        }
        Event::Joined { order, result }
    }

    fn open_parts(
        &self,
        order: EnvelopeId,
        body: Digest,
        trust: &Trust,
        keys: &Keys,
    ) -> Result<(Order, Payload, KeyName), OpenFault> {
        let damaged = Err(OpenFault::Mail(JunkReason::Damaged));
        let parts = self.home.parts();
        let (head, file) = (File::open(parts.head(order)), File::open(parts.body(body)));
        // PROTOCOL 17.9: an older copy of the disk or of the state has come back; they come again.
        if is_missing(&head) || is_missing(&file) {
            return damaged;
        }
        let (mut head, file) = (head.map_err(|err| local(&err))?, file.map_err(|err| local(&err))?);
        let head = RawHead::read(&mut head).map_err(|err| fault_of(&err))?;
        let Some(key) = trust.order_key(head.sender()) else {
            return Err(OpenFault::Mail(JunkReason::NotSigned));
        };
        let header = head.verify(key).map_err(|err| fault_of(&err))?;
        if header.body_digest != body {
            return damaged;
        }
        self.open_envelope(&header, head.sender(), file, 0, keys)
    }

    /// Writes the payload beside the other bundles; durable before the core hears of it.
    fn keep_bundle(&self, header: &Header, payload: &mut dyn Read) -> Result<Payload, OpenFault> {
        let path = self.home.bundle(header.id);
        let temporary = path.with_added_extension("tmp");
        let mut hasher = Hasher::default();
        let mut write = || -> io::Result<u64> {
            let mut file = create_private(&temporary)?;
            let mut limited = payload.take(self.max_bundle_bytes.saturating_add(1));
            let bytes = copy_seen(&mut limited, &mut file, &mut |piece| {
                hasher.update(piece);
                self.alive.step();
            })?;
            file.sync_all()?;
            Ok(bytes)
        };
        let written = write();
        let discard = |result| {
            // Half a bundle is of no use, and a full disk needs the room.
            let _ = remove_if_there(&temporary);
            result
        };
        match written {
            Ok(0) => discard(Ok(Payload::Absent)),
            Ok(bytes) if bytes > self.max_bundle_bytes => {
                let text = format!("larger than the {} bytes that this agent takes", self.max_bundle_bytes);
                discard(Ok(Payload::Refused(Label::lossy(&text))))
            }
            Ok(bytes) => {
                let kept = fs::rename(&temporary, &path).and_then(|()| sync_parent(&path));
                kept.map_err(|err| local(&err))?;
                Ok(Payload::Kept { digest: hasher.finish(), bytes })
            }
            Err(err) => discard(Err(fault_of_payload(&err))),
        }
    }

    /// The mail in hand is dealt with.
    pub(crate) async fn dispose(&mut self, mail: MailHandle, disposal: Disposal) {
        let Some(in_hand) = self.in_hand.take_if(|in_hand| in_hand.handle == mail) else { return };
        let what = match disposal {
            Disposal::Done => mailio::Disposal::Done,
            Disposal::Junk(reason) => {
                tracing::info!(%reason, "Junk");
                mailio::Disposal::Junk
            }
        };
        match self.mailbox().dispose(&[(in_hand.key, what)]).await {
            Ok(()) => self.disposed = self.disposed.saturating_add(1),
            // It comes again and is then known.
            Err(err) => tracing::warn!(err = chain(&err), "A mail was not removed; it will be seen again"),
        }
        let _ = remove_if_there(&self.home.incoming().join("mail"));
    }

    /// The mail in hand stays where it is.
    pub(crate) fn leave(&mut self) {
        self.in_hand = None;
        let _ = remove_if_there(&self.home.incoming().join("mail"));
    }
}

fn refused(mail: MailHandle, err: &EnvelopeError) -> Taken {
    tracing::info!(err = chain(err), "A mail is no order of the manager");
    match fault_of(err) {
        OpenFault::Mail(reason) => Taken::Event(Box::new(Event::Junk { mail, reason })),
        OpenFault::Local(why) => Taken::Left(Left::Local(why.to_string())),
    }
}

fn facts_of(header: &Header, signer: KeyId) -> EnvelopeFacts {
    EnvelopeFacts {
        id: header.id,
        created: header.created,
        expires: header.expires,
        sequence: header.sequence,
        body_bytes: header.body_bytes,
        signer,
    }
}

/// What a mail brings of its envelope's body.
fn part_of(header: &Header, brings: Brings) -> PartFacts {
    let span = match brings {
        Brings::Part(span, _) => Some(span),
        Brings::Whole | Brings::Nothing => None,
    };
    let part_bytes = header.parts.first().map_or(0, |part| part.bytes);
    PartFacts { body: header.body_digest, part_bytes, span }
}

fn local(err: &io::Error) -> OpenFault {
    OpenFault::Local(Label::lossy(&err.to_string()))
}

/// Whose fault it is that a payload was not read or not kept.
fn fault_of_payload(err: &io::Error) -> OpenFault {
    // The reader's own word for a chunk that does not decrypt.
    if err.kind() == io::ErrorKind::InvalidData {
        return OpenFault::Mail(JunkReason::Damaged);
    }
    local(err)
}

/// Whose fault an envelope's error is.
fn fault_of(err: &EnvelopeError) -> OpenFault {
    OpenFault::Mail(match err {
        EnvelopeError::Read(err) | EnvelopeError::Introduction(TrustError::Read(err)) => return local(err),
        EnvelopeError::NotForUs => JunkReason::NotForUs,
        EnvelopeError::OtherSender { .. } | EnvelopeError::Signature => JunkReason::NotSigned,
        EnvelopeError::Truncated { .. }
        | EnvelopeError::Slot
        | EnvelopeError::BodyDigest { .. }
        | EnvelopeError::Chunk { .. } => JunkReason::Damaged,
        EnvelopeError::NotOurs
        | EnvelopeError::Introduction(_)
        | EnvelopeError::HeaderTooLarge { .. }
        | EnvelopeError::Header(_)
        | EnvelopeError::Contradiction { .. }
        | EnvelopeError::ManyParts { .. }
        | EnvelopeError::MessageTooLarge { .. } => JunkReason::Unreadable,
    })
}
