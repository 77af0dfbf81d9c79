//! Where mail goes out and comes in, as an operator writes it in one line. Pure parsing: opens nothing, and
//! holds no passwords, because URLs end up in process lists, logs and tickets.
//!
//! ```text
//! send:    smtps://user@host[:465]   smtp+starttls://user@host[:587]   smtp://[user@]host[:25]
//!          sendmail:[/usr/sbin/sendmail]   maildir:/path   spool:/path
//! receive: imaps://user@host[:993]/INBOX   imap+starttls://user@host[:143]   imap://user@host[:143]
//!          pop3s://user@host[:995]   pop3+starttls://user@host[:110]   pop3://user@host[:110]
//!          maildir:/path   spool:/path
//! ```
//! The user may hold an `@`, plain or as `%40`; the last `@` ends it.

use core::fmt;
use std::path::PathBuf;

use thiserror::Error;

use crate::text::clean;

/// How a connection is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// TLS from the first byte (ports 465 and 993).
    Implicit,
    /// A plain greeting, then STARTTLS; a server that does not offer it is refused.
    StartTls,
    /// No TLS. Refused for hosts other than loopback unless the settings allow it.
    None,
}

/// Where mail goes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendUrl {
    /// A submission server.
    Smtp {
        /// Host name or address, without brackets.
        host: String,
        /// TCP port.
        port: u16,
        /// Protection of the connection.
        tls: TlsMode,
        /// Login name; without one there is no login.
        user: Option<String>,
    },
    /// A local `sendmail` program.
    Sendmail {
        /// Its path.
        program: PathBuf,
    },
    /// One Maildir that receives every mail.
    Maildir(PathBuf),
    /// A folder with one Maildir per address: a mail system for tests and for sites with a shared disk.
    Spool(PathBuf),
}

/// Where mail comes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReceiveUrl {
    /// An IMAP server.
    Imap {
        /// Host name or address, without brackets.
        host: String,
        /// TCP port.
        port: u16,
        /// Protection of the connection.
        tls: TlsMode,
        /// Login name.
        user: String,
        /// Folder, usually `INBOX`.
        folder: String,
    },
    /// A POP3 server.
    Pop3 {
        /// Host name or address, without brackets.
        host: String,
        /// TCP port.
        port: u16,
        /// Protection of the connection.
        tls: TlsMode,
        /// Login name.
        user: String,
    },
    /// One Maildir.
    Maildir(PathBuf),
    /// The Maildir of the own address in a spool.
    Spool(PathBuf),
}

/// A text that should have been a mail URL.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UrlError {
    /// A password was given. It is not repeated here.
    #[error("passwords never stand in URLs: use --password-file")]
    Password,
    /// Not a scheme of this direction.
    #[error("expected a URL that starts with {expected}, found \"{found}\"")]
    Scheme {
        /// The schemes that would do.
        expected: &'static str,
        /// What stood there, cut.
        found: String,
    },
    /// The URL lacks or garbles one component.
    #[error("bad {what} in the mail URL: expected {expected}, found \"{found}\"")]
    Part {
        /// Which component.
        what: &'static str,
        /// What would be right.
        expected: &'static str,
        /// What stood there, cut.
        found: String,
    },
}

const SEND_SCHEMES: &str = "smtps://, smtp+starttls://, smtp://, sendmail:, maildir:/ or spool:/";
const RECEIVE_SCHEMES: &str =
    "imaps://, imap+starttls://, imap://, pop3s://, pop3+starttls://, pop3://, maildir:/ or spool:/";

impl SendUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// Names the component that is wrong; a password in it is refused.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let text = text.trim();
        let (scheme, rest) = split_scheme(text, SEND_SCHEMES)?;
        let (tls, default_port) = match scheme.as_str() {
            "smtps" => (TlsMode::Implicit, 465),
            "smtp+starttls" => (TlsMode::StartTls, 587),
            "smtp" => (TlsMode::None, 25),
            "sendmail" => {
                let program = if rest.is_empty() { "/usr/sbin/sendmail" } else { rest };
                return Ok(Self::Sendmail { program: absolute("program", program)? });
            }
            "maildir" => return Ok(Self::Maildir(absolute("path", rest)?)),
            "spool" => return Ok(Self::Spool(absolute("path", rest)?)),
            _ => return Err(wrong_scheme(SEND_SCHEMES, text)),
        };
        let net = Authority::parse(rest, default_port)?;
        if !matches!(net.path.as_str(), "" | "/") {
            return Err(part("path", "nothing after the host and port", &net.path));
        }
        Ok(Self::Smtp { host: net.host, port: net.port, tls, user: net.user })
    }
}

