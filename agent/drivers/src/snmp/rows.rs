//! What a device answered: values by their names. Reading it never fails: what is missing, or of another type than its
//! MIB says, is `None`.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::oid::Oid;

/// One value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// INTEGER, Counter, Gauge, TimeTicks; wide enough for Counter64.
    Number(i128),
    /// OCTET STRING and what is like it.
    Bytes(Vec<u8>),
    /// OBJECT IDENTIFIER.
    Name(Oid),
}

impl Value {
    /// The number.
    pub(crate) fn number(&self) -> Option<i64> {
        match self {
            Self::Number(number) => i64::try_from(*number).ok(),
            Self::Bytes(_) | Self::Name(_) => None,
        }
    }

    /// The number, if a counter can have it.
    pub(crate) fn count(&self) -> Option<u64> {
        match self {
            Self::Number(number) => u64::try_from(*number).ok(),
            Self::Bytes(_) | Self::Name(_) => None,
        }
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Number(_) | Self::Name(_) => None,
        }
    }

    /// The name.
    pub(crate) fn name(&self) -> Option<&Oid> {
        match self {
            Self::Name(oid) => Some(oid),
            Self::Number(_) | Self::Bytes(_) => None,
        }
    }
}

/// All that was answered in one poll.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rows(BTreeMap<Oid, Value>);

impl Rows {
    pub(crate) fn insert(&mut self, oid: Oid, value: Value) {
        self.0.insert(oid, value);
    }

    /// True if nothing was answered.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of `column` at `index`; of a scalar the index is `[0]`.
    pub(crate) fn at(&self, column: &[u32], index: &[u32]) -> Option<&Value> {
        self.0.get([column, index].concat().as_slice())
    }

    /// The value of this very name.
    pub(crate) fn get(&self, oid: &Oid) -> Option<&Value> {
        self.0.get(oid)
    }

    /// The cells of a column with their indices, in order.
    pub(crate) fn column<'a>(&'a self, column: &'a [u32]) -> impl Iterator<Item = (&'a [u32], &'a Value)> {
        self.0
            .range::<[u32], _>((Bound::Excluded(column), Bound::Unbounded))
            .take_while(move |(oid, _)| oid.arcs().starts_with(column))
            .map(move |(oid, value)| (oid.arcs().get(column.len()..).unwrap_or_default(), value))
    }

    /// True if something lies below `prefix`.
    pub(crate) fn has(&self, prefix: &[u32]) -> bool {
        self.column(prefix).next().is_some()
    }

    /// The number of `column` at `index`.
    pub(crate) fn number(&self, column: &[u32], index: &[u32]) -> Option<i64> {
        self.at(column, index)?.number()
    }

    /// The first cell of a column that is a number.
    pub(crate) fn first_number(&self, column: &[u32]) -> Option<i64> {
        self.column(column).find_map(|(_, value)| value.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_its_cells_and_nothing_beside_it() {
        let mut rows = Rows::default();
        for (oid, number) in [("1.3.9.1", 1), ("1.3.10.1.1", 2), ("1.3.10.1.5", 3), ("1.3.10.2.1", 4)] {
            rows.insert(Oid::parse(oid).unwrap(), Value::Number(number));
        }
        let cells: Vec<_> = rows.column(&[1, 3, 10, 1]).map(|(i, v)| (i.to_vec(), v.number())).collect();
        assert_eq!(cells, [(vec![1], Some(2)), (vec![5], Some(3))]);
        assert_eq!(rows.number(&[1, 3, 10, 2], &[1]), Some(4));
        assert!(rows.has(&[1, 3, 9]) && !rows.has(&[1, 3, 1]));
    }

    #[test]
    fn a_value_of_another_type_is_no_value() {
        assert_eq!(Value::Bytes(b"7".to_vec()).number(), None);
        assert_eq!(Value::Number(-1).count(), None);
        assert_eq!(Value::Number(u64::MAX.into()).count(), Some(u64::MAX));
        assert_eq!(Value::Number(u64::MAX.into()).number(), None);
    }
}
