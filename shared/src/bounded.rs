//! Lists and maps from outside, refused past their limit while they are read: nine bytes of CBOR become eighty in memory.

use std::collections::BTreeMap;

use minicbor::decode::{Decode, Decoder, Error};

/// Reads a list of at most `N`. For `#[cbor(decode_with)]`.
///
/// # Errors
/// More than `N`, or one that cannot be read.
pub fn list<'b, C, T: Decode<'b, C>, const N: usize>(
    d: &mut Decoder<'b>,
    ctx: &mut C,
) -> Result<Vec<T>, Error> {
    let mut list = Vec::new();
    for one in d.array_iter_with(ctx)? {
        if list.len() >= N {
            return Err(Error::message("a list is longer than it may be"));
        }
        list.push(one?);
    }
    Ok(list)
}

/// Reads a map of at most `N` different keys. For `#[cbor(decode_with)]`.
///
/// # Errors
/// More than `N`, a key that is there twice, or one that cannot be read.
pub fn map<'b, C, K: Decode<'b, C> + Ord, V: Decode<'b, C>, const N: usize>(
    d: &mut Decoder<'b>,
    ctx: &mut C,
) -> Result<BTreeMap<K, V>, Error> {
    let mut map = BTreeMap::new();
    for pair in d.map_iter_with(ctx)? {
        let (key, value) = pair?;
        if map.len() >= N {
            return Err(Error::message("a map is longer than it may be"));
        }
        if map.insert(key, value).is_some() {
            return Err(Error::message("a map has a key twice"));
        }
    }
    Ok(map)
}
