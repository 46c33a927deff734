//! Where a module's memory grows, as its runners tell it: asked when somebody wants to know, and kept for some seconds.

mod merged;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use ebb_service::{logging::Chain, quote};
use futures::{StreamExt as _, stream};
use reqwest::{Method, StatusCode};

pub(crate) use self::merged::{Function, Profile, Requests, sum};
use crate::{
    client::{self, RunnerClient},
    config::RunnersConfig,
};

/// For so long an answer is good enough for whoever asks again.
const KEPT_FOR: Duration = Duration::from_secs(5);

/// Runners of a module that are asked. Of a larger fleet, these stand for the others.
const RUNNERS_MAX: usize = 32;

/// Runners that are asked at once.
const AT_ONCE: usize = 8;

const TIMEOUT: Duration = Duration::from_secs(2);

/// The longest answer: two binaries of 800 stacks of 64 functions with names of 160 bytes, at most.
const ANSWER_BYTES_MAX: usize = 20 * 1024 * 1024;

/// Where a module's memory grows.
#[derive(Debug, Default)]
pub(crate) struct ModuleGrowth {
    /// Of each binary, the newest one first.
    pub profiles: Vec<Profile>,
    /// Why a runner did not report: that of the first one that did not.
    pub fault: Option<String>,
    /// Runners that reported, and those that host the module.
    pub told: usize,
    pub runners: usize,
}

impl ModuleGrowth {
    /// That of instances of the binary with this digest.
    pub(crate) fn of(&self, digest: &str) -> Option<&Profile> {
        self.profiles.iter().find(|profile| profile.digest == digest)
    }
}

/// What was answered last, and when. Whoever asks meanwhile waits for that answer.
type Kept = Arc<tokio::sync::Mutex<Option<(Instant, Arc<ModuleGrowth>)>>>;

/// Asks runners where memory grows.
#[derive(Clone, Debug, Default)]
pub(crate) struct GrowthReader {
    kept: Arc<Mutex<HashMap<Arc<str>, Kept>>>,
}

impl GrowthReader {
    /// Where the memory of `module` grows, which these `runners` host, if `config` allows to speak to them.
    pub(crate) async fn growth(
        &self,
        module: &Arc<str>,
        runners: Vec<Arc<str>>,
        config: &RunnersConfig,
    ) -> Arc<ModuleGrowth> {
        let kept = self.kept(module);
        let mut kept = kept.lock().await;
        if let Some((_, growth)) = kept.as_ref().filter(|(asked, _)| asked.elapsed() < KEPT_FOR) {
            return Arc::clone(growth);
        }
        let (allowed, others): (Vec<_>, Vec<_>) =
            runners.into_iter().partition(|runner| config.allow.allows(runner));
        let runners = allowed.len() + others.len();
        // Made anew each time somebody looks: certificates are read again.
        let client = config.client().map_err(Arc::new);
        let ask = |runner: Arc<str>| {
            let client = client.clone();
            async move {
                let client = client.map_err(|error| Chain(&*error).to_string())?;
                ask(&client, &runner, module).await
            }
        };
        let asked = stream::iter(allowed.into_iter().take(RUNNERS_MAX)).map(ask).buffered(AT_ONCE);
        let (mut answers, mut fault) = (Vec::new(), None);
        for answer in asked.collect::<Vec<_>>().await {
            match answer {
                Ok(profiles) => answers.push(profiles),
                Err(message) => fault = fault.or(Some(message)),
            }
        }
        let not_allowed = others.first().map(|runner| format!("{runner} is not in runners.allow"));
        let growth = Arc::new(ModuleGrowth {
            told: answers.len(),
            runners,
            profiles: merged::merged(answers),
            fault: fault.or(not_allowed),
        });
        *kept = Some((Instant::now(), Arc::clone(&growth)));
        growth
    }

    fn kept(&self, module: &Arc<str>) -> Kept {
        let mut all = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody waits for what nobody else holds.
        all.retain(|_, kept| {
            let is_new = |kept: &Option<(Instant, _)>| {
                kept.as_ref().is_some_and(|(asked, _)| asked.elapsed() < KEPT_FOR)
            };
            Arc::strong_count(kept) > 1 || kept.try_lock().is_ok_and(|kept| is_new(&kept))
        });
        Arc::clone(all.entry(Arc::clone(module)).or_default())
    }
}

async fn ask(client: &RunnerClient, runner: &str, module: &str) -> Result<Vec<Profile>, String> {
    let path = format!("/api/v1/modules/{module}/growth");
    let url = client.url(runner, &path);
    let failed = |what: &dyn std::fmt::Display| format!("GET {url}: {what}");
    let request = client.request(Method::GET, runner, &path).map_err(|problem| failed(&problem))?;
    let response = request.timeout(TIMEOUT).send().await;
    let response = response.map_err(|error| failed(&Chain(&error.without_url())))?;
    match response.status() {
        StatusCode::OK => {
            let body =
                client::body(response, ANSWER_BYTES_MAX).await.map_err(|error| failed(&Chain(&error)))?;
            merged::parse(&body).map_err(|error| failed(&quote::clipped(&error.to_string())))
        }
        // A host of another kind, or an older one.
        StatusCode::NOT_FOUND => Err(failed(&"this host has no growth profile")),
        status => {
            Err(failed(&format!("{status}: {}", quote::clipped_bytes(&client::refusal(response).await))))
        }
    }
}
