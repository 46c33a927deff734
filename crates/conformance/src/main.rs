//! Checks a host of WebAssembly instances against `docs/host-protocol.md`, and says what became of each sentence.

use std::{
    fs,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use ebb_conformance::{Options, Report, Token, check};
use http::uri::Authority;

/// Checks a host of WebAssembly instances against Ebb's host protocol, docs/host-protocol.md.
///
/// One of its instances is restarted three times. Exit code: 0 if nothing failed, 1 if something did, 2 if the host could not
/// be checked.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// Where the host serves metrics and takes orders.
    #[arg(value_name = "HOST:PORT", value_parser = address)]
    address: String,
    /// File with the token that orders must carry.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Module of the instance to restart. Without it, the instance that holds most memory.
    #[arg(long, requires = "replica", conflicts_with = "no_restart")]
    module: Option<String>,
    /// Replica of the instance to restart.
    #[arg(long, requires = "module")]
    replica: Option<u32>,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
    /// Give no orders: judge only what is read.
    #[arg(long)]
    no_restart: bool,
    /// How many seconds to wait for the instance to grow before it is restarted.
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    growth_within: u32,
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let options = match options(&cli) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("ebb-conformance: {problem}");
            return ExitCode::from(2);
        }
    };
    let report = check(&options).await;
    if let Err(error) = print(&report, cli.json) {
        eprintln!("ebb-conformance: writing to standard output: {error}");
        return ExitCode::from(2);
    }
    ExitCode::from(report.exit_code())
}

fn options(cli: &Cli) -> Result<Options, String> {
    let token = |path: &PathBuf| {
        let text =
            fs::read_to_string(path).map_err(|error| format!("reading {}: {error}", path.display()))?;
        Token::new(&text).map_err(|error| format!("token file {}: {error}", path.display()))
    };
    Ok(Options {
        token: cli.token_file.as_ref().map(token).transpose()?,
        instance: cli.module.clone().zip(cli.replica),
        restart: !cli.no_restart,
        growth_within: Duration::from_secs(cli.growth_within.into()),
        ..Options::new(&cli.address)
    })
}

/// `HOST:PORT`, and nothing else.
fn address(text: &str) -> Result<String, String> {
    let authority = text.parse::<Authority>().ok();
    let is_address =
        authority.is_some_and(|it| !it.host().is_empty() && it.port_u16().is_some() && !text.contains('@'));
    is_address
        .then(|| text.to_owned())
        .ok_or_else(|| "expected host and port alone, such as 127.0.0.1:9742".to_owned())
}

fn print(report: &Report, as_json: bool) -> io::Result<()> {
    let shown = if as_json {
        serde_json::to_string_pretty(report).expect("a report is JSON")
    } else {
        report.to_string()
    };
    match writeln!(io::stdout(), "{shown}") {
        // Whoever reads no further has seen enough; the exit code tells the rest.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read() {
        let parse = |args: &[&str]| Cli::try_parse_from([&["ebb-conformance"], args].concat());
        let read = |args: &[&str]| options(&parse(args).unwrap()).unwrap();
        assert_eq!(read(&["h:1", "--module", "m", "--replica", "3"]).instance, Some(("m".into(), 3)));
        let only_read = read(&["[::1]:9742", "--no-restart"]);
        assert!(!only_read.restart && only_read.token.is_none() && only_read.address == "[::1]:9742");
        assert!(parse(&["h:1", "--module", "m"]).is_err());
        assert!(parse(&["h:1", "--module", "m", "--replica", "3", "--no-restart"]).is_err());
        assert!(parse(&[]).is_err());
        for address in ["", "h", "h:", ":1", "h:70000", "h:1/", "http://h:1", "me@h:1"] {
            assert!(parse(&[address]).is_err(), "{address}");
        }
    }
}
