//! Standard output and standard error. `println!` panics when whoever reads is gone; this does not: a reader that went away
//! (`| head -1`) wants no more, and what the command was told to do is done all the same. A log is `tracing`'s.

use std::fmt::Arguments;
use std::io::{self, Write as _};
use std::sync::OnceLock;

/// What kept the output from being written, but for a reader that went away.
static UNWRITTEN: OnceLock<io::Error> = OnceLock::new();

/// Prints one line to standard output.
macro_rules! say {
    ($($text:tt)*) => { $crate::say::print(format_args!("{}\n", format_args!($($text)*))) };
}

/// Prints to standard output.
pub(crate) fn print(text: Arguments<'_>) {
    let mut out = io::stdout().lock();
    match out.write_fmt(text).and_then(|()| out.flush()) {
        Ok(()) => {}
        Err(err) if err.kind() == io::ErrorKind::BrokenPipe => {}
        Err(err) => {
            let _ = UNWRITTEN.set(err);
        }
    }
}

/// Prints one line to standard error. A closed one leaves only the exit code to speak.
pub(crate) fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Why output is missing, a full disk say, if any is.
pub(crate) fn unwritten() -> Option<&'static io::Error> {
    UNWRITTEN.get()
}
