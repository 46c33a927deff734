//! `growth`: which functions have made a module's memory grow, asked of the running runner.

use std::fmt::{self, Write as _};

use clap::{Args, ValueEnum};
use ebb_host::growth::{OfBinary, Requests};
use ebb_service::{
    commands::{self, CommandError, Listens, print},
    quote,
};
use ebb_units::{ByteCount, Digest, ModuleName, Span};

/// Functions, and kinds of requests, that the table has.
const ROWS_MAX: usize = 20;

#[derive(Args, Debug)]
pub(super) struct GrowthArgs {
    /// The module.
    module: ModuleName,
    /// Of the binary with this digest; otherwise of all of them, or of the newest one.
    #[arg(long)]
    digest: Option<Digest>,
    /// Address of the running runner, with https:// before it for TLS; otherwise the config's.
    #[arg(long, value_name = "HOST:PORT")]
    address: Option<String>,
    /// How to show it.
    #[arg(long, default_value = "table")]
    format: Format,
    /// Longest wait for the answer.
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    timeout: Span,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// Functions that asked for most, for people.
    Table,
    /// All that is known.
    Json,
    /// Stacks of the newest binary, one a line, as flame graphs are made of.
    Folded,
    /// Likewise as a protobuf, for `go tool pprof`, speedscope and Pyroscope.
    Pprof,
}

/// Why nothing is shown.
#[derive(Debug, thiserror::Error)]
pub(super) enum GrowthError {
    /// The runner was not asked, or did not answer; or standard output is full.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// It answered something else.
    #[error("the growth of {0}: expected what a runner of this version answers")]
    Answer(ModuleName, #[source] serde_json::Error),
}

pub(super) fn show(
    args: &GrowthArgs,
    listens: &dyn Fn() -> Result<Listens, CommandError>,
) -> Result<(), GrowthError> {
    let shown = ask(args, listens)?;
    let Format::Table = args.format else { return Ok(print(&shown)?) };
    let binaries: Vec<OfBinary> =
        serde_json::from_slice(&shown).map_err(|error| GrowthError::Answer(args.module.clone(), error))?;
    let mut table = String::new();
    for binary in &binaries {
        let _ = writeln!(table, "{}", Table(binary));
    }
    if binaries.is_empty() {
        let digest =
            args.digest.as_ref().map_or_else(String::new, |digest| format!(" with the digest {digest}"));
        let _ = writeln!(table, "no instance of {}{digest} has run", args.module);
    }
    Ok(print(table.as_bytes())?)
}

fn ask(
    args: &GrowthArgs,
    listens: &dyn Fn() -> Result<Listens, CommandError>,
) -> Result<Vec<u8>, CommandError> {
    let format = match args.format {
        Format::Table | Format::Json => "json",
        Format::Folded => "folded",
        Format::Pprof => "pprof",
    };
    let mut path = format!("/api/v1/modules/{}/growth?format={format}", args.module);
    if let Some(digest) = &args.digest {
        let _ = write!(path, "&digest={digest}");
    }
    Ok(commands::get(args.address.as_deref(), listens, &path, args.timeout)?.to_vec())
}

struct Table<'a>(&'a OfBinary);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let OfBinary { digest, growth } = self.0;
        let [initial, start, grown] = [growth.initial_bytes, growth.start_bytes, growth.bytes].map(ByteCount);
        let instances = if growth.lifetimes == 1 { "instance" } else { "instances" };
        writeln!(f, "digest {}: {} {instances}", quote::message(digest), growth.lifetimes)?;
        writeln!(f, "began with {initial}, grew by {start} before they were ready and by {grown} since")?;
        let share = |bytes: u64| 100.0 * bytes as f64 / growth.bytes.max(1) as f64;
        let mut row = |bytes: u64, what: &str| {
            writeln!(f, "  {:5.1} %  {:>12}  {what}", share(bytes), ByteCount(bytes).to_string())
        };
        for function in growth.functions.iter().take(ROWS_MAX) {
            row(function.bytes, &quote::message(&function.function))?;
        }
        let others: u64 = growth.functions.iter().skip(ROWS_MAX).map(|function| function.bytes).sum();
        for (bytes, what) in [(others, "others"), (growth.unknown_bytes, "where no stack was taken")] {
            if bytes > 0 {
                row(bytes, what)?;
            }
        }
        if growth.requests.is_empty() {
            return Ok(());
        }
        writeln!(f, "by request, and how many of these there were:")?;
        let mut row = |bytes: u64, what: &str, requests: u64| {
            let bytes_told = ByteCount(bytes).to_string();
            writeln!(f, "  {:5.1} %  {bytes_told:>12}  {what}  {requests}", share(bytes))
        };
        let grew = growth.requests.iter().take(ROWS_MAX).take_while(|told| told.bytes > 0);
        for Requests { method, route, requests, bytes } in grew.clone() {
            row(*bytes, &format!("{} {}", quote::message(method), quote::message(route)), *requests)?;
        }
        let others = &growth.requests[grew.count()..];
        let sum = |of: fn(&Requests) -> u64| others.iter().map(of).sum();
        if !others.is_empty() {
            row(sum(|told| told.bytes), "others", sum(|told| told.requests))?;
        }
        Ok(())
    }
}
