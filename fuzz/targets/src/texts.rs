//! Small texts that carry weight: names, paths, addresses, URLs, and the invitation that is made of them.

use shared::error::chain;
use shared::id::{Digest, EnvelopeId, KeyId};
use shared::invitation::{Invitation, InvitationError};
use shared::keys::{OpeningKey, SealingKey, SigningKey, VerifyingKey};
use shared::limits::{AGENT_ID_MAX_BYTES, LABEL_MAX_BYTES, MAIL_ADDRESS_MAX_BYTES, MODULE_PATH_MAX_BYTES};
use shared::path::AGENT_FOLDER;
use shared::time::{format_duration, parse_duration};
use shared::{AgentId, Label, MailAddress, ModulePath, SoftwareVersion, UnixMillis};

use mailio::{ReceiveUrl, SendUrl};

use crate::harness::{harmless, told};

/// Every small text at once: each parser takes it, or says why not.
pub(crate) fn names(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    let path = ModulePath::parse(&text).inspect(|path| {
        assert!(path.as_str().len() <= MODULE_PATH_MAX_BYTES);
        stays_below(path.as_str());
    });
    let version = SoftwareVersion::parse(&text).inspect(|version| assert_eq!(version.as_str(), text));
    let agent = AgentId::parse(&text).inspect(|agent| {
        assert!(agent.as_str().len() <= AGENT_ID_MAX_BYTES);
        assert!(!agent.as_str().starts_with(['.', '-']) && !agent.as_str().contains('/'), "a safe file name");
    });
    let address = MailAddress::parse(&text).inspect(|address| {
        assert!(address.as_str().len() <= MAIL_ADDRESS_MAX_BYTES && address.as_str().is_ascii());
        assert!(!address.as_str().contains(|c: char| c.is_whitespace() || "<>,;:\"\\".contains(c)));
        assert_eq!(MailAddress::parse(address.as_str()).as_ref(), Ok(address));
    });
    let label = Label::parse(&text).inspect(|label| harmless(label.as_str()));
    let lossy = Label::lossy(&text);
    assert!(lossy.as_str().len() <= LABEL_MAX_BYTES && Label::parse(lossy.as_str()).as_ref() == Ok(&lossy));
    let time = UnixMillis::parse(&text).inspect(|time| {
        let whole_s = UnixMillis::parse(&time.to_string());
        assert_eq!(whole_s.map(|t| t.to_string()), Ok(time.to_string()), "a time reads back");
    });
    let duration =
        parse_duration(&text).inspect(|d| assert_eq!(parse_duration(&format_duration(*d)), Ok(*d)));
    let ids = [EnvelopeId::parse_hex(&text).map(drop), KeyId::parse_hex(&text).map(drop)];
    let digest = Digest::parse_hex(&text);
    let [envelope, key] = &ids;
    let results: [Option<&dyn std::error::Error>; 10] = [
        path.as_ref().err().map(|err| err as _),
        version.as_ref().err().map(|err| err as _),
        agent.as_ref().err().map(|err| err as _),
        address.as_ref().err().map(|err| err as _),
        label.as_ref().err().map(|err| err as _),
        time.as_ref().err().map(|err| err as _),
        duration.as_ref().err().map(|err| err as _),
        envelope.as_ref().err().map(|err| err as _),
        key.as_ref().err().map(|err| err as _),
        digest.as_ref().err().map(|err| err as _),
    ];
    results.iter().flatten().for_each(|err| told(*err));
    keys(&text);
    // A label is nearly any text, so it does not count.
    results.iter().enumerate().any(|(at, err)| at != 4 && err.is_none())
}

fn keys(text: &str) {
    match VerifyingKey::parse_text(text) {
        Ok(key) => assert_eq!(VerifyingKey::parse_text(&key.to_text()).ok(), Some(key)),
        Err(err) => told(&err),
    }
    match SealingKey::parse_text(text) {
        Ok(key) => assert_eq!(SealingKey::parse_text(&key.to_text()).ok(), Some(key)),
        Err(err) => told(&err),
    }
    // What is wrong with a secret key is said without a piece of it.
    let secret = |err: &dyn std::error::Error| {
        told(err);
        let body = text.split_once(':').map_or("", |(_, body)| body.trim());
        // 32 bytes in base64.
        assert!(body.len() < 44 || !chain(err).contains(body), "an error repeats a secret");
    };
    if let Err(err) = SigningKey::parse_secret_text(text) {
        secret(&err);
    }
    if let Err(err) = OpeningKey::parse_secret_text(text) {
        secret(&err);
    }
}

/// PROTOCOL 6.4: a module's path joined to a root names something below it, outside the agent's own folder.
pub(crate) fn stays_below(path: &str) {
    use std::path::{Component, Path};
    assert!(
        !path.is_empty() && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
    );
    assert!(path.split('/').all(|name| name != AGENT_FOLDER && !name.is_empty()), "{path}");
    harmless(path);
}

/// Where mail goes out and comes in.
pub(crate) fn mail_url(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    let send = SendUrl::parse(&text).inspect(|url| {
        assert_eq!(SendUrl::parse(&url.to_string()).as_ref(), Ok(url), "{url} reads back");
    });
    let receive = ReceiveUrl::parse(&text).inspect(|url| {
        assert_eq!(ReceiveUrl::parse(&url.to_string()).as_ref(), Ok(url), "{url} reads back");
        if let ReceiveUrl::Imap { folder, .. } = url {
            harmless(folder);
        }
    });
    for err in [send.as_ref().err(), receive.as_ref().err()].into_iter().flatten() {
        told(err);
    }
    send.is_ok() || receive.is_ok()
}

/// An invitation; its checksum is put right, as whoever alters a file can do.
pub(crate) fn invitation(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    let parsed = match Invitation::parse(&text) {
        Err(InvitationError::Altered { expected, found }) if expected.len() >= 16 => {
            Invitation::parse(&text.replace(&expected, &found))
        }
        other => other,
    };
    match parsed {
        Ok(invitation) => {
            assert!(invitation.trust.check().is_ok(), "an agent believes it from the first day");
            // Times are written to the second, so the second reading is the one that must repeat.
            let text = invitation.to_text();
            let again = Invitation::parse(&text);
            let again =
                again.unwrap_or_else(|err| unreachable!("{} does not read back: {err}", text.as_str()));
            assert_eq!(Invitation::parse(&again.to_text()).as_ref(), Ok(&again), "an invitation reads back");
            true
        }
        Err(err) => {
            told(&err);
            false
        }
    }
}
