//! A request on its way to an instance.

use std::sync::Arc;

use tokio::sync::oneshot;
use wasmtime_wasi_http::WasiBody;

use super::state::Exchange;

/// A request as an instance takes it.
pub(crate) type Request = http::Request<WasiBody>;

/// The head of a response; its body is kept in the [`Exchange`].
pub(crate) type ResponseHead = http::Response<()>;

/// A request on its way to an instance.
#[derive(Debug)]
pub(crate) struct Job {
    /// The request.
    pub request: Request,
    /// The exchange it belongs to.
    pub exchange: Arc<Exchange>,
    /// Where the response's head goes. Dropped without one, the exchange has failed.
    pub reply: oneshot::Sender<ResponseHead>,
}
