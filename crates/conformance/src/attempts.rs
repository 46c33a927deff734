//! Orders to one slot, and what is seen before and after each.

use std::time::{Duration, Instant};

use reqwest::header;

use crate::{
    client::{Answer, Client, Order},
    readings::{Reading, Slot},
    report::{Findings, Mismatch},
    sentences::Number,
};

/// How long a slot, or all of them, may show no instance: what crashed is started again after a while.
pub(crate) const LIVE_WITHIN: Duration = Duration::from_secs(20);

/// Between two looks at what shows no instance.
pub(crate) const PAUSE: Duration = Duration::from_millis(50);

/// Gives orders to one slot of one host.
pub(crate) struct Attempts<'a> {
    pub(crate) client: &'a Client,
    pub(crate) slot: &'a Slot,
    pub(crate) findings: &'a mut Findings,
}

impl Attempts<'_> {
    /// What lives in the slot now.
    ///
    /// # Errors
    /// When nothing does for long, or a scrape fails.
    pub(crate) async fn live(&self) -> Result<Reading, String> {
        let deadline = Instant::now() + LIVE_WITHIN;
        loop {
            let (_, mut readings) = self.client.scrape().await.map_err(|error| error.to_string())?;
            if let Some(reading) = readings.slots.remove(self.slot) {
                return Ok(reading);
            }
            if Instant::now() > deadline {
                return Err(format!("/metrics shows no instance of {} any more", self.slot));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Gives an order, made for the live generation, that must get one of `statuses` and must do nothing.
    ///
    /// # Errors
    /// As [`Attempts::live`], and when there is no answer.
    pub(crate) async fn refused(
        &mut self,
        numbers: &[(Number, &[u16])],
        order: impl FnOnce(&Slot, u64) -> Order,
    ) -> Result<u16, String> {
        let before = self.live().await?;
        let order = order(self.slot, before.generation);
        let answer = self.client.order(&order).await?;
        for (number, statuses) in numbers {
            self.findings.judge(*number, status_is(&answer, statuses));
        }
        if !answer.is_done() {
            self.note_refusal(&answer);
            let after = self.live().await?;
            let expected = format!("generation {} after {}", before.generation, answer.status);
            let is_same = after.generation == before.generation;
            self.findings.expect(Number::R15, is_same, &expected, after.generation.to_string());
        }
        Ok(answer.status)
    }

    /// Judges what every refusal must have.
    pub(crate) fn note_refusal(&mut self, answer: &Answer) {
        let has_error = answer.json().is_some_and(|body| body["error"].is_string());
        self.findings.expect(Number::R23, has_error, r#"{"error": "…"}"#, answer.shown());
        if answer.status == 429 {
            let after = answer.header(header::RETRY_AFTER).unwrap_or("none");
            self.findings.expect(Number::R21, after.parse::<u32>().is_ok(), "seconds", after);
        }
    }
}

/// Whether an order was answered with one of `statuses`.
pub(crate) fn status_is(answer: &Answer, statuses: &[u16]) -> Result<(), Mismatch> {
    if statuses.contains(&answer.status) {
        return Ok(());
    }
    let expected: Vec<_> = statuses.iter().map(u16::to_string).collect();
    Err(Mismatch::new(expected.join(" or "), answer.shown()))
}
