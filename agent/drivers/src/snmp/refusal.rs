//! Why a device of version 3 does not answer its user. By RFC 3414 §3.2 it reports an unknown user, a wrong digest and a level
//! that the user has not, but cannot authenticate what it says then, so in a usual look that is not heard. What it cannot
//! decrypt many devices do not report at all; that is found out by asking without encryption.

use std::time::Duration;

use super::ask::{Ask, AskFault, How};
use super::mib;
use super::oid::Oid;
use super::wire::Net;
use crate::access::{Snmp, SnmpIdentity};

/// Where nothing more is known.
pub(super) const UNSAID: &str = "it answers, but not this user, and does not say why: the user, auth_password or privacy_password is wrong";

const WRONG_PRIVACY: &str =
    "privacy_password or privacy is wrong: it answers this user with auth_password, but not encrypted";

/// Asks once more, for its uptime alone, and listens to reports; then once without encryption, if there is any. What goes
/// over the wire unencrypted is the name of that object, and perhaps its value.
pub(super) async fn reason(net: &Net, snmp: &Snmp, timeout: Duration) -> String {
    if let Err(AskFault::Refused(why)) = ask(net, snmp, timeout).await {
        return why;
    }
    let SnmpIdentity::V3 { user, auth, privacy: Some(_), context } = &snmp.identity else {
        return UNSAID.to_owned();
    };
    let (user, auth, context) = (user.clone(), auth.clone(), context.clone());
    let identity = SnmpIdentity::V3 { user, auth, privacy: None, context };
    let bare = Snmp { address: snmp.address.clone(), identity };
    match ask(net, &bare, timeout).await {
        // It is authentic, so user and password for that are right, whatever the device lets them see.
        Ok(()) | Err(AskFault::Object { .. }) => WRONG_PRIVACY.to_owned(),
        Err(AskFault::Refused(why)) if why.contains(NO_ACCESS) => WRONG_PRIVACY.to_owned(),
        Err(_) => UNSAID.to_owned(),
    }
}

/// RFC 3416 §3: said in an answer, and so by who knows the keys.
const NO_ACCESS: &str = "authorizationError";

async fn ask(net: &Net, snmp: &Snmp, timeout: Duration) -> Result<(), AskFault> {
    let wire = net.listening_wire(snmp, timeout).await?;
    wire.single(How::Get, &[Oid::new(mib::SYS_UP_TIME).with(&[0])]).await.map(|_| ())
}

/// The words of RFC 3414's counters and RFC 3416's errors, with what an operator can do about them.
pub(super) fn in_words(why: &str) -> String {
    let hint = [
        ("unknown user name", "the user is wrong"),
        ("wrong digest", "auth_password or auth is wrong"),
        ("decryption error", "privacy_password or privacy is wrong"),
        ("unsupported security level", "the user has no such auth or privacy there"),
        (NO_ACCESS, "the user may not read there, or only with auth or privacy"),
    ];
    // How often it has happened is the device's business.
    let plain = why.split(" (counter").next().unwrap_or(why);
    match hint.iter().find(|(words, _)| why.contains(words)) {
        Some((_, hint)) => format!("{hint} ({plain})"),
        None => plain.to_owned(),
    }
}
