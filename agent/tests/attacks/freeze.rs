//! Freeze: a relay holds everything back, so that the agent goes on as if nothing were new.

use std::time::Duration;

use shared::AgentId;
use shared::message::{Enrolled, Heartbeat, Order, Report};

use crate::common::{AGENT, Life, World, now};
use crate::lab::{fends_off, poison, takes_an_honest_order};

const MINUTE: Duration = Duration::from_secs(60);
const BEAT: Heartbeat = Heartbeat { every_ms: 60_000 };

/// An agent that was told of a heartbeat each minute, and has heard nothing for an hour.
fn frozen() -> World {
    let mut w = World::new();
    let mut invitation = w.invitation();
    invitation.created = now().minus(MINUTE * 120);
    assert!(w.enrol(&invitation).status.success());
    w.collect();
    let life = Life { created: now().minus(MINUTE * 60), ..w.life() };
    let enrolled = Enrolled { agent: AgentId::parse(AGENT).unwrap(), heartbeat: Some(BEAT) };
    w.send_with(life, &Order::Enrolled(enrolled), &[]);
    assert_eq!(w.once(), 0);
    w.collect();
    w
}

fn unheard(w: &mut World) -> Vec<bool> {
    w.collect();
    let standing =
        |r: &Report| if let Report::Standing(s) = r { Some(s.unheard_since.is_some()) } else { None };
    w.reports.iter().filter_map(standing).collect()
}

#[test]
fn the_agent_says_so_once_and_says_when_it_is_over() {
    let mut w = frozen();
    assert_eq!(w.once(), 0);
    assert_eq!(unheard(&mut w), [true]);
    assert!(w.status().contains("Possible freeze"), "{}", w.status());
    w.send(&Order::Heartbeat(BEAT));
    assert_eq!(w.once(), 0);
    assert_eq!(unheard(&mut w), [true, false]);
    assert!(!w.status().contains("Possible freeze"), "{}", w.status());
    w.reports.clear();
    takes_an_honest_order(&mut w);
}

#[test]
fn heartbeats_that_were_held_back_and_forged_ones_do_not_thaw_it() {
    let mut w = frozen();
    for minutes in [59, 50, 40] {
        let life = Life { created: now().minus(MINUTE * minutes), ..w.life() };
        w.send_with(life, &Order::Heartbeat(BEAT), &[]);
    }
    let life = w.life();
    let forged = shared::message::encode(&Order::Heartbeat(BEAT));
    w.mail(life.id, w.seal(life, &forged, b"", &[w.agent_seal_key()], &crate::lab::key(66)));
    assert_eq!(w.once(), 0);
    assert_eq!(unheard(&mut w), [true]);
    assert!(w.status().contains("Possible freeze"), "{}", w.status());
    w.reports.clear();
    takes_an_honest_order(&mut w);
}

#[test]
fn what_comes_after_months_of_it_is_refused() {
    let mut w = frozen();
    let (order, bundle) = poison(&w);
    let created = now().minus(crate::lab::DAY * 100);
    let life = Life { created, expires: created.plus(shared::limits::ORDER_LIFE_MAX), ..w.life() };
    w.send_with(life, &order, &bundle);
    w.reports.clear();
    fends_off(&mut w, "expired 1");
}
