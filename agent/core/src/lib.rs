//! What an agent decides: which mails it believes, how an install goes on after a power cut, what it
//! reports. `AgentCore::step` takes an event and gives effects; the same core that is simulated ships.
//!
//! Not here: clock, randomness, files, sockets, tasks. The shell (`mailfleet-agent`) passes `now` in, does
//! the effects in their order and answers with events. Its rules are few:
//!
//! ```text
//! 1. Do the effects of one step in their order, all of them, before the next step.
//! 2. `Save` is durable before the next effect begins. It is always the first effect of its step.
//! 3. An effect that names an event as its answer is answered once; a crash in between is answered by
//!    `Event::Started` on the state that was saved last.
//! 4. `Fetch`, `KeepPart`, `Join`, `TidyParts`, `Stage`, `Switch`, `Try`, `Adopt`, `Restore`, `RestartBox`, `MakeKeys`, `DropKeys`, `DropWish`, `Cleanup`,
//!    `Tidy`, `AskDevice`, `ReadFirmware`, `DropDeviceWish` may be done again and then change nothing more. A test may be run again.
//!    `PushFirmware` and `ActivateFirmware` never may.
//! ```
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, reason = "tests may overflow and fail"))]
#![warn(clippy::wildcard_enum_match_arm)]

mod agent;
mod budget;
mod busy;
mod effect;
mod event;
mod facts;
mod firmware;
mod fresh;
mod install;
mod intake;
mod limits;
mod meter;
mod outbox;
mod profile;
mod program;
mod queue;
mod rekey;
mod schedule;
mod state;
mod test_run;
mod transfer;
mod versions;
mod watch;
mod wish;

pub use agent::AgentCore;
pub use busy::{Before, BootId, InUse, Lease, LeaseEnd, Running};
pub use effect::{Disposal, Effect, Outgoing, ReadFor};
pub use event::{
    Compared, Event, InspectFault, MailboxStand, OpenFault, PartFault, PostResult, ScriptEnd, StageFault,
};
pub use facts::{
    BundleFacts, EnvelopeFacts, JunkReason, MailHandle, Module, ModulesFound, PartFacts, Payload,
};
pub use firmware::{
    Catalogue, DeviceWant, DeviceWish, Image, KeptPlan, PushEnd, Readiness, Shown, Stage, Trial, Update,
    UpdateName, Updates, Why,
};
pub use fresh::{Freshness, Seen};
pub use install::{After, Install, Job, Planned, Restart, Resume, Then, Trials, Wait};
pub use limits::{
    ASK_PARTS_AFTER_DEFAULT, INTERRUPTIONS_MAX_COUNT, LEASE_MAX_DEFAULT, LEFT_MAX_COUNT, OUTBOX_MAX_COUNT,
    QUEUE_MAX_COUNT, RESTART_LIMIT_DEFAULT,
};
pub use meter::{Meter, Used};
pub use outbox::{Outbox, Queued, ReportSeq};
pub use profile::{Profile, Rules};
pub use program::{EXIT_PROVEN, Program};
pub use rekey::{Asked, Former, KeyName, OwnKeys};
pub use schedule::{KeptSchedule, PutOff};
pub use state::{Enrolment, LastEnd, Owed, Request, State, StateError};
pub use test_run::TestRun;
pub use transfer::Transfer;
pub use versions::Combination;
pub use watch::{Bill, BillDays, Look, LookFault, Open, Starts, Telling, Told, Unanswered, Watch, Watched};
pub use wish::{NotGranted, Want, Wish};
