//! Progress of long work on standard error: bars on a terminal, else nothing or one plain line per change.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Work below this size is over before a bar could be read.
const BAR_FROM_BYTES: u64 = 4_000_000;

fn on_terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// A bar that counts bytes.
pub(crate) fn bytes_bar(what: &'static str, total_bytes: u64) -> ProgressBar {
    if !on_terminal() || total_bytes < BAR_FROM_BYTES {
        return ProgressBar::hidden();
    }
    let template = "{msg} [{bar:30}] {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} {eta}";
    styled(ProgressBar::new(total_bytes), template).with_message(what)
}

/// A bar that counts things.
pub(crate) fn count_bar(what: &'static str, total: usize) -> ProgressBar {
    if !on_terminal() {
        return ProgressBar::hidden();
    }
    styled(ProgressBar::new(total as u64), "{msg} [{bar:30}] {pos}/{len}").with_message(what)
}

fn styled(bar: ProgressBar, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.set_style(style.progress_chars("=> "));
    bar
}

/// Shows a campaign's state: a bar with a message on a terminal, else one line whenever the text changes.
pub(crate) struct Follow {
    bar: Option<ProgressBar>,
    last: String,
}

impl Follow {
    pub(crate) fn new(total: usize) -> Self {
        let bar = on_terminal().then(|| {
            let bar = styled(ProgressBar::new(total as u64), "{spinner} [{bar:20}] {pos}/{len} {wide_msg}");
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Self { bar, last: String::new() }
    }

    /// `ended` of the total have an end state.
    pub(crate) fn show(&mut self, ended: usize, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_position(ended as u64);
            bar.set_message(text.to_owned());
        } else if self.last != text {
            super::show::note(text);
            text.clone_into(&mut self.last);
        }
    }

    pub(crate) fn end(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}
