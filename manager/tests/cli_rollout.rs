//! Campaigns in waves as the operator sees them: a transcript of plans and of what is wrong with others, and a campaign that its
//! gate halts, with hand-made agents.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests may panic")]
#![allow(clippy::arithmetic_side_effects, reason = "tests may overflow and fail")]

mod office;
mod transcript;

use std::process::Command;

use manager_core::{CampaignId, CampaignState, TargetState};
use office::{Box7, Office, versions};
use shared::message::{
    CancelAnswer, CancelResult, Cause, Ended, Failure, Order, Outcome, Phase, Report, Reported, Versions,
};
use shared::{EnvelopeId, SoftwareVersion};

fn mailfleet(office: &Office, args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_mailfleet"))
        .args(args)
        .current_dir(office.dir.path())
        .env_clear()
        .env("MAILFLEET_HOME", office.home.dir())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{args:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[test]
fn what_an_operator_plans_is_as_in_its_transcript() {
    let office = Office::new();
    office.enrolled(12);
    let script = transcript::fixtures().join("golden/rollout");
    transcript::play_at(&script, "plan", office.dir.path(), &[("MAILFLEET_HOME", office.home.dir())]);
}

/// The install order that an agent has got and not seen before.
fn install(office: &Office, agent: &Box7) -> Option<EnvelopeId> {
    agent
        .orders(office)
        .iter()
        .find(|(_, order, _)| matches!(order, Order::Install(_)))
        .map(|(header, ..)| header.id)
}

fn state(office: &Office) -> CampaignState {
    office.store().read(|tx| tx.campaign(CampaignId(1))).unwrap().unwrap().state
}

fn ends(office: &Office, agent: &mut Box7, order: EnvelopeId, works: bool) {
    let goal = || Reported::Exact(SoftwareVersion::parse("1.0.02-0").unwrap());
    let (outcome, software) = if works {
        (Outcome::Installed, goal())
    } else {
        let failure = Failure { phase: Phase::Verify, cause: Cause::ScriptExit(1), undo_failed: false };
        (Outcome::RolledBack(failure), Reported::Nothing)
    };
    let report = Report::Ended(Ended { order, outcome, output: None, versions: versions(software) });
    agent.report(office, &report);
}

#[test]
fn a_wave_that_fails_halts_the_campaign_and_what_was_called_back_is_mailed_again_after_resume() {
    let office = Office::new();
    let mut agents = office.enrolled(6);
    mailfleet(&office, &["agent", "set", "--all", "class=office-gateway"]);
    let bundle = transcript::fixtures().join("bundles/office-gateway-1.0.02");
    mailfleet(&office, &["bundle", "build", bundle.to_str().unwrap(), "-o", "x.mfb"]);
    let start =
        ["campaign", "start", "x.mfb", "--all", "--waves", "4,rest", "--observe", "0s", "--retries", "0"];
    mailfleet(&office, &start);
    office.pass();
    let mut first: Vec<(usize, EnvelopeId)> =
        agents.iter().enumerate().filter_map(|(n, agent)| Some((n, install(&office, agent)?))).collect();
    assert_eq!(first.len(), 4, "the first wave");
    let (bad, order) = first.remove(0);
    ends(&office, &mut agents[bad], order, false);
    office.pass();
    assert_eq!(state(&office), CampaignState::Halted);
    let shown = mailfleet(&office, &["campaign", "show", "1"]);
    assert!(shown.contains("1 of 4 failed in wave 1, more than its gate allows"), "{shown}");
    office.pass();
    for (n, order) in &first {
        let orders = agents[*n].orders(&office);
        let called_back =
            orders.iter().any(|(_, o, _)| matches!(o, Order::Cancel(c) if c.orders.contains(order)));
        assert!(called_back, "{orders:?}");
        let answer = CancelAnswer { order: *order, result: CancelResult::BeforeStart };
        agents[*n].report(&office, &Report::Cancelled(answer));
    }
    office.pass();
    assert!(office.log().contains("campaign 1 halted: 1 of 4 failed in wave 1"), "{}", office.log());

    mailfleet(&office, &["campaign", "resume", "1"]);
    office.pass();
    for (n, _) in &first {
        let order = install(&office, &agents[*n]).unwrap();
        ends(&office, &mut agents[*n], order, true);
    }
    office.pass();
    assert_eq!(state(&office), CampaignState::Running);
    // The settle time of ten minutes is not over: the agents say by themselves what they have.
    for (n, _) in &first {
        let goal = Reported::Exact(SoftwareVersion::parse("1.0.02-0").unwrap());
        agents[*n].report(&office, &Report::Versions(Versions { query: None, versions: versions(goal) }));
    }
    office.pass();
    let id = CampaignId(1);
    for (n, _) in &first {
        assert_eq!(
            office.target(id, &agents[*n]).0,
            TargetState::Installed,
            "the verdict is due after the settle time"
        );
    }
}
