//! Reads the CSV of `agent import`: every row is checked, every bad one is named with its line and reason.
//! Changes nothing.

use std::collections::BTreeMap;
use std::io::Read;

use csv::{ErrorKind, ReaderBuilder, StringRecord, Trim};
use shared::keys::{SealingKey, VerifyingKey};
use shared::{AgentId, Label, MailAddress};

use crate::registry::{self, Terms};

/// The columns that every file may have, in the order of the manual; beside them those of the registry. Which are there, and in which
/// order, is told by the header row.
pub const COLUMNS: [&str; 6] = ["id", "mail", "class", "site", "note", "admin"];

/// The columns with an enrolled agent's keys, as `agent export` writes them.
pub const KEY_COLUMNS: [&str; 2] = ["sign_key", "seal_key"];

/// A checked row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentRow {
    /// The agent's ID.
    pub id: AgentId,
    /// Where it reads its mail.
    pub mail: MailAddress,
    /// The classes it belongs to.
    pub classes: Vec<Label>,
    /// Where it stands.
    pub site: Label,
    /// Whatever the operator wants to remember.
    pub note: Label,
    /// Whom to write to about it.
    pub admin: Option<MailAddress>,
    /// What else is written down about its site.
    pub terms: Terms,
    /// The keys that it has at the manager whose export this is: one that makes invitations has no use for them.
    pub keys: Option<(VerifyingKey, SealingKey)>,
}

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowError {
    /// Line of the file, from 1.
    pub line: u64,
    /// What was expected and found.
    pub why: String,
}

/// Which of the file's columns holds what.
struct Header(BTreeMap<String, usize>);

/// Reads all rows with their lines, or names all that is wrong.
///
/// # Errors
/// Every row that is not an agent, or the header.
pub fn read(from: impl Read) -> Result<Vec<(u64, AgentRow)>, Vec<RowError>> {
    let mut reader = ReaderBuilder::new().flexible(true).trim(Trim::All).from_reader(from);
    let header = match reader.headers() {
        Ok(record) => Header::parse(record).map_err(|why| vec![RowError { line: 1, why }])?,
        Err(err) => return Err(vec![csv_error(&err)]),
    };
    let mut rows = Vec::new();
    let mut errors = Vec::new();
    let mut seen = Seen::default();
    let mut record = StringRecord::new();
    loop {
        match reader.read_record(&mut record) {
            Ok(false) => break,
            Ok(true) => {
                let line = record.position().map_or(0, csv::Position::line);
                match header.row(&record).and_then(|row| seen.add(&row, line).map(|()| row)) {
                    Ok(row) => rows.push((line, row)),
                    Err(why) => errors.push(RowError { line, why }),
                }
            }
            Err(err) => {
                let broken = matches!(err.kind(), ErrorKind::Io(_));
                errors.push(csv_error(&err));
                if broken {
                    break;
                }
            }
        }
    }
    if errors.is_empty() { Ok(rows) } else { Err(errors) }
}

fn csv_error(err: &csv::Error) -> RowError {
    let line = err.position().map_or(1, csv::Position::line);
    let why = match err.kind() {
        ErrorKind::Utf8 { .. } => "expected UTF-8 text, found other bytes".to_owned(),
        _ => err.to_string(),
    };
    RowError { line, why }
}

impl Header {
    fn parse(record: &StringRecord) -> Result<Self, String> {
        let mut places = BTreeMap::new();
        for (at, name) in record.iter().enumerate() {
            // Excel begins a UTF-8 file with a byte order mark.
            let name = name.trim_start_matches('\u{feff}').to_ascii_lowercase();
            let known = COLUMNS.contains(&name.as_str()) || KEY_COLUMNS.contains(&name.as_str());
            if !known && !Terms::knows(&name) {
                return Err(format!(
                    "expected the columns {}, and if wanted {} or attr.NAME, found \"{name}\"",
                    COLUMNS.join(","),
                    registry::KEYS.join(",")
                ));
            }
            if places.insert(name.clone(), at).is_some() {
                return Err(format!("the column {name} is there twice"));
            }
        }
        for needed in ["id", "mail"] {
            if !places.contains_key(needed) {
                return Err(format!(
                    "expected a header row with the columns {}: {needed} is missing",
                    COLUMNS.join(",")
                ));
            }
        }
        Ok(Self(places))
    }

