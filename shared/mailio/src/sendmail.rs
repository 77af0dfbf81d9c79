//! Hands a mail to a local `sendmail` program. Knows nothing about delivery beyond the exit code.

use core::time::Duration;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::error::{NetError, SendError};
use crate::outgoing::{Outgoing, Sent, Why};
use crate::text::{SERVER_TEXT_MAX_BYTES, clean_bytes};

/// `EX_TEMPFAIL` of sysexits.h.
const TEMPFAIL: i32 = 75;

/// Runs `program -i -f from -- recipients` with the mail on its standard input, without a shell.
pub(crate) async fn send(program: &Path, mail: &Outgoing, limit: Duration) -> Result<Vec<Sent>, SendError> {
    let name = program.display().to_string();
    let chunks = mail.chunks().map_err(|err| SendError::io("opening the attachment", err))?;
    let failed = |err| SendError::io(format!("running {name}"), err);
    // Addresses begin with a letter, digit or symbol that may be '-': "--" keeps them from being options.
    let mut child = tokio::process::Command::new(program)
        .args(["-i", "-f", mail.from.as_str(), "--"])
        .args(mail.to.iter().map(shared::MailAddress::as_str))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let write = async {
        let Some(mut stdin) = stdin else { return Ok(()) };
        for chunk in chunks {
            // sendmail wants the line ends of its system.
            let text: Vec<u8> = chunk?.into_iter().filter(|b| *b != b'\r').collect();
            stdin.write_all(&text).await?;
        }
        stdin.shutdown().await
    };
    let read = async {
        let mut words = Vec::new();
        if let Some(mut stderr) = stderr {
            let mut buf = [0u8; 1024];
            // Read on beyond what is kept, or the program would block.
            while let Ok(n @ 1..) = stderr.read(&mut buf).await {
                let room = SERVER_TEXT_MAX_BYTES.saturating_sub(words.len());
                words.extend(buf.iter().take(n).take(room));
            }
        }
        words
    };
    let work = async {
        let (written, words) = tokio::join!(write, read);
        // A broken pipe is explained by the exit code; an unreadable attachment is not: the program got a
        // cut mail and must not finish it.
        if let Err(err) = written
            && err.kind() != std::io::ErrorKind::BrokenPipe
        {
            child.start_kill()?;
            return Err(err);
        }
        Ok((child.wait().await?, words))
    };
    match tokio::time::timeout(limit, work).await {
        Ok(done) => {
            let (status, words) = done.map_err(failed)?;
            Ok(vec![verdict(status, &words); mail.to.len()])
        }
        Err(_) => {
            Err(SendError::UnknownOutcome(NetError::Timeout { host: name, phase: "running sendmail", limit }))
        }
    }
}

fn verdict(status: ExitStatus, words: &[u8]) -> Sent {
    let words = clean_bytes(words, SERVER_TEXT_MAX_BYTES);
    let why = || Why::local(format!("sendmail ended with {status}: {words}"));
    match status.code() {
        Some(0) => Sent::Done,
        // Killed by a signal: nobody decided anything.
        Some(TEMPFAIL) | None => Sent::Later(why()),
        Some(_) => Sent::Never(why()),
    }
}
