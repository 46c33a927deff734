//! What every HTTP client of the evaluator has in common.

use crate::units::Millis;

/// The time at the server when it answered (RFC 9110, section 6.6.1), to the second.
#[must_use]
pub fn server_time(headers: &reqwest::header::HeaderMap) -> Option<Millis> {
    let date = headers.get(reqwest::header::DATE)?.to_str().ok()?;
    httpdate::parse_http_date(date).ok().map(Millis::from)
}

/// A client that names itself and follows no redirects: credentials go where the config says, nowhere else.
pub fn client_builder() -> reqwest::ClientBuilder {
    // The provider of cryptography is the process' choice; whoever embeds us may have made it already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .user_agent(concat!("ebb-evaluator/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .tcp_nodelay(true)
}
