//! `query versions`: asks agents what they have installed, and waits for the answers if asked to.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use mailfleet::daemon::{Question, queue_query};
use mailfleet::home::Home;
use mailfleet::store::{AgentRecord, QueryProgress, Tx, TxResult};
use mailfleet::system::now;
use serde_json::{Value, json};
use shared::limits::ORDER_LIFE;
use shared::{AgentId, EnvelopeId, UnixMillis};

use super::agent::facts;
use super::args::QueryArgs;
use super::daemon::{Waited, log_to_stderr, runtime, work_until};
use super::fail::{Done, Fail, Outcome};
use super::progress::Follow;
use super::select::choose;
use super::show::{Colour, Listing, cell};
use super::view::daemon_text;
use super::{audited, open, show};

const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Who was asked, in which envelopes.
pub(crate) struct Asked {
    pub(crate) home: Home,
    pub(crate) ids: Vec<AgentId>,
    pub(crate) envelopes: Vec<EnvelopeId>,
    pub(crate) at: UnixMillis,
}

/// Puts a question to the chosen agents into the outbox.
pub(crate) fn ask(home: Option<&Path>, args: &QueryArgs, question: Question) -> Result<Asked, Fail> {
    let home = open::commander(home)?;
    let config = home.config().map_err(open::home_failed)?;
    let mut store = open::store(&home)?;
    let agents = store.read(|tx| tx.agents()).map_err(open::store_failed)?;
    let chosen = choose(&args.selection, &agents)?;
    let ids = chosen.enrolled()?;
    let (per_mail, at) = (config.recipients_per_mail, now());
    let about = match question {
        Question::Versions => "versions",
        Question::Counters => "counters",
    };
    let deed = format!("asked for {about}: {}", audited::named(&ids));
    let envelopes = audited::change(&mut store, |tx| {
        Ok((queue_query(tx, question, &ids, per_mail, ORDER_LIFE, at)?, vec![deed]))
    })
    .map_err(open::store_failed)?;
    Ok(Asked { home, ids, envelopes, at })
}

pub(crate) fn versions(home: Option<&Path>, args: &QueryArgs) -> Outcome {
    let Asked { home, ids, envelopes, .. } = ask(home, args, Question::Versions)?;
    if args.wait {
        return wait(&home, args, &envelopes, ids.len());
    }
    if args.format.json {
        let missing: Vec<String> = ids.iter().map(ToString::to_string).collect();
        show::print_json(&json!({"answered": [], "missing": missing, "agents": []}))?;
    } else {
        show::say(&format!(
            "{} asked. The answers: mailfleet agent list, mailfleet report versions\n{}",
            show::count(ids.len(), "agent"),
            daemon_text(&home)
        ))?;
    }
    Ok(Done::All)
}

fn wait(home: &Home, args: &QueryArgs, envelopes: &[EnvelopeId], asked: usize) -> Outcome {
    log_to_stderr("warn");
    let look = |tx: &Tx<'_>| tx.query_progress(envelopes);
    let waited = runtime()?.block_on(work_until(home, until_answered(home, args, asked, look)))?;
    let mut store = open::store(home)?;
    let (progress, agents) =
        store.read(|tx| Ok((tx.query_progress(envelopes)?, tx.agents()?))).map_err(open::store_failed)?;
    if args.format.json {
        show::print_json(&json_of(&progress, &agents))?;
    } else {
        show::print(&table(&progress, &agents))?;
    }
    Ok(match waited {
        Waited::Interrupted => Done::Interrupted,
        Waited::Over if progress.missing.is_empty() => Done::All,
        Waited::Over => Done::Partly,
    })
}

/// Until all have answered, or the reply timeout has passed since the last question went out or the last part of an
/// answer came in.
pub(crate) async fn until_answered(
    home: &Home,
    args: &QueryArgs,
    asked: usize,
    look: impl Fn(&Tx<'_>) -> TxResult<QueryProgress>,
) -> Result<(), Fail> {
    let mut store = open::store(home)?;
    let mut follow = Follow::new(asked);
    let (mut since, mut unsent, mut parts) = (Instant::now(), u64::MAX, 0);
    loop {
        let began = Instant::now();
        let progress = store.read(&look).map_err(open::store_failed)?;
        let answered = progress.answered.len();
        // Whatever moves is worth waiting for.
        if progress.unsent < unsent || progress.parts > parts {
            (since, unsent, parts) = (began, progress.unsent, progress.parts);
        }
        let rest = if unsent == 0 { String::new() } else { format!("{unsent} not mailed yet") };
        follow.show(answered, &format!("{answered} of {asked} answered"), &rest);
        if progress.missing.is_empty() || since.elapsed() >= args.reply_timeout {
            break;
        }
        tokio::time::sleep(began.elapsed().saturating_mul(10).max(LOOK_EVERY)).await;
    }
    follow.end();
    Ok(())
}

fn json_of(progress: &QueryProgress, agents: &[AgentRecord]) -> Value {
    let names = |ids: &BTreeSet<AgentId>| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
    let answers: Vec<Value> =
        agents.iter().filter(|agent| progress.answered.contains(&agent.id)).map(facts).collect();
    json!({"answered": names(&progress.answered), "missing": names(&progress.missing), "agents": answers})
}

fn table(progress: &QueryProgress, agents: &[AgentRecord]) -> String {
    let mut listing = Listing::new(&["!", "AGENT", "VERSION", "ROM", "REPORTED", "~NOTE"]);
    for agent in agents {
        let missing = progress.missing.contains(&agent.id);
        if !missing && !progress.answered.contains(&agent.id) {
            continue;
        }
        let plain = |text: String| cell(text, Colour::Plain);
        let versions = agent.versions.as_ref().filter(|_| !missing);
        let at = agent.versions_at.filter(|_| !missing);
        listing.row(vec![
            cell(if missing { "!" } else { "" }, Colour::Red),
            plain(agent.id.to_string()),
            plain(versions.map_or("no answer".to_owned(), |v| v.software.to_string())),
            plain(versions.map_or(String::new(), |v| v.rom_version.to_string())),
            plain(at.map_or(String::new(), |at| at.to_string())),
            plain(agent.note.to_string()),
        ]);
    }
    listing.text()
}
