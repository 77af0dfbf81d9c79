//! A mail server's words, understood: the enhanced status code (RFC 3463) first, because it is made for that; then what is written
//! in the text; the reply code last, because 550 and 552 mean everything. Anything may come, and is at worst `Other`.

use core::fmt;

use super::Cause;

/// What a mail server said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Words<'a> {
    /// SMTP reply code, if it is known apart from the text.
    pub code: Option<u16>,
    /// Enhanced status code such as `5.1.1`; empty if there is none.
    pub enhanced: &'a str,
    /// The text, which may hold both once more.
    pub text: &'a str,
}

impl fmt::Display for Words<'_> {
    /// Says each code once: a bounce has them as fields and in its text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(code) = self.code {
            write!(f, "{code} ")?;
        }
        if !self.enhanced.is_empty() && !self.text.contains(self.enhanced) {
            write!(f, "{} ", self.enhanced)?;
        }
        let text = self.text.trim();
        f.write_str(text.strip_prefix("smtp;").map_or(text, str::trim_start))
    }
}

/// Words, most telling first; every text is looked for in this order.
const TELLING: &[(Cause, &[&str])] = &[
    (Cause::Greylisted, &["greylist", "graylist", "grey-list", "gray-list", "grey list"]),
    (
        Cause::MailboxFull,
        &[
            "quota exceeded",
            "over quota",
            "overquota",
            "out of storage",
            "exceeded storage",
            "mailbox is full",
            "mailbox full",
            "mailbox size",
            "inbox is full",
            "quota",
        ],
    ),
    (
        Cause::TooBig,
        &["too large", "too big", "size limit", "message size", "exceeds size", "exceeds the maximum"],
    ),
    (
        Cause::MailboxDisabled,
        &[
            "account disabled",
            "account is disabled",
            "mailbox disabled",
            "mailbox is disabled",
            "account inactive",
            "mailbox inactive",
            "deactivated",
            "suspended",
        ],
    ),
    (
        Cause::UnknownMailbox,
        &[
            "unknown user",
            "user unknown",
            "unknown recipient",
            "recipient unknown",
            "unknown local",
            "unknown in virtual",
            "no such user",
            "no such mailbox",
            "no such recipient",
            "no mailbox here",
            "doesn't exist",
            "does not exist",
            "user doesn't have",
            "user not found",
            "recipient not found",
            "mailbox not found",
            "mailbox unavailable",
        ],
    ),
    (
        Cause::NoRoute,
        &[
            "host not found",
            "domain not found",
            "name or service not known",
            "name service error",
            "unrouteable",
            "unroutable",
            "no route",
            "connection refused",
            "connection timed out",
            "network is unreachable",
            "host unreachable",
        ],
    ),
    (
        Cause::RefusedByPolicy,
        &["policy", "spam", "blocked", "blacklist", "blocklist", "access denied", "not authorized"],
    ),
    (Cause::Expired, &["retry time not reached", "retry timeout exceeded", "queue too long"]),
];

/// What a server's words mean.
#[must_use]
pub fn cause(words: &Words<'_>) -> Cause {
    let text = words.text.to_ascii_lowercase();
    let tokens = || text.split(|c: char| !c.is_ascii_alphanumeric() && c != '.');
    Status::parse(words.enhanced)
        .and_then(|status| status.cause(&text))
        // A bounce's own field is often as vague as 5.0.0 where the far server, quoted in the text, was not.
        .or_else(|| tokens().filter_map(Status::parse).find_map(|status| status.cause(&text)))
        .or_else(|| told(&text))
        .or_else(|| by_code(words.code.or_else(|| tokens().find_map(reply_code))?))
        .unwrap_or_default()
}

fn told(text: &str) -> Option<Cause> {
    TELLING.iter().find(|(_, all)| all.iter().any(|words| text.contains(words))).map(|(cause, _)| *cause)
}

fn reply_code(token: &str) -> Option<u16> {
    token.parse().ok().filter(|code| token.len() == 3 && (400..600).contains(code))
}

fn by_code(code: u16) -> Option<Cause> {
    match code {
        // RFC 5321 §4.2.3: exceeded storage allocation; user not local; transaction failed, which is how filters say no.
        552 => Some(Cause::MailboxFull),
        551 => Some(Cause::UnknownMailbox),
        554 => Some(Cause::RefusedByPolicy),
        _ => None,
    }
}

/// An enhanced status code of a failure.
#[derive(Clone, Copy)]
struct Status {
    permanent: bool,
    subject: u16,
    detail: u16,
}

