//! A request's body, as the guest reads it: limited, and watched for progress.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use wasmtime_wasi_http::{Error, WasiBody};

use crate::exchange::{call::Call, progress::ProgressTimeout};

struct Upload {
    incoming: Incoming,
    call: Arc<Call>,
    /// Bytes that may still come.
    left: u64,
    limit: u64,
}

/// The body of `call`'s request, of which the guest gets at most `limit` bytes.
pub(super) fn watch(incoming: Incoming, call: Arc<Call>, limit: u64) -> WasiBody {
    Upload { incoming, call, left: limit, limit }.boxed_unsync()
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        // Registered before looking, so that a cut in between wakes.
        this.call.upload_waker().register(context.waker());
        if this.call.upload_is_cut() {
            return Poll::Ready(Some(Err(Error::ConnectionReadTimeout)));
        }
        let Poll::Ready(frame) = Pin::new(&mut this.incoming).poll_frame(context) else {
            this.call.progress(ProgressTimeout::upload_awaited);
            return Poll::Pending;
        };
        let bytes = match &frame {
            Some(Ok(frame)) => frame.data_ref().map_or(0, |data| data.len() as u64),
            Some(Err(_)) | None => 0,
        };
        this.call.progress(|progress, now| progress.uploaded(bytes, now));
        let Some(left) = this.left.checked_sub(bytes) else {
            this.call.set_too_large();
            return Poll::Ready(Some(Err(Error::HttpRequestBodySize(Some(this.limit)))));
        };
        this.left = left;
        Poll::Ready(frame.map(|frame| frame.map_err(Error::from)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
