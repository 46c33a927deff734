//! `ebb-evaluator backtest`: what policies would have done with the history in a Prometheus.

mod plot;

use std::{path::PathBuf, str::FromStr, time::SystemTime};

use clap::Args;
use ebb_core::{
    decide::tick::Settings,
    replay::{Plan, report::Report},
};
use ebb_service::commands::print;
use ebb_units::{Elapsed, Millis, Span};

use super::{
    error::CliError,
    format::Format,
    recorded::{Moment, range, recorded},
};
use crate::config::{Config, RuleConfig, Rules};

#[derive(Args, Debug)]
pub(super) struct BacktestArgs {
    /// Start of the time range: RFC 3339, Unix seconds, or how long ago, such as 6h.
    #[arg(long, value_name = "TIME", default_value = "24h")]
    from: Moment,
    /// End of the time range, in the same formats.
    #[arg(long, value_name = "TIME", default_value = "0s")]
    to: Moment,
    /// A policy to try, with settings other than the built-in ones: renewal,restart_price=256MiB*10m or
    /// t_interval,confidence_level=0.95. Guard rails that are not set are the config's. Repeat it to compare several;
    /// without it, the config's own rules are tried.
    #[arg(long, value_name = "NAME[,KEY=VALUE]…")]
    policy: Vec<PolicySpec>,
    /// Output format.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Also list each restart that would have been done, with its reason.
    #[arg(long)]
    list: bool,
    /// Also draw memory over time into this SVG file.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

/// A policy on the command line.
#[derive(Clone, Debug)]
struct PolicySpec {
    text: String,
    rule: RuleConfig,
}

impl FromStr for PolicySpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let settings =
            text.split(',').enumerate().map(|(place, setting)| match (place, setting.split_once('=')) {
                (0, None) if !setting.is_empty() => Ok(format!("policy: {setting}")),
                (0, _) | (_, None) => Err(format!(
                    "expected NAME,KEY=VALUE,… such as t_interval,confidence_level=0.95, got {text}"
                )),
                (_, Some((key, value))) => Ok(format!("{key}: {value}")),
            });
        let yaml = settings.collect::<Result<Vec<_>, _>>()?.join("\n");
        Ok(Self { text: text.to_owned(), rule: RuleConfig::of_one_policy(&yaml)? })
    }
}

/// What is asked for on the command line.
fn asked_plan(
    config: &Config,
    args: &BacktestArgs,
    now: Millis,
    settings: Settings,
) -> Result<Plan, CliError> {
    /// Beyond, it is a slip (`--from 24` is 1970), and would take hours.
    const TICKS_MAX: i64 = 10_000_000;
    let (from, to) = range(args.from, args.to, now)?;
    let asked = Plan {
        from,
        to,
        interval: config.interval,
        lookback: config.lookback,
        settings,
        undoes_restarts: false,
    };
    if asked.to.since(asked.from).0 / asked.interval.as_elapsed().0 > TICKS_MAX {
        return Err(CliError::TooLong {
            from: asked.from,
            to: asked.to,
            interval: asked.interval,
            most: TICKS_MAX,
        });
    }
    Ok(asked)
}

pub(super) async fn backtest(config: &Config, args: BacktestArgs) -> Result<(), CliError> {
    let settings = |stale_after| Settings {
        budget: config.budget,
        limits: config.hold.limits(stale_after),
        stale_after,
        verify_within: config.runners.verify_within.as_elapsed(),
        dry_run: false,
    };
    let now = Millis::from(SystemTime::now());
    let asked = asked_plan(config, &args, now, settings(config.stale_after(Elapsed::ZERO)))?;
    let rules = rules(config, &args.policy)?;
    let since = asked.from.minus(asked.lookback.as_elapsed());
    let (recording, spacing) = recorded(config, (since, asked.to)).await?;
    let asked = Plan { settings: settings(config.stale_after(3 * spacing.unwrap_or_default())), ..asked };
    let plan = asked.where_recorded(&recording);
    if plan.from > asked.from {
        let span = |from: Millis| Span::whole_secs(plan.to.since(from).as_seconds());
        eprintln!(
            "ebb-evaluator: the history begins at {}: {} of the {} that were asked for",
            plan.from.rfc3339(),
            span(plan.from),
            span(asked.from)
        );
    }
    let outcomes: Vec<_> = rules
        .iter()
        .map(|(name, rules)| (name.clone(), recording.replay(&plan, |module| rules.of(module))))
        .collect();
    let report = Report::new(&recording, &plan, &outcomes);
    let mut printed = match args.format {
        Format::Table => report.table().to_string(),
        Format::Json => serde_json::to_string_pretty(&report).expect("a report is JSON"),
    };
    if args.list && matches!(args.format, Format::Table) {
        printed += &format!("\n\n{}", report.list());
    }
    print((printed + "\n").as_bytes())?;
    if let Some(path) = args.plot {
        plot::memory(&path, &outcomes).map_err(|problem| CliError::Plot { path, problem })?;
    }
    Ok(())
}

/// The rules to try, with their names.
fn rules(config: &Config, policies: &[PolicySpec]) -> Result<Vec<(String, Rules)>, CliError> {
    if policies.is_empty() {
        return Ok(vec![("(config)".to_owned(), config.rules.clone())]);
    }
    let tried = |spec: &PolicySpec| {
        let rules = config.rules.with_policy(&spec.rule);
        let refused = |refusal| CliError::Policy { policy: spec.text.clone(), problem: refusal };
        Ok((spec.text.clone(), rules.map_err(refused)?))
    };
    policies.iter().map(tried).collect()
}
