//! Which addresses `devices discover` asks: `192.0.2.0/24`, or one address. Pure.

use std::net::{IpAddr, Ipv4Addr};

/// Shortest prefix: 4,096 addresses are asked in some minutes. More than that is no site but a mistake.
const PREFIX_MIN: u32 = 20;

/// Every address of a network, without its own and that of everybody.
///
/// # Errors
/// What was expected, and what was found.
pub(crate) fn addresses(text: &str) -> Result<Vec<IpAddr>, String> {
    let bad = || {
        format!("\"{text}\", expected a network such as 192.0.2.0/24, at most a /{PREFIX_MIN}, or an address")
    };
    let Some((address, prefix)) = text.split_once('/') else {
        let address: IpAddr = text.parse().map_err(|_| bad())?;
        return if is_device(address) { Ok(vec![address]) } else { Err(bad()) };
    };
    let address: Ipv4Addr = address.parse().map_err(|_| bad())?;
    let prefix: u32 = prefix.parse().map_err(|_| bad())?;
    if !(PREFIX_MIN..=32).contains(&prefix) {
        return Err(bad());
    }
    let rest = u32::MAX.checked_shr(prefix).unwrap_or(0);
    let first = address.to_bits() & !rest;
    let last = first | rest;
    // RFC 3021: networks of two addresses have no others.
    let (first, last) =
        if prefix < 31 { (first.saturating_add(1), last.saturating_sub(1)) } else { (first, last) };
    let all: Vec<IpAddr> = (first..=last).map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))).collect();
    if all.iter().all(|address| is_device(*address)) { Ok(all) } else { Err(bad()) }
}

fn is_device(address: IpAddr) -> bool {
    let is_broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !(address.is_multicast() || address.is_unspecified() || is_broadcast)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(text: &str) -> (usize, String, String) {
        let all = addresses(text).unwrap();
        (all.len(), all[0].to_string(), all.last().unwrap().to_string())
    }

    #[test]
    fn a_network_is_all_of_its_addresses_but_two() {
        assert_eq!(ends("192.0.2.77/24"), (254, "192.0.2.1".to_owned(), "192.0.2.254".to_owned()));
        assert_eq!(ends("10.1.16.0/20"), (4_094, "10.1.16.1".to_owned(), "10.1.31.254".to_owned()));
        assert_eq!(ends("192.0.2.6/31"), (2, "192.0.2.6".to_owned(), "192.0.2.7".to_owned()));
        assert_eq!(ends("192.0.2.6/32"), (1, "192.0.2.6".to_owned(), "192.0.2.6".to_owned()));
        assert_eq!(ends("2001:db8::7"), (1, "2001:db8::7".to_owned(), "2001:db8::7".to_owned()));
    }

    #[test]
    fn what_is_too_large_or_no_network_is_refused() {
        for bad in [
            "",
            "192.0.2.0/19",
            "192.0.2.0/33",
            "192.0.2.0/",
            "192.0.2/24",
            "printer",
            "2001:db8::/64",
            "224.0.0.0/24",
            "0.0.0.0",
            "255.255.255.255",
            "::",
        ] {
            assert!(addresses(bad).is_err(), "{bad}");
        }
    }
}
