//! What a server offers in its EHLO reply. lettre keeps neither SIZE nor PIPELINING, DSN or LIMITS.

use lettre::transport::smtp::authentication::Mechanism;

use crate::smtp::reply::Reply;

/// The offers that matter here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offers {
    keywords: Vec<String>,
    /// From SIZE; without a number, or with 0, there is no limit.
    pub(crate) size_max_bytes: Option<u64>,
    /// LIMITS (RFC 9422): recipients per mail, mails per connection.
    pub(crate) rcpt_max: Option<usize>,
    pub(crate) mail_max: Option<usize>,
    auth: Vec<String>,
}

impl Offers {
    /// Reads the reply; the first line is the server's name.
    pub(crate) fn read(reply: &Reply) -> Self {
        let mut offers = Self::default();
        for line in reply.lines.iter().skip(1) {
            let line = line.to_ascii_uppercase();
            // "AUTH=PLAIN" is what old Exchange servers say.
            let mut words = line.split([' ', '=']).filter(|w| !w.is_empty());
            let keyword = words.next();
            offers.keywords.extend(keyword.map(str::to_owned));
            match keyword {
                Some("SIZE") => {
                    offers.size_max_bytes = words.next().and_then(|n| n.parse().ok()).filter(|n| *n > 0);
                }
                Some("AUTH") => offers.auth.extend(words.map(str::to_owned)),
                Some("LIMITS") => {
                    let limit = |name: &str| {
                        let value = words.clone().skip_while(|w| *w != name).nth(1)?;
                        value.parse().ok().filter(|n: &usize| *n > 0)
                    };
                    (offers.rcpt_max, offers.mail_max) = (limit("RCPTMAX"), limit("MAILMAX"));
                }
                _ => {}
            }
        }
        offers
    }

    /// True if the server offers this extension, in upper case.
    pub(crate) fn has(&self, keyword: &str) -> bool {
        self.keywords.iter().any(|k| k == keyword)
    }

    /// The mechanism to use, if one fits.
    pub(crate) fn mechanism(&self, token: bool) -> Option<Mechanism> {
        let offered = |m: &Mechanism| self.auth.iter().any(|a| a == &m.to_string());
        let usable: &[_] = if token { &[Mechanism::Xoauth2] } else { &[Mechanism::Plain, Mechanism::Login] };
        usable.iter().copied().find(offered)
    }

    /// The mechanisms offered, for error texts.
    pub(crate) fn auth_text(&self) -> String {
        self.auth.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offers_are_read_in_any_case_and_form() {
        let lines = [
            "h",
            "pipelining",
            "SIZE 1000",
            "Auth=LOGIN",
            "AUTH PLAIN XOAUTH2",
            " ",
            "DSN",
            "LIMITS MAILMAX=3 RCPTMAX=7",
        ];
        let reply = Reply { code: 250, lines: lines.iter().map(|l| (*l).to_owned()).collect() };
        let offers = Offers::read(&reply);
        assert!(["PIPELINING", "DSN", "SIZE"].iter().all(|k| offers.has(k)) && !offers.has("STARTTLS"));
        assert_eq!(offers.size_max_bytes, Some(1000));
        assert_eq!((offers.rcpt_max, offers.mail_max), (Some(7), Some(3)));
        assert_eq!(offers.mechanism(false), Some(Mechanism::Plain));
        assert_eq!(offers.mechanism(true), Some(Mechanism::Xoauth2));
    }
}
