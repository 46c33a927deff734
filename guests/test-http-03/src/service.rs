//! Path → what happens.

use std::{
    cell::{Cell, RefCell},
    env,
};

use bytes::Bytes;
use ebb_guest_http::{pattern, target};
use futures::{StreamExt as _, stream};
use http::{Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody, combinators::UnsyncBoxBody};
use serde_json::{Value, json};
use wasip3::{
    clocks::monotonic_clock,
    exports::http::handler::Guest,
    http::{
        client,
        types::{self, ErrorCode},
    },
    http_compat::{
        IncomingRequestBody, http_from_wasi_request, http_from_wasi_response, http_into_wasi_request,
        http_into_wasi_response,
    },
    wit_future,
};

type Request = http::Request<IncomingRequestBody>;
type Body = UnsyncBoxBody<Bytes, ErrorCode>;

struct Service;

thread_local! {
    static BEGUN: Cell<u64> = const { Cell::new(0) };
    static UNDER_WAY: Cell<u64> = const { Cell::new(0) };
    static AT_ONCE_MAX: Cell<u64> = const { Cell::new(0) };
    static HELD: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

impl Guest for Service {
    async fn handle(request: types::Request) -> Result<types::Response, ErrorCode> {
        BEGUN.set(BEGUN.get() + 1);
        if request.get_path_with_query().as_deref() == Some("/mirror") {
            return Ok(mirror(request));
        }
        UNDER_WAY.set(UNDER_WAY.get() + 1);
        AT_ONCE_MAX.set(AT_ONCE_MAX.get().max(UNDER_WAY.get()));
        let answer = answer(http_from_wasi_request(request)?).await;
        UNDER_WAY.set(UNDER_WAY.get() - 1);
        http_into_wasi_response(answer?)
    }
}

async fn answer(request: Request) -> Result<Response<Body>, ErrorCode> {
    let uri = request.uri().clone();
    let query = uri.query();
    let number = |name| target::parameter(query, name).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    Ok(match uri.path() {
        "/hello" => text("hello"),
        "/count" => text(
            json!({
                "count": BEGUN.get(),
                "at_once_max": AT_ONCE_MAX.get(),
                "generation": env::var("EBB_GENERATION").unwrap_or_default(),
            })
            .to_string(),
        ),
        "/headers" => {
            text(json!({ "method": request.method().as_str(), "target": uri.to_string() }).to_string())
        }
        "/echo" => echo(request),
        "/pattern" => pattern(number("bytes"), number("seed"), target::parameter(query, "chunked").is_some()),
        "/grow" => {
            let bytes = usize::try_from(number("bytes")).unwrap_or(usize::MAX);
            HELD.with_borrow_mut(|held| held.push(vec![1; bytes]));
            text("grown")
        }
        "/sleep" => {
            monotonic_clock::wait_for(number("ms") * 1_000_000).await;
            text("slept")
        }
        "/spin" => loop {
            std::hint::black_box(());
        },
        "/never" => loop {
            monotonic_clock::wait_for(u64::MAX / 2).await;
        },
        "/trap" => panic!("asked to trap"),
        "/announce" => {
            let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
            response.headers_mut().insert(header::CONTENT_LENGTH, number("bytes").into());
            let status = u16::try_from(number("code")).ok().and_then(|code| StatusCode::from_u16(code).ok());
            *response.status_mut() = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            response
        }
        "/fetch" => {
            let url = target::parameter(query, "url").and_then(target::decoded).unwrap_or_default();
            let fetched = fetch(&url).await.unwrap_or_else(|error| json!({ "error": format!("{error:?}") }));
            text(fetched.to_string())
        }
        "/error" => return Err(ErrorCode::DestinationUnavailable),
        "/trap-mid-body" => {
            let ten = stream::once(async { Ok(Frame::data("0123456789".into())) });
            let trap = stream::once(async { panic!("asked to trap") });
            Response::new(StreamBody::new(ten.chain(trap)).boxed_unsync())
        }
        _ => {
            let mut response = text("no such path");
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    })
}

async fn fetch(url: &str) -> Result<Value, ErrorCode> {
    let request = http::Request::get(url).body(Empty::<Bytes>::new());
    let request = request.map_err(|error| ErrorCode::InternalError(Some(error.to_string())))?;
    let response = client::send(http_into_wasi_request(request)?).await?;
    let response = http_from_wasi_response(response)?;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await?.to_bytes();
    Ok(json!({ "status": status, "body": String::from_utf8_lossy(&body) }))
}

fn text(text: impl Into<Bytes>) -> Response<Body> {
    let text = text.into();
    let length = text.len();
    let mut response = Response::new(Full::new(text).map_err(|never| match never {}).boxed_unsync());
    response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    response
}

fn echo(request: Request) -> Response<Body> {
    let length = request.headers().get(header::CONTENT_LENGTH).cloned();
    let mut response = Response::new(request.into_body().boxed_unsync());
    if let Some(length) = length {
        response.headers_mut().insert(header::CONTENT_LENGTH, length);
    }
    response
}

/// Answers with the request's own body, which does not come past the guest.
fn mirror(request: types::Request) -> types::Response {
    let (_, taken) = wit_future::new(|| Ok(()));
    let (body, trailers) = types::Request::consume_body(request, taken);
    types::Response::new(types::Fields::new(), Some(body), trailers).0
}

fn pattern(bytes: u64, seed: u64, chunked: bool) -> Response<Body> {
    let pieces = pattern::pieces(bytes, seed).map(|piece| Ok(Frame::data(piece.into())));
    let mut response = Response::new(StreamBody::new(stream::iter(pieces)).boxed_unsync());
    if !chunked {
        response.headers_mut().insert(header::CONTENT_LENGTH, bytes.into());
    }
    response
}

wasip3::http::service::export!(Service);
