//! The handler `ftp`: an image stored on a device by FTP (RFC 959, 2428), as printers take it. Eight commands, of our own: what
//! is said after the last byte, and whether the data connection was closed or reset, is the whole point, and libraries do not tell.
//!
//! Settings: `port` (21), `path` (`firmware.bin`), `success` (a text that the last reply must have), `login` = `user` | `password`
//! (the password in the user's place, as Brother has it).
//!
//! Closing the data connection is how FTP says that a file is complete. So it is reset until the last byte has left.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Answer, CONNECT_LIMIT, Halt, Image, Job, Pushed, cut, end_badly, end_well, judge, said};
use crate::access::Login;
use crate::limits::FIRMWARE_SAID_MAX_BYTES;

const PORT: u16 = 21;

pub(super) const SETTINGS: &[&str] = &["port", "path", "success", "login"];

/// Time for a reason, when the data connection has broken.
const REASON_LIMIT: Duration = Duration::from_secs(5);

pub(super) fn check(job: &Job<'_>) -> Result<(), String> {
    job.plain("path", "firmware.bin")?;
    job.word("login", &["user", "password"]).map(|_| ())
}

/// Whether somebody answers as an FTP server.
pub(super) async fn ask(job: &Job<'_>) -> Result<(), Answer> {
    let greeted = async {
        let mut control = Control::open(job).await?;
        // It need not wait for somebody who has left.
        let _ = control.say("QUIT\r\n").await;
        Ok(())
    };
    greeted.await.map_err(|no| match no {
        No::Never(reason) => Answer::Refused { reason },
        No::Now(reason) => Answer::NotNow { reason, hold: judge::HOLD_CLOSED },
    })
}

/// Sends it.
pub(super) async fn push(job: &Job<'_>, image: &mut Image) -> Result<(), Pushed> {
    let path = job.plain("path", "firmware.bin").map_err(Pushed::NotBegun)?;
    let mut control = Control::open(job).await?;
    control.log_in().await?;
    control.ask("TYPE I\r\n").await?.positive()?;
    let mut data = control.passive().await?;
    end_badly(&data).map_err(Pushed::NotBegun)?;
    control.ask(&format!("STOR {path}\r\n")).await?.begun()?;
    let sent = {
        let mut reply = pin!(control.reply());
        match job.send(image, &mut data, reply.as_mut()).await {
            Ok(()) => {
                let closed = async {
                    end_well(&data)?;
                    data.shutdown().await
                };
                let unclear = |why| Pushed::Unclear(format!("all of it was sent, and then: {why}"));
                job.step(closed).await.map_err(unclear)?;
                Ok(job.step(reply).await.map_err(unclear)?)
            }
            // The reason may be on its way.
            Err(Halt::Broken(why)) => match timeout(REASON_LIMIT, reply).await {
                Ok(Ok(reply)) => Err(cut(image, reply.text)),
                Ok(Err(_)) | Err(_) => Err(cut(image, why)),
            },
            Err(Halt::Changed(why)) => Err(cut(image, why)),
            Err(Halt::Early(Ok(reply))) if reply.code >= 500 => Err(Pushed::Refused(reply.text)),
            Err(Halt::Early(Ok(reply))) => Err(cut(image, reply.text)),
            Err(Halt::Early(Err(err))) => Err(cut(image, err)),
        }
    };
    let last = sent?;
    judged(&last, job.setting("success"))?;
    let _ = control.say("QUIT\r\n").await;
    Ok(())
}

/// What the reply after the last byte means.
fn judged(reply: &Reply, success: Option<&str>) -> Result<(), Pushed> {
    let Reply { code, text } = reply;
    match code {
        200..=299 if success.is_none_or(|success| text.contains(success)) => Ok(()),
        200..=299 => Err(Pushed::Unclear(format!("it took the file and says: {text}"))),
        // "Connection closed; transfer aborted", "action aborted": it does not have all of it.
        400..=499 => Err(Pushed::Incomplete(text.clone())),
        _ => Err(Pushed::Refused(text.clone())),
    }
}

/// Why nothing was begun.
enum No {
    /// It may be otherwise later.
    Now(String),
    /// It will say the same again.
    Never(String),
}

impl From<No> for Pushed {
    fn from(no: No) -> Self {
        match no {
            No::Now(why) => Self::NotBegun(why),
            No::Never(why) => Self::Refused(why),
        }
    }
}

