//! The state machine of an exchange, in all orders in which the steps of its sides can come.
//!
//! Its source is compiled here once more, with loom's locks in place of the standard library's: loom runs a model
//! again for each order of what its threads do at them, and takes it for an error if none can go on.

use std::{
    future::poll_fn,
    sync::{Arc, Weak},
    task::Poll,
    time::Duration,
};

use ebb_units::{Generation, Replica};
use futures::{FutureExt as _, stream};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, StreamBody};
use loom::{
    future::block_on,
    model,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};
use tokio::sync::Notify;
use wasmtime_wasi_http::WasiBody;

#[path = "../src/exchange/progress.rs"]
mod progress;
#[path = "../src/exchange/state.rs"]
mod state;
#[path = "../src/exchange/tail.rs"]
mod tail;

mod sync {
    pub(super) use loom::sync::{Mutex, MutexGuard};
}

use state::{Exchange, Failure, Fault, Server};

/// Longer than any model takes.
const NEVER: Duration = Duration::from_secs(3600);

const fn server(generation: u64) -> Server {
    Server { replica: Replica(0), generation: Generation(generation) }
}

fn queued() -> Arc<Exchange> {
    Arc::new(Exchange::new(NEVER, None))
}

/// An exchange that an instance has begun, and whose response has a head and the body `body`.
fn answered(body: WasiBody) -> Arc<Exchange> {
    let exchange = queued();
    assert!(exchange.begin(server(1)));
    exchange.set_body(body);
    exchange
}

/// Of a module that gives nobody any time: whoever is waited for is too slow at once.
fn out_of_time(close: Option<Arc<Notify>>) -> Arc<Exchange> {
    let exchange = Arc::new(Exchange::new(Duration::ZERO, close));
    assert!(exchange.begin(server(1)));
    exchange
}

/// `piece`, and once the store that it comes from has `ended`, an end that looks like a good one.
fn body(piece: &'static str, ended: &Arc<AtomicBool>) -> WasiBody {
    let (mut piece, ended) = (Some(piece), Arc::clone(ended));
    let frames = stream::poll_fn(move |_| match piece.take() {
        Some(piece) => Poll::Ready(Some(Ok(Frame::data(piece.into())))),
        None if ended.load(Ordering::Acquire) => Poll::Ready(None),
        None => Poll::Pending,
    });
    StreamBody::new(frames).boxed_unsync()
}

/// What the client got, and whether it takes that for all of the body.
async fn read(exchange: &Exchange) -> (String, bool) {
    let mut text = String::new();
    loop {
        match poll_fn(|context| exchange.poll_body(context)).await {
            Some(Ok(frame)) => text += &String::from_utf8_lossy(&frame.into_data().unwrap_or_default()),
            Some(Err(_)) => return (text, false),
            None => return (text, true),
        }
    }
}

#[test]
fn no_request_is_begun_twice() {
    model(|| {
        let exchange = queued();
        let other = {
            let exchange = Arc::clone(&exchange);
            thread::spawn(move || exchange.begin(server(2)))
        };
        let begun = exchange.begin(server(1));
        let begun_by_other = other.join().unwrap();
        assert!(begun != begun_by_other);
        assert_eq!(exchange.server(), Some(server(if begun { 1 } else { 2 })));
    });
}

#[test]
fn a_request_is_either_begun_or_abandoned() {
    model(|| {
        let exchange = queued();
        let guest = {
            let exchange = Arc::clone(&exchange);
            thread::spawn(move || exchange.begin(server(1)))
        };
        let abandoned = exchange.abandon();
        let begun = guest.join().unwrap();
        assert!(begun != abandoned);
        assert!(!exchange.is_queued());
        assert_eq!(exchange.server().is_some(), begun);
    });
}

#[test]
fn a_request_whose_client_left_is_not_begun_or_its_guest_learns_of_it() {
    model(|| {
        let exchange = queued();
        let guest = {
            let exchange = Arc::clone(&exchange);
            thread::spawn(move || {
                if exchange.begin(server(1)) {
                    block_on(exchange.until_client_done());
                }
            })
        };
        exchange.client_done(false);
        guest.join().unwrap();
        assert!(!exchange.begin(server(2)));
    });
}

#[test]
fn the_body_of_an_instance_that_went_away_never_looks_whole() {
    model(|| {
        let ended = Arc::new(AtomicBool::new(false));
        let exchange = answered(body("half", &ended));
        let guest = {
            let exchange = Arc::clone(&exchange);
            thread::spawn(move || {
                exchange.fail(Fault::Gone);
                // The store is dropped, and with it the other end of the body.
                ended.store(true, Ordering::Release);
            })
        };
        assert_eq!(block_on(read(&exchange)), ("half".to_owned(), false));
        guest.join().unwrap();
    });
}

