//! `query counters`: asks agents for the counters that they have and the manager has not (M5). An agent may have more than
//! one report holds; it sends the rest when the first ones are acknowledged, and waiting means waiting for all of it.

use std::path::Path;

use mailfleet::daemon::Question;
use mailfleet::store::{QueryProgress, Tx, TxResult};
use serde_json::{Value, json};
use shared::{AgentId, UnixMillis};

use super::args::QueryArgs;
use super::daemon::{Waited, log_to_stderr, runtime, work_until};
use super::fail::{Done, Outcome};
use super::query::{Asked, ask, until_answered};
use super::show::{Colour, Listing, cell};
use super::view::daemon_text;
use super::{open, show};

/// What came of the question to one agent.
struct Answer {
    agent: AgentId,
    state: State,
}

/// How far it is.
enum State {
    /// It has not answered.
    None,
    /// It has nothing: no device of it was read yet.
    NothingCollected,
    /// It had nothing that is not here.
    NothingNew,
    /// So many readings of so many devices have come since; `more`: the rest is on its way.
    Readings { readings: u64, devices: u64, more: bool },
}

impl State {
    fn text(&self) -> String {
        let count = |n: u64, noun| show::count(usize::try_from(n).unwrap_or(usize::MAX), noun);
        match self {
            Self::None => "no answer".to_owned(),
            Self::NothingCollected => "none collected yet".to_owned(),
            Self::NothingNew => "nothing new".to_owned(),
            Self::Readings { readings, devices, more } => {
                let more = if *more { ", more to come" } else { "" };
                format!("{} of {}{more}", count(*readings, "reading"), count(*devices, "device"))
            }
        }
    }

    fn is_whole(&self) -> bool {
        match self {
            Self::None => false,
            Self::NothingCollected | Self::NothingNew => true,
            Self::Readings { more, .. } => !more,
        }
    }

    fn readings(&self) -> u64 {
        match self {
            Self::Readings { readings, .. } => *readings,
            Self::None | Self::NothingCollected | Self::NothingNew => 0,
        }
    }
}

pub(crate) fn counters(home: Option<&Path>, args: &QueryArgs) -> Outcome {
    let asked = ask(home, args, Question::Counters)?;
    let mut waited = Waited::Over;
    if args.wait {
        log_to_stderr("warn");
        let until = until_answered(&asked.home, args, asked.ids.len(), |tx| progress(tx, &asked));
        waited = runtime()?.block_on(work_until(&asked.home, until))?;
    }
    let mut store = open::store(&asked.home)?;
    let answers = store.read(|tx| answers(tx, &asked)).map_err(open::store_failed)?;
    if args.format.json {
        show::print_json(&json!({"agents": answers.iter().map(json_of).collect::<Vec<_>>()}))?;
    } else if args.wait {
        show::print(&table(&answers))?;
    } else {
        let count = show::count(asked.ids.len(), "agent");
        let text = daemon_text(&asked.home);
        show::say(&format!("{count} asked. The answers: mailfleet report counters\n{text}"))?;
    }
    Ok(match waited {
        Waited::Interrupted => Done::Interrupted,
        Waited::Over if args.wait && !answers.iter().all(|answer| answer.state.is_whole()) => Done::Partly,
        Waited::Over => Done::All,
    })
}

/// Whoever has more to send has not answered yet.
fn progress(tx: &Tx<'_>, asked: &Asked) -> TxResult<QueryProgress> {
    let mut progress = tx.query_progress(&asked.envelopes)?;
    for answer in answers(tx, asked)? {
        progress.parts = progress.parts.saturating_add(answer.state.readings());
        if !answer.state.is_whole() {
            progress.answered.remove(&answer.agent);
            progress.missing.insert(answer.agent);
        }
    }
    Ok(progress)
}

fn answers(tx: &Tx<'_>, asked: &Asked) -> TxResult<Vec<Answer>> {
    let progress = tx.query_progress(&asked.envelopes)?;
    asked
        .ids
        .iter()
        .map(|agent| {
            let answered = progress.answered.contains(agent);
            Ok(Answer { agent: agent.clone(), state: state(tx, agent, answered, asked.at)? })
        })
        .collect()
}

fn state(tx: &Tx<'_>, agent: &AgentId, answered: bool, since: UnixMillis) -> TxResult<State> {
    if !answered {
        return Ok(State::None);
    }
    let (readings, devices) = tx.readings_since(agent, since)?;
    let more = tx.watch(agent)?.counters_more;
    Ok(match readings {
        0 if more => State::Readings { readings, devices, more },
        0 if tx.readings_since(agent, UnixMillis(i64::MIN))?.0 == 0 => State::NothingCollected,
        0 => State::NothingNew,
        _ => State::Readings { readings, devices, more },
    })
}

fn json_of(answer: &Answer) -> Value {
    let (readings, devices, more) = match answer.state {
        State::Readings { readings, devices, more } => (readings, devices, more),
        State::None | State::NothingCollected | State::NothingNew => (0, 0, false),
    };
    json!({
        "agent": answer.agent.as_str(),
        "answered": !matches!(answer.state, State::None),
        "collected": !matches!(answer.state, State::None | State::NothingCollected),
        "readings": readings,
        "devices": devices,
        "more": more,
        "text": answer.state.text(),
    })
}

fn table(answers: &[Answer]) -> String {
    let mut listing = Listing::new(&["!", "AGENT", "COUNTERS"]);
    for answer in answers {
        let mark = if answer.state.is_whole() { "" } else { "!" };
        listing.row(vec![
            cell(mark, Colour::Red),
            cell(answer.agent.as_str(), Colour::Plain),
            cell(answer.state.text(), Colour::Plain),
        ]);
    }
    listing.text()
}
