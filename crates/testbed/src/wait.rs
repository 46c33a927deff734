//! Conditions with a deadline, instead of sleeping for a fixed time.

use std::{
    thread,
    time::{Duration, Instant},
};

/// Time between two looks.
const PAUSE: Duration = Duration::from_millis(25);

/// Looks again and again until `condition` gives a value; fails when it has not within `deadline`.
///
/// # Panics
/// With `what` when the deadline has passed.
pub async fn until<T>(what: &str, deadline: Duration, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let looked = tokio::time::timeout(deadline, async {
        loop {
            if let Some(value) = condition().await {
                return value;
            }
            tokio::time::sleep(PAUSE).await;
        }
    });
    looked.await.unwrap_or_else(|_| panic!("waited {deadline:?} in vain until {what}"))
}

/// As [`until`], without async and without failing.
pub(crate) fn poll_blocking<T>(deadline: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let started = Instant::now();
    loop {
        if let Some(value) = condition() {
            return Some(value);
        }
        if started.elapsed() >= deadline {
            return None;
        }
        thread::sleep(PAUSE);
    }
}
