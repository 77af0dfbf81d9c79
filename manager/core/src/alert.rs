//! Who is told of a fault that began or ended (M18): rules of the operator, and the text that a person at a service desk
//! reads. Decides nothing about when it is sent, and remembers nothing.

mod text;

use core::fmt;
use std::collections::BTreeSet;

use shared::device::{FaultClass, FaultKind, Severity};
use shared::{MailAddress, UnixMillis};

use crate::select::matches;

pub use text::{Mail, compose};

/// What happened to a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// It began.
    Raised,
    /// It ended.
    Cleared,
}

impl Change {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Raised, Self::Cleared];

    /// The name in the store and in `manager.toml`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Raised => "raised",
            Self::Cleared => "cleared",
        }
    }

    /// The change of this name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == text)
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Whom a rule tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// These addresses, by mail.
    Mail(Vec<MailAddress>),
    /// Whoever administers the agent's site, by mail.
    Site,
    /// A program and its arguments; it reads the faults as JSON.
    Command(Vec<String>),
}

/// One `[[alert]]`. An empty list means all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Whom it tells.
    pub to: To,
    /// Of which classes (R14).
    pub classes: Vec<FaultClass>,
    /// Of this severity or a worse one.
    pub severity: Severity,
    /// Of which kinds.
    pub kinds: Vec<FaultKind>,
    /// At which sites; `*` stands for any characters.
    pub sites: Vec<String>,
    /// What of it.
    pub on: Vec<Change>,
}

/// One who is told: whatever the rules, once of each change. The order of words is the store's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Addressee {
    /// By mail.
    Mail(MailAddress),
    /// By a program and its arguments.
    Command(Vec<String>),
}

impl Addressee {
    /// The text that names it in the store: `mail desk@example.com`, `command /usr/bin/ticket␟--new`.
    #[must_use]
    pub fn to_text(&self) -> String {
        match self {
            Self::Mail(address) => format!("mail {address}"),
            Self::Command(words) => format!("command {}", words.join("\u{1f}")),
        }
    }

    /// Reads that text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once(' ')? {
            ("mail", address) => MailAddress::parse(address).ok().map(Self::Mail),
            ("command", words) => Some(Self::Command(words.split('\u{1f}').map(str::to_owned).collect())),
            _ => None,
        }
    }
}

/// For people: the address, or the program.
impl fmt::Display for Addressee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mail(address) => address.fmt(f),
            Self::Command(words) => f.pad(words.first().map_or("", String::as_str)),
        }
    }
}

/// What a rule looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Looked<'a> {
    /// Class of the fault.
    pub class: FaultClass,
    /// Its severity.
    pub severity: Severity,
    /// Its kind.
    pub kind: FaultKind,
    /// The agent's site.
    pub site: &'a str,
    /// Who administers it.
    pub admin: Option<&'a MailAddress>,
}

/// Who is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// They are.
    pub addressees: BTreeSet<Addressee>,
    /// A rule tells the site's administrator, and none is known.
    pub nobody_at_site: bool,
}

/// Asks every rule.
#[must_use]
pub fn route(rules: &[Rule], change: Change, fault: &Looked<'_>) -> Told {
    let mut told = Told::default();
    for rule in rules.iter().filter(|rule| rule.covers(change, fault)) {
        match &rule.to {
            To::Mail(to) => told.addressees.extend(to.iter().cloned().map(Addressee::Mail)),
            To::Command(words) => {
                told.addressees.insert(Addressee::Command(words.clone()));
            }
            To::Site => match fault.admin {
                Some(admin) => {
                    told.addressees.insert(Addressee::Mail(admin.clone()));
                }
                None => told.nobody_at_site = true,
            },
        }
    }
    told
}

impl Rule {
    fn covers(&self, change: Change, fault: &Looked<'_>) -> bool {
        let any = |empty: bool, found: bool| empty || found;
        self.on.contains(&change)
            && fault.severity >= self.severity
            && any(self.classes.is_empty(), self.classes.contains(&fault.class))
            && any(self.kinds.is_empty(), self.kinds.contains(&fault.kind))
            && any(self.sites.is_empty(), self.sites.iter().any(|site| matches(site, fault.site)))
    }
}

