//! One mail over one session: MAIL, RCPT for each recipient, DATA, verdict. Answers per recipient, and says
//! for each failure whether the server may have taken the mail.

use lettre::Address;
use lettre::transport::smtp::commands::{Data, Mail, Rcpt, Rset};
use lettre::transport::smtp::extension::{MailParameter, RcptParameter};
use shared::MailAddress;

use crate::error::{NetError, SendError};
use crate::net::Duplex;
use crate::outgoing::{Outgoing, Sent, Why};
use crate::settings::after_dot_extra;
use crate::smtp::reply::Reply;
use crate::smtp::session::Session;

/// RCPT commands per write. 100 of them and their replies fit any socket buffer, so that neither side waits
/// for the other.
const PIPELINE_MAX: usize = 100;

impl<S: Duplex> Session<S> {
    /// Offers the mail to `to`, which are some of its recipients. The answer has one entry each; `None` means
    /// that this recipient wants another transaction. After an error the session must be dropped.
    pub(crate) async fn transaction(
        &mut self,
        mail: &Outgoing,
        to: &[&MailAddress],
        size_bytes: u64,
    ) -> Result<Vec<Option<Sent>>, SendError> {
        let to = to.get(..self.offers.rcpt_max.unwrap_or(usize::MAX)).unwrap_or(to);
        let replies = self.envelope(mail, to, size_bytes).await?;
        let accepted = replies.iter().filter(|r| r.is_ok()).count();
        let final_verdict = if accepted > 0 {
            Some(self.data(mail, size_bytes).await?)
        } else {
            self.reset().await?;
            None
        };
        self.mails_count = self.mails_count.saturating_add(1);
        let outcome = |(at, reply): (usize, &Reply)| {
            if reply.is_ok() {
                return final_verdict.clone();
            }
            // If already the first is one too many, another transaction would not help.
            if reply.is_too_many() && at > 0 { None } else { Some(reply.verdict()) }
        };
        Ok(replies.iter().enumerate().map(outcome).collect())
    }

    /// MAIL and all RCPTs; the replies to the latter.
    async fn envelope(
        &mut self,
        mail: &Outgoing,
        to: &[&MailAddress],
        size_bytes: u64,
    ) -> Result<Vec<Reply>, SendError> {
        let rcpts: Vec<String> = to.iter().map(|a| self.rcpt_line(a)).collect();
        let mut line = self.mail_line(mail, size_bytes);
        let mut replies = Vec::with_capacity(rcpts.len());
        if !self.offers.has("PIPELINING") {
            let reply = self.command("MAIL", &line).await?;
            self.judge_mail(&reply)?;
            for rcpt in &rcpts {
                replies.push(self.command("RCPT", rcpt).await?);
            }
            return Ok(replies);
        }
        let mut mail_reply = None;
        for group in rcpts.chunks(PIPELINE_MAX) {
            line.push_str(&group.concat());
            self.write("MAIL", line.as_bytes(), self.timeouts.command).await?;
            line.clear();
            if mail_reply.is_none() {
                mail_reply = Some(self.reply("MAIL", self.timeouts.command).await?);
            }
            for _ in group {
                replies.push(self.reply("RCPT", self.timeouts.command).await?);
            }
            // All replies were read, so the session is in step even if MAIL was refused.
            if let Some(reply) = &mail_reply {
                self.judge_mail(reply)?;
            }
        }
        Ok(replies)
    }

    fn judge_mail(&self, reply: &Reply) -> Result<(), SendError> {
        if reply.is_ok() { Ok(()) } else { Err(self.refused("MAIL", reply)) }
    }

    fn mail_line(&self, mail: &Outgoing, size_bytes: u64) -> String {
        let mut parameters = Vec::new();
        if self.offers.has("SIZE") {
            parameters.push(MailParameter::Size(usize::try_from(size_bytes).unwrap_or(usize::MAX)));
        }
        if self.offers.has("DSN") {
            // Only the headers come back in a bounce, not the whole attachment.
            for (keyword, value) in [("RET", "HDRS".to_owned()), ("ENVID", mail.envelope.to_hex())] {
                parameters.push(MailParameter::Other { keyword: keyword.to_owned(), value: Some(value) });
            }
        }
        Mail::new(Some(address(&mail.from)), parameters).to_string()
    }

    // MailParameter::Other and RcptParameter::Other write their values as xtext, in which ',' and '=' stay.
    fn rcpt_line(&self, to: &MailAddress) -> String {
        let mut parameters = Vec::new();
        if self.offers.has("DSN") {
            let value = Some("FAILURE,DELAY".to_owned());
            parameters.push(RcptParameter::Other { keyword: "NOTIFY".to_owned(), value });
        }
        Rcpt::new(address(to), parameters).to_string()
    }

