//! `report readings, verify`: the signed readings as a file, and the proof of them: who signed, and that none was taken out
//! or put in. With a file and a key it needs no manager: so a bill can be proved to somebody else.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write as _};
use std::ops::ControlFlow;
use std::path::Path;

use mailfleet::store::{KeptReading, Tx};
use manager_core::chain::{Link, Refusal, link, prove};
use manager_core::counter_rows::begun_anew;
use serde_json::{Value, json};
use shared::keys::VerifyingKey;
use shared::reading::{SignedReading, read_framed};
use shared::{AgentId, Digest};

use super::device_args::{ReportReadings, ReportVerify};
use super::fail::{Done, Fail, OrFail as _, Outcome, cannot_write};
use super::files::NewFile;
use super::select::in_scope;
use super::{open, show};

/// Findings that are listed; of the others only how many there are.
const FINDINGS_MAX_COUNT: usize = 1_000;

/// Chains that a file may hold: one for each agent, and those that were lost.
const CHAINS_MAX_COUNT: usize = 200_000;

pub(crate) fn readings(home: Option<&Path>, args: &ReportReadings) -> Outcome {
    let home = open::home(home)?;
    let mut store = open::store(&home)?;
    let all = store.read(|tx| tx.agents_ever()).map_err(open::store_failed)?;
    let agents = in_scope(&args.scope, &all)?;
    let failed = |err| cannot_write(err, &args.output);
    let mut new = NewFile::create(&args.output, 0o644).map_err(failed)?;
    let mut count = 0usize;
    let mut written: io::Result<()> = Ok(());
    let mut file = BufWriter::new(new.file());
    let write = |tx: &Tx<'_>| {
        agents.iter().try_for_each(|agent| {
            tx.each_reading(&agent.id, args.since, |kept| {
                count = count.saturating_add(1);
                written = file.write_all(&kept.signed.framed());
                if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })
        })
    };
    store.read(write).map_err(open::store_failed)?;
    written.and_then(|()| file.flush()).map_err(failed)?;
    drop(file);
    new.finish().map_err(failed)?;
    show::note(&format!("Wrote {} ({})", args.output.display(), show::count(count, "reading")));
    Ok(Done::All)
}

pub(crate) fn verify(home: Option<&Path>, args: &ReportVerify) -> Outcome {
    let mut proof = Proof::default();
    match &args.file {
        Some(path) => verify_file(path, &args.keys, &mut proof)?,
        None => verify_store(home, args, &mut proof)?,
    }
    if args.format.json {
        show::print_json(&proof.json())?;
    } else {
        show::print(&proof.text())?;
    }
    Ok(if proof.is_whole() { Done::All } else { Done::Partly })
}

fn verify_file(path: &Path, keys: &[VerifyingKey], proof: &mut Proof) -> Result<(), Fail> {
    let what = || format!("cannot read {}", path.display());
    let mut file = BufReader::new(File::open(path).or_usage(what())?);
    while let Some(signed) = read_framed(&mut file).or_usage(what())? {
        // The file does not say whose a reading is before it is read; its key decides whether it counts.
        match signed.read() {
            Ok(reading) => proof.take(&reading.agent, &signed, keys, None),
            Err(_) => proof.find(None, "a reading is unreadable", Weight::NotProved),
        }
        if proof.chains.len() > CHAINS_MAX_COUNT {
            return Err(Fail::usage(format!("{} holds too many chains", path.display())));
        }
    }
    Ok(())
}

fn verify_store(home: Option<&Path>, args: &ReportVerify, proof: &mut Proof) -> Result<(), Fail> {
    let home = open::home(home)?;
    let mut store = open::store(&home)?;
    let all = store.read(|tx| tx.agents_ever()).map_err(open::store_failed)?;
    let agents = in_scope(&args.scope, &all)?;
    let each = |tx: &Tx<'_>| {
        for agent in agents {
            let keys = tx.reading_keys(&agent.id)?;
            tx.each_reading(&agent.id, args.since, |kept| {
                proof.take(&agent.id, &kept.signed, &keys, Some(&kept));
                ControlFlow::Continue(())
            })?;
            for refused in tx.refused_readings(&agent.id)? {
                if args.since.is_none_or(|since| refused.received_at >= since) {
                    let text = format!("kept out at {}: {}", refused.received_at, refused.reason);
                    proof.find(Some(&agent.id), &text, Weight::NotProved);
                }
            }
        }
        Ok(())
    };
    store.read(each).map_err(open::store_failed)
}

/// What a finding means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Weight {
    /// To be known; nothing is missing.
    Note,
    /// Readings are missing.
    Missing,
    /// Something is not what its agent has signed.
    NotProved,
}

