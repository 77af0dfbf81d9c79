//! What a panic means. In a parser of somebody else's, at bytes from outside: one bad mail, server or device. Anywhere
//! else: a bug of ours, and the end of the process, which its service starts again; the journal goes on from there. Without
//! this a panic in a task would end that task alone, and nobody would do its work any more.

use core::cell::Cell;
use core::future::{Future, poll_fn};
use core::pin::pin;
use core::task::Poll;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};

thread_local! {
    static PARSES: Cell<bool> = const { Cell::new(false) };
}

/// Runs a parser; `None` if it panicked.
pub fn caught<T>(work: impl FnOnce() -> T) -> Option<T> {
    let before = PARSES.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    PARSES.set(before);
    result.ok()
}

/// The same for what waits between its steps. Tasks that it spawns are not part of it.
pub async fn caught_while<T>(work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    poll_fn(move |cx| match caught(|| work.as_mut().poll(cx)) {
        Some(polled) => polled.map(Some),
        None => Poll::Ready(None),
    })
    .await
}

/// From now on panics end the process, wherever they happen but in [`caught`]. For programs, as the first thing.
pub fn end_the_process() {
    let tell = take_hook();
    set_hook(Box::new(move |panic| {
        // What a parser says of itself may quote a mail.
        if !PARSES.get() {
            tell(panic);
            std::process::abort();
        }
    }));
}
