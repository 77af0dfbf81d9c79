//! The form of IPP (RFC 8010): the request for a printer's attributes, and the answer. Pure.
//!
//! ```text
//! version 2 · status 2 · request 4 · { group 1 · { tag 1 · length 2 · name · length 2 · value }… }… · 03
//! ```
//!
//! A name of no bytes is one more value of the attribute before. Collections are values between two tags, of which those
//! of the first level can be had as `attribute/member`. Only what was asked for is kept.

use std::collections::BTreeMap;

use shared::Label;

use crate::limits::{IPP_VALUES_MAX_COUNT, VALUE_MAX_BYTES};

/// Version 1.1: every printer has it, also those that have 2.0 (PWG 5100.12).
const VERSION: [u8; 2] = [1, 1];
const GET_PRINTER_ATTRIBUTES: [u8; 2] = [0x00, 0x0b];
const PRINT_JOB: [u8; 2] = [0x00, 0x02];
const REQUEST_ID: [u8; 4] = [0, 0, 0, 1];

const GROUP_OPERATION: u8 = 0x01;
const GROUP_END: u8 = 0x03;
const GROUP_PRINTER: u8 = 0x04;
/// Tags below it begin a group.
const FIRST_VALUE_TAG: u8 = 0x10;
const TAG_INTEGER: u8 = 0x21;
const TAG_BOOLEAN: u8 = 0x22;
const TAG_ENUM: u8 = 0x23;
const TAG_OCTETS: u8 = 0x30;
const TAG_COLLECTION: u8 = 0x34;
const TAG_TEXT_WITH_LANGUAGE: u8 = 0x35;
const TAG_NAME_WITH_LANGUAGE: u8 = 0x36;
const TAG_COLLECTION_END: u8 = 0x37;
const TAG_TEXT: u8 = 0x41;
const TAG_NAME: u8 = 0x42;
const TAG_KEYWORD: u8 = 0x44;
const TAG_URI: u8 = 0x45;
const TAG_CHARSET: u8 = 0x47;
const TAG_LANGUAGE: u8 = 0x48;
const TAG_MIME: u8 = 0x49;
const TAG_MEMBER: u8 = 0x4a;
/// Tags of texts lie between `TAG_TEXT` and this.
const LAST_TEXT_TAG: u8 = 0x49;

/// One value. What is neither number nor text is `None`: "unknown", "no value", dates, ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Number(i64),
    Text(String),
    None,
}

/// What a printer says of itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Attributes(BTreeMap<String, Vec<Value>>);

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// RFC 8011, appendix B.
    pub(super) status: u16,
    /// What it says about that, for a person.
    pub(super) message: Option<String>,
    pub(super) attributes: Attributes,
}

impl Attributes {
    /// All values of an attribute.
    pub(super) fn all(&self, name: &str) -> &[Value] {
        self.0.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// Its texts.
    pub(super) fn texts(&self, name: &str) -> impl Iterator<Item = &str> {
        self.all(name).iter().filter_map(Value::text)
    }

    /// Its first text that is not empty.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.texts(name).find(|text| !text.is_empty())
    }

    /// Its first number.
    pub(super) fn number(&self, name: &str) -> Option<i64> {
        self.all(name).iter().find_map(Value::number)
    }
}

impl Value {
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Number(_) | Self::None => None,
        }
    }

    pub(super) fn number(&self) -> Option<i64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(_) | Self::None => None,
        }
    }
}

/// The request for `wanted` attributes of the printer at `uri`. A member of a collection comes with its collection.
pub(super) fn request(uri: &str, wanted: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(VERSION);
    out.extend(GET_PRINTER_ATTRIBUTES);
    out.extend(REQUEST_ID);
    out.push(GROUP_OPERATION);
    // RFC 8011 §4.1.4: these two first.
    put(&mut out, TAG_CHARSET, "attributes-charset", "utf-8");
    put(&mut out, TAG_LANGUAGE, "attributes-natural-language", "en");
    put(&mut out, TAG_URI, "printer-uri", uri);
    let names = std::iter::once("requested-attributes").chain(std::iter::repeat(""));
    for (name, value) in names.zip(wanted.iter().filter(|name| !name.contains('/'))) {
        put(&mut out, TAG_KEYWORD, name, value);
    }
    out.push(GROUP_END);
    out
}

/// The request to take what follows it as a job of bytes (RFC 8011 §4.2.1).
pub(crate) fn job_request(uri: &str, name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(VERSION);
    out.extend(PRINT_JOB);
    out.extend(REQUEST_ID);
    out.push(GROUP_OPERATION);
    put(&mut out, TAG_CHARSET, "attributes-charset", "utf-8");
    put(&mut out, TAG_LANGUAGE, "attributes-natural-language", "en");
    put(&mut out, TAG_URI, "printer-uri", uri);
    put(&mut out, TAG_NAME, "requesting-user-name", "mailfleet-agent");
    put(&mut out, TAG_NAME, "job-name", name);
    put(&mut out, TAG_MIME, "document-format", "application/octet-stream");
    out.push(GROUP_END);
    out
}

/// What a printer says to a job that it has whole.
///
/// # Errors
/// It does not take it: why.
pub(crate) fn job_answer(bytes: &[u8]) -> Result<(), String> {
    let answer = read(bytes, &[])?;
    let said = answer.message.as_deref().map(|text| format!(": {}", Label::lossy(text))).unwrap_or_default();
    match answer.status {
        0..=0x00ff => Ok(()),
        status => Err(format!("IPP status {status:#06x}{said}")),
    }
}

