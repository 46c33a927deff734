//! Who may give orders: whoever has the token, if there is one, and no web page.

use axum::http::{HeaderMap, StatusCode, header};

use crate::{problem::Problem, quote, secret::BearerToken};

/// Whether a request with `headers` may order something. `token`: what is needed; `key`: where it is configured.
///
/// Any web page can have a browser on this host send a `POST`, without a token where none is asked for.
/// Browsers name the page's origin in all of them; nobody else has reason to.
///
/// # Errors
/// The answer: 403 for web pages and a wrong token, 401 for none.
pub fn check(headers: &HeaderMap, token: Option<&BearerToken>, key: &str) -> Result<(), Problem> {
    if let Some(origin) = headers.get(header::ORIGIN) {
        let origin = quote::clipped_bytes(origin.as_bytes());
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            format!("Origin: {origin}: requests from web pages are rejected; expected no Origin header"),
        ));
    }
    let Some(token) = token else { return Ok(()) };
    let expected = format!("expected `Authorization: Bearer TOKEN` with the token of {key}");
    match headers.get(header::AUTHORIZATION) {
        None => Err(Problem::new(StatusCode::UNAUTHORIZED, format!("no token: {expected}"))
            .with(header::WWW_AUTHENTICATE, "Bearer")),
        Some(value) if value.to_str().is_ok_and(|value| token.is_carried_by(value)) => Ok(()),
        Some(_) => Err(Problem::new(StatusCode::FORBIDDEN, format!("wrong token: {expected}"))),
    }
}
