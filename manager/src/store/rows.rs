//! From columns to types and back. A value that no version of the program writes is an error that names
//! itself, never a default.

use std::time::Duration;

use minicbor::{Decode, Encode};
use rusqlite::Row;
use shared::{AgentId, Digest, EnvelopeId, Label, MailAddress, SoftwareVersion, UnixMillis};

use super::{TxError, TxResult};

pub(super) fn bad(what: &str, why: impl ToString) -> TxError {
    TxError::Row(format!("{what}: {}", why.to_string()))
}

pub(super) fn agent_id(row: &Row<'_>, column: &str) -> TxResult<AgentId> {
    AgentId::parse(&row.get::<_, String>(column)?).map_err(|err| bad(column, err))
}

pub(super) fn mail(row: &Row<'_>, column: &str) -> TxResult<MailAddress> {
    MailAddress::parse(&row.get::<_, String>(column)?).map_err(|err| bad(column, err))
}

pub(super) fn opt_mail(row: &Row<'_>, column: &str) -> TxResult<Option<MailAddress>> {
    let text: String = row.get(column)?;
    if text.is_empty() { Ok(None) } else { mail(row, column).map(Some) }
}

pub(super) fn label(row: &Row<'_>, column: &str) -> TxResult<Label> {
    Label::parse(&row.get::<_, String>(column)?).map_err(|err| bad(column, err))
}

pub(super) fn labels(row: &Row<'_>, column: &str) -> TxResult<Vec<Label>> {
    let text: String = row.get(column)?;
    text.lines().map(|line| Label::parse(line).map_err(|err| bad(column, err))).collect()
}

pub(super) fn version(row: &Row<'_>, column: &str) -> TxResult<SoftwareVersion> {
    SoftwareVersion::parse(&row.get::<_, String>(column)?).map_err(|err| bad(column, err))
}

pub(super) fn versions(row: &Row<'_>, column: &str) -> TxResult<Vec<SoftwareVersion>> {
    let text: String = row.get(column)?;
    text.lines().map(|line| SoftwareVersion::parse(line).map_err(|err| bad(column, err))).collect()
}

pub(super) fn time(row: &Row<'_>, column: &str) -> TxResult<UnixMillis> {
    Ok(UnixMillis(row.get(column)?))
}

pub(super) fn opt_time(row: &Row<'_>, column: &str) -> TxResult<Option<UnixMillis>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(UnixMillis))
}

pub(super) fn unsigned(row: &Row<'_>, column: &str) -> TxResult<u64> {
    u64::try_from(row.get::<_, i64>(column)?).map_err(|err| bad(column, err))
}

pub(super) fn duration(row: &Row<'_>, column: &str) -> TxResult<Duration> {
    unsigned(row, column).map(Duration::from_millis)
}

pub(super) fn envelope(row: &Row<'_>, column: &str) -> TxResult<EnvelopeId> {
    Ok(EnvelopeId(row.get(column)?))
}

pub(super) fn digest(row: &Row<'_>, column: &str) -> TxResult<Digest> {
    Ok(Digest(row.get(column)?))
}

pub(super) fn cbor<T: for<'b> Decode<'b, ()>>(what: &str, bytes: &[u8]) -> TxResult<T> {
    minicbor::decode(bytes).map_err(|err| bad(what, err))
}

pub(super) fn to_cbor<T: Encode<()>>(value: &T) -> Vec<u8> {
    shared::message::encode(value)
}

pub(super) fn lines<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// SQLite's integers are signed; ours are far from that border.
pub(super) fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

pub(super) fn millis(d: Duration) -> i64 {
    i64::try_from(d.as_millis()).unwrap_or(i64::MAX)
}
