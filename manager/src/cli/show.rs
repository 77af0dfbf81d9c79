//! How results look: tables that fit the terminal, colour, sizes with units, JSON. Knows nothing of agents
//! or campaigns.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use comfy_table::{Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, Row, Table, presets};
use serde::Serialize;

use super::fail::{Fail, OrFail as _};

/// What is left of a column that is cut.
const SOFT_MIN_CHARS: u16 = 6;

/// What a colour means here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colour {
    /// Done, fine.
    Green,
    /// Waits, doubtful.
    Yellow,
    /// Failed.
    Red,
    /// Nothing to say.
    Plain,
}

/// <https://no-color.org>: set and not empty means no colour.
pub(crate) fn colour_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
        && std::env::var_os("TERM").is_none_or(|v| v != "dumb")
}

/// Colours a text that goes to standard error, if that is a terminal.
pub(crate) fn paint_stderr(colour: Colour, text: &str) -> String {
    paint(colour, text, io::stderr().is_terminal())
}

/// Colours a text that goes to standard output, if that is a terminal.
pub(crate) fn paint_stdout(colour: Colour, text: &str) -> String {
    paint(colour, text, io::stdout().is_terminal())
}

fn paint(colour: Colour, text: &str, terminal: bool) -> String {
    let code = match colour {
        Colour::Green => 32,
        Colour::Yellow => 33,
        Colour::Red => 31,
        Colour::Plain => return text.to_owned(),
    };
    if terminal && colour_wanted() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

/// A text from outside (a mail server's words, say) that cannot drive the terminal: control characters but the
/// line feed become blanks.
pub(crate) fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect()
}

/// Prints to standard output. A reader that went away (`| head`) is no error.
pub(crate) fn print(text: &str) -> Result<(), Fail> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(err) if err.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.or_outside("cannot write to standard output"),
    }
}

/// Prints one line to standard output.
pub(crate) fn say(line: &str) -> Result<(), Fail> {
    print(&format!("{line}\n"))
}

/// Prints one line to standard error: progress and warnings, which a pipe must not get.
pub(crate) fn note(line: &str) {
    // A closed standard error takes nothing that the exit code does not say.
    let _ = writeln!(io::stderr(), "{line}");
}

/// Prints one JSON document.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Fail> {
    let text = serde_json::to_string_pretty(value).or_outside("cannot write JSON")?;
    say(&text)
}

