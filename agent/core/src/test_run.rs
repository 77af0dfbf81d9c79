//! Tests of what is installed (N7, PROTOCOL 16): the manager orders one, the bundle has said what it is, and the result is
//! reported once. Says when it may run; whether the result is the right one is the manager's to say.

use minicbor::{Decode, Encode};
use shared::message::{FileState, OutputTail, Report, TestOrder, TestResult, Tested};
use shared::{EnvelopeId, Label, SoftwareVersion, UnixMillis};

use crate::agent::AgentCore;
use crate::effect::{Effect, ReadFor};
use crate::event::ScriptEnd;
use crate::facts::{EnvelopeFacts, ModulesFound};
use crate::limits::{TEST_STARTS_MAX_COUNT, TESTS_MAX_COUNT};
use crate::versions::{file_state, paths_of, reported};

/// A test that was ordered.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct TestRun {
    /// The order.
    #[n(0)]
    pub order: EnvelopeId,
    /// The version that is to be tested.
    #[n(1)]
    pub software_version: SoftwareVersion,
    /// Past this it is not run any more.
    #[n(2)]
    pub expires: UnixMillis,
    /// Times that it was started.
    #[n(3)]
    pub starts: u8,
}

fn not_run(why: &str) -> TestResult {
    TestResult::NotRun(Label::lossy(why))
}

impl AgentCore {
    pub(crate) fn order_test(&mut self, now: UnixMillis, facts: &EnvelopeFacts, test: TestOrder) {
        if self.state.tests.len() >= TESTS_MAX_COUNT {
            let result = not_run("too many tests wait");
            return self.say(now, Report::Tested(Tested { order: facts.id, result }));
        }
        self.state.tests.push(TestRun {
            order: facts.id,
            software_version: test.software_version,
            expires: facts.expires,
            starts: 0,
        });
    }

    /// Takes up the oldest test when no install is under way (PROTOCOL 16.2): first the files are read.
    pub(crate) fn tend_tests(&mut self, now: UnixMillis, out: &mut Vec<Effect>) {
        while self.testing.is_none() && self.state.active.is_none() {
            let Some(test) = self.state.tests.first() else { return };
            let order = test.order;
            if test.starts >= TEST_STARTS_MAX_COUNT {
                self.tested(now, order, not_run("interrupted by restarts"));
            } else if test.expires < now {
                self.tested(now, order, not_run("its order expired before it could be run"));
            } else {
                self.testing = Some(order);
                let paths = paths_of(self.state.installed.as_ref(), &[]);
                out.push(Effect::ReadModules { read: ReadFor::Test(order), paths });
            }
        }
    }

    /// The files are read: only the version that is to be tested is tested.
    pub(crate) fn begin_test(
        &mut self,
        now: UnixMillis,
        order: EnvelopeId,
        found: &ModulesFound,
        out: &mut Vec<Effect>,
    ) {
        if self.testing != Some(order) {
            return;
        }
        match self.run_of_test(order, found) {
            Err(result) => self.tested(now, order, result),
            Ok(effect) => {
                self.dirty = true;
                for test in self.state.tests.iter_mut().filter(|test| test.order == order) {
                    test.starts = test.starts.saturating_add(1);
                }
                out.push(effect);
            }
        }
    }

    /// What is to be run, or why nothing is (PROTOCOL 16.1).
    fn run_of_test(&self, order: EnvelopeId, found: &ModulesFound) -> Result<Effect, TestResult> {
        let installed = self.state.installed.as_ref();
        let other = || TestResult::OtherVersion(reported(installed, found));
        let wanted =
            self.state.tests.iter().find(|test| test.order == order).map(|test| &test.software_version);
        let combination = installed.filter(|c| Some(&c.software_version) == wanted).ok_or_else(other)?;
        let test = combination.test.as_ref().ok_or_else(|| not_run("its bundle brought no test"))?;
        let module = combination.modules.iter().find(|module| module.name == test.module);
        let module = module.ok_or_else(|| not_run("the module that is to be run is not there"))?;
        if file_state(module, found) != FileState::Good {
            return Err(not_run(&format!("{} is not the file of this version", module.path)));
        }
        if reported(installed, found).exact().is_none() {
            return Err(other());
        }
        Ok(Effect::RunTest { order, path: module.path.clone(), args: test.args.clone(), limit: test.limit() })
    }

    pub(crate) fn end_test(
        &mut self,
        now: UnixMillis,
        order: EnvelopeId,
        end: ScriptEnd,
        output: OutputTail,
    ) {
        if self.testing == Some(order) {
            let result = match end {
                ScriptEnd::Exit(code) => TestResult::Exit(code, output),
                ScriptEnd::Signal(signal) => TestResult::Signal(signal, output),
                ScriptEnd::Timeout(limit_s) => TestResult::TimedOut(limit_s, output),
                ScriptEnd::NotRun(why) => TestResult::NotRun(why),
            };
            self.tested(now, order, result);
        }
    }

    /// One saved state has the report and not the test any more (PROTOCOL 16.3).
    fn tested(&mut self, now: UnixMillis, order: EnvelopeId, result: TestResult) {
        self.testing = None;
        self.state.tests.retain(|test| test.order != order);
        self.say(now, Report::Tested(Tested { order, result }));
    }
}
