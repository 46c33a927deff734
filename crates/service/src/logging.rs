//! Structured logs on standard error, as text or JSON, and errors as one chain.

mod lines;
mod text;

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    error::Error,
    fmt,
    io::{self, IsTerminal as _, Write as _},
    panic::{self, PanicHookInfo},
    sync::OnceLock,
    thread,
    time::Duration,
};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};
use tracing::{error, warn};
use tracing_subscriber::{
    EnvFilter, filter::ParseError, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use self::lines::Lines;

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for log collectors.
    Json,
}

/// The `log:` section of a config file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// How a log line looks.
    pub format: LogFormat,
    /// A level (`error`, `warn`, `info`, `debug`, `trace`), or `tracing` directives such as
    /// `info,ebb_runner=debug`.
    #[serde(deserialize_with = "level")]
    #[schemars(schema_with = "level_schema")]
    pub level: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".to_owned() }
    }
}

/// What a directive without a target may be.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

fn level_schema(_: &mut SchemaGenerator) -> Schema {
    // In either case, letter by letter: JSON schemas know no flags.
    let in_either_case = |level: &str| -> String {
        level.chars().map(|letter| format!("[{letter}{}]", letter.to_ascii_uppercase())).collect()
    };
    let part = format!(r"\s*({}|[ -+\--~]*=[ -+\--~]*)\s*", LEVELS.map(in_either_case).join("|"));
    json_schema!({
        "type": "string",
        "pattern": format!("^{part}(,{part})*$"),
        "examples": ["info", "warn", "info,guest=warn", "info,access=off"],
    })
}

/// Refuses a bare word that is no level: as a directive, it would name a target and silence everything else.
fn level<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    // A visitor, so that the refusal points at the value.
    struct Visitor;
    impl de::Visitor<'_> for Visitor {
        type Value = String;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a log level such as info, or directives such as info,ebb_runner=debug")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
            let is_level = |word: &str| LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word));
            // The parser of directives panics at other characters.
            let is_plain = |part: &str| part.bytes().all(|byte| (b' '..=b'~').contains(&byte));
            let understood = text
                .split(',')
                .map(str::trim)
                .all(|part| is_level(part) || (part.contains('=') && is_plain(part)));
            if understood && filter(text).is_ok() {
                return Ok(text.to_owned());
            }
            Err(E::invalid_value(de::Unexpected::Str(text), &self))
        }
    }
    deserializer.deserialize_str(Visitor)
}

/// What is logged at `level`. Values of fields are compared as text: as regular expressions, a hundred dots would take half a
/// minute and a gigabyte to read.
fn filter(level: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::builder().with_regex(false).parse(level)
}

/// Why there are no logs.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A log level that cannot be understood.
    #[error(
        "log level {level:?}: expected error, warn, info, debug, trace, or directives such as info,ebb_runner=debug"
    )]
    Level {
        /// The level.
        level: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// There is no thread to write them.
    #[error("starting the thread that writes logs")]
    Start(#[source] io::Error),
}

/// The logs of the process, once they go somewhere.
static LINES: OnceLock<Lines> = OnceLock::new();

/// How long the end of a program waits for whoever reads its last lines.
const END_WITHIN: Duration = Duration::from_secs(2);

/// Sends the logs of the whole process to standard error, panics included. Does nothing when logs already go
/// somewhere. Nobody who logs ever waits for whoever reads them: see [`dropped_lines`]. A program ends with [`end`].
///
/// # Errors
/// [`LogError`] when the level cannot be understood, or the system refuses a thread.
pub fn init(config: &LogConfig) -> Result<(), LogError> {
    let filter =
        filter(&config.level).map_err(|source| LogError::Level { level: config.level.clone(), source })?;
    let tell = |dropped| {
        warn!(
            dropped,
            "log lines were dropped: standard error was not read fast enough, or could not be written to"
        );
    };
    let lines = Lines::start(io::stderr(), tell).map_err(LogError::Start)?;
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(lines.clone());
    let first = match config.format {
        // Colours are for people; in a file or a journal they would be noise around every field.
        LogFormat::Text => {
            registry.with(layer.fmt_fields(text::fields()).with_ansi(io::stderr().is_terminal())).try_init()
        }
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).try_init(),
    };
    // A second start in one process (tests, embedders) keeps the first one's logs.
    if first.is_ok() {
        let _ = LINES.set(lines);
        panic::set_hook(Box::new(log_panic));
    }
    Ok(())
}

/// How many log lines were dropped because standard error was not read, or could not be written.
#[must_use]
pub fn dropped_lines() -> u64 {
    LINES.get().map_or(0, Lines::dropped)
}

/// Writes what was logged, and `last_words` behind it: the end of a program. Waits for whoever reads them for two
/// seconds at most.
pub fn end(last_words: Option<&str>) {
    let last_words = last_words.map(|words| format!("{words}\n"));
    match LINES.get() {
        Some(lines) => {
            if let Some(words) = last_words {
                lines.push(words.as_bytes());
            }
            lines.flush(END_WITHIN);
        }
        None => {
            let _ = io::stderr().write_all(last_words.unwrap_or_default().as_bytes());
        }
    }
}

/// The standard library's own words would wait for whoever reads standard error.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string);
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    let thread = thread::current();
    let message = panic.payload_as_str().unwrap_or("no message");
    error!(thread = thread.name(), location, backtrace, "panic: {message}");
    if thread.name() == Some("main") {
        end(None);
    }
}

/// Prints an error and its causes in one line, outermost first: `reading a.yml: permission denied`.
pub struct Chain<'a>(pub &'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_no_level_is_refused() {
        let check = |level: &str, accepted: bool| {
            let config = serde_yaml::from_str::<LogConfig>(&format!("level: {level}"));
            assert_eq!(config.is_ok(), accepted, "{level}: {config:?}");
        };
        for level in
            ["error", "warn", "info", "debug", "trace", "\"off\"", "INFO", "\"info,ebb_runner=debug\""]
        {
            check(level, true);
        }
        for level in [
            "warning",
            "inof",
            "\"3\"",
            "\"\"",
            "\"info,loud\"",
            "\"ebb=loud\"",
            "\"info,[a\u{ad}b=debug\"",
            "\"ä=info\"",
        ] {
            check(level, false);
        }
        // No regular expression.
        check("\"info,[job{id=((}]=debug\"", true);
    }

    #[test]
    fn an_error_is_printed_with_its_causes() {
        let level = "ebb=loud".to_owned();
        let source = filter(&level).unwrap_err();
        let cause = source.to_string();
        let error = LogError::Level { level, source };
        let printed = Chain(&error).to_string();
        assert!(printed.starts_with("log level \"ebb=loud\": expected error, warn"), "{printed}");
        assert!(printed.contains(&cause), "{printed}");
    }
}
