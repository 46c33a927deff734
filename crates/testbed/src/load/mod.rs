//! HTTP load that looks at every byte of every answer, and hides no failure.
//!
//! | module | subject |
//! | --- | --- |
//! | [`ask`] | what is asked, and what the answer must be |
//! | `exchange` | one request on one connection |
//! | [`storage`] | clients of the storage service |

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::task::JoinHandle;

pub mod ask;
mod exchange;
pub mod storage;

use ask::Ask;
pub use exchange::Connection;

/// Failures that are kept as text. More are counted.
const FAILURES_KEPT: usize = 10;

/// How long to wait before connecting again after a failure.
const RECONNECT_PAUSE: Duration = Duration::from_millis(20);

/// Clients at work, one request after another on a connection each. They leave with this value.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    asked: AtomicU64,
    served: AtomicU64,
    failed: AtomicU64,
    failures: Mutex<Vec<String>>,
}

/// What became of a load.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Requests that were answered as they should be.
    pub served: u64,
    /// Requests that were not.
    pub failed: u64,
    /// The first failures, with request and time.
    pub failures: Vec<String>,
}

impl Load {
    /// Starts `clients` connections to `address`. Each asks `plan(n)` again and again, where `n` counts the
    /// requests of all.
    pub fn start(address: &str, clients: usize, plan: impl Fn(u64) -> Ask + Send + Sync + 'static) -> Self {
        Self::start_at_leisure(address, clients, Duration::ZERO, plan)
    }

    /// As [`Load::start`]; each client rests for `pause` after each answer.
    pub fn start_at_leisure(
        address: &str,
        clients: usize,
        pause: Duration,
        plan: impl Fn(u64) -> Ask + Send + Sync + 'static,
    ) -> Self {
        let shared: Arc<Shared> = Arc::default();
        let plan = Arc::new(plan);
        let begun = Instant::now();
        let clients = (0..clients).map(|_| {
            let (shared, plan, address) = (Arc::clone(&shared), Arc::clone(&plan), address.to_owned());
            tokio::spawn(async move { client(&shared, &*plan, &address, pause, begun).await })
        });
        let clients = clients.collect();
        Self { shared, clients }
    }

    /// Requests answered as they should be, so far.
    #[must_use]
    pub fn served(&self) -> u64 {
        self.shared.served.load(Ordering::Relaxed)
    }

    /// Requests that were not, so far.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.shared.failed.load(Ordering::Relaxed)
    }

    /// The first failures so far, with request and time.
    #[must_use]
    pub fn failures(&self) -> Vec<String> {
        self.shared.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets every client finish its request.
    ///
    /// # Panics
    /// When a client did.
    pub async fn stop(mut self) -> Summary {
        self.shared.stop.store(true, Ordering::Relaxed);
        for client in std::mem::take(&mut self.clients) {
            client.await.expect("a client does not panic");
        }
        Summary {
            served: self.shared.served.load(Ordering::Relaxed),
            failed: self.shared.failed.load(Ordering::Relaxed),
            failures: self.shared.failures.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for client in &self.clients {
            client.abort();
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} served, {} failed", self.served, self.failed)?;
        self.failures.iter().try_for_each(|failure| write!(f, "\n  {failure}"))
    }
}

impl Shared {
    fn note(&self, failure: String) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() < FAILURES_KEPT {
            failures.push(failure);
        }
    }
}

async fn client(
    shared: &Shared,
    plan: &(dyn Fn(u64) -> Ask + Sync),
    address: &str,
    pause: Duration,
    begun: Instant,
) {
    let mut connection = None;
    while !shared.stop.load(Ordering::Relaxed) {
        let ask = plan(shared.asked.fetch_add(1, Ordering::Relaxed));
        match ask_once(&mut connection, address, &ask).await {
            Ok(()) => {
                shared.served.fetch_add(1, Ordering::Relaxed);
                if !pause.is_zero() {
                    tokio::time::sleep(pause).await;
                }
            }
            Err(failure) => {
                shared.note(format!(
                    "{:.3} s: {} {}: {failure}",
                    begun.elapsed().as_secs_f64(),
                    ask.method,
                    ask.path
                ));
                connection = None;
                tokio::time::sleep(RECONNECT_PAUSE).await;
            }
        }
    }
}

async fn ask_once(connection: &mut Option<Connection>, address: &str, ask: &Ask) -> Result<(), String> {
    let open = match connection {
        Some(open) => open,
        None => connection.insert(Connection::open(address).await?),
    };
    open.ask(ask).await
}
