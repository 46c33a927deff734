//! What every long-running service of Ebb needs, and nothing that the runner and the evaluator say
//! to each other: no metric name, no API type. That contract is the wire itself. Without the feature `program`, only what
//! libraries that answer HTTP need.
//!
//! | module | subject |
//! | --- | --- |
//! | [`auth`] | who may give orders |
//! | [`problem`] | answers that are no success |
//! | [`commands`] | what both programs can be asked on the command line |
//! | [`config_file`] | a YAML file → a typed value; errors name file, line, column and field |
//! | [`descriptors`] | how many files and connections the process may have open |
//! | [`date`] | the `Date` header of answers |
//! | [`mod@file`] | a file that an operator names: a regular one, of bounded size |
//! | [`schema`] | JSON schemas of config files, for editors |
//! | [`quote`] | text from outside: clipped, without control characters |
//! | [`server`] | HTTP/1.1 on the port on which a program is operated; what clients may do there |
//! | `probe` | is the program that listens there ready? |
//! | [`secret`] | bearer tokens: read from a file, compared in constant time, never printed |
//! | [`exposition`] | a metrics registry → OpenMetrics 1.0 or Prometheus text 0.0.4 |
//! | [`process`] | the standard `process_*` metrics |
//! | [`logging`] | structured logs as text or JSON, which nobody waits for; errors as a chain |
//! | [`web_config`] | TLS and users of a listener, as Prometheus' own programs have them |
//! | [`signals`] | SIGTERM and SIGINT → stop, SIGHUP → reload |

pub mod auth;
#[cfg(feature = "program")]
pub mod commands;
#[cfg(feature = "program")]
pub mod config_file;
pub mod date;
#[cfg(feature = "program")]
pub mod descriptors;
pub mod exposition;
pub mod file;
#[cfg(feature = "program")]
pub mod logging;
#[cfg(feature = "program")]
mod probe;
pub mod problem;
#[cfg(feature = "program")]
pub mod process;
pub mod quote;
#[cfg(feature = "program")]
pub mod schema;
pub mod secret;
#[cfg(feature = "program")]
pub mod server;
#[cfg(feature = "program")]
pub mod signals;
#[cfg(feature = "program")]
pub mod web_config;
