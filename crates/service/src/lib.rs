//! What every long-running service of Ebb needs, and nothing that the runner and the evaluator say
//! to each other: no metric name, no API type. That contract is the wire itself.
//!
//! | module | subject |
//! | --- | --- |
//! | [`commands`] | what both programs can be asked on the command line |
//! | [`config_file`] | a YAML file → a typed value; errors name file, line, column and field |
//! | [`descriptors`] | how many files and connections the process may have open |
//! | [`date`] | the `Date` header of answers |
//! | [`mod@file`] | a file that an operator names: a regular one, of bounded size |
//! | [`schema`] | JSON schemas of config files, for editors |
//! | [`quote`] | text from outside: clipped, without control characters |
//! | [`server`] | HTTP/1.1 on the port on which a program is operated; what clients may do there |
//! | [`probe`] | is the program that listens there ready? |
//! | [`secret`] | bearer tokens: read from a file, compared in constant time, never printed |
//! | [`exposition`] | a metrics registry → OpenMetrics 1.0 or Prometheus text 0.0.4 |
//! | [`process`] | the standard `process_*` metrics |
//! | [`logging`] | structured logs as text or JSON, which nobody waits for; errors as a chain |
//! | [`signals`] | SIGTERM and SIGINT → stop, SIGHUP → reload |

pub mod commands;
pub mod config_file;
pub mod date;
pub mod descriptors;
pub mod exposition;
pub mod file;
pub mod logging;
pub mod probe;
pub mod process;
pub mod quote;
pub mod schema;
pub mod secret;
pub mod server;
pub mod signals;
