//! What every HTTP client of the evaluator begins with.

/// A client that names itself and follows no redirects: credentials go where the config says, nowhere else.
pub(crate) fn client_builder() -> reqwest::ClientBuilder {
    // The provider of cryptography is the process' choice; whoever embeds us may have made it already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .user_agent(concat!("ebb-evaluator/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .tcp_nodelay(true)
}
