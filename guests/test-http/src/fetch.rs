//! A request of the guest's own.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use wasip2::{
    clocks::monotonic_clock,
    http::{
        outgoing_handler,
        types::{Fields, FutureIncomingResponse, IncomingResponse, OutgoingRequest, Scheme},
    },
    io::streams::StreamError,
};

/// `GET url` → JSON of its status and body, or of the error.
pub(crate) fn get(url: &str) -> Value {
    match try_get(url) {
        Ok((status, body)) => json!({ "status": status, "body": String::from_utf8_lossy(&body) }),
        Err(error) => json!({ "error": error }),
    }
}

/// Begins `count` requests `GET url` at once → what has failed of them within a hundred milliseconds, by error.
pub(crate) fn begin_many(url: &str, count: u64) -> Value {
    let begun: Vec<_> = (0..count).map(|_| begin(url)).collect();
    monotonic_clock::subscribe_duration(100_000_000).block();
    let ended = |response: &FutureIncomingResponse| {
        // Until it is asked, the future stays as it was.
        response.subscribe().ready();
        match response.get() {
            Some(Ok(Err(error))) => Some(format!("{error:?}")),
            _ => None,
        }
    };
    let mut errors = BTreeMap::<String, u64>::new();
    for outcome in &begun {
        let error = match outcome {
            Ok(response) => ended(response),
            Err(error) => Some(error.clone()),
        };
        if let Some(error) = error {
            *errors.entry(error).or_default() += 1;
        }
    }
    json!({ "errors": errors })
}

fn try_get(url: &str) -> Result<(u16, Vec<u8>), String> {
    let response = begin(url)?;
    response.subscribe().block();
    let response = response.get().ok_or("no response")?.map_err(|()| "taken twice")?;
    let response = response.map_err(|error| format!("{error:?}"))?;
    Ok((response.status(), read(&response)?))
}

fn begin(url: &str) -> Result<FutureIncomingResponse, String> {
    let (scheme, rest) = url.split_once("://").ok_or("expected a URL")?;
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    let request = OutgoingRequest::new(Fields::new());
    let scheme = if scheme == "http" { Scheme::Http } else { Scheme::Https };
    let set = request.set_scheme(Some(&scheme));
    set.and_then(|()| request.set_authority(Some(authority)))
        .and_then(|()| request.set_path_with_query(Some(path)))
        .map_err(|()| "a malformed URL")?;
    outgoing_handler::handle(request, None).map_err(|error| format!("{error:?}"))
}

fn read(response: &IncomingResponse) -> Result<Vec<u8>, String> {
    let body = response.consume().map_err(|()| "taken twice")?;
    let stream = body.stream().map_err(|()| "taken twice")?;
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(64 * 1024) {
            Ok(piece) => bytes.extend(piece),
            Err(StreamError::Closed) => return Ok(bytes),
            Err(StreamError::LastOperationFailed(error)) => return Err(error.to_debug_string()),
        }
    }
}
