//! What kind of program a module is, with what only that kind has while it runs.

use std::sync::Arc;

use ebb_units::ModuleName;

use crate::{config::KindConfig, exchange::service::Service};

/// A module's kind.
#[derive(Clone)]
pub(crate) enum Kind {
    /// It runs on by itself.
    Command,
    /// It serves HTTP.
    Http(Arc<Service>),
}

impl Kind {
    /// The kind of the module `name` as `config` asks for it. If it has been of that kind `before`, its queue and counters
    /// go on; they learn of new settings by [`Kind::configure`].
    pub(crate) fn new(name: &ModuleName, config: &KindConfig, before: Option<&Self>) -> Self {
        match (config, before) {
            (KindConfig::Command, _) => Self::Command,
            (KindConfig::Http(_), Some(Self::Http(service))) => Self::Http(Arc::clone(service)),
            (KindConfig::Http(serve), _) => Self::Http(Arc::new(Service::new(name.clone(), serve.clone()))),
        }
    }

    /// Takes over the settings of `config`.
    pub(crate) fn configure(&self, config: &KindConfig) {
        if let (Self::Http(service), KindConfig::Http(serve)) = (self, config) {
            service.configure(serve.clone());
        }
    }

    /// Whether both are the same kind.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }

    /// The kind as the config file writes it.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Http(_) => "http",
        }
    }

    /// What serves, if this does.
    pub(crate) const fn service(&self) -> Option<&Arc<Service>> {
        match self {
            Self::Command => None,
            Self::Http(service) => Some(service),
        }
    }
}
