//! Texts of devices as people read them: character sets, padding, line breaks. UTF-8 where it is UTF-8, then what the
//! device names in `prtLocalizationCharacterSet`, Latin-1 last.

mod tables;

use encoding_rs::Encoding;

/// What HP and its relatives put before texts of their own tables (a PML type and length).
const PML_PREFIX: [u8; 2] = [0x01, 0x15];

/// How a device says that it writes, by IANA's number (MIBenum).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Charset(pub(crate) Option<i64>);

/// Reads a text: up to the first NUL, one line, no padding.
pub(crate) fn read(bytes: &[u8], charset: Charset) -> String {
    let bytes = bytes.strip_prefix(&PML_PREFIX).unwrap_or(bytes);
    let bytes = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    one_line(&decode(bytes, charset))
}

fn decode(bytes: &[u8], charset: Charset) -> String {
    match str::from_utf8(bytes) {
        Ok(text) => return text.to_owned(),
        // Cut inside a character: devices count bytes, not characters.
        Err(err)
            if err.error_len().is_none() && err.valid_up_to() > 0 && has_wide(bytes, err.valid_up_to()) =>
        {
            let whole = bytes.get(..err.valid_up_to()).unwrap_or_default();
            return String::from_utf8_lossy(whole).into_owned();
        }
        Err(_) => {}
    }
    match charset.0 {
        Some(2004) => by_table(bytes, &tables::HP_ROMAN8),
        Some(2009) => by_table(bytes, &tables::IBM_850),
        other => {
            let named = other.and_then(encoding).unwrap_or(encoding_rs::WINDOWS_1252);
            let (text, wrong) = named.decode_without_bom_handling(bytes);
            if !wrong {
                return text.into_owned();
            }
            // Latin-1 with what Windows put in its gaps; every byte is something in it.
            encoding_rs::WINDOWS_1252.decode_without_bom_handling(bytes).0.into_owned()
        }
    }
}

/// True if the whole part has a character of several bytes: only then is a broken end a cut one. `Gr\xFC` is Latin-1.
fn has_wide(bytes: &[u8], whole: usize) -> bool {
    bytes.get(..whole).is_some_and(|whole| !whole.is_ascii())
}

fn by_table(bytes: &[u8], upper: &[&str; 4]) -> String {
    let upper: Vec<char> = upper.iter().flat_map(|row| row.chars()).collect();
    let read = |byte: &u8| match byte.checked_sub(0x80) {
        None => char::from(*byte),
        Some(at) => upper.get(usize::from(at)).copied().unwrap_or(char::REPLACEMENT_CHARACTER),
    };
    bytes.iter().map(read).collect()
}

/// The encoding of a number of IANA, as far as printers name it.
fn encoding(mib_enum: i64) -> Option<&'static Encoding> {
    Some(match mib_enum {
        3 | 4 => encoding_rs::WINDOWS_1252,
        5 => encoding_rs::ISO_8859_2,
        6 => encoding_rs::ISO_8859_3,
        7 => encoding_rs::ISO_8859_4,
        8 => encoding_rs::ISO_8859_5,
        9 => encoding_rs::ISO_8859_6,
        10 => encoding_rs::ISO_8859_7,
        11 => encoding_rs::ISO_8859_8,
        12 => encoding_rs::WINDOWS_1254,
        13 => encoding_rs::ISO_8859_10,
        17 | 2024 => encoding_rs::SHIFT_JIS,
        18 => encoding_rs::EUC_JP,
        38 => encoding_rs::EUC_KR,
        109 => encoding_rs::ISO_8859_13,
        111 => encoding_rs::ISO_8859_15,
        113 | 2025 => encoding_rs::GBK,
        114 => encoding_rs::GB18030,
        2026 => encoding_rs::BIG5,
        2084 => encoding_rs::KOI8_R,
        2250 => encoding_rs::WINDOWS_1250,
        2251 => encoding_rs::WINDOWS_1251,
        2253 => encoding_rs::WINDOWS_1253,
        2254 => encoding_rs::WINDOWS_1254,
        _ => return None,
    })
}

/// A word that was broken at the end of a line grows together, what else breaks lines or pads becomes one space.
fn one_line(text: &str) -> String {
    let text = text.replace("-\r\n", "").replace("-\n", "");
    let words: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8], charset: i64) -> String {
        read(bytes, Charset(Some(charset)))
    }

    #[test]
    fn utf8_comes_before_what_the_device_names() {
        assert_eq!(text("Fack 2 är tomt".as_bytes(), 2009), "Fack 2 är tomt");
        assert_eq!(text("進入睡眠模式".as_bytes(), 4), "進入睡眠模式");
    }

    #[test]
    fn a_text_cut_inside_a_character_keeps_its_whole_characters() {
        let whole = "Pappersfack är öppet för på".as_bytes();
        assert_eq!(text(&whole[..whole.len() - 1], 106), "Pappersfack är öppet för p");
    }

    #[test]
    fn each_character_set_that_was_seen_is_read() {
        let polish = [b'T', 0xb3, b'o'];
        assert_eq!(text(&polish, 5), "Tło");
        assert_eq!(text(&[0xbf, 0xd0, 0xdf, 0xd8, 0xe1, 0xd8], 8), "Паписи");
        assert_eq!(text(&[0xfe], 12), "ş");
        assert_eq!(text(&[0x83, 0x67, 0x83, 0x69, 0x81, 0x5b], 17), "トナー");
        assert_eq!(text(&[b'T', 0xc5, b'r'], 2004), "Tér");
        assert_eq!(text(&[b'T', 0x81, b'r'], 2009), "Tür");
        assert_eq!(read(b"T\xfcr", Charset::default()), "Tür");
    }

    #[test]
    fn what_fits_no_character_set_is_latin1_with_the_quotes_of_windows() {
        assert_eq!(text(b"\x93Office\x94 T\xfcr", 106), "“Office” Tür");
        assert_eq!(text(&[b'a', 0x81, 0xff], 17), "a\u{81}ÿ".replace('\u{81}', " "));
        assert_eq!(read(b"Gr\xfc", Charset::default()), "Grü");
    }

    #[test]
    fn padding_line_breaks_and_prefixes_go() {
        assert_eq!(text(b"VNC123\0\0\0garbage", 4), "VNC123");
        assert_eq!(text(b"\x01\x15VNCRC48198", 4), "VNCRC48198");
        assert_eq!(text(b"ENERGIESPAREN...\rTROMMEL  ERSETZ. ", 2004), "ENERGIESPAREN... TROMMEL ERSETZ.");
        assert_eq!(text(b"Bereitschafts-\nmodus ein", 4), "Bereitschaftsmodus ein");
        assert_eq!(text(b"", 4), "");
    }
}
