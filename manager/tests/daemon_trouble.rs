//! The daemon when something is wrong: a bundle that is gone, a mailbox full of rubbish, an agent or a campaign
//! that is called off on the way.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may panic"
)]

mod office;

use mailfleet::daemon::{Daemon, DaemonError};
use mailfleet::system::new_envelope_id;
use manager_core::{CampaignId, CampaignState, Reason, TargetState};
use office::{Box7, Office, goal, versions};
use shared::message::{CancelAnswer, CancelResult, Order, Report, Versions};

/// What `campaign cancel` does, in one transaction.
fn cancel(office: &Office, id: CampaignId) {
    office
        .store()
        .write(|tx| {
            let mut campaign = tx.campaign(id)?.unwrap();
            campaign.cancel();
            for (agent, target) in &campaign.targets {
                tx.save_target(id, agent, target)?;
                if target.state.is_end() {
                    tx.drop_queued(id, std::slice::from_ref(agent))?;
                }
            }
            tx.save_campaign(&campaign)
        })
        .unwrap();
}

fn state(office: &Office, id: CampaignId) -> CampaignState {
    office.store().read(|tx| tx.campaign(id)).unwrap().unwrap().state
}

#[test]
fn a_campaign_whose_bundle_is_gone_says_so_and_holds_up_no_other() {
    let office = Office::new();
    let agents = office.enrolled(1);
    let broken = office.campaign(&agents, 1_000);
    std::fs::rename(office.home.bundles().join("b.mfb"), office.dir.path().join("away")).unwrap();
    let daemon = Daemon::start(office.home.clone()).unwrap();
    let pass = office.runtime.block_on(daemon.once()).unwrap();
    drop(daemon);
    assert!(matches!(pass.failures.as_slice(), [DaemonError::File(path, _)] if path.ends_with("b.mfb")));
    assert_eq!(office.target(broken, &agents[0]).0, TargetState::Pending);
    let asked = office
        .store()
        .write(|tx| {
            let ids = [agents[0].id.clone()];
            let (question, life) = (mailfleet::daemon::Question::Versions, shared::limits::ORDER_LIFE);
            mailfleet::daemon::queue_query(tx, question, &ids, 50, life, mailfleet::system::now())
        })
        .unwrap();
    let daemon = Daemon::start(office.home.clone()).unwrap();
    assert_eq!(office.runtime.block_on(daemon.once()).unwrap().mails_out, 1);
    drop(daemon);
    assert_eq!(agents[0].orders(&office)[0].0.id, asked[0]);
    // The operator puts the file back, and the campaign goes on by itself.
    std::fs::rename(office.dir.path().join("away"), office.home.bundles().join("b.mfb")).unwrap();
    office.pass();
    assert!(matches!(agents[0].orders(&office)[0].1, Order::Install(_)));
}

#[test]
fn a_mailbox_full_of_large_rubbish_is_emptied_piece_by_piece_and_the_report_behind_it_is_heard() {
    let office = Office::new();
    let mut agents = office.enrolled(1);
    let id = office.campaign(&agents, 1_000);
    office.pass();
    office.pass();
    let query = agents[0].orders(&office)[1].0.id;
    let stranger = Box7::new(99, &office.spool());
    // More than is held in memory at once.
    for _ in 0..9 {
        stranger.post(&office, new_envelope_id(), vec![7; 2_500_000]);
    }
    agents[0].report(&office, &Report::Versions(Versions { query: Some(query), versions: versions(goal()) }));
    assert_eq!(office.pass().mails_in, 10);
    assert_eq!(office.target(id, &agents[0]).0, TargetState::Verified);
    assert_eq!(office.pass().mails_in, 0);
}

#[test]
fn an_agent_that_is_removed_on_the_way_ends_at_once_and_hears_nothing_more() {
    let office = Office::new();
    let mut agents = office.enrolled(2);
    let id = office.campaign(&agents, 1_000);
    office.store().write(|tx| tx.remove_agent(&agents[0].id)).unwrap();
    office.pass();
    office.pass();
    assert_eq!(office.target(id, &agents[0]), (TargetState::Failed, Some(Reason::NotEnrolled)));
    assert!(agents[0].orders(&office).is_empty());
    let query = agents[1].orders(&office)[1].0.id;
    // Its reports are refused from now on.
    agents[0].report(&office, &Report::Versions(Versions { query: None, versions: versions(goal()) }));
    agents[1].report(&office, &Report::Versions(Versions { query: Some(query), versions: versions(goal()) }));
    office.pass();
    assert_eq!(office.target(id, &agents[0]).0, TargetState::Failed);
    assert_eq!(state(&office, id), CampaignState::Finished);
}

#[test]
fn a_campaign_that_is_cancelled_before_anything_was_mailed_mails_nothing() {
    let office = Office::new();
    let agents = office.enrolled(2);
    let id = office.campaign(&agents, 1_000);
    cancel(&office, id);
    assert_eq!(office.pass().mails_out, 0);
    assert_eq!(office.target(id, &agents[0]).0, TargetState::Cancelled);
}

#[test]
fn orders_that_went_out_are_called_back_by_their_names() {
    let office = Office::new();
    let mut agents = office.enrolled(2);
    let id = office.campaign(&agents, 1_000);
    office.pass();
    let install = agents[0].orders(&office)[0].0.id;
    cancel(&office, id);
    assert_eq!(office.pass().mails_out, 1);
    let orders = agents[0].orders(&office);
    let Order::Cancel(withdrawal) = &orders[0].1 else { panic!("{orders:?}") };
    assert_eq!(withdrawal.orders, [install]);
    for (agent, result) in agents.iter_mut().zip([CancelResult::BeforeStart, CancelResult::Unknown]) {
        agent.report(&office, &Report::Cancelled(CancelAnswer { order: install, result }));
    }
    office.pass();
    for agent in &agents {
        assert_eq!(office.target(id, agent).0, TargetState::Cancelled);
    }
    assert_eq!(office.pass().mails_out, 0);
}
