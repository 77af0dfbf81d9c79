//! Lists from outside, refused past their limit while they are read: nine bytes of CBOR become eighty in memory.

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
