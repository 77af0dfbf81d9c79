//! Firmware of devices in a campaign (M17, R3 to R6, R12, PROTOCOL 18): the plan that each agent gets, what its reports change, which
//! devices get what, and when that is expected. Whether a target is verified does not depend on any of it: the software version
//! decides that, as before.
//!
//! `plan` is what is said to agents, `intake` what they say, `outlook` what is expected before anything was said, `row` what is written down.

mod intake;
mod outlook;
mod plan;
mod row;

pub use intake::{Heard, Kept, News, UpdateKey, take};
pub use outlook::{Guess, Pace, Slot, guess, slots, unnamed_is_told};
pub use plan::{
    ASK_AGAIN_FIRST, ASK_AGAIN_MAX_COUNT, Choices, DeviceTerms, NotPermitted, PlanTimes, Wish, ask_again,
    device_plan, held_as, permitted,
};
pub use row::{UpdateRow, why};
