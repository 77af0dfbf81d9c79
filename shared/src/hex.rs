//! Hexadecimal digits for identifiers. Not for secrets: it makes no claim of constant time.

/// Lower-case digits.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Exactly `N` bytes, or nothing.
#[must_use]
pub fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != N.checked_mul(2)? || !text.is_ascii() {
        return None;
    }
    let mut out = [0u8; N];
    for (slot, pair) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digits = core::str::from_utf8(pair).ok().filter(|d| !d.starts_with('+'))?;
        *slot = u8::from_str_radix(digits, 16).ok()?;
    }
    Some(out)
}
