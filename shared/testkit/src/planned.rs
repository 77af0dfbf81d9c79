//! What a box does in its own time: schedules that it keeps to, people beside it, tests that it runs; and what must hold of that.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;

use agent_core::{Event, ScriptEnd, Want, Wish};
use shared::bundle::{BundleSpec, Compression, TestEntry, pack};
use shared::message::{Order, OutputTail, Report, TestResult};
use shared::{EnvelopeId, Label, ModulePath, SoftwareVersion, UnixMillis};

use crate::boxes::{Bundles, SimBox};
use crate::post::Post;

/// The test that each bundle of the world brings: its module `a` says whether it works.
pub(crate) fn a_test() -> TestEntry {
    let toml = "software_version = \"1-0\"\n[test]\nmodule = \"a\"\n[[module]]\nname = \"a\"\nversion = \"1\"\n\
        date = \"2026-01-01\"\nfile = \"a\"\npath = \"bin/a\"\nmode = \"0755\"\nkind = \"resident\"\n";
    let manifest = pack(
        &BundleSpec::parse(toml).expect("a spec"),
        Compression::Deflate,
        1,
        UnixMillis(0),
        &mut |_| Ok(Cursor::new(vec![1])),
        &mut Vec::new(),
        &mut |_| {},
    );
    manifest.expect("a bundle").test.expect("a test")
}

/// The tests of one box.
#[derive(Debug, Default)]
pub(crate) struct Tests {
    /// Versions that were to be tested, by the orders that were taken.
    ordered: BTreeMap<EnvelopeId, SoftwareVersion>,
    /// Numbers of the reports of each, and what they said.
    reported: BTreeMap<EnvelopeId, (BTreeSet<u64>, TestResult)>,
    /// Tests that ran.
    pub(crate) ran: u64,
}

impl Tests {
    pub(crate) fn taken(&mut self, id: EnvelopeId, order: &Order) {
        if let Order::Test(test) = order {
            self.ordered.insert(id, test.software_version.clone());
        }
    }

    pub(crate) fn said(&mut self, number: u64, report: &Report) {
        if let Report::Tested(tested) = report {
            let entry = self.reported.entry(tested.order);
            entry.or_insert_with(|| (BTreeSet::new(), tested.result.clone())).0.insert(number);
        }
    }

    /// True if some test of this version was passed, or, on a box without steady power, given up after three starts.
    pub(crate) fn passed(&self, version: &SoftwareVersion, power_fails: bool) -> bool {
        let exit = |result: &TestResult| match result {
            TestResult::Exit(0, _) => true,
            TestResult::NotRun(why) => power_fails && why.as_str().contains("interrupted"),
            _ => false,
        };
        self.ordered.iter().any(|(order, tested)| {
            tested == version && self.reported.get(order).is_some_and(|(_, result)| exit(result))
        })
    }
}

impl SimBox {
    /// Somebody at the site puts an update off that waits, or does not want it.
    pub(crate) fn people(&mut self, now: UnixMillis, post: &mut Post, bundles: &Bundles) {
        if !self.dice.chance(self.persona.people) {
            return;
        }
        let Some(order) = self.core.state().queue.first().map(|job| job.order) else { return };
        let hours = i64::try_from(self.dice.below(6)).unwrap();
        let put_off = Want::PutOff(UnixMillis(self.clock(now).0 + hours * 3_600_000));
        let want = if self.dice.chance(100) { Want::Cancel } else { put_off };
        let wishes = vec![Wish { order, by: Label::lossy("somebody"), want }];
        self.feed(now, Event::Wishes { wishes }, post, bundles);
    }

    /// PROTOCOL 15.2: an install that is about to change something does so in its time.
    pub(crate) fn check_time(&mut self, now: UnixMillis) {
        let state = self.saved_state();
        let job = state.active.as_ref().expect("an install is saved before it acts").job();
        if !job.scheduled {
            return;
        }
        let now = state.fresh.effective(self.clock(now));
        let bundle = job.bundle.expect("a scheduled job knows its bundle");
        let kept = state.schedules.get(&bundle).expect("it does not begin without a schedule");
        let schedule = &kept.schedule;
        let inside = schedule.intervals.iter().any(|interval| interval.from <= now && now < interval.until);
        let in_time = schedule.not_before <= now && (schedule.intervals.is_empty() || inside);
        let wanted = kept.put_off.as_ref().is_none_or(|put_off| put_off.until <= now);
        assert!(in_time && wanted, "{}: {} begins out of its time, {now}: {kept:?}", self.id, job.order);
        assert!(job.expires >= now, "{}: {} begins after its end", self.id, job.order);
        self.in_time += 1;
    }

    /// PROTOCOL 16.1, 16.2
    pub(crate) fn run_test(&mut self, order: EnvelopeId, path: &ModulePath) -> Event {
        let state = self.saved_state();
        assert!(state.active.is_none(), "{}: a test runs in the middle of an install", self.id);
        let saved =
            state.tests.iter().find(|test| test.order == order).expect("a test is saved before it runs");
        assert!((1..=3).contains(&saved.starts), "{}: a test is started without end", self.id);
        let installed = state.installed.as_ref().expect("what is tested is installed");
        assert_eq!(installed.software_version, saved.software_version, "{}", self.id);
        let module = installed.modules.iter().find(|module| module.path == *path).expect("a module");
        assert_eq!(self.files.get(path), Some(&module.digest), "{}: another file is run", self.id);
        self.tests.ran += 1;
        let output = OutputTail::of(b"ready\n");
        Event::TestEnded { order, end: ScriptEnd::Exit(0), output }
    }

    /// Every test that was ordered is answered once, or waits.
    pub(crate) fn check_tests(&self) {
        for order in self.tests.ordered.keys() {
            let waits = self.core.state().tests.iter().any(|test| test.order == *order);
            let reports = self.tests.reported.get(order).map_or(0, |(numbers, _)| numbers.len());
            assert_eq!(reports + usize::from(waits), 1, "{}: test {order} has {reports} results", self.id);
        }
    }
}