    async fn reset(&mut self) -> Result<(), SendError> {
        let reply = self.command("RSET", &Rset.to_string()).await?;
        if reply.is_ok() { Ok(()) } else { Err(self.refused("RSET", &reply)) }
    }

    /// The mail's text and the server's verdict on it.
    async fn data(&mut self, mail: &Outgoing, size_bytes: u64) -> Result<Sent, SendError> {
        let chunks = mail.chunks().map_err(|err| SendError::io("opening the attachment", err))?;
        let reply = self.command("DATA", &Data.to_string()).await?;
        if reply.code != 354 {
            if (400..600).contains(&reply.code) {
                return Ok(reply.verdict());
            }
            return Err(self.out_of_step("DATA", "354", &reply).into());
        }
        let mut stuffer = Stuffer::default();
        let mut last = Vec::new();
        // One chunk is held back, so that the dot goes out in the same write as the mail's end.
        for chunk in chunks {
            let chunk = chunk.map_err(|err| SendError::io("reading the attachment", err))?;
            if !last.is_empty() {
                self.write("body", &last, self.timeouts.block).await?;
                if self.has_spoken().await {
                    return Err(self.early().await.into());
                }
            }
            last = stuffer.stuff(&chunk);
        }
        last.extend_from_slice(b".\r\n");
        let after_dot = self.timeouts.after_dot.saturating_add(after_dot_extra(size_bytes));
        // From here on, a failure says nothing about what the server did with the mail.
        self.write("body", &last, self.timeouts.block).await.map_err(SendError::UnknownOutcome)?;
        let reply = self.reply("verdict", after_dot).await.map_err(after_dot_error)?;
        match reply.code {
            250 => Ok(Sent::Done),
            400..600 => Ok(reply.verdict()),
            // lettre takes 354 here for success; it means that replies are off by one.
            _ => Err(SendError::UnknownOutcome(self.out_of_step("verdict", "250", &reply))),
        }
    }

    /// The server spoke in the middle of the mail: it has given up.
    async fn early(&mut self) -> NetError {
        match self.reply("body", self.timeouts.command).await {
            Ok(reply) => {
                NetError::Closed { host: self.host.clone(), phase: "body", text: reply.why().to_string() }
            }
            Err(err) => err,
        }
    }

    fn out_of_step(&self, phase: &'static str, expected: &'static str, reply: &Reply) -> NetError {
        NetError::Protocol { host: self.host.clone(), phase, expected, found: reply.why().to_string() }
    }
}

// A 421 after the dot is an answer: the mail was refused for now.
fn after_dot_error(err: NetError) -> SendError {
    match err {
        NetError::Closed { ref text, .. } if text.starts_with("421") => SendError::Unreachable(err),
        NetError::Closed { .. }
        | NetError::Connect { .. }
        | NetError::Timeout { .. }
        | NetError::Io { .. }
        | NetError::Tls { .. }
        | NetError::CaFile { .. }
        | NetError::Protocol { .. } => SendError::UnknownOutcome(err),
    }
}

fn address(address: &MailAddress) -> Address {
    let text = address.as_str();
    let (local, domain) = text.rsplit_once('@').unwrap_or((text, ""));
    // MailAddress is stricter than lettre's check but for single-label domains, which labs have.
    Address::new_dangerous(local, domain)
}

/// Doubles the dot at a line's start (RFC 5321 §4.5.2). The text has CRLF ends only.
#[derive(Default)]
struct Stuffer {
    inside_line: bool,
}

impl Stuffer {
    fn stuff(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len().saturating_add(64));
        for line in bytes.split_inclusive(|b| *b == b'\n') {
            if !self.inside_line && line.first() == Some(&b'.') {
                out.push(b'.');
            }
            out.extend_from_slice(line);
            self.inside_line = line.last() != Some(&b'\n');
        }
        out
    }
}

/// What remains unsent becomes "later", with the reason.
pub(crate) fn later(err: &SendError) -> Sent {
    let mut text = err.to_string();
    let mut cause = std::error::Error::source(err);
    while let Some(err) = cause {
        text = format!("{text}: {err}");
        cause = err.source();
    }
    Sent::Later(Why::local(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_at_line_starts_are_doubled_across_chunks() {
        let mut stuffer = Stuffer::default();
        assert_eq!(stuffer.stuff(b".a\r\n.\r\nb."), b"..a\r\n..\r\nb.");
        assert_eq!(stuffer.stuff(b".c\r\n"), b".c\r\n");
        assert_eq!(stuffer.stuff(b".\r\n"), b"..\r\n");
    }
}
