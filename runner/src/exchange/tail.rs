//! What is left of an answer when its guest has returned. It no longer depends on the instance.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::task::unconstrained;
use wasmtime_wasi_http::{Error, WasiBody};

/// The last pieces of an answer, of which the host holds two at most.
#[derive(Debug)]
pub(crate) struct Tail {
    frames: VecDeque<Result<Frame<Bytes>, Error>>,
    is_complete: bool,
}

impl Tail {
    /// Takes what there is of `body`, whose guest writes no more.
    pub(crate) fn of(body: &mut WasiBody) -> Self {
        let mut frames = VecDeque::new();
        let mut context = Context::from_waker(Waker::noop());
        let is_complete = loop {
            // Tokio's channels say that there is nothing when their task has had its turn. What counts here is what
            // the guest has written, not whose turn it is.
            let frame = pin!(unconstrained(poll_fn(|context| Pin::new(&mut *body).poll_frame(context))));
            match frame.poll(&mut context) {
                Poll::Ready(Some(Ok(frame))) => frames.push_back(Ok(frame)),
                // Told to the client by what it says.
                Poll::Ready(Some(Err(error))) => {
                    frames.push_back(Err(error));
                    break true;
                }
                Poll::Ready(None) => break true,
                Poll::Pending => break false,
            }
        };
        Self { frames, is_complete }
    }

    /// Whether the guest has ended the answer, in good order or not.
    pub(crate) const fn is_complete(&self) -> bool {
        self.is_complete
    }
}

impl Body for Tail {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Poll::Ready(self.get_mut().frames.pop_front())
    }

    fn is_end_stream(&self) -> bool {
        self.is_complete && self.frames.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt as _, stream};
    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;

    fn body(frames: Vec<Result<Frame<Bytes>, Error>>, ends: bool) -> WasiBody {
        let frames = stream::iter(frames);
        if ends {
            StreamBody::new(frames).boxed_unsync()
        } else {
            StreamBody::new(frames.chain(stream::pending())).boxed_unsync()
        }
    }

    fn text(tail: Tail) -> String {
        let mut tail = tail;
        let mut text = String::new();
        let mut context = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(frame)) = Pin::new(&mut tail).poll_frame(&mut context) {
            match frame {
                Ok(frame) => text += std::str::from_utf8(frame.data_ref().unwrap()).unwrap(),
                Err(_) => text += "!",
            }
        }
        text
    }

    #[tokio::test]
    async fn what_a_guest_wrote_is_there_also_when_its_task_has_had_its_turn() {
        let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
        sender.try_send(Frame::data(Bytes::from("a"))).unwrap();
        drop(sender);
        let mut body = StreamBody::new(stream::poll_fn(move |context| {
            receiver.poll_recv(context).map(|frame| frame.map(Ok))
        }))
        .boxed_unsync();
        while tokio::task::coop::has_budget_remaining() {
            let spent =
                pin!(tokio::task::coop::consume_budget()).poll(&mut Context::from_waker(Waker::noop()));
            if spent.is_pending() {
                break;
            }
        }
        let tail = Tail::of(&mut body);
        assert!(tail.is_complete());
        assert_eq!(text(tail), "a");
    }

    #[test]
    fn what_a_guest_wrote_before_it_returned_is_there() {
        let data = |text: &'static str| Ok(Frame::data(text.into()));
        let tail = Tail::of(&mut body(vec![data("a"), data("b")], true));
        assert!(tail.is_complete() && !tail.is_end_stream());
        assert_eq!(text(tail), "ab");
        let tail = Tail::of(&mut body(vec![data("a")], false));
        assert!(!tail.is_complete(), "it never ended its answer");
        assert_eq!(text(tail), "a");
        let tail = Tail::of(&mut body(vec![data("a"), Err(Error::HttpProtocolError)], false));
        assert!(tail.is_complete(), "it gave the answer up");
        assert_eq!(text(tail), "a!");
        assert!(Tail::of(&mut body(Vec::new(), true)).is_end_stream());
    }
}
