//! Restarts: what is done, what is refused, and what is seen of it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use reqwest::Method;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::{
    attempts::{Attempts, status_is},
    client::{Answer, Order},
    readings::{Reading, Slot},
    report::Mismatch,
    sentences::Number,
};

/// A module's name that is well formed and, one may assume, nobody's.
pub(crate) const UNKNOWN_MODULE: &str = "ebb-conformance-unknown";

/// How long a slot may be busy with a restart: what was replaced may have to finish its requests.
const BUSY_WITHIN: Duration = Duration::from_secs(45);

/// Orders that are given at the same moment.
const AT_ONCE: usize = 8;

/// The longest report of a restart that an evaluator reads.
const REPORT_BYTES_MAX: usize = 64 * 1024;

/// How far the clocks of a host may be apart, and a start from its answer.
const CLOCKS_APART: Duration = Duration::from_secs(60);

/// An order that was carried out, and what was seen around it.
#[derive(Clone, Debug)]
struct Restart {
    before: Reading,
    after: Reading,
    /// Whether the old instance was seen to grow.
    had_grown: bool,
}

/// Gives orders that must be refused.
///
/// # Errors
/// When the slot shows nothing any more, or the host asks for another token.
pub(crate) async fn check_refusals(attempts: &mut Attempts<'_>) -> Result<(), String> {
    let stale = |slot: &_, generation: u64| Order::new(slot, generation - 1, "operator");
    let status = attempts.refused(&[], stale).await?;
    if matches!(status, 401 | 403) {
        let problem = if attempts.client.has_token() { "refuses the token" } else { "asks for a token" };
        return Err(format!("the host {problem}"));
    }
    attempts.refused(&[(Number::R11, &[412])], stale).await?;
    let largest = |slot: &_, _| Order::new(slot, u64::MAX, "operator");
    attempts.refused(&[(Number::R11, &[412]), (Number::R12, &[412])], largest).await?;
    attempts
        .refused(&[(Number::R4, &[412])], |slot, generation| Order { body: None, ..stale(slot, generation) })
        .await?;
    for malformed in [
        |generation| format!("{generation}"),
        |generation| format!("\"{generation}x\""),
        |_| "\"\"".to_owned(),
    ] {
        let order = |slot: &_, generation: u64| Order {
            if_match: malformed(generation),
            ..Order::new(slot, generation, "operator")
        };
        attempts.refused(&[(Number::R16, &[400])], order).await?;
    }
    for body in ["{", r#"{"reason":"no-such-reason"}"#] {
        let order = |slot: &_, generation| Order {
            body: Some(body.to_owned()),
            ..Order::new(slot, generation, "operator")
        };
        attempts.refused(&[(Number::R17, &[400])], order).await?;
    }
    for unknown in [
        |slot: &Slot| Slot { module: UNKNOWN_MODULE.to_owned(), ..slot.clone() },
        |slot: &Slot| Slot { replica: u32::MAX, ..slot.clone() },
    ] {
        let order = |slot: &_, generation| Order::new(&unknown(slot), generation, "operator");
        attempts.refused(&[(Number::R18, &[404])], order).await?;
    }
    only_post_restarts(attempts).await
}

async fn only_post_restarts(attempts: &mut Attempts<'_>) -> Result<(), String> {
    let before = attempts.live().await?;
    let order = Order::new(attempts.slot, before.generation, "operator");
    let order = Order { method: Method::GET, body: None, ..order };
    // Whatever it says, it must not be done.
    let _ = attempts.client.order(&order).await;
    let after = attempts.live().await?;
    let is_same = after.generation == before.generation;
    let expected = format!("generation {} after GET", before.generation);
    attempts.findings.expect(Number::R24, is_same, &expected, after.generation.to_string());
    Ok(())
}

/// Restarts the slot's instance three times. `growth_within`: how long an instance may take to grow.
///
/// # Errors
/// When the slot shows nothing any more.
pub(crate) async fn check_restarts(
    attempts: &mut Attempts<'_>,
    growth_within: Duration,
) -> Result<(), String> {
    let mut restarts = Vec::new();
    for reason in ["threshold", "pressure"] {
        let Some(restart) = restart(attempts, reason, restarts.last(), growth_within).await? else {
            return Ok(());
        };
        // It came twice.
        let twice = restart.before.generation;
        attempts.refused(&[(Number::R11, &[412])], |slot, _| Order::new(slot, twice, reason)).await?;
        restarts.push(restart);
    }
    if let Some(restart) = restart_at_once(attempts, restarts.last(), growth_within).await? {
        restarts.push(restart);
    }
    match begins_anew(&restarts) {
        Some(judged) => attempts.findings.judge(Number::G11, judged),
        None => attempts.findings.not_applicable(Number::G11, "the instance did not grow meanwhile"),
    }
    for (number, why) in
        [(Number::R21, "no order was answered 429"), (Number::R22, "no order was answered 503")]
    {
        attempts.findings.not_applicable(number, why);
    }
    Ok(())
}