#[test]
fn a_body_that_its_guest_left_unfinished_never_looks_whole() {
    model(|| {
        let exchange = answered(body("half", &Arc::new(AtomicBool::new(false))));
        let guest = {
            let exchange = Arc::clone(&exchange);
            thread::spawn(move || exchange.detach_body())
        };
        assert_eq!(exchange.ask_body(Body::is_end_stream), Some(false));
        assert_eq!(block_on(read(&exchange)), ("half".to_owned(), false));
        guest.join().unwrap();
        assert_eq!(exchange.fault(), Some(Fault::Unfinished));
    });
}

#[test]
fn a_body_that_its_guest_finished_is_read_to_its_end() {
    model(|| {
        let ended = Arc::new(AtomicBool::new(false));
        let exchange = answered(body("whole", &ended));
        let guest = {
            let exchange = Arc::clone(&exchange);
            thread::spawn(move || {
                ended.store(true, Ordering::Release);
                exchange.detach_body();
            })
        };
        assert_eq!(block_on(read(&exchange)), ("whole".to_owned(), true));
        guest.join().unwrap();
        assert_eq!(exchange.fault(), None);
    });
}

#[test]
fn a_body_that_nobody_takes_is_not_kept() {
    model(|| {
        let exchange = queued();
        assert!(exchange.begin(server(1)));
        let ended = Arc::new(AtomicBool::new(false));
        let guest = {
            let (exchange, ended) = (Arc::clone(&exchange), Arc::clone(&ended));
            thread::spawn(move || exchange.set_body(body("unread", &ended)))
        };
        exchange.client_done(false);
        guest.join().unwrap();
        assert_eq!(Arc::strong_count(&ended), 1, "the guest learns that nobody reads it");
    });
}

#[test]
fn a_client_that_waits_for_the_head_learns_that_the_guest_is_stuck() {
    model(|| {
        let exchange = Arc::new(Exchange::new(Duration::ZERO, None));
        let watch = {
            let exchange = Arc::clone(&exchange);
            thread::spawn(move || {
                assert!(exchange.begin(server(1)));
                assert_eq!(exchange.poll_deadline(), None);
            })
        };
        block_on(exchange.failed());
        assert_eq!(exchange.failure(), Some(Failure::Fault(Fault::Stuck(Duration::ZERO))));
        watch.join().unwrap();
    });
}

#[test]
fn what_is_wrong_with_a_request_is_known_when_its_instance_fails_over_it() {
    model(|| {
        let exchange = queued();
        assert!(exchange.begin(server(1)));
        let guest = {
            let exchange = Arc::clone(&exchange);
            thread::spawn(move || {
                exchange.set_too_large();
                exchange.fail(Fault::NoResponse);
                exchange.fail(Fault::Code("a later one".to_owned()));
            })
        };
        block_on(exchange.failed());
        assert_eq!(exchange.failure(), Some(Failure::TooLarge));
        guest.join().unwrap();
        assert_eq!(exchange.fault(), Some(Fault::NoResponse), "the first one counts");
    });
}

#[test]
fn a_guest_that_waits_for_the_client_learns_that_it_sends_too_slowly() {
    model(|| {
        let exchange = out_of_time(None);
        exchange.uploaded(1);
        exchange.upload_awaited();
        let watch = {
            let exchange = Arc::clone(&exchange);
            thread::spawn(move || assert!(exchange.poll_deadline().is_some()))
        };
        block_on(poll_fn(|context| exchange.poll_upload_cut(context)));
        assert_eq!(exchange.failure(), Some(Failure::TooSlow));
        watch.join().unwrap();
    });
}

#[test]
fn a_guest_that_has_answered_learns_that_the_client_takes_too_slowly() {
    model(|| {
        let close = Arc::new(Notify::new());
        let exchange = out_of_time(Some(Arc::clone(&close)));
        exchange.set_body(body("unread", &Arc::new(AtomicBool::new(false))));
        let watch = {
            let exchange = Arc::clone(&exchange);
            thread::spawn(move || assert!(exchange.poll_deadline().is_some()))
        };
        block_on(exchange.until_client_done());
        watch.join().unwrap();
        assert!(close.notified().now_or_never().is_some(), "its connection is closed");
        assert_eq!(block_on(read(&exchange)), (String::new(), false));
    });
}

#[test]
fn a_guest_may_answer_with_the_requests_own_body() {
    model(|| {
        let exchange = queued();
        assert!(exchange.begin(server(1)));
        let itself: Weak<_> = Arc::downgrade(&exchange);
        let mut pieces = ["a", "b"].into_iter();
        let frames = stream::poll_fn(move |context| {
            let exchange = itself.upgrade().unwrap();
            assert!(exchange.poll_upload_cut(context).is_pending());
            exchange.uploaded(1);
            Poll::Ready(pieces.next().map(|piece| Ok(Frame::data(piece.into()))))
        });
        exchange.set_body(StreamBody::new(frames).boxed_unsync());
        let watch = {
            let exchange = Arc::clone(&exchange);
            thread::spawn(move || {
                assert!(exchange.poll_deadline().is_some());
                exchange.detach_body();
            })
        };
        assert_eq!(block_on(read(&exchange)), ("ab".to_owned(), true));
        watch.join().unwrap();
    });
}
