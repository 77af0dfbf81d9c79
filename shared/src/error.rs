//! Errors as text for people: the chain of causes is written once, where the error is shown.

/// An error with its causes, in one line.
#[must_use]
pub fn chain(err: &dyn core::error::Error) -> String {
    let mut text = err.to_string();
    let mut cause = err.source();
    while let Some(err) = cause {
        text.push_str(": ");
        text.push_str(&err.to_string());
        cause = err.source();
    }
    text
}