impl Status {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let mut number = || {
            let part = parts.next().filter(|part| (1..=3).contains(&part.len()))?;
            part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse::<u16>().ok()).flatten()
        };
        let (class, subject, detail) = (number()?, number()?, number()?);
        let is_failure = matches!(class, 4 | 5) && parts.next().is_none();
        is_failure.then_some(Self { permanent: class == 5, subject, detail })
    }

    /// RFC 3463 §3 and what is registered since. `None`: it says nothing that its text might not say better.
    fn cause(self, text: &str) -> Option<Cause> {
        match (self.permanent, self.subject, self.detail) {
            (_, 1, 1 | 3 | 6 | 10) => Some(Cause::UnknownMailbox),
            (_, 1, 2) => Some(Cause::NoRoute),
            (_, 1, 7 | 8) => Some(Cause::RefusedByPolicy),
            // 4.2.1 is what Google says to those who mail too fast.
            (true, 2, 1) => Some(Cause::MailboxDisabled),
            (_, 2, 2) => Some(Cause::MailboxFull),
            (_, 2, 3) | (_, 3, 4) => Some(Cause::TooBig),
            (_, 4, 7) => Some(Cause::Expired),
            (_, 4, _) => Some(Cause::NoRoute),
            (false, 7, 1) => Some(Cause::Greylisted),
            // Some servers put full mailboxes and unknown users under "security".
            (_, 7, _) => told(text).or(Some(Cause::RefusedByPolicy)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(code: u16, enhanced: &str, text: &str) -> Cause {
        cause(&Words { code: Some(code), enhanced, text })
    }

    fn in_bounce(status: &str, diagnostic: &str) -> Cause {
        cause(&Words { code: None, enhanced: status, text: diagnostic })
    }

    #[test]
    fn enhanced_codes_say_what_is_wrong() {
        for (code, enhanced, expected) in [
            (550, "5.1.1", Cause::UnknownMailbox),
            (550, "5.1.10", Cause::UnknownMailbox),
            (550, "5.1.2", Cause::NoRoute),
            (550, "5.2.1", Cause::MailboxDisabled),
            (452, "4.2.2", Cause::MailboxFull),
            (552, "5.2.2", Cause::MailboxFull),
            (552, "5.3.4", Cause::TooBig),
            (552, "5.2.3", Cause::TooBig),
            (550, "5.7.1", Cause::RefusedByPolicy),
            (554, "5.7.515", Cause::RefusedByPolicy),
            (451, "4.7.1", Cause::Greylisted),
            (450, "4.7.0", Cause::RefusedByPolicy),
            (450, "4.4.1", Cause::NoRoute),
            (550, "5.4.4", Cause::NoRoute),
            (450, "4.4.7", Cause::Expired),
            (550, "5.4.7", Cause::Expired),
            (450, "4.2.1", Cause::Other),
            (450, "4.3.0", Cause::Other),
        ] {
            assert_eq!(of(code, enhanced, "no"), expected, "{code} {enhanced}");
        }
    }

    #[test]
    fn servers_without_enhanced_codes_are_understood_by_their_words() {
        for (code, text, expected) in [
            (550, "Unknown user", Cause::UnknownMailbox),
            (550, "Requested action not taken: mailbox unavailable", Cause::UnknownMailbox),
            (452, "Mailbox of box is over quota", Cause::MailboxFull),
            (552, "Requested mail action aborted: exceeded storage allocation", Cause::MailboxFull),
            (552, "Message size exceeds fixed maximum message size", Cause::TooBig),
            (451, "Greylisting in action, please come back later", Cause::Greylisted),
            (450, "try again later", Cause::Other),
            (554, "Transaction failed", Cause::RefusedByPolicy),
            (550, "This account is disabled", Cause::MailboxDisabled),
            (550, "no", Cause::Other),
        ] {
            assert_eq!(of(code, "", text), expected, "{code} {text}");
        }
    }

    #[test]
    fn bounces_as_real_servers_write_them_are_understood() {
        for (status, diagnostic, expected) in [
            // Dovecot over Postfix, Exim, Google, Exchange, a queue of Postfix that gave up.
            (
                "5.2.2",
                "smtp; 552 5.2.2 <full@lab.test> Quota exceeded (mailbox for user is full)",
                Cause::MailboxFull,
            ),
            (
                "5.1.1",
                "smtp; 550 5.1.1 <gone@lab.test> User doesn't exist: gone@lab.test",
                Cause::UnknownMailbox,
            ),
            (
                "5.0.0",
                "smtp; 550-5.1.1 The email account that you tried to reach does not exist",
                Cause::UnknownMailbox,
            ),
            ("5.0.0", "smtp; 552 Mailbox size limit exceeded: quota", Cause::MailboxFull),
            ("5.1.10", "smtp;550 5.1.10 RESOLVER.ADR.RecipientNotFound; not found", Cause::UnknownMailbox),
            ("4.4.1", "X-Postfix; connect to site.test[192.0.2.1]:25: Connection timed out", Cause::NoRoute),
            ("5.7.1", "smtp; 550 5.7.1 mailbox full: quota", Cause::MailboxFull),
            ("", "", Cause::Other),
        ] {
            assert_eq!(in_bounce(status, diagnostic), expected, "{status} {diagnostic}");
        }
    }

    #[test]
    fn an_address_or_a_version_in_the_text_is_no_status_code() {
        assert_eq!(in_bounce("", "host 5.1.1.7 said no"), Cause::Other);
        assert_eq!(in_bounce("", "Postfix 3.7.11 said no"), Cause::Other);
        assert_eq!(in_bounce("9.9.9", "5.1.1234"), Cause::Other);
    }

    #[test]
    fn each_code_is_said_once() {
        let said = |code, enhanced, text| Words { code, enhanced, text }.to_string();
        assert_eq!(said(Some(550), "5.1.1", "no such user"), "550 5.1.1 no such user");
        assert_eq!(said(None, "5.1.1", "smtp; 550 5.1.1 no such user"), "550 5.1.1 no such user");
        assert_eq!(said(None, "4.4.1", "X-Postfix; timed out"), "4.4.1 X-Postfix; timed out");
    }

    proptest! {
        #[test]
        fn any_words_are_understood_or_other(code in prop::option::of(0u16..1000), status in ".{0,12}", text in ".{0,80}") {
            let words = Words { code, enhanced: &status, text: &text };
            let _ = (cause(&words), words.to_string());
        }
    }
}
