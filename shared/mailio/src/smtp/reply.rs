//! One reply of an SMTP server: read with bounds, judged by its code.

use core::time::Duration;
use tokio::io::AsyncBufRead;

use crate::error::NetError;
use crate::line::line;
use crate::net::{broken, limited};
use crate::outgoing::{Sent, Why};
use crate::text::{SERVER_TEXT_MAX_BYTES, clean, clean_bytes, contains_ignore_case};

const LINES_MAX: usize = 200;

/// A reply of one or more lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) code: u16,
    pub(crate) lines: Vec<String>,
}

impl Reply {
    /// Reads one reply; the limit is for all of it.
    pub(crate) async fn read<R: AsyncBufRead + Unpin>(
        from: &mut R,
        host: &str,
        phase: &'static str,
        limit: Duration,
    ) -> Result<Self, NetError> {
        let work = async {
            let mut lines = Vec::new();
            loop {
                let line = line(from).await.map_err(|err| broken(host, phase, err))?;
                let (code, last, text) = parse(&line).ok_or_else(|| NetError::Protocol {
                    host: host.to_owned(),
                    phase,
                    expected: "an SMTP reply",
                    found: clean_bytes(&line, 80),
                })?;
                lines.push(text);
                if last {
                    return Ok(Self { code, lines });
                }
                if lines.len() >= LINES_MAX {
                    let found = format!("more than {LINES_MAX} lines");
                    let expected = "a reply that ends";
                    return Err(NetError::Protocol { host: host.to_owned(), phase, expected, found });
                }
            }
        };
        limited(host, phase, limit, work).await?
    }

    /// 2xx.
    pub(crate) fn is_ok(&self) -> bool {
        (200..300).contains(&self.code)
    }

    /// The enhanced status code at the text's start.
    fn enhanced(&self) -> Option<&str> {
        let word = self.lines.first()?.split_whitespace().next()?;
        let mut digits = word.split('.');
        let number = |d: Option<&str>| d.is_some_and(|d| d.len() <= 3 && d.parse::<u16>().is_ok());
        let ok = number(digits.next()) && number(digits.next()) && number(digits.next());
        (ok && digits.next().is_none()).then_some(word)
    }

    /// The reply as a reason.
    pub(crate) fn why(&self) -> Why {
        let enhanced = self.enhanced().map(str::to_owned);
        let text = self.lines.join(" ");
        let text = enhanced.as_ref().and_then(|e| text.strip_prefix(e.as_str())).unwrap_or(&text);
        Why { code: Some(self.code), enhanced, text: clean(text, SERVER_TEXT_MAX_BYTES) }
    }

    /// What a refusal or acceptance means for a recipient.
    pub(crate) fn verdict(&self) -> Sent {
        let why = self.why();
        match self.code {
            // Only 250 and its kin; a 354 where a verdict is due means that replies are off by one.
            200..300 => Sent::Done,
            // chatmail core treats "550 5.5.0" as transient: filters that are out of order answer it.
            550 if why.enhanced.as_deref() == Some("5.5.0") => Sent::Later(why),
            521 => Sent::Later(why),
            500.. => Sent::Never(why),
            _ => Sent::Later(why),
        }
    }

    /// True if the server wants the remaining recipients in another transaction (RFC 5321 §4.5.3.1.10; old
    /// servers say 552).
    pub(crate) fn is_too_many(&self) -> bool {
        matches!(self.code, 452 | 552)
            && match self.enhanced() {
                Some(enhanced) => enhanced.ends_with(".5.3"),
                None => contains_ignore_case(&self.lines.join(" "), "too many"),
            }
    }
}

/// Code, whether it is the last line, and the text. A bare `250` without blank is accepted, as RFC 5321 §4.2
/// asks (lettre's parser refuses it).
fn parse(line: &[u8]) -> Option<(u16, bool, String)> {
    let line = line.trim_ascii_end();
    let code: u16 = core::str::from_utf8(line.get(..3)?).ok()?.parse().ok()?;
    if !(200..600).contains(&code) {
        return None;
    }
    let last = match line.get(3) {
        None | Some(b' ') => true,
        Some(b'-') => false,
        Some(_) => return None,
    };
    let text = line.get(4..).unwrap_or_default();
    Some((code, last, clean_bytes(text, 1_000)))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(mut text: &[u8]) -> Result<Reply, NetError> {
        Reply::read(&mut text, "h", "test", Duration::from_secs(1)).await
    }

    #[tokio::test]
    async fn replies_of_many_lines_and_bare_codes_are_read() {
        let reply = read(b"250-a\r\n250-\r\n250\r\n").await.unwrap();
        assert_eq!((reply.code, reply.lines), (250, vec!["a".to_owned(), String::new(), String::new()]));
    }

    #[tokio::test]
    async fn endless_or_foreign_replies_are_refused() {
        for bad in [b"HTTP/1.1 400\r\n".as_slice(), b"25\r\n", b"2500 x\r\n", b"\xff\xfe\r\n", b"950 x\r\n"] {
            assert!(matches!(read(bad).await, Err(NetError::Protocol { .. })), "{bad:?}");
        }
        assert!(matches!(read(&b"250-x\r\n".repeat(1000)).await, Err(NetError::Protocol { .. })));
        assert!(matches!(read(&[b'2'; 100_000]).await, Err(NetError::Io { .. })));
        assert!(matches!(read(b"250 ok").await, Err(NetError::Closed { .. })));
    }

    #[test]
    fn codes_become_verdicts() {
        let verdict = |code, text: &str| Reply { code, lines: vec![text.to_owned()] }.verdict();
        assert_eq!(verdict(250, "2.0.0 queued"), Sent::Done);
        assert!(matches!(verdict(354, "go"), Sent::Later(_)));
        assert!(matches!(verdict(421, "bye"), Sent::Later(_)));
        assert!(matches!(verdict(450, "4.1.2 x"), Sent::Later(_)));
        assert!(matches!(verdict(550, "5.5.0 filter"), Sent::Later(_)));
        let Sent::Never(why) = verdict(550, "5.1.1 no such user") else { panic!("not permanent") };
        assert_eq!(why.to_string(), "550 5.1.1 no such user");
    }

    #[test]
    fn too_many_recipients_is_told_from_a_full_disk() {
        let many = |code, text: &str| Reply { code, lines: vec![text.to_owned()] }.is_too_many();
        assert!(many(452, "4.5.3 Error: too many recipients"));
        assert!(many(552, "5.5.3 Too many"));
        assert!(many(452, "Too many recipients"));
        assert!(!many(452, "4.3.1 Insufficient system storage"));
        assert!(!many(550, "5.5.3 too many"));
    }
}
