//! Letters to the people who administer sites: templates that a user can change, and what is filled in. Sends nothing.
//!
//! ```text
//! Subject: one line          only in the plain text
//!                            an empty line
//! text with {{names}}        each name is replaced by its value; in HTML, escaped
//! ```

use std::collections::BTreeMap;

use thiserror::Error;

use crate::consent::Language;

/// A user's template: a letter, not a book.
const TEMPLATE_MAX_BYTES: usize = 64 * 1024;

/// What a letter is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// May it be installed? (N8)
    Consent,
    /// It is installed (N5).
    Done,
    /// The answer was not understood.
    Unclear,
}

impl Kind {
    /// All with the names of their template files.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Consent, "consent"), (Self::Done, "done"), (Self::Unclear, "unclear")];

    /// Its name in files: `consent.en.txt`, `consent.en.html`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }

    /// The names that its templates may use.
    #[must_use]
    pub fn names(self) -> &'static [&'static str] {
        match self {
            Self::Consent => {
                &["version", "site", "count", "boxes", "notes", "size", "when", "deadline", "later", "token"]
            }
            Self::Done => &["version", "site", "count", "boxes", "notes"],
            Self::Unclear => &["site", "token"],
        }
    }

    /// The product's own templates: plain text, and HTML if there is one.
    #[must_use]
    pub fn built_in(self, language: Language) -> (&'static str, Option<&'static str>) {
        match (self, language) {
            (Self::Consent, Language::English) => (
                include_str!("../templates/consent.en.txt"),
                Some(include_str!("../templates/consent.en.html")),
            ),
            (Self::Consent, Language::Japanese) => (
                include_str!("../templates/consent.ja.txt"),
                Some(include_str!("../templates/consent.ja.html")),
            ),
            (Self::Done, Language::English) => (include_str!("../templates/done.en.txt"), None),
            (Self::Done, Language::Japanese) => (include_str!("../templates/done.ja.txt"), None),
            (Self::Unclear, Language::English) => (include_str!("../templates/unclear.en.txt"), None),
            (Self::Unclear, Language::Japanese) => (include_str!("../templates/unclear.ja.txt"), None),
        }
    }
}

/// A checked pair of templates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    subject: String,
    text: String,
    html: Option<String>,
}

/// A template that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}: {problem}")]
pub struct TemplateError {
    /// Line from 1.
    pub line: usize,
    /// What was expected and found.
    pub problem: String,
}

/// A letter as a person gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Its subject.
    pub subject: String,
    /// Its text, lines ended by line feeds.
    pub text: String,
    /// The same as HTML.
    pub html: Option<String>,
}

impl Template {
    /// Reads templates of a kind. The letter of consent has to hold the token.
    ///
    /// # Errors
    /// No subject, a name that is not known, or too long; with its line in the one or the other.
    pub fn parse(kind: Kind, text: &str, html: Option<&str>) -> Result<Self, TemplateError> {
        let err = |line, problem: String| TemplateError { line, problem };
        for source in [Some(text), html].into_iter().flatten() {
            if source.len() > TEMPLATE_MAX_BYTES {
                return Err(err(
                    1,
                    format!("expected at most {TEMPLATE_MAX_BYTES} bytes, found {}", source.len()),
                ));
            }
            check_names(kind, source)?;
        }
        let text = text.replace("\r\n", "\n");
        let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
        let subject = first.strip_prefix("Subject:").map(str::trim).filter(|subject| !subject.is_empty());
        let subject = subject.ok_or_else(|| err(1, format!("expected \"Subject: …\", found \"{first}\"")))?;
        let body = rest
            .strip_prefix('\n')
            .ok_or_else(|| err(2, "expected an empty line after the subject".to_owned()))?;
        if kind.names().contains(&"token") && !subject.contains("{{token}}") {
            return Err(err(1, "expected {{token}} in the subject: replies are known by it".to_owned()));
        }
        Ok(Self { subject: subject.to_owned(), text: body.to_owned(), html: html.map(str::to_owned) })
    }

