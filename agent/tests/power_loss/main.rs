//! A power cut at any point of an agent's life is harmless (PROTOCOL 7.3, 7.6, 10.4). One level below the effects that
//! `durability` cuts between: the real agent is killed at every system call that changes a disk; and after every such
//! call, whatever no `fsync` has made safe is taken from the disk and the agent is started on the rest.
//!
//! `scripts/crash-test` runs these alone, takes every point, and shows their counts. A normal run takes every fifth point,
//! other ones each time: there are thousands.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

#[path = "../common/mod.rs"]
mod common;
mod daemon;
mod disk_model;
mod life;
mod strace;
mod tree;

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::World;
use daemon::{Count, Site};
use disk_model::{Cut, Disk};
use life::{Chapter, Start, command, record};
use tree::Tree;

/// Does a piece of work for each item, on all cores. Fails if any of it does, but not before it has shown some more.
fn each<T: Sync>(items: &[T], work: impl Fn(&T) + Sync) {
    const FAILURES_ENOUGH: usize = 20;
    let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while failed.load(Ordering::Relaxed) < FAILURES_ENOUGH
                    && let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    if std::panic::catch_unwind(AssertUnwindSafe(|| work(item))).is_err() {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(failed.into_inner(), 0, "failures, of {} points", items.len());
}

/// Every point if the variable MAILFLEET_KILLS asks for it, else every fifth.
fn share<T>(points: Vec<T>) -> Vec<T> {
    if std::env::var_os("MAILFLEET_KILLS").is_some() {
        return points;
    }
    let first = std::process::id() as usize % 5;
    points.into_iter().skip(first).step_by(5).collect()
}

/// Says where a test was when it failed.
struct Place(String);

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed: {}", self.0);
        }
    }
}

/// One system call of one start of one chapter.
struct Kill<'c> {
    chapter: &'c Chapter,
    start: usize,
    name: String,
    nth: usize,
}

impl Kill<'_> {
    /// Kills the agent there, lets it go on, and looks at everything. False if it ended before that call.
    fn happens(&self, origin: &World) -> bool {
        let _place = Place(format!(
            "{:?}, start {}, killed at {} {}",
            self.chapter.title, self.start, self.name, self.nth
        ));
        let mut w = self.chapter.world(&self.chapter.before, origin);
        for _ in 0..self.start {
            command(&w).output().unwrap();
        }
        let out = strace::killed_at(&command(&w), &self.name, self.nth);
        self.chapter.finish(&mut w);
        out.status.code().is_none()
    }
}

#[test]
fn an_agent_that_is_killed_at_any_system_call_goes_on_as_if_nothing_had_been() {
    let (origin, chapters) = record();
    let mut kills = vec![];
    let mut tails = vec![];
    for chapter in &chapters {
        for (start, Start { calls, .. }) in chapter.starts.iter().enumerate() {
            // Most calls that open a file change nothing.
            let tells = |call: &&strace::Call| call.op.is_some() || !call.name.starts_with("open");
            let kill = |nth, name: &str| Kill { chapter, start, name: name.to_owned(), nth };
            kills.extend(calls.iter().filter(tells).map(|call| kill(call.nth, &call.name)));
            let names: BTreeSet<&str> = calls.iter().filter(tells).map(|call| call.name.as_str()).collect();
            let made = |name| calls.iter().filter(|call| call.name == name).count();
            tails.extend(names.into_iter().map(|name| kill(made(name) + 1, name)));
        }
    }
    let all = kills.len();
    let kills = share(kills);
    let killed = AtomicUsize::new(0);
    each(&kills, |kill| {
        killed.fetch_add(usize::from(kill.happens(&origin)), Ordering::Relaxed);
    });
    // Another run may take more calls: it looks at every process of the computer, and others come and go. The last one kills nobody.
    each(&tails, |tail| {
        let mut beyond = [0, 10, 100, 1_000, 10_000].into_iter().map(|more| tail.nth + more);
        let ended = beyond.any(|nth| {
            let kill = Kill { nth, name: tail.name.clone(), ..*tail };
            // A start that its script kills has no other end.
            !kill.happens(&origin) || tail.chapter.starts.len() > tail.start + 1
        });
        assert!(ended, "no end of calls of {}", tail.name);
    });
    let killed = killed.into_inner();
    eprintln!("killed at {killed} of {} system calls, of {all}: all recovered", kills.len());
    assert!(killed * 10 > kills.len() * 9, "the calls are no longer those that were recorded");
}

