//! Every state against every signal, as one table that a person can read: `tests/golden/update-moves.txt`. A change there is a change of what is
//! sent to devices. `UPDATE_GOLDEN=1` writes it anew.

use core::fmt::Write as _;
use core::time::Duration;
use std::path::Path;

use shared::bundle::{FirmwareEntry, FirmwareHandler};
use shared::device::DeviceName;
use shared::glob::Glob;
use shared::message::{FileState, UpdateReason, UpdateState};
use shared::{Digest, Label, ModulePath, UnixMillis};

use super::turn::{Act, Around, PushEnd, Readiness, Shown, Signal};
use super::{Image, Stage, Trial, Update, Why};
use crate::schedule::PutOff;

const NOW: UnixMillis = UnixMillis(1_750_000_000_000);
const HOUR: Duration = Duration::from_secs(3_600);

fn label(text: &str) -> Label {
    Label::lossy(text)
}

fn image() -> Image {
    let model = Glob::new(label("Alpha*"));
    let mut entry =
        FirmwareEntry::new(label("m"), label("main"), model, label("2"), FirmwareHandler::Raw9100);
    entry.from = vec![label("1")];
    Image { entry, path: ModulePath::parse("m").unwrap(), bytes: 9, digest: Digest([1; 32]) }
}

/// One that has had a transfer if its stage says so.
fn update(stage: Stage) -> Update {
    let transfers = u32::from(!matches!(stage, Stage::NotRegistered(_)) && !stage.has_not_begun());
    Update {
        device: DeviceName::parse("a").unwrap(),
        kind: label("main"),
        image: Some(0),
        vendor: None,
        model: None,
        serial: None,
        old: Some(label("1")),
        stage,
        since: NOW.minus(HOUR),
        transfers,
        tries: transfers,
        allowed: 1,
        put_off: None,
        began: None,
        sent_bytes: 0,
        rate: None,
        told: true,
        doubt: None,
    }
}

#[allow(clippy::fn_params_excessive_bools, reason = "two columns of the table")]
fn trial(harmless: bool, over: bool) -> Trial {
    let at = |over: bool| if over { NOW } else { NOW.plus(HOUR) };
    let reason = if harmless { UpdateReason::Interrupted } else { UpdateReason::StillOld };
    Trial { ended: NOW.minus(HOUR), settled: at(over), until: at(over), harmless, why: Why::of(reason) }
}

fn stages() -> Vec<(&'static str, Stage)> {
    let why = || Why::of(UpdateReason::Silent);
    vec![
        ("not-reg", Stage::NotRegistered(UpdateReason::HasIt)),
        ("queued", Stage::Queued(None)),
        ("asked", Stage::Asked),
        ("deferred", Stage::Deferred(NOW.plus(HOUR), why())),
        ("precheck", Stage::Prechecked),
        ("transfer", Stage::Transferring),
        ("activate", Stage::Activating),
        ("restart", Stage::Restarting(trial(false, false))),
        ("rest:over", Stage::Restarting(trial(false, true))),
        ("ver:harml", Stage::Verifying(trial(true, true))),
        ("done", Stage::Done),
        ("failed", Stage::Failed(why())),
        ("unknown", Stage::Unknown(why())),
        ("cancel", Stage::Cancelled(why())),
        ("expired", Stage::Expired),
    ]
}

fn signals() -> Vec<(&'static str, Signal)> {
    let shown = |version: &str, idle| Signal::Read(Ok(Shown { version: Some(label(version)), idle }));
    let why = || label("why");
    let ready = |version: &str| Signal::Answered(Readiness::Ready(Some(label(version))));
    vec![
        ("its turn", Signal::Begin),
        ("ready, shows the old", ready("1")),
        ("ready, shows the new", ready("2")),
        ("ready, shows another", ready("3")),
        ("ready, shows none", Signal::Answered(Readiness::Ready(None))),
        ("not now", Signal::Answered(Readiness::NotNow(why(), None))),
        ("holds its answer back", Signal::Answered(Readiness::Deferred(HOUR))),
        ("refuses to be asked", Signal::Answered(Readiness::Refused(why()))),
        ("does not answer", Signal::Answered(Readiness::Silent(why()))),
        ("file is good", Signal::Checked(FileState::Good)),
        ("file is another", Signal::Checked(FileState::Altered)),
        ("file is missing", Signal::Checked(FileState::Missing)),
        ("all was sent", Signal::Pushed(PushEnd::Sent { bytes: 9, took: HOUR })),
        ("nothing was sent", Signal::Pushed(PushEnd::NotBegun(why()))),
        ("broke off", Signal::Pushed(PushEnd::Incomplete(1, why()))),
        ("nobody knows", Signal::Pushed(PushEnd::Unclear(1, why()))),
        ("refused the image", Signal::Pushed(PushEnd::Refused(why()))),
        ("was told to take it", Signal::Activated(Ok(()))),
        ("could not be told", Signal::Activated(Err(why()))),
        ("read: the old, idle", shown("1", true)),
        ("read: the old, at work", shown("1", false)),
        ("read: the new", shown("2", true)),
        ("read: another", shown("3", true)),
        ("read: no version", Signal::Read(Ok(Shown { version: None, idle: true }))),
        ("read: silence", Signal::Read(Err(why()))),
        ("shows the new by itself", Signal::Shows(label("2"))),
        ("shows the old by itself", Signal::Shows(label("1"))),
        ("agent starts", Signal::Restarted),
        ("not now (plan)", Signal::Hold(Some(UpdateReason::NotYet))),
        ("cancelled", Signal::Cancel(Why::of(UpdateReason::CancelledByManager))),
        ("put off at the site", Signal::PutOff(PutOff { until: NOW.plus(HOUR), by: label("me") })),
        ("time is over", Signal::TimeOver),
        ("allowed once more", Signal::Again),
    ]
}