impl ReceiveUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// Names the component that is wrong; a password in it is refused.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let text = text.trim();
        let (scheme, rest) = split_scheme(text, RECEIVE_SCHEMES)?;
        let (tls, default_port) = match scheme.as_str() {
            "imaps" => (TlsMode::Implicit, 993),
            "imap+starttls" => (TlsMode::StartTls, 143),
            "imap" => (TlsMode::None, 143),
            "pop3s" => (TlsMode::Implicit, 995),
            "pop3+starttls" => (TlsMode::StartTls, 110),
            "pop3" => (TlsMode::None, 110),
            "maildir" => return Ok(Self::Maildir(absolute("path", rest)?)),
            "spool" => return Ok(Self::Spool(absolute("path", rest)?)),
            _ => return Err(wrong_scheme(RECEIVE_SCHEMES, text)),
        };
        let net = Authority::parse(rest, default_port)?;
        let user = net.user.ok_or_else(|| part("user", "user@host, as mailboxes need a login", ""))?;
        if scheme.starts_with("pop3") {
            if !matches!(net.path.as_str(), "" | "/") {
                return Err(part(
                    "path",
                    "nothing after the host and port, as POP3 has no folders",
                    &net.path,
                ));
            }
            return Ok(Self::Pop3 { host: net.host, port: net.port, tls, user });
        }
        let folder = percent_decode("folder", net.path.trim_start_matches('/'))?;
        let folder = if folder.is_empty() { "INBOX".to_owned() } else { folder };
        // Other characters would need modified UTF-7 on the wire.
        if folder.len() > 200 || !folder.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'&') {
            return Err(part("folder", "at most 200 plain ASCII characters without '&'", &folder));
        }
        Ok(Self::Imap { host: net.host, port: net.port, tls, user, folder })
    }
}

struct Authority {
    user: Option<String>,
    host: String,
    port: u16,
    path: String,
}

impl Authority {
    // The text after the scheme: `//user@host:port/path`.
    fn parse(rest: &str, default_port: u16) -> Result<Self, UrlError> {
        let rest = rest.strip_prefix("//").ok_or_else(|| part("URL", "// after the scheme", ""))?;
        if rest.contains(['?', '#']) {
            return Err(part("URL", "no '?' and no '#'", ""));
        }
        // A '/' can only start the path: user names hold it as %2F.
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, authority),
        };
        // With a '/' in the password, its first half looks like a port and the rest like a path.
        let is_cut = user.is_none() && authority.contains(':') && path.contains('@');
        if is_cut || user.is_some_and(|u| u.contains(':')) {
            return Err(UrlError::Password);
        }
        let user = user.map(|u| percent_decode("user", u)).transpose()?;
        if user.as_ref().is_some_and(String::is_empty) {
            return Err(part("user", "a name before '@'", ""));
        }
        let (host, port) = split_port(place)?;
        let port = port.map_or(Ok(default_port), |p| {
            p.parse().ok().filter(|n| *n > 0).ok_or_else(|| part("port", "a number from 1 to 65535", p))
        })?;
        let host_ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':');
        if host.is_empty() || host.len() > 253 || !host.bytes().all(host_ok) {
            return Err(part("host", "a host name or address", host));
        }
        Ok(Self { user, host: host.to_ascii_lowercase(), port, path: path.to_owned() })
    }
}

fn split_port(place: &str) -> Result<(&str, Option<&str>), UrlError> {
    if let Some(v6) = place.strip_prefix('[') {
        let (host, tail) = v6.split_once(']').ok_or_else(|| part("host", "']' after '['", place))?;
        return match tail.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if tail.is_empty() => Ok((host, None)),
            None => Err(part("host", "':' and a port after ']'", tail)),
        };
    }
    match place.split_once(':') {
        Some((_, port)) if port.contains(':') => Err(part("host", "an IPv6 address in [ ]", place)),
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((place, None)),
    }
}

