//! `ebb-evaluator advise`: what to set, from the history in a Prometheus.

use std::{fs, path::PathBuf, thread, time::SystemTime};

use clap::{Args, ValueEnum};
use ebb_service::commands::print;
use ebb_units::{Elapsed, Millis, RestartPrice, Span};

use super::{
    error::CliError,
    recorded::{Moment, range, recorded},
};
use crate::{
    advice::{SEEN_MIN, SLOTS_MAX, advise, curve},
    config::Config,
};

#[derive(Args, Debug)]
pub(super) struct AdviseArgs {
    /// Start of the time range: RFC 3339, Unix seconds, or how long ago, such as 7d. Rules learn from what was before.
    #[arg(long, value_name = "TIME", default_value = "7d")]
    from: Moment,
    /// End of the time range, in the same formats.
    #[arg(long, value_name = "TIME", default_value = "0s")]
    to: Moment,
    /// Tell what follows at this price of a restart, such as 4GiB*10m, instead of at the knee of the curve.
    #[arg(long, value_name = "BYTES*TIME")]
    restart_price: Option<RestartPrice>,
    /// Output format.
    #[arg(long, value_enum, default_value_t = AdviceFormat::Table)]
    format: AdviceFormat,
    /// Also draw the curve into this SVG file.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AdviceFormat {
    Table,
    Json,
    /// What to paste into the configs.
    Config,
}

pub(super) async fn run(config: &Config, args: AdviseArgs) -> Result<(), CliError> {
    let AdviseArgs { from, to, restart_price, format, plot } = args;
    let (from, to) = range(from, to, Millis::from(SystemTime::now()))?;
    let (recording, spacing) = recorded(config, (from.minus(config.lookback.as_elapsed()), to)).await?;
    let seen = recording.first_at().map_or(Elapsed::ZERO, |first| to.since(first));
    if seen < SEEN_MIN {
        let seen = Span::rounded(seen.as_seconds());
        eprintln!(
            "ebb-evaluator: the history has {seen}: in less than a day, no leak is told from what fills up"
        );
    }
    let recording = recording.of_fewer_slots(SLOTS_MAX);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let advice = tokio::task::block_in_place(|| {
        advise(&recording, config, (from, to), spacing, restart_price, threads)
    });
    let printed = match format {
        AdviceFormat::Table => advice.table(restart_price),
        AdviceFormat::Json => serde_json::to_string_pretty(&advice).expect("advice is JSON"),
        AdviceFormat::Config => advice.fragment(restart_price),
    };
    print((printed.trim_end().to_owned() + "\n").as_bytes())?;
    if let Some(path) = plot {
        let drawn = curve(&advice).and_then(|svg| fs::write(&path, svg).map_err(|error| error.to_string()));
        drawn.map_err(|problem| CliError::Plot { path, problem })?;
    }
    Ok(())
}
