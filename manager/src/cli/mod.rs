//! The command line: reads what the user typed, calls the library, prints. Holds no SQL and no decision that
//! a campaign depends on.

mod args;
mod bundle;
mod clock;
mod fail;
mod files;
mod import;
mod inspect;
mod open;
mod progress;
mod show;

use std::process::ExitCode;

use clap::Parser as _;

use args::{Bundle, Cli, Command};
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
        Command::Bundle(Bundle::Build(args)) => bundle::build(home, &args),
        Command::Bundle(Bundle::Inspect(args)) => inspect::inspect(home, &args),
        _ => Err(fail::Fail::usage("later")),
    }
}
