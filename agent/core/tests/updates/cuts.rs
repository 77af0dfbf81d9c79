//! The agent is stopped before each of its effects in turn (PROTOCOL 18.7): it goes on from there, or says that it does not know, and why. Nothing is
//! sent twice without a proof.

use shared::message::{UpdateReason, UpdateState};

use crate::site::{Fate, Site, device, minute};

const NAMES: [&str; 2] = ["a", "two"];

fn run(cut_after: Option<u32>, fates: &[Fate], repeatable: bool) -> Site {
    let mut site = Site::with(&NAMES, repeatable);
    site.fates("a", fates);
    site.effects = 0;
    site.cut_after = cut_after;
    site.begin();
    site.run_until(minute(20 * 60));
    site
}

/// Cuts at every effect. Counts the ends of `a`: done, unknown, something else.
fn everywhere(fates: &[Fate], repeatable: bool) -> [u32; 3] {
    let whole = run(None, fates, repeatable).effects;
    let mut ends = [0; 3];
    for cut in 0..whole {
        let site = run(Some(cut), fates, repeatable);
        let (state, why) = (site.state("a"), site.why("a"));
        let version = site.devices[&device("a")].versions["main"].as_str();
        let pushes = site.pushes("a");
        let done = state == UpdateState::Done;
        assert_eq!(done, version == "2", "cut {cut}: {state} {why:?}, and the device has {version}");
        if state == UpdateState::Unknown {
            let reasons = [UpdateReason::AgentStopped, UpdateReason::StillOld];
            assert!(why.is_some_and(|why| reasons.contains(&why)), "cut {cut}: {why:?}");
            assert!(pushes <= fates.len().max(1), "cut {cut}: {pushes} transfers");
        }
        let told = site.told()[&("a".to_owned(), "main".to_owned())];
        assert_eq!(told, (state, why), "cut {cut}: the manager was told another thing");
        let place = if done { 0 } else { 1 + usize::from(state != UpdateState::Unknown) };
        // After a stop in the middle of the other one's transfer nobody knows whether this firmware is good.
        let held = why == Some(UpdateReason::OthersFirst) && site.state("two") == UpdateState::Unknown;
        assert!(place < 2 || held, "cut {cut}: {state} {why:?}");
        ends[place] += 1;
    }
    println!(
        "{fates:?}, repeatable {repeatable}: {whole} cuts, done {}, unknown {}, other {}",
        ends[0], ends[1], ends[2]
    );
    ends
}

#[test]
fn wherever_it_is_stopped_a_device_gets_it_or_is_said_to_be_unknown() {
    let [done, unknown, other] = everywhere(&[Fate::Takes], false);
    // Between the save and the first byte, and nowhere else.
    assert!(done > 20 && unknown == 1 && other == 0, "{done} {unknown} {other}");
}

#[test]
fn a_transfer_that_may_be_repeated_is_repeated_after_a_stop() {
    let [done, unknown, other] = everywhere(&[Fate::Takes], true);
    assert!(done > 20 && unknown == 0 && other == 0, "{done} {unknown} {other}");
}

#[test]
fn broken_transfers_and_stops_together_end_in_the_truth() {
    let [_, unknown, other] = everywhere(&[Fate::CutShort, Fate::NotBegun, Fate::Takes], false);
    assert!(unknown <= 10 && other <= 2, "{unknown} {other}");
    let [done, unknown, other] = everywhere(&[Fate::KeepsOld], false);
    assert!(done == 0 && unknown > 20 && other == 0, "{done} {unknown} {other}");
}