/// One order, given until the slot is free for it. None if it was not carried out.
async fn restart(
    attempts: &mut Attempts<'_>,
    reason: &str,
    last: Option<&Restart>,
    growth_within: Duration,
) -> Result<Option<Restart>, String> {
    let mut before = wait_for_growth(attempts, last, growth_within).await?;
    let deadline = Instant::now() + BUSY_WITHIN;
    let answer = loop {
        let order = Order::new(attempts.slot, before.generation, reason);
        let answer = attempts.client.order(&order).await?;
        if !matches!(answer.status, 409 | 429) || Instant::now() > deadline {
            break answer;
        }
        attempts.note_refusal(&answer);
        tokio::time::sleep(Duration::from_millis(200)).await;
        before = attempts.live().await?;
    };
    if answer.status == 503 {
        return Err(cannot_restart(attempts, &before, &answer).await?);
    }
    let judged = status_is(&answer, &[200, 202]);
    let is_done = judged.is_ok();
    attempts.findings.judge(Number::R3, judged.clone());
    attempts.findings.judge(Number::R5, judged);
    if !is_done {
        attempts.note_refusal(&answer);
        if answer.status == 412 {
            let after = attempts.live().await?;
            let is_told_wrong = after.generation == before.generation;
            let expected = "the generation that orders must name";
            attempts.findings.expect(Number::G3, !is_told_wrong, expected, before.generation.to_string());
        }
        return Ok(None);
    }
    done(attempts, before, &answer, last).await.map(Some)
}

/// Judges the `answer` of a host that cannot start another instance. Why nothing more can be checked.
async fn cannot_restart(
    attempts: &mut Attempts<'_>,
    before: &Reading,
    answer: &Answer,
) -> Result<String, String> {
    attempts.note_refusal(answer);
    let after = attempts.live().await?;
    let is_same = after.generation == before.generation;
    attempts.findings.expect(Number::R22, is_same, &before.to_string(), after.to_string());
    Ok(format!("the host cannot restart {}: {}", attempts.slot, answer.shown()))
}

