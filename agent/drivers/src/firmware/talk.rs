//! What a device or a program says to a communication request (R7), as JSON:
//! `{"answer": "ready" | "not-now" | "deferred" | "refused", "reason": "…", "seconds": 1200}`. Pure.

use std::time::Duration;

use serde::Deserialize;

use super::{Answer, judge, said};
use crate::limits::FIRMWARE_DEFER_MAX;

#[derive(Deserialize)]
struct Said {
    answer: Word,
    reason: Option<String>,
    seconds: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Word {
    Ready,
    NotNow,
    Deferred,
    Refused,
}

/// What the answer means; one that makes no sense is no permission.
pub(super) fn answer(bytes: &[u8]) -> Result<(), Answer> {
    let Ok(Said { answer, reason, seconds }) = serde_json::from_slice(bytes) else {
        let reason = format!("its answer makes no sense: {}", said(bytes));
        return Err(Answer::NotNow { reason, hold: judge::HOLD_FAULT });
    };
    let reason = reason.map_or_else(|| "it does not say why".to_owned(), |text| said(text.as_bytes()));
    Err(match answer {
        Word::Ready => return Ok(()),
        Word::NotNow => Answer::NotNow { reason, hold: time(seconds, judge::HOLD_BUSY) },
        Word::Deferred => Answer::Deferred { by: time(seconds, judge::HOLD_FAULT) },
        Word::Refused => Answer::Refused { reason },
    })
}

/// A time that a device has named, within bounds.
pub(super) fn time(seconds: Option<u64>, usual: Duration) -> Duration {
    let time = seconds.map_or(usual, Duration::from_secs);
    time.clamp(Duration::from_secs(1), FIRMWARE_DEFER_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_may_defer_for_so_long_and_not_for_ever() {
        let deferred = |text: &str| match answer(text.as_bytes()) {
            Err(Answer::Deferred { by }) => by.as_secs(),
            other => panic!("{other:?}"),
        };
        assert_eq!(deferred(r#"{"answer": "deferred", "seconds": 1200, "more": 1}"#), 1_200);
        assert_eq!(deferred(r#"{"answer": "deferred"}"#), 900);
        assert_eq!(deferred(r#"{"answer": "deferred", "seconds": 18446744073709551615}"#), 259_200);
    }

    #[test]
    fn only_the_word_ready_is_a_permission() {
        assert_eq!(answer(br#"{"answer": "ready"}"#), Ok(()));
        for bad in
            ["", "ready", r#"{"answer": "yes"}"#, r#"{"seconds": 1}"#, "{\"answer\": \"ready\"", "\u{1b}[2J"]
        {
            let Err(Answer::NotNow { reason, .. }) = answer(bad.as_bytes()) else { panic!("{bad}") };
            assert!(!reason.contains('\u{1b}'), "{reason}");
        }
        let refused = Err(Answer::Refused { reason: "locked by its owner".to_owned() });
        assert_eq!(answer(br#"{"answer": "refused", "reason": "locked by its owner"}"#), refused);
    }
}