fn split_scheme<'t>(text: &'t str, expected: &'static str) -> Result<(String, &'t str), UrlError> {
    let (scheme, rest) = text.split_once(':').ok_or_else(|| wrong_scheme(expected, text))?;
    Ok((scheme.to_ascii_lowercase(), rest))
}

fn wrong_scheme(expected: &'static str, text: &str) -> UrlError {
    // Only what stands before the first colon, so that a password further on is never shown.
    let found = text.split(':').next().unwrap_or_default();
    UrlError::Scheme { expected, found: clean(found, 40) }
}

fn part(what: &'static str, expected: &'static str, found: &str) -> UrlError {
    UrlError::Part { what, expected, found: clean(found, 80) }
}

fn absolute(what: &'static str, text: &str) -> Result<PathBuf, UrlError> {
    // maildir:///path is what people write who think of file:///path.
    let path = PathBuf::from(text.strip_prefix("//").filter(|t| t.starts_with('/')).unwrap_or(text));
    if path.is_absolute() && !text.contains('\0') {
        Ok(path)
    } else {
        Err(part(what, "an absolute path", text))
    }
}

fn percent_decode(what: &'static str, text: &str) -> Result<String, UrlError> {
    let bad = || part(what, "UTF-8 text with %xx for special characters", text);
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        if b != b'%' {
            out.push(b);
            continue;
        }
        let digit = |b: Option<u8>| char::from(b?).to_digit(16).and_then(|d| u8::try_from(d).ok());
        let (high, low) = (digit(bytes.next()).ok_or_else(bad)?, digit(bytes.next()).ok_or_else(bad)?);
        out.push((high << 4) | low);
    }
    let text = String::from_utf8(out).map_err(|_| bad())?;
    if text.chars().any(char::is_control) { Err(bad()) } else { Ok(text) }
}

fn percent_encode(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~@+".contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

fn write_net(
    f: &mut fmt::Formatter<'_>,
    scheme: &str,
    user: Option<&str>,
    host: &str,
    port: u16,
) -> fmt::Result {
    write!(f, "{scheme}://")?;
    if let Some(user) = user {
        write!(f, "{}@", percent_encode(user))?;
    }
    if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
}

/// The URL, in the form that [`SendUrl::parse`] reads.
impl fmt::Display for SendUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Smtp { host, port, tls, user } => {
                let scheme = match tls {
                    TlsMode::Implicit => "smtps",
                    TlsMode::StartTls => "smtp+starttls",
                    TlsMode::None => "smtp",
                };
                write_net(f, scheme, user.as_deref(), host, *port)
            }
            Self::Sendmail { program } => write!(f, "sendmail:{}", program.display()),
            Self::Maildir(path) => write!(f, "maildir:{}", path.display()),
            Self::Spool(path) => write!(f, "spool:{}", path.display()),
        }
    }
}

/// The URL, in the form that [`ReceiveUrl::parse`] reads.
impl fmt::Display for ReceiveUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Imap { host, port, tls, user, folder } => {
                let scheme = match tls {
                    TlsMode::Implicit => "imaps",
                    TlsMode::StartTls => "imap+starttls",
                    TlsMode::None => "imap",
                };
                write_net(f, scheme, Some(user), host, *port)?;
                write!(f, "/{}", percent_encode(folder))
            }
            Self::Pop3 { host, port, tls, user } => {
                let scheme = match tls {
                    TlsMode::Implicit => "pop3s",
                    TlsMode::StartTls => "pop3+starttls",
                    TlsMode::None => "pop3",
                };
                write_net(f, scheme, Some(user), host, *port)
            }
            Self::Maildir(path) => write!(f, "maildir:{}", path.display()),
            Self::Spool(path) => write!(f, "spool:{}", path.display()),
        }
    }
}

#[cfg(test)]
#[path = "url_tests.rs"]
mod tests;
