//! The experiment on real instances → tables and plots.

use std::{fmt::Write as _, path::Path};

use super::{
    files::ReportError,
    plot::{self, Lines},
};
use crate::live::{Live, Tried, measure::Measured};

const MIB: f64 = 1_048_576.0;

/// Writes the plots into `folder` and returns the text.
pub(super) fn write(live: &Live, folder: &Path) -> Result<String, ReportError> {
    let mut text = String::from(
        "\n## On real instances\n\n`ebb-lab live`, then `ebb-lab report`. Real runners, a real Prometheus, the evaluator; \
         scrapes and ticks once a second.\n",
    );
    for tried in &live.protocols {
        protocol(tried, folder, &mut text)?;
    }
    Ok(text)
}

fn protocol(tried: &Tried, folder: &Path, text: &mut String) -> Result<(), ReportError> {
    let Tried { name, about, seconds, arms, simulated_cost_bytes } = tried;
    let _ = writeln!(text, "\n### `{name}`\n\n{about}. {seconds} s each arm.\n");
    let without = arms.iter().find(|arm| arm.name == "none").map(|arm| arm.mean_bytes);
    let _ = writeln!(
        text,
        "| arm | mean memory (MiB) | against none | most (MiB) | restarts | reclaimed (MiB) | mean restart (ms) | host, most (MiB) | runners' CPU | evaluator's CPU |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    );
    for arm in arms {
        let restarts: Vec<String> =
            arm.restarts.iter().map(|(module, count)| format!("{module} {count}")).collect();
        let _ = writeln!(
            text,
            "| `{}`: {} | {:.1} | {} | {:.1} | {} | {:.1} | {} | {:.1} | {:.3} | {:.3} |",
            arm.name,
            arm.about,
            arm.mean_bytes / MIB,
            without
                .map_or_else(String::new, |none| format!("{:+.2} %", 100.0 * (arm.mean_bytes / none - 1.0))),
            arm.peak_bytes / MIB,
            restarts.join(", "),
            arm.reclaimed_bytes / MIB,
            arm.restart_seconds.map_or_else(|| "–".to_owned(), |seconds| format!("{:.2}", 1000.0 * seconds)),
            arm.host_peak_bytes / MIB,
            arm.runners_cpu,
            arm.evaluator_cpu
        );
    }
    ranking(arms, simulated_cost_bytes, text);
    accuracy(arms, text);
    plots(tried, folder, text)
}

fn ranking(arms: &[Measured], simulated: &[(String, f64)], text: &mut String) {
    let order = |mut costs: Vec<(&str, f64)>| {
        costs.sort_by(|a, b| a.1.total_cmp(&b.1));
        costs.iter().map(|(name, cost)| format!("`{name}` {:.0}", cost / MIB)).collect::<Vec<_>>().join(" < ")
    };
    let live = order(arms.iter().map(|arm| (arm.name.as_str(), arm.cost_bytes)).collect());
    let model = order(simulated.iter().map(|(name, cost)| (name.as_str(), *cost)).collect());
    let _ = writeln!(
        text,
        "\nMean memory plus the price of the restarts (MiB), so that one figure ranks the arms. Live: {live}. Simulated with \
         the same guests: {model}."
    );
}

fn accuracy(arms: &[Measured], text: &mut String) {
    if arms.iter().all(|arm| arm.accuracy.is_none()) {
        return;
    }
    text.push_str(
        "\nAccuracy of the estimate on the instances whose needs are known: the mean of the medians and the upper end of the \
         confidence interval against the mean need, the upper end of the prediction interval against the largest need.\n\n\
         | arm | lifetimes | mean need (MiB) | mean | confidence interval, 0.95 | largest need (MiB) | prediction interval, 0.95 |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for arm in arms {
        if let Some(accuracy) = &arm.accuracy {
            let percent = |error: f64| format!("{:+.2} %", 100.0 * error);
            let _ = writeln!(
                text,
                "| `{}` | {} | {:.1} | {} | {} | {:.1} | {} |",
                arm.name,
                accuracy.lifetimes,
                accuracy.mean_need_bytes / MIB,
                percent(accuracy.mean),
                percent(accuracy.confidence),
                accuracy.largest_need_bytes / MIB,
                percent(accuracy.prediction)
            );
        }
    }
}

fn plots(tried: &Tried, folder: &Path, text: &mut String) -> Result<(), ReportError> {
    let name = &tried.name;
    let in_mib = |series: &[(f64, f64)]| -> Vec<(f64, f64)> {
        series.iter().map(|(at, bytes)| (*at, bytes / MIB)).collect()
    };
    let memory: Lines<'_> = tried.arms.iter().map(|arm| (arm.name.as_str(), in_mib(&arm.memory))).collect();
    let file = format!("live-{name}-memory.svg");
    plot::lines(&folder.join(&file), "Linear memory of all instances", ("seconds", "MiB"), memory)?;
    let _ = writeln!(text, "\n![Memory over time]({file})");
    for arm in tried.arms.iter().filter(|arm| !arm.threshold.is_empty()) {
        let file = format!("live-{name}-threshold-{}.svg", arm.name);
        let lines = vec![
            ("one leaking replica", in_mib(&arm.one_replica)),
            ("its threshold", in_mib(&arm.threshold)),
        ];
        let title = format!("{}: a leaking replica and its threshold", arm.name);
        plot::lines(&folder.join(&file), &title, ("seconds", "MiB"), lines)?;
        let _ = writeln!(text, "\n![Threshold against memory, {}]({file})", arm.name);
    }
    let uptimes: Lines<'_> =
        tried.arms.iter().map(|arm| (arm.name.as_str(), distribution(&arm.uptimes))).collect();
    let file = format!("live-{name}-uptime.svg");
    let axes = ("uptime (seconds)", "share of instances with at most this uptime");
    plot::lines(&folder.join(&file), "Uptime of the leaking instances", axes, uptimes)?;
    let _ = writeln!(text, "\n![Distribution of uptimes]({file})");
    Ok(())
}

/// The empirical distribution function.
fn distribution(values: &[f64]) -> Vec<(f64, f64)> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let count = values.len() as f64;
    values.into_iter().zip(1..).map(|(value, n)| (value, f64::from(n) / count)).collect()
}
