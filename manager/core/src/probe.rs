//! Whether what a bundle's test has said is what the bundle says that it says (N7). Runs nothing.

use core::time::Duration;

use minicbor::{Decode, Encode};
use shared::message::TestResult;

/// How much of an unexpected output stands in a reason, characters.
const SHOWN: usize = 200;

/// What the test of a bundle ends with if the bundle works.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Expectation {
    /// Its exit code.
    #[n(0)]
    pub exit: i32,
    /// What it writes, without space around it; `None`: anything.
    #[n(1)]
    pub output: Option<String>,
    /// How many milliseconds it may take.
    #[n(2)]
    pub limit_ms: u64,
}

impl Expectation {
    pub(crate) fn limit(&self) -> Duration {
        Duration::from_millis(self.limit_ms)
    }

    /// Compares.
    ///
    /// # Errors
    /// What was found instead, for people.
    pub fn compare(&self, result: &TestResult) -> Result<(), String> {
        let TestResult::Exit(code, output) = result else { return Err(result.to_string()) };
        if *code != self.exit {
            return Err(format!("exit code {code}, expected {}: {}", self.exit, last_words(output.as_str())));
        }
        match &self.output {
            Some(expected) if expected.trim() != output.as_str().trim() => Err(format!(
                "expected the output \"{}\", found \"{}\"",
                last_words(expected),
                last_words(output.as_str())
            )),
            _ => Ok(()),
        }
    }
}

fn last_words(text: &str) -> String {
    let text = text.trim();
    let from = text.char_indices().rev().nth(SHOWN.saturating_sub(1)).map_or(0, |(at, _)| at);
    text.get(from..).unwrap_or_default().to_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use shared::message::OutputTail;

    fn exit(code: i32, output: &str) -> TestResult {
        TestResult::Exit(code, OutputTail::of(output.as_bytes()))
    }

    #[test]
    fn exit_code_and_output_must_both_be_the_expected_ones() {
        let ready = Expectation { exit: 0, output: Some("ready".to_owned()), limit_ms: 1_000 };
        assert_eq!(ready.compare(&exit(0, "ready\n")), Ok(()));
        assert_eq!(ready.compare(&exit(3, "no port\n")).unwrap_err(), "exit code 3, expected 0: no port");
        assert_eq!(
            ready.compare(&exit(0, "almost\n")).unwrap_err(),
            "expected the output \"ready\", found \"almost\""
        );
        let quiet = Expectation { exit: 7, output: None, limit_ms: 1_000 };
        assert_eq!(quiet.compare(&exit(7, "whatever")), Ok(()));
        let late = TestResult::TimedOut(60, OutputTail::default());
        assert_eq!(quiet.compare(&late).unwrap_err(), "ran longer than 60 s");
    }

    #[test]
    fn long_outputs_are_cut_to_their_last_words() {
        let ready = Expectation { exit: 0, output: None, limit_ms: 1_000 };
        let found = ready.compare(&exit(1, &"ä".repeat(5_000))).unwrap_err();
        assert!(found.chars().count() < 300, "{}", found.len());
    }
}
