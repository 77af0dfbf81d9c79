//! Tells alerts: mails by the way that orders go, and programs of the operator. A program gets JSON on its standard input,
//! a clean environment and a time limit; it runs beside the loops and holds none of them up.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use mailio::{Attachment, AutoKind, Outgoing, SendError, Sender, Sent};
use manager_core::alert::Addressee;
use shared::error::chain;
use shared::{MailAddress, UnixMillis};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use super::watched::ALERTS;
use super::{DaemonError, Shared};
use crate::store::{AlertOutcome, AlertRecord, Store};
use crate::system::now;

/// How long a program may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// What is kept of the words of a program that failed.
const COMMAND_WORDS_MAX_BYTES: u64 = 1_000;

/// The search path of programs; nothing else of our environment is theirs.
const COMMAND_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How alerts go out, in the store's words.
pub(super) const BY_MAIL: &str = "mail";
const BY_COMMAND: &str = "command";

/// Mails the next alert that is due; false if there is none.
pub(super) async fn mail_next(
    shared: &Shared,
    store: &mut Store,
    sender: &mut Sender,
) -> Result<bool, DaemonError> {
    let Some(alert) = store.write(|tx| tx.claim_alert(BY_MAIL, now()))? else { return Ok(false) };
    let Addressee::Mail(to) = &alert.addressee else { return Ok(true) };
    if alert.expires <= now() {
        give_up(store, &alert, "it could not be mailed in time")?;
        return Ok(true);
    }
    match sender.send(&outgoing(shared, to, &alert)).await {
        Ok(results) => {
            let outcome = match results.into_iter().next() {
                Some(Sent::Done) => AlertOutcome::Sent,
                Some(Sent::Never(why)) => {
                    give_up(store, &alert, &why.to_string())?;
                    return Ok(true);
                }
                Some(Sent::Later(why)) => later(shared, &alert, why.to_string()),
                None => later(shared, &alert, "the mail server said nothing".to_owned()),
            };
            store.write(|tx| tx.alert_outcome(alert.id, &outcome))?;
            Ok(true)
        }
        Err(err @ SendError::TooLarge { .. }) => {
            give_up(store, &alert, &chain(&err))?;
            Ok(true)
        }
        Err(err) => {
            let outcome = AlertOutcome::Later(now().plus(shared.config.retry_min), chain(&err));
            store.write(|tx| tx.alert_outcome(alert.id, &outcome))?;
            Err(err.into())
        }
    }
}

fn outgoing(shared: &Shared, to: &MailAddress, alert: &AlertRecord) -> Outgoing {
    Outgoing {
        from: shared.config.mail.address.clone(),
        to: vec![to.clone()],
        envelope: alert.envelope,
        subject: alert.subject.clone(),
        note: alert.text.clone(),
        date: alert.created,
        in_reply_to: None,
        auto: AutoKind::Generated,
        attachment: alert.html.clone().map_or(Attachment::Nothing, Attachment::Html),
    }
}

fn later(shared: &Shared, alert: &AlertRecord, answer: String) -> AlertOutcome {
    let factor = 1u32.checked_shl(alert.attempts.min(16)).unwrap_or(1);
    let pause = shared.config.retry_min.saturating_mul(factor).min(shared.config.retry_max);
    AlertOutcome::Later(now().plus(pause), answer)
}

fn give_up(store: &mut Store, alert: &AlertRecord, why: &str) -> Result<(), DaemonError> {
    tracing::error!(to = %alert.addressee, why, "an alert could not be told");
    store.write(|tx| {
        tx.alert_outcome(alert.id, &AlertOutcome::Failed(why.to_owned()))?;
        tx.log(now(), "", &format!("alert for {} given up: {why}", alert.addressee))
    })?;
    Ok(())
}

