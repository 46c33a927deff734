//! The experiment on real instances → tables and plots.

use std::{fmt::Write as _, path::Path};

use super::{
    files::{ReportError, write as write_file},
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
    items(live, &mut text);
    for tried in &live.protocols {
        protocol(tried, folder, "live", &mut text)?;
    }
    Ok(text)
}

/// Writes `long.md` of what was found at another clock, with its plots, into `folder`.
///
/// # Errors
/// [`ReportError`].
pub(crate) fn write_long(live: &Live, folder: &Path) -> Result<(), ReportError> {
    let clock = live.protocols.first().map_or(1, |tried| tried.clock);
    let mut text = format!(
        "# On real instances, at the paper's clock\n\n`ebb-lab live --clock {clock}`, then `ebb-lab report`; nothing in it is written by \
         hand. As [on an accelerated clock](README.md#on-real-instances), but scrapes and ticks come every {clock} s, and the instances \
         grow as much slower.\n"
    );
    items(live, &mut text);
    for tried in &live.protocols {
        protocol(tried, folder, "long", &mut text)?;
    }
    write_file(&folder.join("long.md"), &text)
}

/// What the paper measures, of its method and of the shipped default.
fn items(live: &Live, text: &mut String) {
    let arm = |protocol: &str, name: &str| {
        let tried = live.protocols.iter().find(|tried| tried.name == protocol)?;
        tried.arms.iter().find(|arm| arm.name == name)
    };
    text.push_str(
        "\n### What the paper measures\n\nOf protocol `mixed`, all arms of which are below.\n\n\
         | item | `none` | `t_confidence`, the paper's method | `renewal`, the default |\n| --- | --- | --- | --- |\n",
    );
    let mut row = |item: &str, figure: &dyn Fn(&Measured) -> String| {
        let cell = |name| arm("mixed", name).map_or_else(|| "–".to_owned(), figure);
        let cells = ["none", "t_confidence", "renewal"].map(cell);
        let _ = writeln!(text, "| {item} | {} |", cells.join(" | "));
    };
    let seconds = live.protocols.first().map_or(0, |tried| tried.seconds) as f64;
    row("estimate: mean of the medians to the mean of the known needs", &|arm| {
        arm.accuracy.map_or_else(|| "–".to_owned(), |accuracy| format!("{:+.2} %", 100.0 * accuracy.mean))
    });
    row("memory of all instances, mean (MiB)", &|arm| format!("{:.1}", arm.mean_bytes / MIB));
    row("memory of the host, its most above the beginning (MiB)", &|arm| {
        format!("{:.1}", arm.host_peak_bytes / MIB)
    });
    row("processors of the runners and of the evaluator (cores)", &|arm| {
        format!("{:.3} + {:.3}", arm.runners_cpu, arm.evaluator_cpu)
    });
    row("a restart, start of the new instance included (ms)", &|arm| {
        arm.restart_seconds.map_or_else(|| "–".to_owned(), |seconds| format!("{:.2}", 1000.0 * seconds))
    });
    row("uptime of the leaking instances, median (s)", &|arm| format!("{:.0}", middle(&arm.uptimes)));
    row("restarts a minute, of each module", &|arm| {
        let rates = arm.restarts.iter();
        let rate = |(module, count): (&String, &f64)| format!("{module} {:.1}", 60.0 * count / seconds);
        rates.map(rate).collect::<Vec<_>>().join(", ")
    });
    if let Some((none, frozen)) = arm("fifty", "none").zip(arm("fifty", "t_confidence_frozen")) {
        let _ = writeln!(
            text,
            "\nThe later report: mean memory of 50 equal instances 6541 → 6115 KiB, −6.52 %. Here, protocol `fifty`: {:.0} → {:.0} KiB an \
             instance, {:+.2} %.",
            none.mean_bytes / 50.0 / 1024.0,
            frozen.mean_bytes / 50.0 / 1024.0,
            100.0 * (frozen.mean_bytes / none.mean_bytes - 1.0)
        );
    }
}

fn middle(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn protocol(tried: &Tried, folder: &Path, prefix: &str, text: &mut String) -> Result<(), ReportError> {
    let Tried { name, about, seconds, arms, simulated_cost_bytes, .. } = tried;
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
    plots(tried, folder, prefix, text)
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

fn plots(tried: &Tried, folder: &Path, prefix: &str, text: &mut String) -> Result<(), ReportError> {
    let name = &tried.name;
    let in_mib = |series: &[(f64, f64)]| -> Vec<(f64, f64)> {
        series.iter().map(|(at, bytes)| (*at, bytes / MIB)).collect()
    };
    let memory: Lines<'_> = tried.arms.iter().map(|arm| (arm.name.as_str(), in_mib(&arm.memory))).collect();
    let file = format!("{prefix}-{name}-memory.svg");
    plot::lines(&folder.join(&file), "Linear memory of all instances", ("seconds", "MiB"), memory)?;
    let _ = writeln!(text, "\n![Memory over time]({file})");
    for arm in tried.arms.iter().filter(|arm| !arm.threshold.is_empty()) {
        let file = format!("{prefix}-{name}-threshold-{}.svg", arm.name);
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
    let file = format!("{prefix}-{name}-uptime.svg");
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