/// A fault in an alert: all that its reader is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertFault {
    /// What happened; both, if it had ended before anyone was told.
    pub changes: BTreeSet<Change>,
    /// The agent.
    pub agent: String,
    /// Its site.
    pub site: String,
    /// The operator's note on it.
    pub note: String,
    /// The device.
    pub device: String,
    /// What it is.
    pub device_class: String,
    /// Its maker and model.
    pub model: String,
    /// Its serial number.
    pub serial: String,
    /// Class of the fault.
    pub class: FaultClass,
    /// Its severity.
    pub severity: Severity,
    /// Its kind.
    pub kind: FaultKind,
    /// The device's code for it.
    pub code: String,
    /// Where in the device.
    pub location: String,
    /// What the device says.
    pub text: String,
    /// When it began.
    pub raised_at: UnixMillis,
    /// When it ended.
    pub cleared_at: Option<UnixMillis>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mail(text: &str) -> MailAddress {
        MailAddress::parse(text).unwrap()
    }

    fn rule(to: To) -> Rule {
        Rule {
            to,
            classes: vec![],
            severity: Severity::Info,
            kinds: vec![],
            sites: vec![],
            on: Change::ALL.to_vec(),
        }
    }

    fn jam<'a>(admin: Option<&'a MailAddress>) -> Looked<'a> {
        Looked {
            class: FaultClass::A,
            severity: Severity::Critical,
            kind: FaultKind::Jam,
            site: "Tokyo, 3rd floor",
            admin,
        }
    }

    #[test]
    fn a_rule_covers_what_all_of_its_words_cover() {
        let desk = || rule(To::Mail(vec![mail("desk@x.test")]));
        let covers = |rule: &Rule| {
            !route(std::slice::from_ref(rule), Change::Raised, &jam(None)).addressees.is_empty()
        };
        assert!(covers(&desk()));
        assert!(covers(&Rule {
            classes: vec![FaultClass::D, FaultClass::A],
            severity: Severity::Warning,
            kinds: vec![FaultKind::Jam],
            sites: vec!["Osaka".into(), "tokyo*".into()],
            on: vec![Change::Raised],
            ..desk()
        }));
        for narrower in [
            Rule { classes: vec![FaultClass::B], ..desk() },
            Rule { kinds: vec![FaultKind::Supply], ..desk() },
            Rule { sites: vec!["Tokyo".into()], ..desk() },
            Rule { on: vec![Change::Cleared], ..desk() },
        ] {
            assert!(!covers(&narrower), "{narrower:?}");
        }
        let low = Looked { severity: Severity::Warning, ..jam(None) };
        let critical = Rule { severity: Severity::Critical, ..desk() };
        assert!(route(&[critical], Change::Raised, &low).addressees.is_empty());
    }

    #[test]
    fn several_rules_that_tell_the_same_one_tell_it_once() {
        let rules = [
            rule(To::Mail(vec![mail("desk@x.test"), mail("boss@x.test")])),
            rule(To::Mail(vec![mail("desk@x.test")])),
            rule(To::Site),
            rule(To::Command(vec!["ticket".into(), "--new".into()])),
        ];
        let admin = mail("desk@x.test");
        let told = route(&rules, Change::Raised, &jam(Some(&admin)));
        assert_eq!(told.addressees.len(), 3);
        assert!(!told.nobody_at_site);
        assert!(route(&rules, Change::Raised, &jam(None)).nobody_at_site);
    }

    proptest! {
        #[test]
        fn an_addressee_reads_back_from_the_store(words in proptest::collection::vec("[^\u{1f}]{0,9}", 1..4)) {
            for one in [Addressee::Command(words.clone()), Addressee::Mail(mail("desk@x.test"))] {
                prop_assert_eq!(Addressee::parse(&one.to_text()), Some(one));
            }
        }

        #[test]
        fn a_rule_more_never_tells_fewer(on in any::<bool>(), class in 0usize..4, kind in 0usize..5) {
            let change = if on { Change::Raised } else { Change::Cleared };
            let fault = Looked { class: FaultClass::ALL[class], kind: FaultKind::ALL[kind], ..jam(None) };
            let rules = [
                Rule { classes: vec![FaultClass::A], ..rule(To::Mail(vec![mail("a@x.test")])) },
                Rule { kinds: vec![FaultKind::Jam], ..rule(To::Mail(vec![mail("b@x.test")])) },
                Rule { on: vec![Change::Cleared], ..rule(To::Mail(vec![mail("c@x.test")])) },
            ];
            for n in 0..rules.len() {
                let fewer = route(&rules[..n], change, &fault).addressees;
                let more = route(&rules[..=n], change, &fault).addressees;
                prop_assert!(fewer.is_subset(&more));
            }
        }
    }
}
