//! `--where`: which agents an expression selects.
//!
//! ```text
//! expr = and ("or" and)*      and = not ("and" not)*      not = "not" not | "(" expr ")" | key op value
//! key  = id | mail | class | site | … (KEYS) | attr.NAME
//! op   = "=" | "~" | "!=" | "!~" | "<" | "<=" | ">" | ">="
//! value = word or "quoted text"; case is ignored; "*" stands for any characters (not after < and >)
//! ```
//!
//! `class != x` is true if no class of the agent is x. `<` and `>` compare numbers inside a text as numbers, so that 1.0.9 comes
//! before 1.0.10; a number and a word (no version yet, say) are not compared.

use core::cmp::Ordering;

use thiserror::Error;

const EXPR_MAX_BYTES: usize = 4_096;
const DEPTH_MAX: usize = 32;

/// The keys of an expression.
pub const KEYS: [&str; 14] = [
    "id",
    "mail",
    "class",
    "site",
    "note",
    "admin",
    "version",
    "vendor",
    "tag",
    "zone",
    "window",
    "consent",
    "state",
    "agent-version",
];

/// What the keys of an operator's own begin with.
pub const ATTRIBUTE: &str = "attr.";

/// Gives the values of a key for one agent: several for `class` and `tag`, one or none for the others.
pub trait Facts {
    /// The values of `key`, one of [`KEYS`] or [`ATTRIBUTE`] with a name after it, in lower case.
    fn values(&self, key: &str) -> Vec<&str>;
}

/// A checked expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection(Expr);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Expr {
    Or(Vec<Expr>),
    And(Vec<Expr>),
    Not(Box<Expr>),
    Is { key: String, pattern: String },
    Compares { key: String, op: Op, with: String },
}

/// An expression that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("at character {position}: expected {expected}, found {found}")]
pub struct SelectError {
    /// Character from 1.
    pub position: usize,
    /// What was expected.
    pub expected: String,
    /// What was found.
    pub found: String,
}

impl Selection {
    /// Reads an expression.
    ///
    /// # Errors
    /// Not of the grammar above; with the position.
    pub fn parse(text: &str) -> Result<Self, SelectError> {
        if text.len() > EXPR_MAX_BYTES {
            return Err(SelectError {
                position: 1,
                expected: format!("at most {EXPR_MAX_BYTES} bytes"),
                found: format!("{} bytes", text.len()),
            });
        }
        let mut parser = Parser { tokens: tokens(text)?, at: 0, end: text.chars().count().saturating_add(1) };
        let expr = parser.or(0)?;
        match parser.peek() {
            None => Ok(Self(expr)),
            Some(_) => Err(parser.error("\"and\", \"or\" or the end")),
        }
    }

    /// True if the agent is selected.
    #[must_use]
    pub fn selects(&self, agent: &impl Facts) -> bool {
        holds(&self.0, agent)
    }
}

fn holds(expr: &Expr, agent: &impl Facts) -> bool {
    match expr {
        Expr::Or(parts) => parts.iter().any(|part| holds(part, agent)),
        Expr::And(parts) => parts.iter().all(|part| holds(part, agent)),
        Expr::Not(inner) => !holds(inner, agent),
        Expr::Is { key, pattern } => agent.values(key).iter().any(|value| matches(pattern, value)),
        Expr::Compares { key, op, with } => agent.values(key).iter().any(|value| {
            is_number(value) == is_number(with)
                && op.holds(natural(&value.to_lowercase(), &with.to_lowercase()))
        }),
    }
}

/// True if a value is of a pattern: `*` stands for any characters, case is ignored. Linear in practice: greedy with one point of return.
#[must_use]
pub fn matches(pattern: &str, value: &str) -> bool {
    let (pattern, value) = (pattern.to_lowercase(), value.to_lowercase());
    let pieces: Vec<&str> = pattern.split('*').collect();
    let [first, middle @ .., last] = pieces.as_slice() else { return pattern == value };
    let Some(mut rest) = value.strip_prefix(first) else { return false };
    for piece in middle {
        let Some((_, after)) = rest.split_once(piece) else { return false };
        rest = after;
    }
    rest.ends_with(last)
}

/// Compares texts with the numbers in them as numbers.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (pieces(a), pieces(b));
    loop {
        let order = match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(a), Some(b)) => match (is_number(a), is_number(b)) {
                (true, true) => {
                    let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
                    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
                }
                _ => a.cmp(b),
            },
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// Runs of digits and runs of everything else, in turn.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    core::iter::from_fn(move || {
        let number = rest.starts_with(|c: char| c.is_ascii_digit());
        let end = rest.find(|c: char| c.is_ascii_digit() != number).unwrap_or(rest.len());
        let (piece, after) = rest.split_at_checked(end)?;
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

