//! What the targets share: fixed keys, the bound of memory, and what every error text must be.

use std::alloc::System;
use std::error::Error;

use cap::Cap;
use rand_core::{Infallible, TryCryptoRng, TryRng};
use shared::error::chain;
use shared::keys::{OpeningKey, SigningKey};

/// Memory that decoding one input may add. The largest thing that a decoder holds is a manifest or a message
/// of 4 MiB, read and decoded; inputs of fuzzing are a thousandth of that, so this is generous.
pub const MEMORY_MAX_BYTES: usize = 32 * 1024 * 1024;

/// Counts what is allocated; past its limit an allocation fails, which ends the process.
#[global_allocator]
pub static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// Decodes with at most [`MEMORY_MAX_BYTES`] more than there are now.
pub(crate) fn bounded<T>(work: impl FnOnce() -> T) -> T {
    let limit = ALLOCATOR.allocated().saturating_add(MEMORY_MAX_BYTES);
    // It can only fail if more than the limit is allocated already, which another thread would have done.
    let limited = ALLOCATOR.set_limit(limit).is_ok();
    let result = work();
    if limited {
        unbound();
    }
    result
}

fn unbound() {
    // No limit is lower than what is allocated: this one cannot be refused.
    let _ = ALLOCATOR.set_limit(usize::MAX);
}

/// Lets a panic say what it is about: printing a backtrace takes more memory than an input may. Called once, before
/// the first input.
pub fn unbind_panics() {
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        unbound();
        told(info);
    }));
}

/// Signs envelopes of the harness.
#[must_use]
pub fn sender_key() -> SigningKey {
    SigningKey::from_seed(&[1; 32])
}

/// Opens envelopes of the harness.
#[must_use]
pub fn opening_key() -> OpeningKey {
    OpeningKey::from_seed(&[2; 32])
}

/// Signs bundles of the harness.
#[must_use]
pub fn release_key() -> SigningKey {
    SigningKey::from_seed(&[3; 32])
}

/// Longest error text about bytes from outside: it goes into logs and onto terminals.
const TEXT_MAX_BYTES: usize = 2_000;

/// An error about bytes from outside says something, briefly, and cannot drive a terminal.
pub(crate) fn told(err: &dyn Error) {
    said(&chain(err));
}

/// [`told`] for a text.
pub(crate) fn said(text: &str) {
    assert!(!text.trim().is_empty(), "an error without a text");
    assert!(text.len() <= TEXT_MAX_BYTES, "an error of {} bytes", text.len());
    harmless(text);
}

/// A text that is shown holds no control characters.
pub(crate) fn harmless(text: &str) {
    assert!(!text.chars().any(char::is_control), "control characters in {text:?}");
}

/// An error about a file of our own operator says something; it may quote whole lines of that file.
pub(crate) fn told_operator(err: &dyn Error) {
    assert!(!chain(err).trim().is_empty(), "an error without a text");
}

/// Takes the first `N` bytes off; zeros where there are none.
pub(crate) fn take<const N: usize>(data: &mut &[u8]) -> [u8; N] {
    let mut taken = [0; N];
    taken.iter_mut().zip(data.iter()).for_each(|(to, from)| *to = *from);
    *data = data.get(N..).unwrap_or_default();
    taken
}

/// "Random" bytes 00 01 02 …: what is sealed here protects nothing.
#[derive(Debug, Default)]
pub struct Counting(u8);

impl TryRng for Counting {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, into: &mut [u8]) -> Result<(), Infallible> {
        for byte in into {
            *byte = self.0;
            self.0 = self.0.wrapping_add(1);
        }
        Ok(())
    }
}

impl TryCryptoRng for Counting {}
