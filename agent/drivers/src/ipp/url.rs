//! Where an IPP printer is asked: `ipp://192.0.2.19/ipp/print`, `ipps://printer.example:8631/ipp/print`.

use std::fmt;

use crate::limits::URL_MAX_BYTES;

/// Port of IPP (RFC 8010 §8.1), with and without TLS.
const PORT: u16 = 631;
/// Where printers are that follow IPP Everywhere (PWG 5100.14), and most others.
const PATH: &str = "/ipp/print";

/// The address of one printer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrinterUrl {
    is_tls: bool,
    host: String,
    port: u16,
    path: String,
}

impl PrinterUrl {
    /// Reads `ipp://HOST[:PORT][/PATH]` or `ipps://…`. Without a path it is that of IPP Everywhere.
    ///
    /// # Errors
    /// What was expected, and what was found.
    pub fn parse(text: &str) -> Result<Self, String> {
        // What stands before an @ may be a password.
        let found = text.rsplit_once('@').map_or(text, |(_, host)| host);
        let bad = || {
            let hint =
                if found.len() < text.len() { "; user and password have settings of their own" } else { "" };
            format!("address \"{found}\", expected ipp://HOST[:PORT]/PATH or ipps://…{hint}")
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(bad)?;
        let is_tls = match scheme {
            "ipp" => false,
            "ipps" => true,
            _ => return Err(bad()),
        };
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at_checked(at).ok_or_else(bad)?,
            None => (rest, PATH),
        };
        let (host, port) = match authority.strip_prefix('[') {
            Some(v6) => {
                let (host, after) = v6.split_once(']').ok_or_else(bad)?;
                let port = after.strip_prefix(':');
                if port.is_none() && !after.is_empty() {
                    return Err(bad());
                }
                (host, port)
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        let port = port.map_or(Ok(PORT), str::parse).map_err(|_| bad())?;
        // Whatever stands here goes into a request's head.
        let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '@' | '"' | '<' | '>' | '\\');
        let is_good = !host.is_empty() && text.len() <= URL_MAX_BYTES && text.chars().all(plain);
        if !is_good || port == 0 {
            return Err(bad());
        }
        Ok(Self { is_tls, host: host.to_owned(), port, path: path.to_owned() })
    }

    /// True for `ipps`.
    pub(crate) fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// Name or address.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// `HOST:PORT`, as a request's head names it.
    pub(crate) fn authority(&self) -> String {
        let host = &self.host;
        if host.contains(':') { format!("[{host}]:{}", self.port) } else { format!("{host}:{}", self.port) }
    }
}

impl fmt::Display for PrinterUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "ipps" } else { "ipp" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_what_printers_have() {
        for (text, whole) in [
            ("ipp://192.0.2.19", "ipp://192.0.2.19:631/ipp/print"),
            ("ipps://mfp.example:8631/ipp/2", "ipps://mfp.example:8631/ipp/2"),
            ("ipp://[2001:db8::7]/", "ipp://[2001:db8::7]:631/"),
            ("ipp://[2001:db8::7]:80", "ipp://[2001:db8::7]:80/ipp/print"),
        ] {
            assert_eq!(PrinterUrl::parse(text).unwrap().to_string(), whole);
        }
    }

    #[test]
    fn what_is_no_address_of_a_printer_is_refused() {
        for bad in [
            "",
            "192.0.2.19",
            "http://192.0.2.19/",
            "ipp://",
            "ipp:///ipp/print",
            "ipp://a:b/",
            "ipp://a:0/",
            "ipp://a:70000/",
            "ipp://user@a/",
            "ipp://a/x y",
            "ipp://a/\r\nHost: b",
            "ipp://[::1/",
            "ipp://[::1]x/",
            &format!("ipp://a/{}", "x".repeat(2_000)),
        ] {
            assert!(PrinterUrl::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_password_in_an_address_is_not_repeated() {
        for bad in [
            "ipps://mon:s4711@mfp/ipp/print",
            "ipps://mon:s@4711@mfp/",
            "ipps://mon:s/4711@mfp/",
            "s4711@mfp",
        ] {
            let why = PrinterUrl::parse(bad).unwrap_err();
            assert!(!why.contains("4711") && why.contains("settings of their own"), "{why}");
        }
    }
}