/// `7.6 MB`, decimal, as mail providers count; bytes below 1,000 are exact.
pub(crate) fn size(bytes: u64) -> String {
    let units = [(1_000_000_000u64, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    for (unit, name) in units {
        if bytes >= unit {
            let tenths = bytes.saturating_mul(10).checked_div(unit).unwrap_or(0);
            let (whole, tenth) = (tenths.checked_div(10).unwrap_or(0), tenths.checked_rem(10).unwrap_or(0));
            return if whole >= 100 { format!("{whole} {name}") } else { format!("{whole}.{tenth} {name}") };
        }
    }
    format!("{bytes} B")
}

/// A duration to two units at most, for people: `2h 5m`, `40s`.
pub(crate) fn duration(d: Duration) -> String {
    let s = d.as_secs();
    let part = |unit: u64, of: u64| {
        let count = s.checked_div(unit).unwrap_or(0);
        if of == 0 { count } else { count.checked_rem(of).unwrap_or(0) }
    };
    let two = |big: u64, big_name: &str, small: u64, small_name: &str| match small {
        0 => format!("{big}{big_name}"),
        _ => format!("{big}{big_name} {small}{small_name}"),
    };
    match s {
        0 if !d.is_zero() => "less than a second".to_owned(),
        0..60 => format!("{s}s"),
        60..3600 => two(part(60, 0), "m", part(1, 60), "s"),
        3600..86_400 => two(part(3600, 0), "h", part(60, 60), "m"),
        _ => two(part(86_400, 0), "d", part(3600, 24), "h"),
    }
}

/// A plain singular or plural: `1 agent`, `2 agents`.
pub(crate) fn count(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

/// A width that overrides the terminal's.
fn columns() -> Option<u16> {
    std::env::var("COLUMNS").ok()?.parse().ok().filter(|c| *c >= 20)
}

/// A cell with its colour.
pub(crate) fn cell(text: impl ToString, colour: Colour) -> Cell {
    let cell = Cell::new(text);
    match colour {
        Colour::Green => cell.fg(Color::Green),
        Colour::Yellow => cell.fg(Color::Yellow),
        Colour::Red => cell.fg(Color::Red),
        Colour::Plain => cell,
    }
}

/// A table of one line per row: what does not fit the terminal is cut with `…`.
pub(crate) struct Listing {
    table: Table,
    /// Columns that are cut first: notes, addresses.
    soft: Vec<bool>,
}

impl Listing {
    /// Columns by their headings; one that begins with `>` is right-aligned, one with `~` is cut first.
    pub(crate) fn new(headings: &[&str]) -> Self {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        // Fits the terminal's width; output into a file or a pipe is not cut, unless COLUMNS says so.
        table.set_content_arrangement(ContentArrangement::Dynamic);
        if let Some(width) = columns() {
            table.set_width(width);
        }
        // Cuts anywhere, not only between words.
        table.set_delimiter('\u{1}');
        if !(io::stdout().is_terminal() && colour_wanted()) {
            // Also forgets the terminal's width, so it is read before.
            if let Some(width) = table.width() {
                table.set_width(width);
            }
            table.force_no_tty();
        }
        let mut header =
            Row::from(headings.iter().map(|h| h.trim_start_matches(['>', '~'])).collect::<Vec<_>>());
        header.max_height(1);
        table.set_header(header);
        for (i, heading) in headings.iter().enumerate() {
            if let Some(column) = table.column_mut(i) {
                column.set_padding((0, 2));
                if heading.starts_with('>') {
                    column.set_cell_alignment(CellAlignment::Right);
                }
            }
        }
        Self { table, soft: headings.iter().map(|h| h.starts_with('~')).collect() }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        let mut row = Row::from(cells);
        row.max_height(1);
        self.table.add_row(row);
    }

    /// The lines, without blanks at their ends.
    pub(crate) fn text(&mut self) -> String {
        self.keep_hard_columns();
        self.table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
    }
}

impl Listing {
    /// Keeps all but the soft columns whole, if at least a few characters are left for these.
    fn keep_hard_columns(&mut self) {
        let Some(width) = self.table.width() else { return };
        let widths = self.table.column_max_content_widths();
        let needed: u16 = widths
            .iter()
            .zip(&self.soft)
            .map(|(w, soft)| if *soft { (*w).min(SOFT_MIN_CHARS) } else { *w })
            .fold(0, |sum: u16, w| sum.saturating_add(w).saturating_add(2));
        if needed > width {
            return;
        }
        for (i, soft) in self.soft.iter().enumerate() {
            if let (false, Some(column)) = (soft, self.table.column_mut(i)) {
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_a_unit_and_at_most_three_digits() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (7_654_321, "7.6 MB"),
            (123_456_789, "123 MB"),
            (4_000_000_000, "4.0 GB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn words_from_outside_cannot_drive_the_terminal() {
        assert_eq!(harmless("550 \x1b[2Jno\r\nsuch user\u{9b}1m"), "550  [2Jno \nsuch user 1m");
    }

    #[test]
    fn durations_read_like_speech() {
        for (ms, text) in [
            (0, "0s"),
            (500, "less than a second"),
            (59_000, "59s"),
            (60_000, "1m"),
            (605_000, "10m 5s"),
            (7_500_000, "2h 5m"),
            (90_000_000, "1d 1h"),
        ] {
            assert_eq!(duration(Duration::from_millis(ms)), text);
        }
    }

    #[test]
    fn a_wide_table_is_cut_to_the_width_with_an_ellipsis() {
        let mut listing = Listing::new(&["ID", "NOTE"]);
        listing.table.set_content_arrangement(ContentArrangement::Dynamic).set_width(30);
        listing
            .row(vec![cell("A0001", Colour::Plain), cell("a note of many words that goes on", Colour::Red)]);
        let text = listing.text();
        assert!(text.lines().all(|line| line.chars().count() <= 30), "{text}");
        assert!(text.contains('…'), "{text}");
        assert_eq!(text.lines().count(), 2, "{text}");
    }
}
