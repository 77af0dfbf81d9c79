//! `query versions`: asks agents what they have installed, and waits for the answers if asked to.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use mailfleet::daemon::{Question, queue_query};
use mailfleet::home::Home;
use mailfleet::store::{AgentRecord, QueryProgress};
use mailfleet::system::now;
use serde_json::{Value, json};
use shared::limits::ORDER_LIFE;
use shared::{AgentId, EnvelopeId};

use super::agent::facts;
use super::args::QueryVersions;
use super::daemon::{Waited, log_to_stderr, runtime, work_until};
use super::fail::{Done, Fail, Outcome};
use super::progress::Follow;
use super::select::choose;
use super::show::{Colour, Listing, cell};
use super::view::daemon_text;
use super::{open, show};

const LOOK_EVERY: Duration = Duration::from_millis(250);

pub(crate) fn versions(home: Option<&Path>, args: &QueryVersions) -> Outcome {
    let home = open::home(home)?;
    let config = home.config().map_err(open::home_failed)?;
    let mut store = open::store(&home)?;
    let agents = store.read(|tx| tx.agents()).map_err(open::store_failed)?;
    let chosen = choose(&args.selection, &agents)?;
    let ids = chosen.enrolled()?;
    let per_mail = config.recipients_per_mail;
    let envelopes = store
        .write(|tx| queue_query(tx, Question::Versions, &ids, per_mail, ORDER_LIFE, now()))
        .map_err(open::store_failed)?;
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

fn wait(home: &Home, args: &QueryVersions, envelopes: &[EnvelopeId], asked: usize) -> Outcome {
    log_to_stderr("warn");
    let waited = runtime()?.block_on(work_until(home, until_answered(home, args, envelopes, asked)))?;
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

/// Until all have answered, or the reply timeout has passed since the last question went out, or since
/// nothing goes out at all.
async fn until_answered(
    home: &Home,
    args: &QueryVersions,
    envelopes: &[EnvelopeId],
    asked: usize,
) -> Result<(), Fail> {
    let mut store = open::store(home)?;
    let mut follow = Follow::new(asked);
    let (mut since, mut unsent) = (Instant::now(), u64::MAX);
    loop {
        let began = Instant::now();
        let progress = store.read(|tx| tx.query_progress(envelopes)).map_err(open::store_failed)?;
        if progress.unsent < unsent {
            (since, unsent) = (began, progress.unsent);
        }
        let answered = progress.answered.len();
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
