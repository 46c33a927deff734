//! A request of the guest's own.

use serde_json::{Value, json};
use wasip2::{
    http::{
        outgoing_handler,
        types::{Fields, IncomingResponse, OutgoingRequest, Scheme},
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

fn try_get(url: &str) -> Result<(u16, Vec<u8>), String> {
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
    let response = outgoing_handler::handle(request, None).map_err(|error| format!("{error:?}"))?;
    response.subscribe().block();
    let response = response.get().ok_or("no response")?.map_err(|()| "taken twice")?;
    let response = response.map_err(|error| format!("{error:?}"))?;
    Ok((response.status(), read(&response)?))
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
