//! Progress of long work on standard error: bars on a terminal, else nothing or one plain line per change.

use std::io::IsTerminal as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
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

/// The bar that is on the screen, so that log lines can go above it.
static ON_SCREEN: Mutex<Option<ProgressBar>> = Mutex::new(None);

fn on_screen() -> MutexGuard<'static, Option<ProgressBar>> {
    ON_SCREEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does something to standard error without writing through a bar.
pub(crate) fn beside<T>(work: impl FnOnce() -> T) -> T {
    let bar = on_screen().clone();
    match bar {
        Some(bar) => bar.suspend(work),
        None => work(),
    }
}

/// Shows how far a long wait is: a bar with a message on a terminal, else one line whenever the state changes.
pub(crate) struct Follow {
    last: String,
}

impl Follow {
    pub(crate) fn new(total: usize) -> Self {
        if on_terminal() {
            let bar = styled(ProgressBar::new(total as u64), "{spinner} [{bar:20}] {pos}/{len} {wide_msg}");
            bar.enable_steady_tick(Duration::from_millis(200));
            *on_screen() = Some(bar);
        }
        Self { last: String::new() }
    }

    /// `ended` of the total have an end state; `next` says what comes.
    pub(crate) fn show(&mut self, ended: usize, state: &str, next: &str) {
        if let Some(bar) = on_screen().as_ref() {
            bar.set_position(ended as u64);
            bar.set_message(format!("{state}; {next}"));
        } else if self.last != state {
            super::show::note(state);
            state.clone_into(&mut self.last);
        }
    }

    pub(crate) fn end(self) {
        drop(self);
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        if let Some(bar) = on_screen().take() {
            bar.finish_and_clear();
        }
    }
}
