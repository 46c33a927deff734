//! Outgoing HTTP of a guest: only to the hosts that the config names.

use std::sync::Arc;

use http::uri::Scheme;
use http_body_util::combinators::UnsyncBoxBody;
use tokio::sync::Semaphore;
use tracing::debug;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use crate::{config::Destination, exchange::routes};

/// Bytes of a body that the host takes from a guest at once. Twice as much is kept per response.
const BODY_CHUNK_BYTES: usize = 64 * 1024;

/// What the host does for a guest's HTTP.
#[derive(Debug)]
pub(super) struct Outgoing {
    allowed: Arc<[Destination]>,
    /// One per connection that may be open.
    connections: Arc<Semaphore>,
}

/// A response, and the work of its connection.
type Sent = (http::Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>);

impl Outgoing {
    /// Requests to what is `allowed`, at most `connections` at once.
    pub(super) fn new(allowed: Arc<[Destination]>, connections: u32) -> Self {
        Self { allowed, connections: Arc::new(Semaphore::new(connections as usize)) }
    }

    fn allows(&self, uri: &http::Uri) -> bool {
        let Some(authority) = uri.authority() else { return false };
        let port = authority.port_u16();
        let port = port.unwrap_or(if uri.scheme() == Some(&Scheme::HTTP) { 80 } else { 443 });
        let host = routes::host(authority.as_str()).to_ascii_lowercase();
        // `user@host` reaches `host`.
        let host = host.rsplit_once('@').map_or(host.as_str(), |(_, host)| host);
        self.allowed.iter().any(|destination| destination.matches(host, port))
    }
}

impl WasiHttpHooks for Outgoing {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _processed: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Sent, Error>> + Send> {
        if !self.allows(request.uri()) {
            debug!(uri = %request.uri(), "outgoing request denied: http.outgoing does not list its host");
            return Box::new(async { Err(Error::HttpRequestDenied) });
        }
        // A peer that does not answer keeps its connection for as long as the guest waits.
        let Ok(permit) = Arc::clone(&self.connections).try_acquire_owned() else {
            debug!(uri = %request.uri(), "outgoing request denied: a quarter of max_handles requests are under way already");
            return Box::new(async { Err(Error::ConnectionLimitReached) });
        };
        Box::new(async move {
            let (response, connection) = wasmtime_wasi_http::default_send_request(request, options).await?;
            let connection: Box<dyn Future<Output = _> + Send> = Box::new(async move {
                let outcome = connection.await;
                drop(permit);
                outcome
            });
            Ok((response.map(UnsyncBoxBody::new), connection))
        })
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_CHUNK_BYTES
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_CHUNK_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_configured_hosts_may_be_asked() {
        let allowed = ["api.example.org", "127.0.0.1:8080", "*.internal:80"];
        let allowed = allowed.iter().map(|text| text.parse().unwrap()).collect();
        let outgoing = Outgoing::new(allowed, 1);
        let allows = |uri: &'static str| outgoing.allows(&http::Uri::from_static(uri));
        assert!(allows("https://api.example.org/x") && allows("http://API.example.org:81/"));
        assert!(allows("http://127.0.0.1:8080/") && !allows("http://127.0.0.1/"));
        assert!(allows("http://a.internal/") && !allows("https://a.internal/"));
        assert!(!allows("http://internal/") && !allows("http://example.org/") && !allows("/path"));
        assert!(!allows("http://api.example.org@evil.example/") && allows("http://u@api.example.org/"));
    }
}
