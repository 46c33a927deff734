//! Requests to the programs.

use std::{sync::OnceLock, time::Duration};

use serde_json::Value;

/// The one client of this process.
///
/// # Panics
/// When no client can be made, which needs nothing from outside.
pub fn client() -> &'static reqwest::Client {
    static CLIENT: OnceLock<reqwest::Client> = OnceLock::new();
    CLIENT.get_or_init(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder =
            reqwest::Client::builder().no_proxy().tcp_nodelay(true).timeout(Duration::from_secs(30));
        builder.build().expect("a client without certificates of its own can be built")
    })
}

/// The answer's text, if its status is 200.
pub async fn text(url: &str) -> Option<String> {
    let response = client().get(url).send().await.ok()?;
    if response.status() != reqwest::StatusCode::OK {
        return None;
    }
    response.text().await.ok()
}

/// The answer as JSON, if its status is 200.
pub async fn json(url: &str) -> Option<Value> {
    serde_json::from_str(&text(url).await?).ok()
}

/// Whether the program at `address` answers `path` with success: by TLS if there is a `client` for that.
pub(crate) async fn answers(secure: Option<&reqwest::Client>, address: &str, path: &str) -> Option<()> {
    let request = match secure {
        Some(client) => client.get(format!("https://{address}{path}")),
        None => client().get(format!("http://{address}{path}")),
    };
    request.send().await.ok()?.status().is_success().then_some(())
}

/// Status and body of a request.
///
/// # Panics
/// When there is no answer.
pub async fn answer(request: reqwest::RequestBuilder) -> (u16, Value) {
    let response = request.send().await.expect("the program answers");
    let status = response.status().as_u16();
    let body = response.bytes().await.expect("the answer has a body");
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}