/// What was proved so far.
#[derive(Default)]
struct Proof {
    proved: u64,
    missing: u64,
    not_proved: u64,
    /// The last reading of each chain: index, digest.
    chains: BTreeMap<(AgentId, u64), (u64, Digest)>,
    agents: BTreeMap<AgentId, u64>,
    findings: Vec<String>,
    more: usize,
}

impl Proof {
    /// Takes the next reading; those of one chain come in their order. `kept` is its row in the store.
    fn take(
        &mut self,
        agent: &AgentId,
        signed: &SignedReading,
        keys: &[VerifyingKey],
        kept: Option<&KeptReading>,
    ) {
        let proven = match prove(agent, signed, keys) {
            Ok(proven) => proven,
            Err(refusal) => return self.refused(agent, kept, refusal),
        };
        let mark = proven.reading.mark;
        let place = format!("chain {} reading {}", mark.chain, mark.index);
        // The row must say what the bytes say: or somebody has been at the store.
        if kept.is_some_and(|kept| kept.digest != proven.digest || kept.mark != mark) {
            return self.find(Some(agent), &format!("{place} is not the one that came"), Weight::NotProved);
        }
        let name = (agent.clone(), mark.chain);
        let before = self.chains.get(&name).copied();
        if before.is_some_and(|(last, digest)| last >= mark.index && digest != proven.digest) {
            return self.find(Some(agent), &format!("{place} stands out of its order"), Weight::NotProved);
        }
        if before.is_some_and(|(last, _)| last == mark.index) {
            return;
        }
        self.proved = self.proved.saturating_add(1);
        self.linked(agent, &place, link(mark.index, proven.reading.previous, before), mark.index);
        if before.is_none() {
            let chains = self.agents.entry(agent.clone()).or_insert(0);
            *chains = chains.saturating_add(1);
            // The one before may have been taken out of what is looked at.
            if *chains > 1 || kept.is_some_and(|kept| kept.chain_number > 1) {
                let anew = begun_anew(&proven.reading.seen.taken_at.to_string());
                let text = format!("{anew}: chain {} begins, the one before was lost or forked", mark.chain);
                self.find(Some(agent), &text, Weight::Note);
            }
        }
        self.chains.insert(name, (mark.index, proven.digest));
    }

    fn linked(&mut self, agent: &AgentId, place: &str, link: Link, index: u64) {
        match link {
            Link::First | Link::Follows => {}
            Link::Headless => {
                let text = format!(
                    "{place} is the first here: {} before it were not looked at",
                    index.saturating_sub(1)
                );
                self.find(Some(agent), &text, Weight::Note);
            }
            Link::Gap(missing) => {
                self.missing = self.missing.saturating_add(missing);
                self.find(Some(agent), &format!("{missing} missing before {place}"), Weight::Missing);
            }
            Link::Broken => {
                let text = format!("{place} does not follow from the one before");
                self.find(Some(agent), &text, Weight::NotProved);
            }
        }
    }

    fn refused(&mut self, agent: &AgentId, kept: Option<&KeptReading>, refusal: Refusal) {
        let place = kept.map_or("a reading".to_owned(), |kept| {
            format!("chain {} reading {}", kept.mark.chain, kept.mark.index)
        });
        self.find(Some(agent), &format!("{place}: {refusal}"), Weight::NotProved);
    }

    fn find(&mut self, agent: Option<&AgentId>, text: &str, weight: Weight) {
        let word = match weight {
            Weight::Note => "note",
            Weight::Missing => "gap",
            Weight::NotProved => "NOT PROVED",
        };
        self.not_proved = self.not_proved.saturating_add(u64::from(weight == Weight::NotProved));
        if self.findings.len() < FINDINGS_MAX_COUNT {
            let agent = agent.map_or(String::new(), |agent| format!("{agent} "));
            self.findings.push(format!("{word:<11}{agent}{text}"));
        } else {
            self.more = self.more.saturating_add(1);
        }
    }

    fn is_whole(&self) -> bool {
        self.missing == 0 && self.not_proved == 0
    }

    fn text(&self) -> String {
        let mut text: String = self.findings.iter().map(|line| format!("{line}\n")).collect();
        if self.more > 0 {
            text.push_str(&format!("and {} more\n", self.more));
        }
        text.push_str(&format!(
            "{} proved, {} missing, {} not proved; {} of {}\n",
            self.proved,
            self.missing,
            self.not_proved,
            show::count(self.chains.len(), "chain"),
            show::count(self.agents.len(), "agent"),
        ));
        text
    }

    fn json(&self) -> Value {
        json!({
            "whole": self.is_whole(),
            "proved": self.proved,
            "missing": self.missing,
            "not_proved": self.not_proved,
            "chains": self.chains.len(),
            "agents": self.agents.len(),
            "findings": self.findings,
            "more": self.more,
        })
    }
}
