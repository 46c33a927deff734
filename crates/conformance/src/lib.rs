//! Checks a host of WebAssembly instances, in any language, against `docs/host-protocol.md`: each sentence that can be seen
//! from outside. For hosts' own test suites; `ebb-conformance` is the same as a program.
//!
//! The host must run, with at least one instance that may be restarted. [`check`] restarts it three times.
//!
//! ```no_run
//! # async fn test(address: &str) {
//! let options = ebb_conformance::Options::new(address);
//! ebb_conformance::check(&options).await.assert_conforms();
//! # }
//! ```
//!
//! | file | subject |
//! | --- | --- |
//! | `sentences` | the sentences: number, MUST or SHOULD, what it says |
//! | `report` | what became of each |
//! | `client` | requests |
//! | `exposition`, `readings` | PURE: text → samples → what each slot holds |
//! | `metrics` | what one scrape tells |
//! | `watch` | what many scrapes tell |
//! | `attempts` | an order, and what is seen before and after it |
//! | `orders`, `access`, `listing` | what is ordered and asked, and how the answers are judged |

mod access;
mod attempts;
mod client;
mod exposition;
mod listing;
mod metrics;
mod orders;
mod readings;
mod report;
mod sentences;
mod token;
mod watch;

use std::time::Duration;

use self::{
    attempts::Attempts,
    client::Client,
    readings::{Readings, Slot},
    report::Findings,
    watch::Watch,
};
pub use self::{
    report::{Line, Mismatch, Outcome, Report, Verdict},
    sentences::{Level, Number, SENTENCES, Sentence},
    token::{MalformedToken, Token},
};

/// How long is watched where nothing is restarted.
const WATCH: Duration = Duration::from_secs(1);

/// The evaluator's default for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// What to check, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// `host:port`, where metrics are served and orders are taken.
    pub address: String,
    /// The token that orders must carry. None: orders need none.
    pub token: Option<Token>,
    /// Module and replica of the instance that is restarted. None: the one that holds most memory, the first of several.
    pub instance: Option<(String, u32)>,
    /// Whether orders are given. Without, only what is read is judged.
    pub restart: bool,
    /// How long to wait before a restart for the instance to have grown, so that its memory is seen to begin anew. 0 for one
    /// that does not grow.
    pub growth_within: Duration,
}

impl Options {
    /// Without a token; restarts the largest instance, and waits 5 s for growth.
    #[must_use]
    pub fn new(address: &str) -> Self {
        Self {
            address: address.to_owned(),
            token: None,
            instance: None,
            restart: true,
            growth_within: Duration::from_secs(5),
        }
    }
}

/// Checks the host at `options.address`.
///
/// Needs a Tokio runtime with I/O and time. What cannot be checked, because nothing answers or no instance is live, is in
/// [`Report::problem`].
pub async fn check(options: &Options) -> Report {
    let client = Client::new(&options.address, options.token.as_ref());
    let mut findings = Findings::default();
    let problem = run(options, &client, &mut findings).await.err();
    judge_answers(&client, &mut findings);
    let otherwise = if options.restart { "it did not come to that" } else { "no orders are given" };
    findings.report(&options.address, problem, otherwise)
}

/// # Errors
/// Why the host could not be checked to the end.
async fn run(options: &Options, client: &Client, findings: &mut Findings) -> Result<(), String> {
    let Some(readings) = metrics::check(client, findings).await? else { return Ok(()) };
    listing::check(client, findings).await?;
    if !options.restart {
        let watch = Watch::start(client);
        tokio::time::sleep(WATCH).await;
        watch.judge(findings).await;
        return Ok(());
    }
    let slot = choose(options, &readings)?;
    let watch = Watch::start(client);
    let mut attempts = Attempts { client, slot: &slot, findings };
    let ordered = give_orders(&mut attempts, options.growth_within).await;
    watch.judge(findings).await;
    ordered
}

fn choose(options: &Options, readings: &Readings) -> Result<Slot, String> {
    let Some((module, replica)) = &options.instance else {
        return readings.largest().cloned().ok_or_else(|| "/metrics shows no live instance".to_owned());
    };
    let slot = Slot { module: module.clone(), replica: *replica };
    if !readings.slots.contains_key(&slot) {
        return Err(format!("/metrics shows no live instance of {slot}"));
    }
    Ok(slot)
}

async fn give_orders(attempts: &mut Attempts<'_>, growth_within: Duration) -> Result<(), String> {
    orders::check_refusals(attempts).await?;
    access::check(attempts).await?;
    orders::check_restarts(attempts, growth_within).await
}

/// Judges what must hold for every answer.
fn judge_answers(client: &Client, findings: &mut Findings) {
    let noted = client.noted();
    if noted.answers == 0 {
        return;
    }
    let none = || "none".to_owned();
    let is_known = noted.version.is_none();
    findings.expect(Number::H1, is_known, "HTTP/1.0 or 1.1", noted.version.unwrap_or_else(none));
    let is_direct = noted.redirect.is_none();
    findings.expect(Number::H2, is_direct, "no redirect", noted.redirect.unwrap_or_else(none));
    let has_date = noted.without_date.is_none();
    findings.expect(Number::H3, has_date, "Date in each answer", noted.without_date.unwrap_or_else(none));
    if let Some(failed) = noted.failed_scrape {
        findings.judge(Number::E1, Err(Mismatch::new("an exposition in each answer", failed)));
    }
    if let Some((slowest, what)) = noted.slowest {
        let seen = format!("{:.1} s for {what}", slowest.as_secs_f64());
        findings.expect(Number::H4, slowest <= ANSWER_WITHIN, "at most 5 s", seen);
    }
}
