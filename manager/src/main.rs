//! The program `mailfleet`: everything it does is in the library and in `cli`.

#![warn(clippy::print_stdout, clippy::print_stderr, reason = "they panic when their reader is gone")]

mod cli;

fn main() -> std::process::ExitCode {
    service::panics::end_the_process();
    cli::main()
}
