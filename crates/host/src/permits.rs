//! How many restarts of a module may be under way at once.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// Counts restarts under way against a limit that a reload may change.
///
/// It begins with a limit of 1.
#[derive(Debug, Default)]
pub struct Permits {
    count: Mutex<Count>,
    freed: Notify,
}

#[derive(Debug)]
struct Count {
    used: u32,
    limit: u32,
}

impl Default for Count {
    fn default() -> Self {
        Self { used: 0, limit: 1 }
    }
}

/// One restart under way, for as long as this value lives.
#[derive(Debug)]
pub struct Permit(Arc<Permits>);

impl Permits {
    /// Sets the limit. Permits already given stay valid.
    pub fn set_limit(&self, limit: u32) {
        self.count().limit = limit;
        self.freed.notify_one();
    }

    /// The limit.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.count().limit
    }

    /// A permit, unless as many as allowed are in use.
    #[must_use]
    pub(crate) fn try_acquire(self: &Arc<Self>) -> Option<Permit> {
        let mut count = self.count();
        (count.used < count.limit).then(|| {
            count.used += 1;
            Permit(Arc::clone(self))
        })
    }

    /// A permit, as soon as there is one.
    pub async fn acquire(self: &Arc<Self>) -> Permit {
        loop {
            let freed = self.freed.notified();
            if let Some(permit) = self.try_acquire() {
                return permit;
            }
            freed.await;
        }
    }

    fn count(&self) -> std::sync::MutexGuard<'_, Count> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.count().used -= 1;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_permits_are_given_than_allowed() {
        let permits = Arc::new(Permits::default());
        permits.set_limit(2);
        let (first, second) = (permits.try_acquire(), permits.try_acquire());
        assert!(first.is_some() && second.is_some() && permits.try_acquire().is_none());
        drop(first);
        assert!(permits.try_acquire().is_some());
    }

    #[tokio::test]
    async fn whoever_waits_gets_the_permit_that_is_given_back() {
        let permits = Arc::new(Permits::default());
        permits.set_limit(1);
        let held = permits.acquire().await;
        let waiting = tokio::spawn({
            let permits = Arc::clone(&permits);
            async move { permits.acquire().await }
        });
        tokio::task::yield_now().await;
        drop(held);
        waiting.await.unwrap();
    }

    #[test]
    fn a_lowered_limit_holds_for_new_permits() {
        let permits = Arc::new(Permits::default());
        permits.set_limit(2);
        let _first = permits.try_acquire();
        permits.set_limit(1);
        assert!(permits.try_acquire().is_none());
    }
}