/// What a power cut can leave behind.
struct Remains<'c> {
    chapter: &'c Chapter,
    cut: Cut,
    place: String,
    tree: Tree,
}

/// Every distinct tree that a power cut after any call of a life can leave, and how many calls there were.
fn all_remains(chapters: &[Chapter]) -> (Vec<Remains<'_>>, usize) {
    let (mut disk, mut remains, mut points) = (Disk::new(), vec![], 0);
    for chapter in chapters {
        let mut seen = BTreeSet::new();
        for (start, Start { begin, calls, end }) in chapter.starts.iter().enumerate() {
            disk.look_around(begin);
            for call in calls.iter().filter(|call| call.op.is_some()) {
                let op = call.op.as_ref().unwrap();
                disk.apply(op);
                points += 1;
                for cut in Cut::ALL {
                    let tree = disk.after(cut);
                    if seen.insert(tree.digest()) {
                        let place = format!("start {start}, call {points}, after {op:?}");
                        remains.push(Remains { chapter, cut, place, tree });
                    }
                }
            }
            // What the script has noted beside the agent's folders is not the agent's doing.
            let (model, end) = (disk.after(Cut::Nothing), end.clone().without("killed"));
            let model = model.without("killed");
            assert!(model == end, "the model and the disk differ:\n{}", model.difference(&end));
        }
    }
    (remains, points)
}

#[test]
fn an_agent_that_loses_what_was_not_synced_at_any_point_goes_on_as_if_nothing_had_been() {
    let (origin, chapters) = record();
    let (remains, points) = all_remains(&chapters);
    let all = remains.len();
    let remains = share(remains);
    each(&remains, |remains| {
        let _place = Place(format!("{:?}, {:?}, {}", remains.chapter.title, remains.cut, remains.place));
        let mut w = remains.chapter.world(&remains.tree, &origin);
        remains.chapter.finish(&mut w);
    });
    eprintln!(
        "lost unsynced writes at {points} points x {} models ({} of {all} different disks): all recovered",
        Cut::ALL.len(),
        remains.len()
    );
}

/// Kills in a normal run of the tests; the variable MAILFLEET_KILLS asks for more.
const KILLS: u64 = 300;

#[test]
fn a_daemon_that_is_killed_at_random_moments_loses_no_order_and_does_none_twice() {
    let asked = std::env::var("MAILFLEET_KILLS").ok();
    let kills = asked.map_or(KILLS, |n| n.parse().expect("MAILFLEET_KILLS: expected a number"));
    // Two sites, for two cores.
    let counts = std::sync::Mutex::new(vec![]);
    each(&[1, 2], |seed| {
        let _place = Place(format!("site {seed} of 2"));
        let mut site = Site::new(*seed, life::folder());
        site.live(kills.div_ceil(2));
        counts.lock().unwrap().push(site.check());
    });
    let counts = counts.into_inner().unwrap();
    let sum = |of: fn(&Count) -> usize| counts.iter().map(of).sum::<usize>();
    let (installed, rolled_back) = (sum(|c| c.installed), sum(|c| c.rolled_back));
    let (interrupted, answers) = (sum(|c| c.interrupted), sum(|c| c.answers));
    eprintln!(
        "killed at {kills} random moments, {} of them amid an install: {installed} bundles installed, \
         {rolled_back} rolled back, {interrupted} given up after three kills, {answers} queries answered, each once",
        sum(|c| c.amid)
    );
    assert!(installed > 0 && answers > 0 && sum(|c| c.amid) > 0, "the daemon never came to work");
}
