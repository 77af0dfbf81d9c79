//! Takes the dots off an answer of many lines (RFC 1939 section 3) while it comes in, and sees its end. Looks at bytes, not
//! lines, so that a line may be as long as it likes.

/// Where in a line the answer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Start,
    /// After a dot at a line's start, which is the server's.
    Dot,
    /// After such a dot and a CR: an LF makes it the end.
    DotCr,
    Inside,
    Cr,
    End,
}

/// One answer.
#[derive(Debug)]
pub(crate) struct Unstuffer {
    at: At,
}

impl Unstuffer {
    pub(crate) fn new() -> Self {
        Self { at: At::Start }
    }

    /// True once the lone dot was seen.
    pub(crate) fn is_over(&self) -> bool {
        self.at == At::End
    }

    /// Puts the answer's own bytes into `out`. Gives how many of `bytes` belong to the answer: all, until it is over.
    pub(crate) fn take(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> usize {
        let mut taken = 0usize;
        for b in bytes {
            if self.is_over() {
                break;
            }
            taken = taken.saturating_add(1);
            self.at = match (self.at, *b) {
                (At::Start, b'.') => At::Dot,
                (At::Dot, b'\r') => At::DotCr,
                (At::DotCr, b'\n') => At::End,
                (at, b) => {
                    if at == At::DotCr {
                        out.push(b'\r');
                    }
                    out.push(b);
                    match (at, b) {
                        // Only CRLF ends a line: with a bare LF, a mail could fake the answer's end.
                        (At::Cr, b'\n') => At::Start,
                        (_, b'\r') => At::Cr,
                        _ => At::Inside,
                    }
                }
            };
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(pieces: &[&[u8]]) -> (Vec<u8>, Vec<usize>, bool) {
        let (mut unstuffer, mut out) = (Unstuffer::new(), Vec::new());
        let taken = pieces.iter().map(|piece| unstuffer.take(piece, &mut out)).collect();
        (out, taken, unstuffer.is_over())
    }

    #[test]
    fn dots_are_taken_off_and_what_follows_the_end_is_left() {
        let answer = all(&[b"..a\r\nb.\r\n...\r\n.\r\n+OK next\r\n"]);
        assert_eq!(answer, (b".a\r\nb.\r\n..\r\n".to_vec(), vec![17], true));
        assert_eq!(all(&[b".\r\n"]), (Vec::new(), vec![3], true));
    }

    #[test]
    fn the_pieces_of_a_stream_make_no_difference() {
        let text = b"a\r\n..\r\r\n.x\r\n\r\n.\r\n";
        let whole = all(&[text]);
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!((&whole.0, whole.2), (&all(&bytes).0, true));
        assert_eq!(whole.0, b"a\r\n.\r\r\nx\r\n\r\n");
    }

    #[test]
    fn only_a_dot_between_line_ends_is_the_end() {
        for text in
            [b"a\n.\r\nb".as_slice(), b"a\n.\nb", b"a\r\n.\nb", b"a\r\n.\rb", b"a.\r\nb", b"a\r.\r\nb"]
        {
            assert!(!all(&[text]).2, "{text:?}");
        }
    }
}
