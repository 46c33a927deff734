//! A request's body, as the guest reads it: limited, and watched for progress.

use std::{
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use wasmtime_wasi_http::{Error, WasiBody};

use crate::exchange::state::Exchange;

struct Upload<B> {
    incoming: B,
    /// Weak, because the exchange may hold this very body: a guest may answer with it. Once the exchange is over,
    /// a guest may read on, and nobody is waited for.
    exchange: Weak<Exchange>,
    /// Bytes that may still come.
    left: u64,
    limit: u64,
}

/// The body of `exchange`'s request, of which the guest gets at most `limit` bytes.
pub(super) fn watch<B>(incoming: B, exchange: &Arc<Exchange>, limit: u64) -> WasiBody
where
    B: Body<Data = Bytes, Error: Into<Error>> + Send + Unpin + 'static,
{
    Upload { incoming, exchange: Arc::downgrade(exchange), left: limit, limit }.boxed_unsync()
}

impl<B: Body<Data = Bytes, Error: Into<Error>> + Unpin> Body for Upload<B> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let exchange = this.exchange.upgrade();
        let exchange = exchange.as_deref();
        // Registered before looking, so that a cut in between wakes.
        if exchange.is_some_and(|exchange| exchange.poll_upload_cut(context).is_ready()) {
            return Poll::Ready(Some(Err(Error::ConnectionReadTimeout)));
        }
        let Poll::Ready(frame) = Pin::new(&mut this.incoming).poll_frame(context) else {
            exchange.inspect(|exchange| exchange.upload_awaited());
            return Poll::Pending;
        };
        let bytes = match &frame {
            Some(Ok(frame)) => frame.data_ref().map_or(0, |data| data.len() as u64),
            Some(Err(_)) | None => 0,
        };
        exchange.inspect(|exchange| exchange.uploaded(bytes));
        let Some(left) = this.left.checked_sub(bytes) else {
            exchange.inspect(|exchange| exchange.set_too_large());
            return Poll::Ready(Some(Err(Error::HttpRequestBodySize(Some(this.limit)))));
        };
        this.left = left;
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, time::Duration};

    use ebb_units::{Generation, Replica};
    use futures::FutureExt as _;
    use http_body_util::Full;

    use super::*;
    use crate::exchange::state::{Failure, Server};

    const SERVER: Server = Server { replica: Replica(0), generation: Generation(1) };

    fn begun() -> Arc<Exchange> {
        let exchange = Arc::new(Exchange::new(Duration::from_secs(3600), None));
        assert!(exchange.begin(SERVER));
        exchange
    }

    fn watch(text: &'static str, exchange: &Arc<Exchange>, limit: u64) -> WasiBody {
        let incoming = Full::from(text).map_err(|never: Infallible| -> Error { match never {} });
        super::watch(incoming, exchange, limit)
    }

    fn read(body: WasiBody) -> Result<Bytes, Error> {
        Ok(body.collect().now_or_never().unwrap()?.to_bytes())
    }

    #[test]
    fn a_body_is_as_long_as_the_limit_and_no_longer() {
        let exchange = begun();
        assert_eq!(read(watch("four", &exchange, 4)).unwrap(), "four");
        assert_eq!(exchange.failure(), None);
        assert!(matches!(
            read(watch("more than four", &exchange, 4)),
            Err(Error::HttpRequestBodySize(Some(4)))
        ));
        assert_eq!(exchange.failure(), Some(Failure::TooLarge));
    }

    #[test]
    fn a_guest_may_read_on_when_the_exchange_is_over() {
        let body = watch("text", &begun(), 4);
        assert_eq!(read(body).unwrap(), "text");
        assert!(read(watch("text", &begun(), 3)).is_err(), "and no more than it may");
    }

    #[test]
    fn an_exchange_that_was_answered_with_its_own_body_is_freed() {
        let exchange = begun();
        exchange.set_body(watch("text", &exchange, 4));
        let mut context = Context::from_waker(std::task::Waker::noop());
        assert!(matches!(exchange.poll_body(&mut context), Poll::Ready(Some(Ok(_)))));
        exchange.client_done(true);
        let freed = Arc::downgrade(&exchange);
        drop(exchange);
        assert!(freed.upgrade().is_none());
    }
}