/// One reply.
struct Reply {
    code: u16,
    text: String,
}

impl Reply {
    fn positive(self) -> Result<Self, No> {
        self.within(200..=299)
    }

    /// RFC 959 §4.2: the file may come.
    fn begun(self) -> Result<Self, No> {
        self.within(100..=199)
    }

    fn within(self, codes: std::ops::RangeInclusive<u16>) -> Result<Self, No> {
        match self.code {
            code if codes.contains(&code) => Ok(self),
            400..=499 => Err(No::Now(self.text)),
            _ => Err(No::Never(self.text)),
        }
    }
}

/// The control connection.
struct Control<'j> {
    stream: TcpStream,
    job: &'j Job<'j>,
    came: Vec<u8>,
}

impl<'j> Control<'j> {
    /// Connected and greeted.
    async fn open(job: &'j Job<'j>) -> Result<Self, No> {
        let stream = job.connect(PORT).await.map_err(No::Now)?;
        let mut control = Self { stream, job, came: Vec::new() };
        let mut greeting = control.next().await?;
        if greeting.code == 120 {
            greeting = control.next().await?;
        }
        greeting.positive()?;
        Ok(control)
    }

    async fn log_in(&mut self) -> Result<(), No> {
        let none = Login { user: "anonymous".to_owned(), password: "mailfleet".to_owned() };
        let Login { user, password } = self.job.access().login.as_ref().unwrap_or(&none);
        let (user, password) = match self.job.word("login", &["user", "password"]).map_err(No::Never)? {
            "password" => (password, ""),
            _ => (user, password.as_str()),
        };
        let reply = self.ask(&format!("USER {user}\r\n")).await?;
        let reply = match reply.code {
            331 => self.ask(&format!("PASS {password}\r\n")).await?,
            _ => reply,
        };
        match reply.code {
            200..=299 => Ok(()),
            400..=499 => Err(No::Now(reply.text)),
            // What it says may repeat what it was told.
            _ => Err(No::Never(format!("it does not accept this user and password ({})", reply.code))),
        }
    }

    /// The connection for the file: to where the device is, whatever address it says (a bounce attack, RFC 2577).
    async fn passive(&mut self) -> Result<TcpStream, No> {
        let reply = self.ask("EPSV\r\n").await?;
        let port = if reply.code == 229 {
            extended_port(&reply.text)
        } else {
            passive_port(&self.ask("PASV\r\n").await?.positive()?.text)
        };
        let port = port.ok_or_else(|| No::Never("it does not say where it takes a file".to_owned()))?;
        let peer = self.stream.peer_addr().map_err(|err| No::Now(err.to_string()))?;
        let place = SocketAddr::new(peer.ip(), port);
        match timeout(CONNECT_LIMIT, TcpStream::connect(place)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(err)) => Err(No::Now(format!("cannot reach {place}: {err}"))),
            Err(_) => Err(No::Now(format!("no answer from {place}"))),
        }
    }

    async fn ask(&mut self, line: &str) -> Result<Reply, No> {
        self.say(line).await.map_err(No::Now)?;
        self.next().await
    }

    async fn say(&mut self, line: &str) -> Result<(), String> {
        self.job.step(self.stream.write_all(line.as_bytes())).await
    }

    /// The next reply, in time.
    async fn next(&mut self) -> Result<Reply, No> {
        let job = self.job;
        job.step(self.reply()).await.map_err(No::Now)
    }

    /// The next reply, whenever it comes.
    async fn reply(&mut self) -> std::io::Result<Reply> {
        reply(&mut self.stream, &mut self.came).await
    }
}

