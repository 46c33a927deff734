//! Events as text for people: what comes from outside is escaped.

use std::fmt::{self, Write as _};

use tracing::field::Field;
use tracing_subscriber::{
    field::MakeExt as _,
    fmt::{
        FormatFields,
        format::{Writer, debug_fn},
    },
};

use crate::quote::is_harmless;

/// The fields of an event as text. Much of it comes from outside (guests, clients, stores), and must not move the cursor,
/// turn the direction of text or begin a line of its own. JSON escapes for itself.
pub(super) fn fields() -> impl for<'writer> FormatFields<'writer> + 'static {
    debug_fn(|writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug| {
        let mut escaped = Escaped(writer);
        match field.name() {
            // Where an event of the crate `log` comes from: its target says it.
            name if name.starts_with("log.") => Ok(()),
            "message" => write!(escaped, "{value:?}"),
            name => write!(escaped, "{}={value:?}", name.trim_start_matches("r#")),
        }
    })
    .delimited(" ")
}

/// Writes text whose control characters, and those that change its direction, are escaped.
struct Escaped<W>(W);

impl<W: fmt::Write> fmt::Write for Escaped<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(is_escaped) {
            let (plain, from) = rest.split_at(at);
            let escaped = from.chars().next().expect("something was found there");
            write!(self.0, "{plain}{}", escaped.escape_default())?;
            rest = &from[escaped.len_utf8()..];
        }
        self.0.write_str(rest)
    }
}

fn is_escaped(character: char) -> bool {
    character != '\t' && !is_harmless(character)
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// What a text log has of `message`, and of `field` as a field.
    fn logged(message: &str, field: &str) -> String {
        let written = Arc::new(Mutex::new(Vec::new()));
        let writer = Arc::clone(&written);
        let layer = tracing_subscriber::fmt::layer()
            .fmt_fields(fields())
            .with_ansi(false)
            .with_writer(move || Buffer(Arc::clone(&writer)));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::info!(target: "guest", field = %field, number = 3, "{message}");
        });
        String::from_utf8(written.lock().unwrap().clone()).unwrap()
    }

    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn text_from_outside_cannot_write_over_its_line_or_turn_it_round() {
        let check = |text: &str, expected: &str| {
            let line = logged(text, text);
            let ending = format!("INFO guest: {expected} field={expected} number=3\n");
            assert!(line.ends_with(&ending), "{line:?} ends with {ending:?}");
        };
        check("plain é 日本 \t tab", "plain é 日本 \t tab");
        check("paid\rnot paid\0", r"paid\rnot paid\u{0}");
        check("\x1b[2J\x07\u{9b}31m", r"\u{1b}[2J\u{7}\u{9b}31m");
        check("a\u{202e}b\u{2066}c\u{2069}d\u{200f}e", r"a\u{202e}b\u{2066}c\u{2069}d\u{200f}e");
        check("one\nINFO two\u{2028}three", r"one\nINFO two\u{2028}three");
    }
}