fn put(out: &mut Vec<u8>, tag: u8, name: &str, value: &str) {
    out.push(tag);
    for text in [name, value] {
        // Names are ours, and an address is bounded where it is read.
        let bytes = text.as_bytes().get(..usize::from(u16::MAX)).unwrap_or(text.as_bytes());
        out.extend(u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes());
        out.extend(bytes);
    }
}

/// Reads an answer; keeps `wanted` attributes and members of collections.
///
/// # Errors
/// Where it makes no sense.
pub(super) fn read(bytes: &[u8], wanted: &[&str]) -> Result<Answer, String> {
    let mut input = Input { rest: bytes };
    let _version = input.take(2)?;
    let status = input.number()?;
    let _request = input.take(4)?;
    let mut reader = Reader { wanted, ..Reader::default() };
    loop {
        match input.byte()? {
            GROUP_END => break,
            group if group < FIRST_VALUE_TAG => reader.begin(group)?,
            tag => {
                let length = input.number()?;
                let name = input.take(usize::from(length))?;
                let length = input.number()?;
                reader.value(tag, name, input.take(usize::from(length))?)?;
            }
        }
    }
    if reader.depth > 0 {
        return Err("it ends inside a collection".to_owned());
    }
    let Reader { message, attributes, .. } = reader;
    Ok(Answer { status, message, attributes: Attributes(attributes) })
}

struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or("it ends inside an attribute")?;
        self.rest = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, String> {
        let byte = self.take(1)?.first().copied();
        byte.ok_or_else(|| "it ends inside an attribute".to_owned())
    }

    fn number(&mut self) -> Result<u16, String> {
        let bytes = self.take(2)?.try_into().map_err(|_| "it ends inside an attribute")?;
        Ok(u16::from_be_bytes(bytes))
    }
}

/// Where the reading of an answer stands. Collections are counted, not built: however deep they are, it costs nothing.
#[derive(Default)]
struct Reader<'w> {
    wanted: &'w [&'w str],
    group: u8,
    name: String,
    member: String,
    depth: u32,
    message: Option<String>,
    attributes: BTreeMap<String, Vec<Value>>,
}

impl Reader<'_> {
    fn begin(&mut self, group: u8) -> Result<(), String> {
        if self.depth > 0 {
            return Err("a group begins inside a collection".to_owned());
        }
        self.group = group;
        self.name.clear();
        Ok(())
    }

    fn value(&mut self, tag: u8, name: &[u8], value: &[u8]) -> Result<(), String> {
        if !name.is_empty() && self.depth == 0 {
            self.name = String::from_utf8_lossy(name).into_owned();
        }
        match tag {
            TAG_COLLECTION => {
                self.depth = self.depth.saturating_add(1);
                return Ok(());
            }
            TAG_COLLECTION_END => {
                self.depth = self.depth.checked_sub(1).ok_or("a collection ends that has not begun")?;
                return Ok(());
            }
            TAG_MEMBER => {
                if self.depth == 1 {
                    self.member = String::from_utf8_lossy(value).into_owned();
                }
                return Ok(());
            }
            _ => {}
        }
        match (self.group, self.depth) {
            (GROUP_OPERATION, 0) if self.name == "status-message" => {
                self.message = read_value(tag, value).text().map(str::to_owned);
            }
            (GROUP_PRINTER, 0) => self.keep(self.name.clone(), tag, value),
            (GROUP_PRINTER, 1) => self.keep(format!("{}/{}", self.name, self.member), tag, value),
            _ => {}
        }
        Ok(())
    }

    fn keep(&mut self, name: String, tag: u8, value: &[u8]) {
        if !self.wanted.contains(&name.as_str()) {
            return;
        }
        let values = self.attributes.entry(name).or_default();
        if values.len() < IPP_VALUES_MAX_COUNT {
            values.push(read_value(tag, value));
        }
    }
}

fn read_value(tag: u8, value: &[u8]) -> Value {
    match tag {
        TAG_INTEGER | TAG_ENUM => {
            let number = value.try_into().map(i32::from_be_bytes);
            number.map_or(Value::None, |number| Value::Number(number.into()))
        }
        TAG_BOOLEAN => value.first().map_or(Value::None, |flag| Value::Number((*flag).into())),
        TAG_TEXT_WITH_LANGUAGE | TAG_NAME_WITH_LANGUAGE => {
            let mut input = Input { rest: value };
            let language = input.number().and_then(|length| input.take(length.into()));
            let text = language.and_then(|_| input.number()).and_then(|length| input.take(length.into()));
            text.map_or(Value::None, read_text)
        }
        TAG_OCTETS | TAG_TEXT..=LAST_TEXT_TAG => read_text(value),
        _ => Value::None,
    }
}

/// UTF-8 was asked for. Some printers count the zero behind a text as part of it.
fn read_text(bytes: &[u8]) -> Value {
    let bytes = bytes.get(..VALUE_MAX_BYTES).unwrap_or(bytes);
    Value::Text(String::from_utf8_lossy(bytes).trim_matches(['\0', ' ', '\r', '\n', '\t']).to_owned())
}

#[cfg(test)]
mod tests;
