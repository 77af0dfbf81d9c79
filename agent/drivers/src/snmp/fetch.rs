//! Fetches rows from one device, one request at a time, whatever the device does: tables that do not end or do not rise,
//! one object that breaks every answer with it, answers that are too long, silence. What cannot be had is left out, and
//! said in `left_out`.
//!
//! GETBULK of 25 objects, then of 10, then GETNEXT; then the column that still fails is left out. Many devices fail where a table
//! ends instead of saying so: a column that fails where the others have ended has ended.

use std::collections::BTreeSet;

use tokio::time::{Instant, timeout_at};

use super::ask::{Answer, Ask, AskFault, How, ObjectStatus};
use super::oid::Oid;
use super::rows::{Rows, Value};
use crate::limits::{
    BULK_OBJECTS, BULK_OBJECTS_CAREFUL, COLUMN_ROWS_MAX_COUNT, LEFT_OUT_MAX_COUNT, OBJECTS_MAX_COUNT,
    ROWS_MAX_BYTES, ROWS_MAX_COUNT, VALUE_MAX_BYTES,
};

/// How much is dared in one request for columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Bulk(usize),
    Next,
}

impl Step {
    fn down(self) -> Self {
        match self {
            Self::Bulk(objects) if objects > BULK_OBJECTS_CAREFUL => Self::Bulk(BULK_OBJECTS_CAREFUL),
            Self::Bulk(_) | Self::Next => Self::Next,
        }
    }
}

/// Where the reading of one column stands.
struct Cursor {
    column: Oid,
    at: Oid,
    rows: usize,
    place: Place,
}

/// Whether a column is read.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// There may be more.
    Open,
    /// Nothing follows.
    Ended,
    /// The device fails at what follows, with these words.
    Failed(String),
    /// No more is asked.
    Cut,
}

impl Cursor {
    fn new(column: &[u32]) -> Self {
        let column = Oid::new(column);
        Self { at: column.clone(), column, rows: 0, place: Place::Open }
    }

    fn is_open(&self) -> bool {
        self.place == Place::Open
    }

    /// The row that it has come to.
    fn row(&self) -> &[u32] {
        self.at.arcs().get(self.column.arcs().len()..).unwrap_or_default()
    }

    /// The row of its table, without the column.
    fn entry(&self) -> &[u32] {
        self.column.arcs().split_last().map_or(&[], |(_, entry)| entry)
    }

    /// It failed where the columns beside it have ended: at least one has, and none goes on.
    fn fails_at_the_end(&self, all: &[Self]) -> bool {
        let beside = || all.iter().filter(|other| other.entry() == self.entry());
        let ended = beside().any(|other| other.place == Place::Ended && other.row() == self.row());
        ended && beside().all(|other| other.row() <= self.row())
    }
}

/// One poll's requests and what came of them.
pub(crate) struct Fetch<'a, A> {
    ask: &'a A,
    step: Step,
    deadline: Instant,
    bytes: usize,
    count: usize,
    requests: u32,
    rows: Rows,
    left_out: Vec<String>,
    /// Columns and objects that were asked for and not read, or not to their end.
    unread: BTreeSet<Oid>,
}

impl<'a, A: Ask> Fetch<'a, A> {
    pub(crate) fn new(ask: &'a A, deadline: Instant) -> Self {
        let step = if ask.has_bulk() { Step::Bulk(BULK_OBJECTS) } else { Step::Next };
        Self {
            ask,
            step,
            deadline,
            bytes: 0,
            count: 0,
            requests: 0,
            rows: Rows::default(),
            left_out: Vec::new(),
            unread: BTreeSet::new(),
        }
    }

    /// What came so far.
    pub(crate) fn rows(&self) -> &Rows {
        &self.rows
    }

    /// Requests so far; a repeated datagram counts as one.
    pub(crate) fn requests(&self) -> u32 {
        self.requests
    }

