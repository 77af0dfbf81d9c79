//! The one place of the command line that asks for the time or for random bytes.

use std::time::{SystemTime, UNIX_EPOCH};

use shared::UnixMillis;
use zeroize::Zeroizing;

use super::fail::{Fail, OrFail as _};

/// The time by this machine's clock.
pub(crate) fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// 32 random bytes from the kernel.
pub(crate) fn secret() -> Result<Zeroizing<[u8; 32]>, Fail> {
    let mut bytes = Zeroizing::new([0u8; 32]);
    getrandom::fill(bytes.as_mut_slice()).or_outside("the system gives no random bytes")?;
    Ok(bytes)
}
