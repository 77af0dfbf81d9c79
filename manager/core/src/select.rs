//! `--where`: which agents an expression selects.
//!
//! ```text
//! expr = and ("or" and)*      and = not ("and" not)*      not = "not" not | "(" expr ")" | key op value
//! key  = id | mail | class | site | note | admin | version      op = "=" | "!="
//! value = word or "quoted text"; "*" stands for any characters; case is ignored
//! ```
//!
//! `class != x` is true if no class of the agent is x.

use thiserror::Error;

const EXPR_MAX_BYTES: usize = 4_096;
const DEPTH_MAX: usize = 32;

/// The keys of an expression.
pub const KEYS: [&str; 7] = ["id", "mail", "class", "site", "note", "admin", "version"];

/// Gives the values of a key for one agent: several for `class`, one or none for the others.
pub trait Facts {
    /// The values of `key`, one of [`KEYS`].
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
    Is { key: &'static str, pattern: String },
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

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Open,
    Close,
    Equal,
    NotEqual,
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
            '=' => Token::Equal,
            '!' => match chars.next() {
                Some((_, '=')) => Token::NotEqual,
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
                while let Some((_, c)) = chars.next_if(|(_, c)| !c.is_whitespace() && !"()=!\"".contains(*c))
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
            Some(Token::Equal) => "\"=\"".to_owned(),
            Some(Token::NotEqual) => "\"!=\"".to_owned(),
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
        let known = match self.peek() {
            Some(Token::Word(word)) => KEYS.iter().find(|key| word.eq_ignore_ascii_case(key)),
            _ => None,
        };
        let Some(key) = known else { return Err(self.error(format!("one of {}", KEYS.join(", ")))) };
        self.next();
        let negated = match self.peek() {
            Some(Token::Equal) => false,
            Some(Token::NotEqual) => true,
            _ => return Err(self.error("\"=\" or \"!=\"")),
        };
        self.next();
        let Some(Token::Word(pattern) | Token::Quoted(pattern)) = self.peek().cloned() else {
            return Err(self.error("a value"));
        };
        self.next();
        let is = Expr::Is { key, pattern };
        Ok(if negated { Expr::Not(Box::new(is)) } else { is })
    }
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
    }

    #[test]
    fn errors_name_the_position_and_what_was_expected() {
        let error = |text: &str| Selection::parse(text).unwrap_err().to_string();
        assert_eq!(
            error("klass=x"),
            "at character 1: expected one of id, mail, class, site, note, admin, version, found \"klass\""
        );
        assert_eq!(error("class"), "at character 6: expected \"=\" or \"!=\", found the end");
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
        fn a_pattern_without_wildcard_matches_itself_only(a in "[a-z]{0,6}", b in "[a-z]{0,6}") {
            prop_assert_eq!(matches(&a, &b), a == b);
        }
    }
}