    /// True if the time for the whole poll is over.
    pub(crate) fn is_late(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// The rows, and what was left out.
    pub(crate) fn finish(self) -> (Rows, Vec<String>) {
        (self.rows, self.left_out)
    }

    /// True if something in this column was asked for and could not be read. What the device lacks was read.
    pub(crate) fn is_unread(&self, column: &[u32]) -> bool {
        self.unread.iter().any(|oid| oid.arcs().starts_with(column))
    }

    /// Notes that something was not read.
    pub(crate) fn leave_out(&mut self, what: String) {
        if self.left_out.len() < LEFT_OUT_MAX_COUNT {
            self.left_out.push(what);
        }
    }

    /// Asks these very objects. What the device lacks is no error.
    ///
    /// # Errors
    /// The device cannot be asked at all.
    pub(crate) async fn objects(&mut self, objects: &[Oid]) -> Result<(), AskFault> {
        for some in objects.chunks(OBJECTS_MAX_COUNT) {
            for (oid, answer) in self.each(How::Get, some).await? {
                match answer {
                    Ok(Answer { oid: of, value: Some(value) }) if of == oid => self.keep(oid, value),
                    Ok(_) => {}
                    Err(why) => {
                        self.leave_out(format!("{oid}: {why}"));
                        self.unread.insert(oid);
                    }
                }
            }
        }
        Ok(())
    }

    /// Asks the first cell of each column: one request for things whose index is not known.
    ///
    /// # Errors
    /// The device cannot be asked at all.
    pub(crate) async fn first_cells(&mut self, columns: &[Oid]) -> Result<(), AskFault> {
        for some in columns.chunks(OBJECTS_MAX_COUNT) {
            for (column, answer) in self.each(How::Next, some).await? {
                match answer {
                    Ok(Answer { oid, value: Some(value) }) if oid.is_in(&column) && oid != column => {
                        self.keep(oid, value);
                    }
                    Ok(_) => {}
                    Err(why) => {
                        self.leave_out(format!("{column}: {why}"));
                        self.unread.insert(column);
                    }
                }
            }
        }
        Ok(())
    }

    /// Reads whole columns of one table, side by side.
    ///
    /// # Errors
    /// The device cannot be asked at all, or any more; what came before stays in the rows.
    pub(crate) async fn columns(&mut self, table: &str, columns: &[&[u32]]) -> Result<(), AskFault> {
        let mut cursors: Vec<Cursor> = columns.iter().map(|column| Cursor::new(column)).collect();
        let came = self.walk(table, &mut cursors).await;
        for cursor in &cursors {
            if let Place::Failed(why) = &cursor.place
                && !cursor.fails_at_the_end(&cursors)
            {
                self.unread.insert(cursor.column.clone());
                self.leave_out(format!("{table}, column {} after {}: {why}", cursor.column, cursor.at));
            }
        }
        came
    }

    async fn walk(&mut self, table: &str, cursors: &mut [Cursor]) -> Result<(), AskFault> {
        let mut step = self.step;
        loop {
            let mut open: Vec<&mut Cursor> =
                cursors.iter_mut().filter(|cursor| cursor.is_open()).take(OBJECTS_MAX_COUNT).collect();
            if open.is_empty() {
                return Ok(());
            }
            if self.count >= ROWS_MAX_COUNT || self.bytes >= ROWS_MAX_BYTES {
                self.unread.extend(open.iter().map(|cursor| cursor.column.clone()));
                self.leave_out(format!("{table}: more than {ROWS_MAX_COUNT} rows or {ROWS_MAX_BYTES} bytes"));
                return Ok(());
            }
            match step {
                Step::Bulk(objects) => match self.by_bulk(table, &mut open, objects).await {
                    Ok(()) => {}
                    // One object breaks the answer of all: the others are to be had one by one.
                    Err(AskFault::Object { status: ObjectStatus::Other(_) | ObjectStatus::None, .. }) => {
                        step = step.down();
                    }
                    // The device cannot make such answers; it will not learn it during this poll.
                    Err(AskFault::Object { .. } | AskFault::Garbage(_)) => {
                        step = step.down();
                        self.step = step;
                    }
                    Err(AskFault::Silent) => {
                        step = Step::Next;
                        self.step = step;
                    }
                    Err(fault) => return Err(fault),
                },
                Step::Next => self.by_next(table, &mut open).await?,
            }
        }
    }

    async fn by_bulk(
        &mut self,
        table: &str,
        open: &mut [&mut Cursor],
        objects: usize,
    ) -> Result<(), AskFault> {
        let at: Vec<Oid> = open.iter().map(|cursor| cursor.at.clone()).collect();
        let repetitions = objects.checked_div(at.len()).unwrap_or(1).max(1);
        let repetitions = u32::try_from(repetitions).unwrap_or(1);
        let answers = self.request(self.ask.bulk(&at, repetitions)).await?;
        if answers.len() < at.len() {
            return Err(AskFault::Garbage("an answer with fewer objects than were asked for".to_owned()));
        }
        for answers in answers.chunks(at.len()) {
            for (cursor, answer) in open.iter_mut().zip(answers) {
                self.take(table, cursor, answer.clone());
            }
        }
        Ok(())
    }

    async fn by_next(&mut self, table: &str, open: &mut [&mut Cursor]) -> Result<(), AskFault> {
        let at: Vec<Oid> = open.iter().map(|cursor| cursor.at.clone()).collect();
        let answers = self.each(How::Next, &at).await?;
        for (cursor, (_, answer)) in open.iter_mut().zip(answers) {
            match answer {
                Ok(answer) => self.take(table, cursor, answer),
                Err(why) => cursor.place = Place::Failed(why),
            }
        }
        Ok(())
    }

    /// Moves a cursor on by one answer.
    fn take(&mut self, table: &str, cursor: &mut Cursor, answer: Answer) {
        let Answer { oid, value } = answer;
        let Some(value) = value.filter(|_| oid.is_in(&cursor.column)) else {
            if cursor.is_open() {
                cursor.place = Place::Ended;
            }
            return;
        };
        if !cursor.is_open() {
            return;
        }
        if oid <= cursor.at {
            cursor.place = Place::Cut;
            self.unread.insert(cursor.column.clone());
            self.leave_out(format!(
                "{table}, column {} after {}: names that do not rise",
                cursor.column, cursor.at
            ));
            return;
        }
        cursor.at = oid.clone();
        cursor.rows = cursor.rows.saturating_add(1);
        if cursor.rows >= COLUMN_ROWS_MAX_COUNT {
            cursor.place = Place::Cut;
            self.unread.insert(cursor.column.clone());
            self.leave_out(format!("{table}, column {}: rows past {COLUMN_ROWS_MAX_COUNT}", cursor.column));
        }
        self.keep(oid, value);
    }

    /// Asks single objects; an error of one of them costs only that one. Version 1 answers a request with one missing
    /// object by an error for all, and a device's bug does the same in each version.
    async fn each(
        &mut self,
        how: How,
        objects: &[Oid],
    ) -> Result<Vec<(Oid, Result<Answer, String>)>, AskFault> {
        let mut out = Vec::with_capacity(objects.len());
        let mut parts = vec![objects];
        while let Some(part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            match self.request(self.ask.single(how, part)).await {
                Ok(answers) => {
                    let mut answers = answers.into_iter();
                    out.extend(part.iter().map(|oid| {
                        let missing = || Answer { oid: oid.clone(), value: None };
                        (oid.clone(), Ok(answers.next().unwrap_or_else(missing)))
                    }));
                }
                Err(AskFault::Object { index, status }) => {
                    let at = index.checked_sub(1).filter(|at| *at < part.len());
                    let guilty = if part.len() == 1 { Some(0) } else { at };
                    match guilty.filter(|_| status != ObjectStatus::TooBig || part.len() == 1) {
                        Some(at) => {
                            let (before, rest) = part.split_at(at);
                            let Some((oid, after)) = rest.split_first() else { continue };
                            let missing = Answer { oid: oid.clone(), value: None };
                            let lacks = status == ObjectStatus::None;
                            out.push((
                                oid.clone(),
                                if lacks { Ok(missing) } else { Err(status.to_string()) },
                            ));
                            parts.extend([before, after]);
                        }
                        None => {
                            let (first, second) = part.split_at(part.len().div_ceil(2));
                            parts.extend([first, second]);
                        }
                    }
                }
                Err(fault) => return Err(fault),
            }
        }
        let place = |oid: &Oid| objects.iter().position(|object| object == oid);
        out.sort_by_key(|(oid, _)| place(oid));
        Ok(out)
    }

    /// Makes one request, within what is left of the time.
    async fn request(
        &mut self,
        asked: impl Future<Output = Result<Vec<Answer>, AskFault>>,
    ) -> Result<Vec<Answer>, AskFault> {
        if self.is_late() {
            return Err(AskFault::Silent);
        }
        self.requests = self.requests.saturating_add(1);
        timeout_at(self.deadline, asked).await.unwrap_or(Err(AskFault::Silent))
    }

    fn keep(&mut self, oid: Oid, mut value: Value) {
        if let Value::Bytes(bytes) = &mut value {
            bytes.truncate(VALUE_MAX_BYTES);
        }
        let value_bytes = value.bytes().map_or(8, <[u8]>::len);
        let name_bytes = oid.arcs().len().saturating_mul(4);
        self.bytes = self.bytes.saturating_add(value_bytes).saturating_add(name_bytes);
        self.count = self.count.saturating_add(1);
        self.rows.insert(oid, value);
    }
}

#[cfg(test)]
mod tests;
