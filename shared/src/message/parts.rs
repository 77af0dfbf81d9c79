//! What an agent says of a body that comes in parts.

use minicbor::{Decode, Encode};

use crate::id::{EnvelopeId, Label};
use crate::spans::Spans;

/// Says which bytes of an order's body have not come: they are to be mailed again, and no others (PROTOCOL 17.5).
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct PartsWanted {
    /// The order.
    #[n(0)]
    pub order: EnvelopeId,
    /// Size of its body.
    #[n(1)]
    pub body_bytes: u64,
    /// What is missing of it.
    #[n(2)]
    pub missing: Spans,
    /// How much is here, if more is missing than is asked for now (PROTOCOL 17.12).
    #[n(3)]
    pub here: Option<u64>,
}

impl PartsWanted {
    /// How much is here, for people.
    #[must_use]
    pub fn about(&self) -> Label {
        let here = self.here.unwrap_or(self.body_bytes.saturating_sub(self.missing.bytes()));
        arrived(here, self.body_bytes)
    }
}

/// `7.1 of 48.0 MB are here`.
#[must_use]
pub fn arrived(here_bytes: u64, all_bytes: u64) -> Label {
    let megabytes = |bytes: u64| {
        let tenths = bytes.checked_div(100_000).unwrap_or_default();
        format!(
            "{}.{}",
            tenths.checked_div(10).unwrap_or_default(),
            tenths.checked_rem(10).unwrap_or_default()
        )
    };
    Label::lossy(&format!("{} of {} MB are here", megabytes(here_bytes), megabytes(all_bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spans::Span;

    #[test]
    fn what_is_here_is_said_in_megabytes() {
        let mut missing = Spans::default();
        missing.add(Span { from: 7_150_000, until: 48_000_000 });
        let wanted = PartsWanted { order: EnvelopeId([1; 16]), body_bytes: 48_000_000, missing, here: None };
        assert_eq!(wanted.about().as_str(), "7.1 of 48.0 MB are here");
        let few = PartsWanted { here: Some(1_000_000), ..wanted };
        assert_eq!(few.about().as_str(), "1.0 of 48.0 MB are here");
    }
}
