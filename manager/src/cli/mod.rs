//! The command line: reads what the user typed, calls the library, prints. Holds no SQL and no decision that
//! a campaign depends on.

mod agent;
mod agent_set;
mod agents;
mod args;
mod audit;
mod audited;
mod bundle;
mod bundle_delta;
mod campaign;
mod campaign_devices;
mod checks;
mod counters;
mod csv;
mod daemon;
mod device_args;
mod device_csv;
mod device_draft;
mod device_list;
mod devices;
mod doctor;
mod enlist;
mod fail;
mod faults;
mod files;
mod firmware_inspect;
mod firmware_preview;
mod follow;
mod init;
mod inspect;
mod introduce;
mod keys;
mod names;
mod open;
mod preview;
mod progress;
mod query;
mod rekey;
mod report;
mod rollout_args;
mod savings;
mod select;
mod show;
mod start;
mod updates_view;
mod verify;
mod view;

use std::process::ExitCode;

use clap::Parser as _;
use manager_core::updates::Wish;

use args::{Agent, AuditCommand, Bundle, Campaign, Cli, Command, Keys, Query, Report};
use fail::Outcome;

/// Runs the command that the process was started with.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(done) => done.code(),
        Err(fail) => fail.report(),
    }
}

fn run(cli: Cli) -> Outcome {
    let home = cli.home.as_deref();
    match cli.command {
        Command::Init(args) => init::init(home, &args),
        Command::Doctor(args) => doctor::doctor(home, &args),
        Command::Agent(command) => match command {
            Agent::Add(args) => agent::add(home, &args),
            Agent::Import(args) => agent::import(home, &args),
            Agent::Invite(args) => agent::invite(home, &args),
            Agent::Export(args) => introduce::export(home, &args),
            Agent::Introduce(args) => introduce::introduce(home, &args),
            Agent::List(args) => agents::list(home, &args),
            Agent::Set(args) => agent_set::set(home, &args),
            Agent::Show(args) => agent::show(home, &args),
            Agent::Rekey(args) => rekey::rekey(home, &args),
            Agent::Remove(args) => agent::remove(home, &args),
        },
        Command::Bundle(command) => match command {
            Bundle::Build(args) => bundle::build(home, &args),
            Bundle::Inspect(args) => inspect::inspect(home, &args),
            Bundle::Sign(args) => bundle::sign(home, &args),
        },
        Command::Campaign(command) => match command {
            Campaign::Start(args) => start::start(home, &args),
            Campaign::Plan(args) => start::plan(home, &args),
            Campaign::Pause(args) => campaign::pause(home, &args),
            Campaign::Halt(args) => campaign::halt(home, &args),
            Campaign::Resume(args) if !args.devices.is_empty() => {
                campaign_devices::say(home, args.number, &args.devices, Wish::Resume)
            }
            Campaign::Resume(args) => campaign::resume(home, &args),
            Campaign::Skip(args) => campaign::skip(home, &args),
            Campaign::List(args) => campaign::list(home, &args),
            Campaign::Show(args) => campaign::show(home, &args),
            Campaign::Watch(args) => follow::watch(home, &args),
            Campaign::Retry(args) => campaign::retry(home, &args),
            Campaign::Suspend(args) => campaign_devices::say(home, args.number, &args.devices, Wish::Suspend),
            Campaign::Permit(args) => campaign_devices::say(home, args.number, &args.devices, Wish::Permit),
            Campaign::Cancel(args) if !args.devices.is_empty() => {
                campaign_devices::say(home, args.number, &args.devices, Wish::Cancel)
            }
            Campaign::Cancel(args) => campaign::cancel(home, &args),
        },
        Command::Query(query) => match query {
            Query::Versions(args) => query::versions(home, &args),
            Query::Counters(args) => counters::counters(home, &args),
        },
        Command::Faults(args) => faults::faults(home, &args),
        Command::Devices(args) => devices::devices(home, &args),
        Command::Keys(command) => match command {
            Keys::List(args) => keys::list(home, &args),
            Keys::Propose(args) => keys::propose(home, &args),
            Keys::Sign(args) => keys::sign(home, &args),
            Keys::Accept(args) => keys::accept(home, &args),
            Keys::NewRelease(args) => keys::new_release(&args),
        },
        Command::Audit(args) => match &args.command {
            Some(AuditCommand::Verify(verify)) => audit::verify(home, verify),
            None => audit::audit(home, &args),
        },
        Command::Run(args) => daemon::run(home, &args),
        Command::Report(command) => match command {
            Report::Versions(args) => report::versions(home, &args),
            Report::Campaign(args) => report::campaign(home, &args),
            Report::DevicesCampaign(args) => device_csv::updates(home, &args),
            Report::Faults(args) => device_csv::faults(home, &args),
            Report::Counters(args) => device_csv::counters(home, &args),
            Report::Devices(args) => device_csv::devices(home, &args),
            Report::Supplies(args) => device_csv::supplies(home, &args),
            Report::Parts(args) => device_csv::parts(home, &args),
            Report::Readings(args) => verify::readings(home, &args),
            Report::Verify(args) => verify::verify(home, &args),
        },
    }
}