    /// The product's own.
    ///
    /// # Errors
    /// Never, as the tests show: the templates are part of the program.
    pub fn built_in(kind: Kind, language: Language) -> Result<Self, TemplateError> {
        let (text, html) = kind.built_in(language);
        Self::parse(kind, text, html)
    }

    /// Fills the values in; a name without a value becomes nothing.
    #[must_use]
    pub fn fill(&self, values: &BTreeMap<&str, String>) -> Letter {
        let plain = |name: &str| values.get(name).cloned().unwrap_or_default();
        let escaped = |name: &str| escape(&plain(name));
        Letter {
            subject: replace(&self.subject, plain).replace('\n', " "),
            text: replace(&self.text, plain),
            html: self.html.as_ref().map(|html| replace(html, escaped)),
        }
    }
}

fn check_names(kind: Kind, source: &str) -> Result<(), TemplateError> {
    for (n, line) in (1usize..).zip(source.lines()) {
        let mut rest = line;
        while let Some((_, after)) = rest.split_once("{{") {
            let name = after.split_once("}}").map(|(name, _)| name.trim());
            match name {
                Some(name) if kind.names().contains(&name) => {}
                found => {
                    let problem = format!(
                        "expected one of {{{{{}}}}}, found \"{{{{{}\"",
                        kind.names().join("}}, {{"),
                        found.map_or(after.to_owned(), |name| format!("{name}}}}}"))
                    );
                    return Err(TemplateError { line: n, problem });
                }
            }
            rest = after;
        }
    }
    Ok(())
}

/// One pass: what a value holds is never taken for a name.
fn replace(template: &str, value: impl Fn(&str) -> String) -> String {
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        out.push_str(before);
        let Some((name, tail)) = after.split_once("}}") else {
            out.push_str("{{");
            rest = after;
            continue;
        };
        out.push_str(&value(name.trim()));
        rest = tail;
    }
    out.push_str(rest);
    out
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_product_s_own_templates_are_right_in_every_language() {
        for (kind, _) in Kind::ALL {
            for (language, _) in Language::ALL {
                let template = Template::built_in(kind, language).unwrap();
                let values = kind.names().iter().map(|name| (*name, format!("<{name}>"))).collect();
                let letter = template.fill(&values);
                for name in kind.names() {
                    let all = format!("{} {}", letter.subject, letter.text);
                    assert!(all.contains(&format!("<{name}>")), "{kind:?} {language:?} {name}");
                }
                assert!(!letter.text.contains("{{"));
                let html = letter.html.unwrap_or_default();
                assert!(!html.contains("<version>") && !html.contains("{{"), "values are escaped in HTML");
            }
        }
    }

    #[test]
    fn a_value_cannot_bring_a_name_or_a_line_of_the_subject() {
        let template = Template::parse(Kind::Done, "Subject: {{site}}\n\n{{notes}}\n", None).unwrap();
        let values = BTreeMap::from([
            ("site", "a\nBcc: x@y.test".to_owned()),
            ("notes", "{{version}}".to_owned()),
            ("version", "1".to_owned()),
        ]);
        let letter = template.fill(&values);
        assert_eq!(letter.subject, "a Bcc: x@y.test");
        assert_eq!(letter.text, "{{version}}\n");
    }

    #[test]
    fn what_is_wrong_in_a_user_s_template_is_named_with_its_line() {
        let error = |text: &str| Template::parse(Kind::Consent, text, None).unwrap_err().to_string();
        assert_eq!(error("Hello\n"), "line 1: expected \"Subject: …\", found \"Hello\"");
        assert_eq!(
            error("Subject: x {{token}}\nHello\n"),
            "line 2: expected an empty line after the subject"
        );
        assert_eq!(
            error("Subject: x\n\nHello\n"),
            "line 1: expected {{token}} in the subject: replies are known by it"
        );
        assert!(
            error("Subject: {{token}}\n\n{{price}}\n")
                .starts_with("line 3: expected one of {{version}}, {{site}}")
        );
        assert!(error("Subject: {{token\n\n").contains("found \"{{token\""));
        assert!(error(&"x".repeat(70_000)).contains("at most 65536 bytes"));
    }
}
