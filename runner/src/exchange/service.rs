//! What a module that serves has besides its instances: requests on their way to them, counters, settings.

use std::sync::Arc;

use arc_swap::ArcSwap;
use ebb_units::ModuleName;

use super::{queue::Queue, traffic::Traffic};
use crate::config::ServeConfig;

/// A module that serves, as requests see it.
pub(crate) struct Service {
    /// Whose requests these are.
    pub module: ModuleName,
    /// Requests on their way to its instances.
    pub queue: Arc<Queue>,
    /// What its clients were answered.
    pub traffic: Traffic,
    settings: ArcSwap<ServeConfig>,
}

impl Service {
    /// One without requests.
    pub(crate) fn new(module: ModuleName, settings: ServeConfig) -> Self {
        let service = Self {
            module,
            queue: Arc::default(),
            traffic: Traffic::default(),
            settings: ArcSwap::from_pointee(settings),
        };
        service.queue.set_limit(service.settings().queue_limit);
        service
    }

    /// How the next request is served.
    pub(crate) fn settings(&self) -> Arc<ServeConfig> {
        self.settings.load_full()
    }

    /// Serves the next request as `settings` say.
    pub(crate) fn configure(&self, settings: ServeConfig) {
        self.queue.set_limit(settings.queue_limit);
        self.settings.store(Arc::new(settings));
    }
}