/// The next reply. `226-…` begins one of several lines, of which the last has the same code and a blank (RFC 959 §4.2).
async fn reply(from: &mut (impl AsyncRead + Unpin), came: &mut Vec<u8>) -> std::io::Result<Reply> {
    let broken = |why: &str| std::io::Error::other(why.to_owned());
    let (mut text, mut opened): (Vec<u8>, Option<u16>) = (Vec::new(), None);
    loop {
        while let Some(end) = came.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = came.drain(..=end).collect();
            text.extend(&line);
            let code = line.get(..3).and_then(|code| std::str::from_utf8(code).ok());
            let code = code.and_then(|code| code.parse::<u16>().ok()).filter(|code| *code >= 100);
            match (code, line.get(3)) {
                (Some(code), Some(b' ' | b'\r' | b'\n')) if opened.is_none_or(|opened| opened == code) => {
                    return Ok(Reply { code, text: said(&text) });
                }
                (Some(code), Some(b'-')) if opened.is_none() => opened = Some(code),
                // A line between the first and the last.
                _ if text.len() <= FIRMWARE_SAID_MAX_BYTES => {}
                _ => return Err(broken("a reply without an end")),
            }
        }
        if came.len() > FIRMWARE_SAID_MAX_BYTES {
            return Err(broken("a reply without an end"));
        }
        let mut piece = [0_u8; 1024];
        match from.read(&mut piece).await? {
            0 => return Err(broken("it closed the connection")),
            count => came.extend(piece.iter().take(count)),
        }
    }
}

/// What is made of replies that came: a place for a file, or an end.
pub(super) async fn replayed(mut bytes: &[u8]) -> Result<(), Pushed> {
    let mut came = Vec::new();
    loop {
        let reply = reply(&mut bytes, &mut came).await.map_err(|err| Pushed::NotBegun(err.to_string()))?;
        if extended_port(&reply.text).is_none() && passive_port(&reply.text).is_none() {
            return judged(&reply, Some("ransfer"));
        }
    }
}

/// `229 Entering Extended Passive Mode (|||6446|)`.
fn extended_port(text: &str) -> Option<u16> {
    let (_, inside) = text.split_once("(|||")?;
    inside.split('|').next()?.parse().ok().filter(|port| *port != 0)
}

/// `227 Entering Passive Mode (192,0,2,17,25,46).`
fn passive_port(text: &str) -> Option<u16> {
    let numbers = text.split(|c: char| !c.is_ascii_digit()).filter(|part| !part.is_empty()).skip(1);
    let numbers: Option<Vec<u8>> = numbers.map(|part| part.parse().ok()).collect();
    match numbers?.as_slice() {
        [_, _, _, _, high, low, ..] => Some(u16::from_be_bytes([*high, *low])).filter(|port| *port != 0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_a_file_is_found_or_refused() {
        assert_eq!(extended_port("229 Entering Extended Passive Mode (|||6446|)"), Some(6_446));
        for bad in ["229 ok", "229 (|||)", "229 (|||0|)", "229 (|||99999|)", "229 (|||64"] {
            assert_eq!(extended_port(bad).filter(|_| bad != "229 (|||64"), None, "{bad}");
        }
        assert_eq!(passive_port("227 Entering Passive Mode (192,0,2,17,25,46)."), Some(6_446));
        for bad in ["227", "227 (1,2,3,4,5)", "227 (1,2,3,4,256,1)", "227 (1,2,3,4,0,0)"] {
            assert_eq!(passive_port(bad), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn a_reply_ends_with_the_code_that_it_began_with() {
        let mut said = &b"226-Stored\r\n 226 it is\r\n200 files\r\n226 Transfer complete\r\n220 next\r\n"[..];
        let mut came = Vec::new();
        let one = reply(&mut said, &mut came).await.unwrap();
        assert!(one.code == 226 && one.text.ends_with("Transfer complete"), "{}", one.text);
        assert_eq!(reply(&mut said, &mut came).await.unwrap().code, 220);
        assert!(reply(&mut &b"226-Stored\r\n220 no\r\n"[..], &mut Vec::new()).await.is_err());
    }

    #[test]
    fn only_the_words_that_were_expected_are_success() {
        let reply = |code, text: &str| Reply { code, text: text.to_owned() };
        let done = "226 Data Connection Closed. Entering FirmWareUpdate mode.";
        assert_eq!(judged(&reply(226, done), Some("Entering FirmWareUpdate mode")), Ok(()));
        let other = judged(&reply(226, "226 Transfer complete"), Some("Entering FirmWareUpdate mode"));
        assert!(matches!(other, Err(Pushed::Unclear(_))), "{other:?}");
        assert!(matches!(judged(&reply(426, "426 aborted"), None), Err(Pushed::Incomplete(_))));
        assert!(matches!(judged(&reply(552, "552 no room"), None), Err(Pushed::Refused(_))));
    }
}
