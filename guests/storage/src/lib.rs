//! An online storage service on a preopened folder, the Volume.
//!
//! | module | subject |
//! | --- | --- |
//! | `path` | pure: a request's path → a path in the Volume, or a refusal |
//! | `range` | pure: which bytes are asked for |
//! | `date` | pure: times as HTTP and JSON write them |
//! | `media_type` | pure: a file's name → its type |
//! | `volume` | files and folders |
//! | `service` | requests → answers |
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /path` | JSON: `name`, `size`, `type`, `modified`; of a folder, its `entries` |
//! | `GET /path?download` | the content; one range, `If-None-Match`, `If-Range` |
//! | `PUT /path`, `POST /path` | 201 created or 200 replaced, JSON as above; folders above it are made |
//! | `POST /path/` | 201: a folder |
//! | `DELETE /path` | 204; a folder must be empty |
//! | `GET /` from a browser | a page that does all of this |
//!
//! A body is read into memory as a whole before it is written, so that memory swells with the largest file;
//! `STREAM=1` writes it as it comes. Either way it is written under a temporary name and renamed, so that
//! nobody ever sees half a file.

// Nothing is left of it for the host but the tests of what is pure.
#![cfg(any(test, target_arch = "wasm32"))]

mod date;
mod media_type;
mod path;
mod range;
#[cfg(target_arch = "wasm32")]
mod service;
#[cfg(target_arch = "wasm32")]
mod volume;
