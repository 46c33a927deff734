//! Answers every request with one line; the least that an HTTP guest can do.

#[cfg(target_arch = "wasm32")]
mod service {
    use ebb_guest_http::exchange;
    use wasip2::{
        exports::http::incoming_handler::Guest,
        http::types::{IncomingRequest, ResponseOutparam},
    };

    struct Hello;

    impl Guest for Hello {
        fn handle(_request: IncomingRequest, response: ResponseOutparam) {
            exchange::answer(response, 200, "text/plain", b"hello\n");
        }
    }

    wasip2::http::proxy::export!(Hello);
}
