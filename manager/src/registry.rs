//! What the operator writes down about an agent's site beside its name (N1, N2): whose it is, when and whether it may be changed,
//! in which language its administrator reads, where else the
//! agent gets mail. Texts in, checked values out; the store keeps them, `agent set` and the import fill them.

use std::collections::BTreeMap;

use manager_core::consent::{Language, Standing};
use manager_core::select::ATTRIBUTE;
use manager_core::window::{Windows, Zone};
use shared::{Label, MailAddress};

/// Tags, or values of the operator's own, of one agent.
const LIST_MAX_COUNT: usize = 50;

/// An attribute's name, bytes.
const NAME_MAX_BYTES: usize = 40;

/// The names of the terms, as columns of the import and keys of `agent set`; beside them [`ATTRIBUTE`] with a name.
pub const KEYS: [&str; 7] = ["vendor", "tag", "zone", "window", "consent", "language", "fallback_mail"];

/// What is written down about a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Who makes what runs there.
    pub vendor: Label,
    /// Words of the operator's own, to choose agents by.
    pub tags: Vec<Label>,
    /// Values of the operator's own, by name.
    pub attributes: BTreeMap<String, Label>,
    /// Where it is by the clock.
    pub zone: Zone,
    /// When it may be changed; `None`: at any time.
    pub windows: Option<Windows>,
    /// Whether its administrator has to be asked.
    pub consent: Standing,
    /// What its administrator reads.
    pub language: Language,
    /// Where the agent gets a mail that its own address does not take.
    pub fallback: Option<MailAddress>,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            vendor: Label::default(),
            tags: Vec::new(),
            attributes: BTreeMap::new(),
            zone: Zone::utc(),
            windows: None,
            consent: Standing::default(),
            language: Language::default(),
            fallback: None,
        }
    }
}

impl Terms {
    /// True if there is a term of this name.
    #[must_use]
    pub fn knows(key: &str) -> bool {
        KEYS.contains(&key) || key.strip_prefix(ATTRIBUTE).is_some_and(is_name)
    }

    /// Sets one term. An empty text takes it away; several tags are separated by `;`.
    ///
    /// # Errors
    /// No term of this name, or not of its form; for people.
    pub fn set(&mut self, key: &str, text: &str) -> Result<(), String> {
        let text = text.trim();
        let label = |text: &str| Label::parse(text).map_err(|err| format!("{key}: {err}"));
        match key {
            "vendor" => self.vendor = label(text)?,
            "tag" => {
                let tags = text.split(';').map(str::trim).filter(|tag| !tag.is_empty());
                self.tags = tags.map(label).collect::<Result<_, _>>()?;
                if self.tags.len() > LIST_MAX_COUNT {
                    return Err(format!("tag: expected at most {LIST_MAX_COUNT}, found {}", self.tags.len()));
                }
            }
            "zone" if text.is_empty() => self.zone = Zone::utc(),
            "zone" => self.zone = Zone::parse(text).map_err(|err| format!("zone: {err}"))?,
            "window" if text.is_empty() => self.windows = None,
            "window" => self.windows = Some(Windows::parse(text).map_err(|err| format!("window: {err}"))?),
            "consent" if text.is_empty() => self.consent = Standing::default(),
            "consent" => {
                self.consent = Standing::parse(text)
                    .ok_or_else(|| format!("consent: expected ask, always or never, found \"{text}\""))?;
            }
            "language" if text.is_empty() => self.language = Language::default(),
            "language" => {
                self.language = Language::parse(text)
                    .ok_or_else(|| format!("language: expected en or ja, found \"{text}\""))?;
            }
            "fallback_mail" if text.is_empty() => self.fallback = None,
            "fallback_mail" => {
                self.fallback = Some(MailAddress::parse(text).map_err(|err| format!("{key}: {err}"))?);
            }
            _ => self.set_attribute(key, text)?,
        }
        Ok(())
    }

    fn set_attribute(&mut self, key: &str, text: &str) -> Result<(), String> {
        let name = key.strip_prefix(ATTRIBUTE).filter(|name| is_name(name)).ok_or_else(|| {
            format!(
                "expected one of {} or {ATTRIBUTE}NAME (letters, digits, '-', '_'), found \"{key}\"",
                KEYS.join(", ")
            )
        })?;
        if text.is_empty() {
            self.attributes.remove(name);
            return Ok(());
        }
        let value = Label::parse(text).map_err(|err| format!("{key}: {err}"))?;
        self.attributes.insert(name.to_owned(), value);
        if self.attributes.len() > LIST_MAX_COUNT {
            return Err(format!("{key}: expected at most {LIST_MAX_COUNT} attributes of one agent"));
        }
        Ok(())
    }

    /// One term as a text that [`Terms::set`] reads; empty if it is not set.
    #[must_use]
    pub fn get(&self, key: &str) -> String {
        match key {
            "vendor" => self.vendor.to_string(),
            "tag" => self.tags.iter().map(Label::as_str).collect::<Vec<_>>().join(";"),
            "zone" => self.zone.as_str().to_owned(),
            "window" => self.windows.as_ref().map_or(String::new(), ToString::to_string),
            "consent" => self.consent.as_str().to_owned(),
            "language" => self.language.as_str().to_owned(),
            "fallback_mail" => self.fallback.as_ref().map_or(String::new(), ToString::to_string),
            _ => {
                let name = key.strip_prefix(ATTRIBUTE).unwrap_or_default();
                self.attributes.get(name).map_or(String::new(), ToString::to_string)
            }
        }
    }
}

/// Lower case, as the filter's keys are: `attr.Floor` and `attr.floor` must not be two.
fn is_name(name: &str) -> bool {
    let byte = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b);
    !name.is_empty() && name.len() <= NAME_MAX_BYTES && name.bytes().all(byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_given_back_and_an_empty_text_takes_it_away() {
        let mut terms = Terms::default();
        for (key, text) in [
            ("vendor", "Alpha Ltd"),
            ("tag", "pilot;north"),
            ("zone", "Asia/Tokyo"),
            ("window", "22:00-05:00 mon-fri"),
            ("consent", "always"),
            ("language", "ja"),
            ("fallback_mail", "north@site.test"),
            ("attr.floor", "3"),
        ] {
            assert!(Terms::knows(key));
            terms.set(key, text).unwrap();
            assert_eq!(terms.get(key), text);
            let mut without = terms.clone();
            without.set(key, "").unwrap();
            assert_eq!(without.get(key), Terms::default().get(key));
        }
    }

    #[test]
    fn what_is_not_understood_is_named() {
        let mut terms = Terms::default();
        for (key, text, why) in [
            (
                "colour",
                "red",
                "expected one of vendor, tag, zone, window, consent, language, fallback_mail or attr.NAME (letters, digits, '-', '_'), found \"colour\"",
            ),
            ("attr.Floor", "3", "found \"attr.Floor\""),
            ("zone", "Tokyo", "zone: expected a time zone such as Asia/Tokyo or UTC, found \"Tokyo\""),
            ("window", "22:00-22:00", "window: expected a window that opens and closes"),
            ("consent", "maybe", "consent: expected ask, always or never, found \"maybe\""),
            ("fallback_mail", "nobody", "fallback_mail: expected a mail address"),
            ("language", "de", "language: expected en or ja, found \"de\""),
        ] {
            let found = terms.set(key, text).unwrap_err();
            assert!(found.contains(why), "{found}");
        }
        assert_eq!(terms, Terms::default(), "nothing half done");
    }
}
