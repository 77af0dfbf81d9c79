//! CSV as spreadsheets read it: UTF-8, comma, CRLF, always with its header row, quoted as RFC 4180 says. Rows go out as they
//! come, so a long report needs no memory; a file appears whole or not at all.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde::Serialize;

use super::fail::{Done, Fail, OrFail as _, Outcome, cannot_write};
use super::files::NewFile;
use super::show;

/// Takes the rows.
pub(crate) struct Rows<'w> {
    writer: csv::Writer<&'w mut dyn Write>,
    /// The first failure; what comes after it is not written.
    failed: Option<csv::Error>,
}

impl<'w> Rows<'w> {
    fn new(to: &'w mut dyn Write) -> Self {
        let writer =
            csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).has_headers(false).from_writer(to);
        Self { writer, failed: None }
    }

    /// Writes a row.
    pub(crate) fn put(&mut self, row: &impl Serialize) {
        if self.failed.is_none() {
            self.failed = self.writer.serialize(row).err();
        }
    }

    /// True if rows are of no use any more: the disk is full, or the reader went away.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    fn finish(mut self) -> io::Result<()> {
        match self.failed.map(csv::Error::into_kind) {
            None => self.writer.flush(),
            Some(csv::ErrorKind::Io(err)) => Err(err),
            Some(other) => Err(io::Error::other(format!("{other:?}"))),
        }
    }
}

/// Writes a report: to this file, or to standard output.
pub(crate) fn write_csv(
    columns: &str,
    output: Option<&Path>,
    fill: impl FnOnce(&mut Rows<'_>) -> Result<(), Fail>,
) -> Outcome {
    let Some(path) = output else {
        let mut out = BufWriter::new(io::stdout().lock());
        return match fill_in(columns, &mut out, fill)?.and_then(|()| out.flush()) {
            // A reader that went away (`| head`) is no error.
            Err(err) if err.kind() == io::ErrorKind::BrokenPipe => Ok(Done::All),
            result => result.map(|()| Done::All).or_outside("cannot write to standard output"),
        };
    };
    let mut new = NewFile::create(path, 0o644).map_err(|err| cannot_write(err, path))?;
    let written = {
        let mut file = BufWriter::new(new.file());
        fill_in(columns, &mut file, fill)?.and_then(|()| file.flush())
    };
    let size = written.and_then(|()| new.file().metadata()).map(|file| file.len());
    let size = size.and_then(|size| new.finish().map(|()| size)).map_err(|err| cannot_write(err, path))?;
    // On standard error: the file is the output.
    show::note(&format!("Wrote {} ({})", path.display(), show::size(size)));
    Ok(Done::All)
}

fn fill_in(
    columns: &str,
    to: &mut dyn Write,
    fill: impl FnOnce(&mut Rows<'_>) -> Result<(), Fail>,
) -> Result<io::Result<()>, Fail> {
    let mut rows = Rows::new(to);
    rows.failed = rows.writer.write_record(columns.split(',')).err();
    fill(&mut rows)?;
    Ok(rows.finish())
}
