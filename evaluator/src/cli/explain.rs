//! `explain`: what the running evaluator knows of an instance.

use std::fmt::{self, Write as _};

use ebb_service::{
    commands::{self, CommandError, Listens, print},
    quote,
};
use ebb_units::{InstanceName, Millis, Span};
use serde::Deserialize;

use super::error::CliError;

/// What `explain` shows of an instance, and of the newest decisions on it.
#[derive(Deserialize)]
struct Explained {
    instance: String,
    replica: u32,
    module: String,
    digest: String,
    generation: u64,
    verdict: String,
    explanation: String,
}

#[derive(Deserialize)]
struct Decided {
    at: i64,
    explanation: String,
    action: String,
    outcome: Option<String>,
    effect: Option<String>,
    /// Of what was postponed or held: by what.
    limit: Option<String>,
    hold: Option<String>,
    /// Of an order that failed: more than `outcome` tells.
    message: Option<String>,
}

impl Decided {
    /// What was done, and what came of it: `ordered, restarted, memory_fell`, `postponed, cooling_down`.
    fn done(&self) -> String {
        let details = [&self.outcome, &self.limit, &self.hold, &self.effect, &self.message];
        let words = std::iter::once(&self.action).chain(details.into_iter().flatten());
        words.map(String::as_str).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { replica, generation, .. } = self;
        let [module, instance, digest] = [&self.module, &self.instance, &self.digest].map(|text| plain(text));
        let [verdict, explanation] = [&self.verdict, &self.explanation].map(|text| plain(text));
        write!(
            f,
            "{module}/{replica} on {instance} (digest {digest}, generation {generation}): {verdict}: {explanation}"
        )
    }
}

impl fmt::Display for Decided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at, done) = (Millis(self.at).rfc3339(), plain(&self.done()));
        write!(f, "{at} {done}: {}", plain(&self.explanation))
    }
}

/// Of `/api/v1/status`, what keeps all restarts back.
#[derive(Deserialize)]
struct Status {
    hold: Option<Held>,
}

/// Of `/api/v1/modules`, what keeps the restarts of one back, and what was found of its growth.
#[derive(Deserialize)]
struct Module {
    module: String,
    digest: String,
    hold: Option<Held>,
    findings: Vec<String>,
}

#[derive(Deserialize)]
struct Held {
    reason: String,
    message: String,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", plain(&self.reason), plain(&self.message))
    }
}

/// Longest wait for one of the running evaluator's answers.
const ASK_WITHIN: Span = Span::secs(30);

/// Text of the running evaluator for a terminal.
fn plain(text: &str) -> String {
    /// More than an explanation has.
    const CHARS_MAX: usize = 4000;
    quote::clipped_to(CHARS_MAX, text)
}

pub(super) fn explain(
    evaluator: Option<&str>,
    listens: &dyn Fn() -> Result<Listens, CommandError>,
    name: &InstanceName,
) -> Result<(), CliError> {
    let unreadable = |source| CliError::Answer { source };
    let get = |path: &str| commands::get(evaluator, listens, &format!("/api/v1/{path}"), ASK_WITHIN);
    let of_instance = format!("module={}&replica={}", name.module, name.replica);
    let instances = get(&format!("instances?{of_instance}"))?;
    let decisions = get(&format!("decisions?{of_instance}"))?;
    let status = get("status")?;
    let mut told = String::new();
    let Status { hold } = serde_json::from_slice(&status).map_err(unreadable)?;
    if let Some(hold) = hold {
        let _ = writeln!(told, "All restarts are held: {hold}");
    }
    let modules = get("modules")?;
    let modules: Vec<Module> = serde_json::from_slice(&modules).map_err(unreadable)?;
    let own: Vec<_> = modules.into_iter().filter(|found| found.module == name.module).collect();
    if let Some(hold) = own.iter().find_map(|module| module.hold.as_ref()) {
        let _ = writeln!(told, "Restarts of {} are held: {hold}", name.module);
    }
    let instances: Vec<Explained> = serde_json::from_slice(&instances).map_err(unreadable)?;
    let decisions: Vec<Decided> = serde_json::from_slice(&decisions).map_err(unreadable)?;
    for found in &instances {
        let _ = writeln!(told, "{found}");
    }
    for decision in &decisions {
        let _ = writeln!(told, "  {decision}");
    }
    for Module { module, digest, findings, .. } in &own {
        for finding in findings {
            let _ = writeln!(told, "{} (digest {}): {}", plain(module), plain(digest), plain(finding));
        }
    }
    print(told.as_bytes())?;
    if instances.is_empty() && decisions.is_empty() {
        let (module, replica) = (name.module.clone(), name.replica);
        return Err(CliError::UnknownInstance { module, replica });
    }
    Ok(())
}