/// Runs the programs that are due, one after the other.
pub(super) async fn run_commands(shared: &Arc<Shared>, store: &mut Store) -> Result<(), DaemonError> {
    let began = now();
    // Reading first: nothing is due nearly always, and a write would wait for the other loops.
    while store.read(|tx| tx.alert_is_due(BY_COMMAND, began))? {
        shared.works(ALERTS);
        let Some(alert) = store.write(|tx| tx.claim_alert(BY_COMMAND, began))? else { break };
        let Addressee::Command(words) = &alert.addressee else { continue };
        // What was taken out of the configuration is not run any more.
        let wanted = shared.config.alert_commands().any(|command| command == words);
        if !wanted {
            give_up(store, &alert, "the program is not in manager.toml any more")?;
            continue;
        }
        let outcome = match run(words, &alert.text, COMMAND_LIMIT).await {
            Ok(()) => AlertOutcome::Sent,
            Err(why) if alert.expires <= now() => {
                give_up(store, &alert, &why)?;
                continue;
            }
            Err(why) => {
                tracing::warn!(program = words.first(), why, "an alert's program failed; tried again later");
                later(shared, &alert, why)
            }
        };
        store.write(|tx| tx.alert_outcome(alert.id, &outcome))?;
    }
    Ok(())
}

/// When the next program is due.
pub(super) fn next_command(store: &mut Store) -> Result<Option<UnixMillis>, DaemonError> {
    Ok(store.read(|tx| tx.next_alert(BY_COMMAND))?)
}

/// Runs one program without a shell. The error is for people.
async fn run(words: &[String], input: &str, limit: Duration) -> Result<(), String> {
    let Some((program, args)) = words.split_first() else { return Err("no program".to_owned()) };
    let mut child = Command::new(program)
        .args(args)
        .env_clear()
        .env("PATH", COMMAND_PATH)
        .env("LANG", "C.UTF-8")
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|err| format!("cannot run {program}: {err}"))?;
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let write = async {
        if let Some(mut stdin) = stdin {
            // A program that does not read all of it may have its reasons: its exit code decides.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
    };
    let read = async {
        let mut words = Vec::new();
        if let Some(mut stderr) = stderr {
            let _ = (&mut stderr).take(COMMAND_WORDS_MAX_BYTES).read_to_end(&mut words).await;
            // Read on beyond what is kept, or the program would block.
            let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
        }
        words
    };
    let work = async {
        let ((), words) = tokio::join!(write, read);
        (child.wait().await, words)
    };
    match tokio::time::timeout(limit, work).await {
        Ok((Ok(status), _)) if status.success() => Ok(()),
        Ok((Ok(status), words)) => {
            Err(format!("{program} ended with {status}: {}", String::from_utf8_lossy(&words).trim()))
        }
        Ok((Err(err), _)) => Err(format!("waiting for {program}: {err}")),
        Err(_) => Err(format!("{program} did not end within {} s", limit.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(script: &str) -> Vec<String> {
        ["sh", "-c", script].map(str::to_owned).to_vec()
    }

    #[tokio::test]
    async fn a_program_reads_json_and_sees_nothing_of_our_environment() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let script = format!("cat > {0}; env | grep -v -e ^PWD= -e ^_= -e ^SHLVL= >> {0}", out.display());
        run(&words(&script), "{\"faults\":[]}\n", COMMAND_LIMIT).await.unwrap();
        let mut lines: Vec<String> =
            std::fs::read_to_string(out).unwrap().lines().map(str::to_owned).collect();
        lines.sort();
        assert_eq!(lines, ["LANG=C.UTF-8", &format!("PATH={COMMAND_PATH}"), "{\"faults\":[]}"]);
    }

    #[tokio::test]
    async fn a_program_that_fails_shouts_or_hangs_is_named_with_its_words() {
        let why = run(&words("echo no ticket >&2; exit 3"), "", COMMAND_LIMIT).await.unwrap_err();
        assert!(why.contains("exit status: 3: no ticket"), "{why}");
        let shout = "yes | head -c 5000000 >&2; exit 1";
        let why = run(&words(shout), &"x".repeat(1_000_000), COMMAND_LIMIT).await.unwrap_err();
        assert!(why.len() < 1_200, "{}", why.len());
        let why = run(&words("exec sleep 60"), "", Duration::from_millis(100)).await.unwrap_err();
        assert!(why.contains("did not end within"), "{why}");
        let why = run(&["/no/such/program".to_owned()], "", COMMAND_LIMIT).await.unwrap_err();
        assert!(why.starts_with("cannot run /no/such/program"), "{why}");
    }
}
