//! What a person's reply says. Strict: a word that might mean something else is not taken for an answer, because an update that
//! nobody wanted cannot be taken back, while a reply that was not understood can be asked for again.

use core::time::Duration;

use shared::UnixMillis;
use shared::time::parse_duration;

use super::Answer;
use crate::window::Zone;

/// Characters of a token: 26 of base32 hold 130 bits.
pub const TOKEN_CHARS: usize = 26;

/// "Later" means at most this much later.
const LATER_MAX: Duration = Duration::from_secs(90 * 24 * 3600);

/// Lines before the answer that a mail program or a polite person may put there.
const LINES_MAX: usize = 40;

const YES: [&str; 3] = ["yes", "はい", "同意"];
const NO: [&str; 3] = ["no", "いいえ", "不要"];
const ALWAYS: [&str; 3] = ["always", "yes always", "常に"];
const LATER: [&str; 3] = ["later", "延期", "後で"];

/// The token in a subject or a text: `[mf-…]` with base32 (RFC 4648) inside.
#[must_use]
pub fn token_in(text: &str) -> Option<String> {
    text.match_indices("[mf-").find_map(|(at, mark)| {
        let rest = text.get(at..)?.strip_prefix(mark)?;
        let (token, _) = rest.split_once(']')?;
        let fits = token.len() == TOKEN_CHARS
            && token.bytes().all(|b| b.is_ascii_uppercase() || (b'2'..=b'7').contains(&b));
        fits.then(|| token.to_owned())
    })
}

/// The answer in a reply's text: the first line that is neither empty nor quoted has to be it, and nothing else. `None`: it says
/// nothing that can be relied on.
#[must_use]
pub fn understand(text: &str, zone: &Zone, now: UnixMillis) -> Option<Answer> {
    let line =
        text.lines().take(LINES_MAX).map(str::trim).find(|line| !line.is_empty() && !is_quoted(line))?;
    let line = line.trim_end_matches(['.', '!', '。', '！', ',', '、']).trim().to_lowercase();
    let is = |words: &[&str]| words.contains(&line.as_str());
    if is(&YES) {
        return Some(Answer::Yes);
    }
    if is(&ALWAYS) {
        return Some(Answer::Always);
    }
    if is(&NO) {
        return Some(Answer::No);
    }
    let when = LATER.iter().find_map(|word| line.strip_prefix(word))?;
    later(when.trim(), zone, now).map(Answer::Later)
}

fn is_quoted(line: &str) -> bool {
    line.starts_with('>') || line.starts_with('|')
}

/// `2026-12-01`, `2026-12-01 22:00` by the site's clock, or `3d`.
fn later(when: &str, zone: &Zone, now: UnixMillis) -> Option<UnixMillis> {
    let at = match parse_duration(when) {
        Ok(pause) => now.plus(pause),
        Err(_) => zone.moment_of(when)?,
    };
    (at > now && at.since(now) <= LATER_MAX).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: UnixMillis = UnixMillis(1_795_219_200_000); // 2026-11-21T00:00:00Z

    fn tokyo(text: &str) -> Option<Answer> {
        understand(text, &Zone::parse("Asia/Tokyo").unwrap(), NOW)
    }

    fn at(text: &str) -> UnixMillis {
        UnixMillis::parse(text).unwrap()
    }

    #[test]
    fn a_line_that_is_an_answer_and_nothing_else_is_understood() {
        for (text, answer) in [
            ("YES", Answer::Yes),
            ("\r\n  Yes.\r\n\r\n> Do you want it?\r\n", Answer::Yes),
            ("> Do you want it?\n\nno", Answer::No),
            ("はい。\n\n--\n株式会社", Answer::Yes),
            ("いいえ", Answer::No),
            ("always!", Answer::Always),
            ("LATER 2026-12-01", Answer::Later(at("2026-11-30T15:00:00Z"))),
            ("later 2026-12-01 22:00", Answer::Later(at("2026-12-01T13:00:00Z"))),
            ("Later 3d", Answer::Later(at("2026-11-24T00:00:00Z"))),
            ("延期 2026-12-01", Answer::Later(at("2026-11-30T15:00:00Z"))),
        ] {
            assert_eq!(tokyo(text), Some(answer), "{text}");
        }
    }

    #[test]
    fn what_might_mean_something_else_is_no_answer() {
        for text in [
            "",
            "No problem, go ahead",
            "Yes, but not this week",
            "yes no",
            "> YES",
            "Dear Sirs,\nYES",
            "later",
            "later 2026-11-20",
            "later 2036-12-01",
            "later next week",
            "I am out of the office until 1 December.",
            "noyes",
        ] {
            assert_eq!(tokyo(text), None, "{text}");
        }
    }

    #[test]
    fn the_token_is_found_where_mail_programs_leave_it() {
        let token = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
        assert_eq!(token_in(&format!("AW: Re: Update for Tokyo [mf-{token}]")).as_deref(), Some(token));
        assert_eq!(token_in(&format!("[mf-SHORT] [mf-{token}] x")).as_deref(), Some(token));
        assert_eq!(token_in("Re: Update for Tokyo"), None);
        assert_eq!(token_in(&format!("[mf-{}]", token.to_lowercase())), None);
    }

    proptest! {
        #[test]
        fn arbitrary_replies_are_read_without_harm(text in "\\PC{0,200}") {
            let _ = (tokyo(&text), token_in(&text));
        }
    }
}