fn is_number(piece: &str) -> bool {
    piece.starts_with(|c: char| c.is_ascii_digit())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Is,
    IsNot,
    Less,
    AtMost,
    More,
    AtLeast,
}

impl Op {
    fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Is => order.is_eq(),
            Self::IsNot => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::AtMost => order.is_le(),
            Self::More => order.is_gt(),
            Self::AtLeast => order.is_ge(),
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Is => "=",
            Self::IsNot => "!=",
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::More => ">",
            Self::AtLeast => ">=",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Open,
    Close,
    Op(Op),
    Word(String),
    Quoted(String),
}

fn tokens(text: &str) -> Result<Vec<(usize, Token)>, SelectError> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().enumerate().map(|(i, c)| (i.saturating_add(1), c)).peekable();
    while let Some((position, c)) = chars.next() {
        let token = match c {
            c if c.is_whitespace() => continue,
            '(' => Token::Open,
            ')' => Token::Close,
            '=' | '~' => Token::Op(Op::Is),
            '<' if chars.next_if(|(_, c)| *c == '=').is_some() => Token::Op(Op::AtMost),
            '<' => Token::Op(Op::Less),
            '>' if chars.next_if(|(_, c)| *c == '=').is_some() => Token::Op(Op::AtLeast),
            '>' => Token::Op(Op::More),
            '!' => match chars.next() {
                Some((_, '=' | '~')) => Token::Op(Op::IsNot),
                other => {
                    let found = other.map_or("the end".to_owned(), |(_, c)| format!("\"{c}\""));
                    return Err(SelectError { position, expected: "\"!=\"".to_owned(), found });
                }
            },
            '"' => {
                let mut word = String::new();
                loop {
                    match chars.next() {
                        Some((_, '"')) => break Token::Quoted(word),
                        Some((_, c)) => word.push(c),
                        None => {
                            return Err(SelectError {
                                position,
                                expected: "a closing quotation mark".to_owned(),
                                found: "the end".to_owned(),
                            });
                        }
                    }
                }
            }
            c => {
                let mut word = String::from(c);
                while let Some((_, c)) =
                    chars.next_if(|(_, c)| !c.is_whitespace() && !"()=!~<>\"".contains(*c))
                {
                    word.push(c);
                }
                Token::Word(word)
            }
        };
        tokens.push((position, token));
    }
    Ok(tokens)
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    at: usize,
    end: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|(_, token)| token)
    }

    fn next(&mut self) -> Option<Token> {
        let token = self.peek().cloned();
        self.at = self.at.saturating_add(1);
        token
    }

    fn error(&self, expected: impl Into<String>) -> SelectError {
        let position = self.tokens.get(self.at).map_or(self.end, |(position, _)| *position);
        let found = match self.peek() {
            None => "the end".to_owned(),
            Some(Token::Open) => "\"(\"".to_owned(),
            Some(Token::Close) => "\")\"".to_owned(),
            Some(Token::Op(op)) => format!("\"{}\"", op.as_str()),
            Some(Token::Word(word) | Token::Quoted(word)) => format!("\"{word}\""),
        };
        SelectError { position, expected: expected.into(), found }
    }

    fn takes_word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Word(w)) if w.eq_ignore_ascii_case(word));
        if found {
            self.at = self.at.saturating_add(1);
        }
        found
    }

    fn or(&mut self, depth: usize) -> Result<Expr, SelectError> {
        let mut parts = vec![self.and(depth)?];
        while self.takes_word("or") {
            parts.push(self.and(depth)?);
        }
        Ok(Expr::Or(parts))
    }

    fn and(&mut self, depth: usize) -> Result<Expr, SelectError> {
        let mut parts = vec![self.not(depth)?];
        while self.takes_word("and") {
            parts.push(self.not(depth)?);
        }
        Ok(Expr::And(parts))
    }

    fn not(&mut self, depth: usize) -> Result<Expr, SelectError> {
        if depth > DEPTH_MAX {
            return Err(self.error(format!("at most {DEPTH_MAX} nested parts")));
        }
        let deeper = depth.saturating_add(1);
        if self.takes_word("not") {
            return Ok(Expr::Not(Box::new(self.not(deeper)?)));
        }
        if self.peek() == Some(&Token::Open) {
            self.next();
            let inner = self.or(deeper)?;
            if self.peek() != Some(&Token::Close) {
                return Err(self.error("\")\""));
            }
            self.next();
            return Ok(inner);
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Result<Expr, SelectError> {
        let key = match self.peek() {
            Some(Token::Word(word)) => known_key(word),
            _ => None,
        };
        let Some(key) = key else {
            return Err(self.error(format!("one of {} or {ATTRIBUTE}NAME", KEYS.join(", "))));
        };
        self.next();
        let Some(Token::Op(op)) = self.peek().cloned() else {
            return Err(self.error("one of =, ~, !=, <, <=, >, >="));
        };
        self.next();
        let Some(Token::Word(value) | Token::Quoted(value)) = self.peek().cloned() else {
            return Err(self.error("a value"));
        };
        if !matches!(op, Op::Is | Op::IsNot) && value.contains('*') {
            return Err(self.error(format!("a value without * after {}", op.as_str())));
        }
        let expr = match op {
            Op::Is => Expr::Is { key, pattern: value },
            Op::IsNot => Expr::Not(Box::new(Expr::Is { key, pattern: value })),
            Op::Less | Op::AtMost | Op::More | Op::AtLeast => Expr::Compares { key, op, with: value },
        };
        self.next();
        Ok(expr)
    }
}

fn known_key(word: &str) -> Option<String> {
    let word = word.to_ascii_lowercase();
    let own = word.strip_prefix(ATTRIBUTE).is_some_and(|name| !name.is_empty());
    (own || KEYS.contains(&word.as_str())).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Box7;
    impl Facts for Box7 {
        fn values(&self, key: &str) -> Vec<&str> {
            match key {
                "id" => vec!["A0007"],
                "class" => vec!["office-gateway", "pilot"],
                "site" => vec!["Tokyo West"],
                "version" => vec!["1.0.02-0"],
                "attr.floor" => vec!["12"],
                _ => vec![],
            }
        }
    }

    fn selects(text: &str) -> bool {
        Selection::parse(text).unwrap().selects(&Box7)
    }

    #[test]
    fn expressions_select_by_words_wildcards_and_logic() {
        assert!(selects("class=office-gateway"));
        assert!(selects("class = pilot and site=Tokyo*"));
        assert!(selects("site=\"tokyo west\""));
        assert!(selects("site=*west"));
        assert!(selects("id=A*7"));
        assert!(!selects("class != pilot"));
        assert!(selects("not version=1.0.00-* and (class=x or id=A0007)"));
        assert!(!selects("note=*x*"));
        assert!(selects("class=x or class=y or id=*"));
        assert!(selects("site ~ \"Tokyo*\" and site !~ osaka*"));
    }

    #[test]
    fn versions_and_numbers_are_compared_as_such() {
        assert!(selects("version < 1.0.10-0"));
        assert!(selects("version<1.0.02-1 and version>1.0.01-9"));
        assert!(selects("version <= 1.0.02-0 and version >= 1.0.02-0"));
        assert!(!selects("version < 1.0.02-0"));
        assert!(selects("attr.floor > 9 and Attr.Floor < 100"));
        assert!(!selects("attr.room < 9") && !selects("attr.room > 9"), "what is not there is not compared");
        assert!(!selects("site > 9") && !selects("site < 9"), "a word and a number are not compared");
    }

    #[test]
    fn values_of_one_s_own_are_chosen_by_their_name() {
        assert!(selects("attr.floor=12"));
        assert!(!selects("attr.room=*"));
    }

    #[test]
    fn errors_name_the_position_and_what_was_expected() {
        let error = |text: &str| Selection::parse(text).unwrap_err().to_string();
        assert_eq!(
            error("klass=x"),
            "at character 1: expected one of id, mail, class, site, note, admin, version, vendor, tag, zone, window, \
             consent, state, agent-version or attr.NAME, found \"klass\""
        );
        assert_eq!(error("class"), "at character 6: expected one of =, ~, !=, <, <=, >, >=, found the end");
        assert_eq!(
            error("version < 1.*"),
            "at character 11: expected a value without * after <, found \"1.*\""
        );
        assert!(error("attr.=x").contains("attr.NAME"));
        assert_eq!(error("(class=x"), "at character 9: expected \")\", found the end");
        assert_eq!(
            error("class=x site=y"),
            "at character 9: expected \"and\", \"or\" or the end, found \"site\""
        );
        assert!(error("").contains("the end"));
        assert!(error(&"(".repeat(100)).contains("nested"));
        assert!(error(&"not ".repeat(100)).contains("nested"));
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in ".{0,60}") {
            let _ = Selection::parse(&text);
        }

        #[test]
        fn of_two_texts_one_comes_first_or_they_are_equal(a in "[0-9a-c.]{0,8}", b in "[0-9a-c.]{0,8}", c in "[0-9a-c.]{0,8}") {
            prop_assert_eq!(natural(&a, &b), natural(&b, &a).reverse());
            if natural(&a, &b).is_le() && natural(&b, &c).is_le() {
                prop_assert!(natural(&a, &c).is_le(), "{a} {b} {c}");
            }
        }

        #[test]
        fn a_pattern_without_wildcard_matches_itself_only(a in "[a-z]{0,6}", b in "[a-z]{0,6}") {
            prop_assert_eq!(matches(&a, &b), a == b);
        }
    }
}
