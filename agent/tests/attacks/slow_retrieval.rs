//! Slow retrieval: a server that works, but so slowly that nothing ever gets done.

use std::time::{Duration, Instant};

use crate::common::World;
use crate::imap::{Imap, Mail, Trick};
use crate::lab::{MAIL_LIMIT, mailed, once_hurried, takes_an_honest_mail};

const PHASES: [&str; 6] = ["greeting", "CAPABILITY", "AUTHENTICATE", "SELECT", "FETCH", "UID FETCH"];

/// The agent must be done with the server soon, say so, and take an honest order as soon as the server behaves.
fn is_left(command: &'static str, trick: Trick, limits: u32) {
    let mut w = World::enrolled();
    let server = Imap::before(&w);
    server.deliver(Mail::Whole(mailed(&mut w)));
    server.misbehave(command, trick);
    let began = Instant::now();
    let out = once_hurried(&w);
    let took = began.elapsed();
    assert_eq!(out.status.code(), Some(3), "{command}: {}", crate::common::text(&out));
    assert!(took < MAIL_LIMIT * limits + Duration::from_secs(2), "{command}: {took:?}");
    println!("figure: {command}: left after {:.1} limits", took.as_secs_f64() / MAIL_LIMIT.as_secs_f64());
    server.behave();
    takes_an_honest_mail(&mut w, &server);
}

#[test]
fn a_byte_now_and_then_in_any_step_ends_the_connection_at_the_steps_limit() {
    std::thread::scope(|all| {
        for phase in PHASES {
            all.spawn(move || is_left(phase, Trick::Drip(MAIL_LIMIT / 3), 2));
        }
    });
}

#[test]
fn words_now_and_then_that_never_become_an_answer_do_not_extend_it_for_ever() {
    std::thread::scope(|all| {
        for phase in &PHASES[1..] {
            all.spawn(move || is_left(phase, Trick::Chat(MAIL_LIMIT / 3), 4));
        }
    });
}

#[test]
fn a_mail_given_in_crumbs_is_left_after_the_time_that_its_size_may_take() {
    is_left("UID FETCH", Trick::Crumbs(MAIL_LIMIT / 3), 5);
}