fn cell(stage: &Stage, signal: &Signal, may_begin: bool) -> (String, Option<Act>, Update) {
    let image = image();
    let mut update = update(stage.clone());
    let before = update.clone();
    let around = Around { now: NOW, step: HOUR, image: &image, may_begin };
    let act = update.turn(&around, signal.clone());
    let text = match act {
        _ if update == before => ".".to_owned(),
        None if update.stage.state() == stage.state() => "+".to_owned(),
        None => update.stage.state().to_string(),
        Some(act) => format!("{act:?}!").to_lowercase(),
    };
    (text, act, update)
}

#[test]
fn each_signal_in_each_state_does_what_the_table_says() {
    let mut text = String::from(
        "What each signal (rows) makes of an update in each state (columns).\n\
         \x20 .  nothing        +  something is noted, the state stays        else: the new state\n\
         \x20 ask!, check!, push!, activate!: the state of that name, and it is done\n\
         \x20 rest:over  restarting, and the device should be back        ver:harml  the transfer is known to have done no harm\n\n",
    );
    let mut row = |name: &str, cells: Vec<String>| {
        let cells: String = cells.iter().map(|cell| format!(" {cell:<14}")).collect();
        writeln!(text, "{}", format!("{name:<24}{cells}").trim_end()).unwrap();
    };
    row("", stages().iter().map(|(name, _)| (*name).to_owned()).collect());
    for (name, signal) in signals() {
        row(name, stages().iter().map(|(_, stage)| cell(stage, &signal, true).0).collect());
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/update-moves.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = text.lines().zip(expected.lines()).find(|(found, expected)| found != expected);
    assert_eq!(text, expected, "first difference: {differs:#?}; UPDATE_GOLDEN=1 accepts it");
}

#[test]
fn only_a_good_file_of_a_ready_device_is_sent_and_only_in_its_time() {
    for (name, signal) in signals() {
        for (from, stage) in stages() {
            let (_, act, after) = cell(&stage, &signal, true);
            assert_eq!(
                act == Some(Act::Push),
                after.stage == Stage::Transferring && stage != Stage::Transferring
            );
            let right = stage == Stage::Prechecked && signal == Signal::Checked(FileState::Good);
            assert_eq!(act == Some(Act::Push), right, "{name} in {from}");
            assert_ne!(cell(&stage, &signal, false).1, Some(Act::Push), "{name} in {from}, out of its time");
        }
    }
}

#[test]
fn from_a_state_that_may_be_flashing_nothing_leads_back_but_a_harmless_transfer_or_the_managers_word() {
    for (name, signal) in signals() {
        for (from, stage) in stages() {
            let sent = stage.is_under_way() || matches!(stage, Stage::Unknown(_));
            let harmless = matches!(&stage, Stage::Verifying(trial) if trial.harmless);
            let (_, _, after) = cell(&stage, &signal, true);
            if !sent || harmless || signal == Signal::Again || !after.stage.waits() {
                continue;
            }
            panic!("{name} leads from {from} to {:?}", after.stage);
        }
    }
}

#[test]
fn only_a_device_that_shows_it_is_done() {
    for (name, signal) in signals() {
        for (from, stage) in stages() {
            let becomes = cell(&stage, &signal, true).2.stage.state() == UpdateState::Done;
            assert!(!becomes || stage == Stage::Done || name.contains("the new"), "{name} in {from}");
        }
    }
}
