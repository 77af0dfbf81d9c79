//! Log lines for the journal: it knows the time and shows no colours, and a priority in front of each line
//! (`sd-daemon(3)`) lets `journalctl -p warning` find what matters.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt;
use std::os::fd::AsFd;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Whether what this process writes to standard error goes to the journal.
#[must_use]
pub fn is_read() -> bool {
    // Programs that a service starts inherit the variable, but their output may go elsewhere.
    std::env::var_os("JOURNAL_STREAM").is_some_and(|stream| is_stream(std::io::stderr(), &stream))
}

/// Whether systemd started this process as a service, or shows its output as one's.
#[must_use]
pub fn is_service() -> bool {
    is_read() || std::env::var_os("NOTIFY_SOCKET").is_some()
}

fn is_stream(file: impl AsFd, journal_stream: &OsStr) -> bool {
    let Ok(stat) = rustix::fs::fstat(file) else { return false };
    journal_stream.to_str() == Some(&format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// An error text for standard error: marked as an error if the journal reads it.
#[must_use]
pub fn error_text(text: &str) -> Cow<'_, str> {
    if is_read() { Cow::Owned(marked(3, text)) } else { Cow::Borrowed(text) }
}

/// Puts the priority in front of each line: the journal takes each for an entry of its own.
fn marked(priority: u8, text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| format!("<{priority}>{line}")).collect();
    lines.join("\n")
}

/// The priorities of syslog.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

/// The form of log lines in the journal.
#[derive(Debug)]
pub struct Lines(Format<Full, ()>);

impl Lines {
    /// `targets`: whether to name the module that a line comes from.
    #[must_use]
    pub fn new(targets: bool) -> Self {
        Self(Format::default().without_time().with_level(false).with_ansi(false).with_target(targets))
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut text = String::new();
        self.0.format_event(context, Writer::new(&mut text), event)?;
        writeln!(writer, "{}", marked(priority(*event.metadata().level()), &text))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn each_line_has_its_priority_and_no_time_or_colour() {
        let sink = Sink::default();
        let writer = sink.clone();
        let log = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .with_max_level(Level::TRACE)
            .event_format(Lines::new(false))
            .finish();
        tracing::subscriber::with_default(log, || {
            tracing::error!(code = 7, "Broken");
            tracing::warn!("First\nsecond");
            tracing::info!(why = "x\ny", "Fine");
            tracing::trace!("Small");
        });
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text, "<3>Broken code=7\n<4>First\n<4>second\n<6>Fine why=\"x\\ny\"\n<7>Small\n");
    }

    #[test]
    fn only_the_very_stream_of_the_journal_counts() {
        let file = tempfile::tempfile().unwrap();
        let meta = file.metadata().unwrap();
        let own = format!("{}:{}", meta.dev(), meta.ino());
        assert!(is_stream(&file, OsStr::new(&own)));
        for other in ["", "8:1", "x"] {
            assert!(!is_stream(&file, OsStr::new(other)), "{other}");
        }
    }
}