    fn cell<'r>(&self, record: &'r StringRecord, column: &str) -> &'r str {
        self.0.get(column).and_then(|at| record.get(*at)).unwrap_or_default()
    }

    fn row(&self, record: &StringRecord) -> Result<AgentRow, String> {
        if record.len() != self.0.len() {
            return Err(format!(
                "expected {} cells, found {} (a text with a comma needs quotes)",
                self.0.len(),
                record.len()
            ));
        }
        let label =
            |column: &str| Label::parse(self.cell(record, column)).map_err(|err| format!("{column}: {err}"));
        let address = |column: &str| {
            MailAddress::parse(self.cell(record, column)).map_err(|err| format!("{column}: {err}"))
        };
        let mut terms = Terms::default();
        for column in self.0.keys().filter(|column| Terms::knows(column)) {
            terms.set(column, self.cell(record, column))?;
        }
        let classes = self.cell(record, "class").split(';').map(str::trim).filter(|c| !c.is_empty());
        Ok(AgentRow {
            id: AgentId::parse(self.cell(record, "id")).map_err(|err| format!("id: {err}"))?,
            mail: address("mail")?,
            classes: classes
                .map(|c| Label::parse(c).map_err(|err| format!("class: {err}")))
                .collect::<Result<_, _>>()?,
            site: label("site")?,
            note: label("note")?,
            admin: if self.cell(record, "admin").is_empty() { None } else { Some(address("admin")?) },
            terms,
            keys: self.keys(record)?,
        })
    }

    fn keys(&self, record: &StringRecord) -> Result<Option<(VerifyingKey, SealingKey)>, String> {
        let [sign, seal] = KEY_COLUMNS.map(|column| self.cell(record, column));
        if sign.is_empty() || seal.is_empty() {
            return Ok(None);
        }
        let sign = VerifyingKey::parse_text(sign).map_err(|err| format!("sign_key: {err}"))?;
        Ok(Some((sign, SealingKey::parse_text(seal).map_err(|err| format!("seal_key: {err}"))?)))
    }
}

/// IDs of the rows so far, with their lines. Addresses may come twice: a list gives each agent behind it a copy.
#[derive(Default)]
struct Seen {
    ids: BTreeMap<AgentId, u64>,
}

impl Seen {
    fn add(&mut self, row: &AgentRow, line: u64) -> Result<(), String> {
        if let Some(first) = self.ids.insert(row.id.clone(), line) {
            return Err(format!("id: {} is at line {first} already", row.id));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(text: &str) -> Vec<String> {
        read(text.as_bytes()).unwrap_err().iter().map(|e| format!("{}: {}", e.line, e.why)).collect()
    }

    #[test]
    fn a_file_from_a_spreadsheet_is_read() {
        let text = "\u{feff}id,mail,class,site,note,admin\r\n\
                    A1,a1@lab.test,gateway; mono ,Tokyo,\"Alpha Ltd, 3rd floor\",root@a.test\r\n\
                    A2,a2@lab.test,,,,\r\n";
        let rows = read(text.as_bytes()).unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0].1.note.as_str(), "Alpha Ltd, 3rd floor");
        assert_eq!(rows[0].1.classes, [Label::lossy("gateway"), Label::lossy("mono")]);
        assert_eq!(rows[1].1.admin, None);
    }

    #[test]
    fn columns_may_stand_in_another_order_or_be_left_out() {
        let rows = read("mail,id\na1@lab.test,A1\n".as_bytes()).unwrap();
        assert_eq!(rows[0].1.id.as_str(), "A1");
    }

    #[test]
    fn every_bad_row_is_named_with_its_line_and_reason() {
        let text = "id,mail,class,site,note,admin\n\
                    A1,a1@lab.test,,,,\n\
                    ../x,a2@lab.test,,,,\n\
                    A3,nobody,,,,\n\
                    A4,a4@lab.test,,Tokyo, 3rd floor,x,\n\
                    A1,a5@lab.test,,,,\n\
                    A6,A1@lab.test,,,,\n"; // a list of several agents
        let found = errors(text);
        assert_eq!(found.len(), 4, "{found:?}");
        assert!(found[0].starts_with("3: id: bad agent ID \"../x\""), "{found:?}");
        assert!(found[1].starts_with("4: mail: expected a mail address"), "{found:?}");
        assert!(found[2].starts_with("5: expected 6 cells, found 7"), "{found:?}");
        assert_eq!(found[3], "6: id: A1 is at line 2 already");
    }

    #[test]
    fn a_header_with_an_unknown_or_missing_column_is_refused() {
        assert!(errors("id,email\n")[0].contains("found \"email\""));
        assert!(errors("id,note\n")[0].contains("mail is missing"));
        assert!(errors("")[0].contains("id is missing"));
        assert!(errors("id,id,mail\n")[0].contains("twice"));
    }

    #[test]
    fn bytes_that_are_no_text_are_named_with_their_line() {
        let found = read(&b"id,mail\nA1,a1@lab.test\nA\xff,a2@lab.test\n"[..]).unwrap_err();
        assert_eq!(found[0].line, 3);
        assert!(found[0].why.contains("UTF-8"));
    }
}
