//! End to end: what Ebb promises, seen on the real runner, evaluator and Prometheus.

// The helpers of tests are tests, too.
#![expect(clippy::unwrap_used)]

mod advice;
mod alerts;
mod bounds;
mod browser;
mod clocks;
mod dashboards;
mod docs;
mod exposition;
mod faults;
mod gauge;
mod growth;
mod guests;
mod hosts;
mod http_abuse;
mod http_browser;
mod http_concurrent;
mod http_foreign;
mod http_head;
mod http_restarts;
mod http_storage;
mod identity;
mod late;
mod leaks;
mod limits;
mod operations;
mod orders;
mod outages;
mod page;
mod policies;
mod programs;
mod restarts;
mod schemas;
mod series;
mod support;
mod tls;
