//! Text from outside → text that may be put into an error, a log line, a page or a label: clipped, and without
//! control characters. Whoever wrote it decides neither how much is logged nor what a terminal does with it.

/// How much of a text is quoted, in characters: a sentence or two.
pub(crate) const CHARS_MAX: usize = 300;

/// `text`, clipped after `CHARS_MAX` characters: `beginning… (20971520 bytes in all)`. Control characters are
/// escaped, as are those that reverse the direction of writing.
#[must_use]
pub fn clipped(text: &str) -> String {
    clipped_to(CHARS_MAX, text)
}

/// As [`clipped`], after `chars_max` characters.
#[must_use]
pub fn clipped_to(chars_max: usize, text: &str) -> String {
    let (shown, is_all) = beginning(chars_max, text);
    if is_all { shown } else { shown + &of_all(text.len()) }
}

/// As [`clipped`], of bytes that should be UTF-8. What is not is replaced.
#[must_use]
pub fn clipped_bytes(bytes: &[u8]) -> String {
    /// The longest character in UTF-8, in bytes.
    const CHAR_BYTES_MAX: usize = 4;
    let first = &bytes[..bytes.len().min(CHARS_MAX * CHAR_BYTES_MAX)];
    let (shown, is_all) = beginning(CHARS_MAX, String::from_utf8_lossy(first).trim());
    if is_all && first.len() == bytes.len() { shown } else { shown + &of_all(bytes.len()) }
}

/// How long an error may be that is shown to people, in characters.
const MESSAGE_CHARS_MAX: usize = 4000;

/// An error's text, as it is shown on a terminal or in an answer: clipped, and without control characters. Its line feeds
/// stay, as errors of the text format draw what they point at; what follows one is indented, so that nothing from outside
/// begins a line.
#[must_use]
pub fn message(text: &str) -> String {
    let end = text.char_indices().nth(MESSAGE_CHARS_MAX).map(|(at, _)| at);
    let shown = text[..end.unwrap_or(text.len())].split('\n').map(|line| beginning(usize::MAX, line).0);
    let shown = shown.collect::<Vec<_>>().join("\n  ");
    if end.is_none() { shown } else { shown + &of_all(text.len()) }
}

fn of_all(bytes: usize) -> String {
    format!("… ({bytes} bytes in all)")
}

/// The first `chars_max` characters of `text`, escaped, and whether that is all of it. What is escaped counts as the
/// characters that are shown.
fn beginning(chars_max: usize, text: &str) -> (String, bool) {
    let (mut shown, mut chars) = (String::new(), 0);
    for char in text.chars() {
        let escaped = char.escape_default();
        chars += if is_harmless(char) { 1 } else { escaped.len() };
        if chars > chars_max {
            return (shown, false);
        }
        if is_harmless(char) {
            shown.push(char);
        } else {
            shown.extend(escaped);
        }
    }
    (shown, true)
}

/// Whether it neither moves a cursor, nor ends a line, nor turns text round, nor hides in it.
pub(crate) fn is_harmless(char: char) -> bool {
    let is_format = matches!(
        char,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    );
    !char.is_control() && !is_format
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_text_without_control_characters_stays_as_it_is() {
        for text in ["", "query processing would load too many samples", "größer als 10 µs: \"{}\" 日本"]
        {
            assert_eq!(clipped(text), text);
            assert_eq!(clipped_bytes(text.as_bytes()), text);
        }
        assert_eq!(clipped(&"ä".repeat(CHARS_MAX)), "ä".repeat(CHARS_MAX));
    }

    #[test]
    fn a_long_text_is_clipped_and_says_how_long_it_was() {
        let long = "ä".repeat(10_000_000);
        let expected = format!("{}… (20000000 bytes in all)", "ä".repeat(CHARS_MAX));
        assert_eq!(clipped(&long), expected);
        assert_eq!(clipped_bytes(long.as_bytes()), expected);
        assert_eq!(clipped_to(2, "abc"), "ab… (3 bytes in all)");
    }

    #[test]
    fn a_message_keeps_its_lines_and_nothing_else() {
        assert_eq!(
            message("a\n ^--\x1b[2J\r\u{202e}\nERROR b"),
            "a\n   ^--\\u{1b}[2J\\r\\u{202e}\n  ERROR b"
        );
        let long = message(&"x".repeat(5_000_000));
        assert_eq!(long, format!("{}… (5000000 bytes in all)", "x".repeat(MESSAGE_CHARS_MAX)));
        assert_eq!(message(&"ä".repeat(MESSAGE_CHARS_MAX)), "ä".repeat(MESSAGE_CHARS_MAX));
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(clipped("a\n\u{1b}[31mb\0"), "a\\n\\u{1b}[31mb\\u{0}");
        for hidden in ['\u{ad}', '\u{180e}', '\u{206a}', '\u{fffb}', '\u{e0041}'] {
            assert_eq!(clipped(&format!("a{hidden}b")), format!("a{}b", hidden.escape_unicode()));
        }
        assert_eq!(clipped("\u{202e}txt.exe\u{2028}"), "\\u{202e}txt.exe\\u{2028}");
        assert_eq!(clipped_bytes(b"\xff\x07a\n"), "\u{fffd}\\u{7}a");
        // 37 times eight characters.
        assert_eq!(clipped(&"\u{202e}".repeat(10_000)).chars().take_while(|char| *char != '…').count(), 296);
    }
}
