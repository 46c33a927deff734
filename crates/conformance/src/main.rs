//! Checks a host of WebAssembly instances against `docs/host-protocol.md`, and says what became of each sentence.

use std::{fs, path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use ebb_conformance::{Options, Report, Token, check};

/// Checks a host of WebAssembly instances against Ebb's host protocol, docs/host-protocol.md.
///
/// One of its instances is restarted three times. Exit code: 0 if nothing failed, 1 if something did, 2 if the host could not
/// be checked.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// Where the host serves metrics and takes orders: HOST:PORT.
    address: String,
    /// File with the token that orders must carry.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Module of the instance to restart. Without it, the instance that holds most memory.
    #[arg(long, requires = "replica")]
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
    print(&report, cli.json);
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

#[expect(clippy::print_stdout)]
fn print(report: &Report, as_json: bool) {
    if as_json {
        println!("{}", serde_json::to_string_pretty(report).expect("a report is JSON"));
    } else {
        println!("{report}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read() {
        let parse = |args: &[&str]| Cli::try_parse_from([&["ebb-conformance"], args].concat());
        let options = options(&parse(&["h:1", "--module", "m", "--replica", "3", "--no-restart"]).unwrap());
        let options = options.unwrap();
        assert_eq!(options.instance, Some(("m".into(), 3)));
        assert!(!options.restart && options.token.is_none() && options.address == "h:1");
        assert!(parse(&["h:1", "--module", "m"]).is_err());
        assert!(parse(&[]).is_err());
    }
}
