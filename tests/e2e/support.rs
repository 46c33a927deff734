//! Configs that the tests have in common, on an accelerated clock: scrapes and ticks once a second.

pub(crate) mod rude;

use std::{fs, path::Path, time::Duration};

use ebb_testbed::{
    http::client,
    load::ask::{Ask, Expected, Pattern},
    paths,
    runner::Runner,
};

/// What a test waits for at most, where no other deadline is named: a busy machine is slow, not wrong.
pub(crate) const DEADLINE: Duration = Duration::from_secs(90);

/// Replicas of the guest that leaks about 5 MiB a second.
pub(crate) fn leaky(replicas: u32) -> String {
    format!(
        "  - name: leaky\n    path: {}\n    kind: command\n    replicas: {replicas}\n    memory_limit: 512MiB\n    \
         env: {{LEAK_BYTES_MIN: \"65536\", LEAK_BYTES_MAX: \"1048576\", LEAK_EVERY_MS_MIN: \"50\", LEAK_EVERY_MS_MAX: \"150\"}}\n",
        paths::guest("leaky").display()
    )
}

/// Replicas of the guest that needs 4 MiB and keeps them.
pub(crate) fn steady(replicas: u32) -> String {
    format!(
        "  - name: steady\n    path: {}\n    kind: command\n    replicas: {replicas}\n    memory_limit: 64MiB\n    \
         env: {{REQUIRED_BYTES: \"4194304\"}}\n",
        paths::guest("steady").display()
    )
}

/// One replica of a hand-written core module.
pub(crate) fn wat(name: &str, more: &str) -> String {
    format!(
        "  - name: {name}\n    path: {}\n    kind: command\n    replicas: 1\n{more}",
        paths::wat(name).display()
    )
}

/// Replicas of a guest of kind `http`. `more`: further lines of the module; `http`: its settings.
pub(crate) fn http(name: &str, replicas: u64, more: &str, http: &str) -> String {
    http_app(name, &paths::guest(name), replicas, more, http)
}

/// As [`http`], of the component at `path`.
pub(crate) fn http_app(name: &str, path: &Path, replicas: u64, more: &str, http: &str) -> String {
    let path = path.display();
    format!(
        "  - name: {name}\n    path: {path}\n    kind: http\n    replicas: {replicas}\n    {more}\n    http: {{{http}}}\n"
    )
}

/// Replicas of the storage service on a folder `volume` beside the config.
pub(crate) fn storage(replicas: u64, memory_limit: &str, env: &str) -> String {
    let more = format!(
        "memory_limit: {memory_limit}\n    env: {{{env}}}\n    dirs: [{{host: volume, guest: /volume}}]"
    );
    http("storage", replicas, &more, "")
}

/// Resident memory of a runner's process.
pub(crate) fn resident_bytes(runner: &Runner) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", runner.process.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

/// Asks for an answer that its guest begins and does not finish. Half a body is never taken for a whole one: the
/// client sees that the connection broke, or 502 if the guest failed before anything of it was sent.
pub(crate) async fn breaks_off(runner: &Runner, path: &str) {
    let asked = client().get(format!("http://{}{path}", runner.http_address)).send().await;
    let Ok(response) = asked else { return };
    let status = response.status().as_u16();
    assert!([200, 502].contains(&status), "{path}: {status}");
    assert!(status == 502 || response.bytes().await.is_err(), "{path}: half a body looks whole");
}

/// What clients of `test_http` and `test_http_03` ask: short requests, waits, streams in both directions; all of
/// different lengths and content.
pub(crate) fn mixture(n: u64) -> Ask {
    let pattern = Pattern { bytes: 1 + n * 7919 % 300_000, seed: n };
    let path = format!("/pattern?bytes={}&seed={}", pattern.bytes, pattern.seed);
    match n % 5 {
        0 => Ask::get("/hello", Expected::Exactly("hello".into())),
        1 => Ask::get(path, Expected::Pattern(pattern)),
        2 => Ask::get(path + "&chunked", Expected::Pattern(pattern)),
        3 => Ask::echo(pattern),
        _ => Ask::get("/sleep?ms=5", Expected::Exactly("slept".into())),
    }
}

/// A `store:` section that reads from the Prometheus at `url`.
pub(crate) fn prometheus_store(url: &str) -> String {
    format!("store: {{prometheus: {{url: \"{url}\", overlap: 5s, timeout: 5s}}}}\n")
}

/// A `store:` section that scrapes `targets`.
pub(crate) fn scrape_store(targets: &[&str]) -> String {
    format!("store: {{scrape: {{targets: [{}]}}}}\n", quoted(targets))
}

/// An evaluator's config: ticks once a second, a budget that does not slow a test down.
pub(crate) fn evaluator(store: &str, runners: &[&str], more: &str) -> String {
    format!(
        "interval: 1s\nlookback: 1h\n{store}\
         hold: {{stale_after: 6s, clock_skew: 6s, series_drop_window: 8s}}\n\
         runners: {{allow: [{}], verify_within: 20s}}\n\
         budget: {{restarts_per_minute: 600, burst: 20, cooldown: 2s, max_ineffective: 100}}\n\
         defaults: {{policy: t_interval, interval: prediction, confidence_level: 0.8, min_age: 4s, \
         min_lifetimes: 4, min_reclaim: 64KiB}}\n{more}",
        quoted(runners)
    )
}

fn quoted(addresses: &[&str]) -> String {
    addresses.iter().map(|address| format!("\"{address}\"")).collect::<Vec<_>>().join(", ")
}