/// Several orders at the same moment. None if none was carried out.
async fn restart_at_once(
    attempts: &mut Attempts<'_>,
    last: Option<&Restart>,
    growth_within: Duration,
) -> Result<Option<Restart>, String> {
    let mut before = wait_for_growth(attempts, last, growth_within).await?;
    let deadline = Instant::now() + BUSY_WITHIN;
    let answers = loop {
        let mut orders = JoinSet::new();
        for _ in 0..AT_ONCE {
            let client = attempts.client.clone();
            let order = Order::new(attempts.slot, before.generation, "operator");
            orders.spawn(async move { client.order(&order).await });
        }
        let answers = orders.join_all().await.into_iter().collect::<Result<Vec<_>, _>>()?;
        let is_busy = |answer: &Answer| matches!(answer.status, 409 | 429);
        if !answers.iter().all(is_busy) || Instant::now() > deadline {
            break answers;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        before = attempts.live().await?;
    };
    if let Some(answer) = answers.iter().find(|answer| answer.status == 503) {
        return Err(cannot_restart(attempts, &before, answer).await?);
    }
    let (done, others): (Vec<_>, Vec<_>) = answers.into_iter().partition(Answer::is_done);
    let expected = format!("1 of {AT_ONCE} done");
    attempts.findings.expect(Number::R13, done.len() == 1, &expected, done.len().to_string());
    for answer in &others {
        attempts.findings.judge(Number::R14, status_is(answer, &[409, 412, 429]));
        attempts.note_refusal(answer);
    }
    let Some(answer) = done.into_iter().next() else { return Ok(None) };
    attempts.findings.judge(Number::R3, Ok(()));
    self::done(attempts, before, &answer, last).await.map(Some)
}

/// What lives in the slot once it has grown since the last restart, or as it is after `growth_within`.
async fn wait_for_growth(
    attempts: &Attempts<'_>,
    last: Option<&Restart>,
    growth_within: Duration,
) -> Result<Reading, String> {
    let deadline = Instant::now() + growth_within;
    loop {
        let live = attempts.live().await?;
        let has_grown = last.is_none_or(|last| live.memory_bytes > last.after.memory_bytes);
        if has_grown || Instant::now() > deadline {
            return Ok(live);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Judges an order that was carried out.
async fn done(
    attempts: &mut Attempts<'_>,
    before: Reading,
    answer: &Answer,
    last: Option<&Restart>,
) -> Result<Restart, String> {
    let scraped = attempts.client.scrape().await.map_err(|error| error.to_string())?.1;
    let at_once = scraped.slots.get(attempts.slot);
    let new_generation = judge_report(attempts, answer);
    let seen = at_once.map_or("no instance".to_owned(), ToString::to_string);
    if let Some(new) = new_generation {
        let is_served = at_once.is_some_and(|at_once| at_once.generation == new);
        attempts.findings.expect(Number::R10, is_served, &format!("generation {new}"), seen);
        let expected = format!("more than {}", before.generation);
        attempts.findings.expect(Number::G4, new > before.generation, &expected, new.to_string());
        attempts.findings.judge(Number::G2, is_time_of_start(new, before.generation, answer.time()));
    }
    let after = match at_once {
        Some(reading) => reading.clone(),
        None => attempts.live().await?,
    };
    let expected = format!("more than {}", before.generation);
    let is_newer = after.generation > before.generation;
    attempts.findings.expect(Number::G4, is_newer, &expected, after.generation.to_string());
    if let Some(reclaimed) = answer.json().and_then(|body| body["reclaimed_bytes"].as_u64()) {
        // The old one held at least what was read before, the new one began with at most what was read after.
        let least = before.memory_bytes.saturating_sub(after.memory_bytes);
        let expected = format!("at least {least}, or 0");
        let is_right = reclaimed == 0 || reclaimed >= least;
        attempts.findings.expect(Number::R9, is_right, &expected, reclaimed.to_string());
    }
    let had_grown = last.is_some_and(|last| {
        last.after.generation == before.generation && before.memory_bytes > last.after.memory_bytes
    });
    Ok(Restart { before, after, had_grown })
}

/// Judges the answer's body. The new generation, if it tells one.
fn judge_report(attempts: &mut Attempts<'_>, answer: &Answer) -> Option<u64> {
    let body = answer.json().unwrap_or(Value::Null);
    let length = answer.body.len();
    let findings = &mut *attempts.findings;
    findings.expect(Number::R8, length <= REPORT_BYTES_MAX, "at most 64 KiB", format!("{length} bytes"));
    let new_generation = body["new_generation"].as_u64();
    let is_report = new_generation.is_some()
        && body["reclaimed_bytes"].is_u64()
        && body["duration_seconds"].as_f64().is_some_and(|seconds| seconds >= 0.0);
    let expected = "two whole numbers and a number that is not negative";
    findings.expect(Number::R6, is_report, expected, answer.shown());
    let names_slot = body["module"] == *attempts.slot.module && body["replica"] == attempts.slot.replica;
    let expected = format!("those of {} and a whole number", attempts.slot);
    let is_whole = names_slot && body["old_generation"].is_u64();
    findings.expect(Number::R7, is_whole, &expected, answer.shown());
    new_generation
}

/// Whether a generation is that of a start just before `now`, by the host's clock, or the next one after `last`.
fn is_time_of_start(generation: u64, last: u64, now: SystemTime) -> Result<(), Mismatch> {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let apart = now.abs_diff(Duration::from_millis(generation));
    // Where the clock was set back, generations count on.
    let counts_on = u128::from(generation) > now.as_millis() && generation == last + 1;
    if apart <= CLOCKS_APART || counts_on {
        return Ok(());
    }
    let expected = format!("within a minute of {}", now.as_millis());
    Err(Mismatch::new(expected, generation.to_string()))
}

/// Whether the memory of new instances was counted anew. None if no old one had grown, so that nothing shows it.
fn begins_anew(restarts: &[Restart]) -> Option<Result<(), Mismatch>> {
    if restarts.iter().any(|restart| restart.after.memory_bytes < restart.before.memory_bytes) {
        return Some(Ok(()));
    }
    // What grows fast may have as much again by the time of the scrape; hardly each time.
    let grown = restarts.iter().rev().find(|restart| restart.had_grown)?;
    let expected = format!("less than {} bytes after a restart", grown.before.memory_bytes);
    Some(Err(Mismatch::new(expected, grown.after.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(generation: u64, memory_bytes: u64) -> Reading {
        Reading { digest: "d".into(), generation, memory_bytes }
    }

    fn restart(before: u64, after: u64, had_grown: bool) -> Restart {
        Restart { before: reading(1, before), after: reading(2, after), had_grown }
    }

    #[test]
    fn memory_that_is_counted_on_is_told_from_memory_that_does_not_grow() {
        assert_eq!(begins_anew(&[restart(10, 10, false)]), None);
        assert_eq!(begins_anew(&[restart(20, 20, false), restart(30, 10, true)]), Some(Ok(())));
        let judged = begins_anew(&[restart(20, 20, false), restart(30, 30, true)]).unwrap().unwrap_err();
        assert_eq!(
            judged.to_string(),
            "expected less than 30 bytes after a restart, got generation 2 with 30 bytes"
        );
    }

    #[test]
    fn a_generation_is_a_time_near_to_the_hosts() {
        let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let check = |generation, last, is: bool| {
            assert_eq!(is_time_of_start(generation, last, now).is_ok(), is, "{generation} after {last}");
        };
        check(1_700_000_000_123, 1_699_999_000_000, true);
        check(1_699_999_950_000, 1_699_999_000_000, true);
        // Seconds, and a counter.
        check(1_700_000_000, 1_699_999_000, false);
        check(2, 1, false);
        // An hour ahead, once because the clock was set back.
        check(1_700_003_600_001, 1_700_003_600_000, true);
        check(1_700_003_600_001, 1_699_999_000_000, false);
    }
}
