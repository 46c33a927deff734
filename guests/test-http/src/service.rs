//! Path → what happens.

use std::{
    cell::{Cell, RefCell},
    env,
};

use ebb_guest_http::{
    exchange::{self, Reader},
    pattern, target,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use wasip2::{
    clocks::monotonic_clock,
    exports::http::incoming_handler::Guest,
    http::types::{Fields, IncomingRequest, ResponseOutparam, Scheme},
};

use crate::fetch;

struct Service;

thread_local! {
    static BEGUN: Cell<u64> = const { Cell::new(0) };
    static HELD: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

impl Guest for Service {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        BEGUN.set(BEGUN.get() + 1);
        let uri = request.path_with_query().unwrap_or_default();
        let (path, query) = target::split(&uri);
        let number =
            |name| target::parameter(query, name).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        match path {
            "/hello" => text(out, "hello"),
            "/headers" => json(out, &headers(&request)),
            "/count" => json(
                out,
                &json!({
                    "count": BEGUN.get(),
                    "replica": env::var("EBB_REPLICA").unwrap_or_default(),
                    "generation": env::var("EBB_GENERATION").unwrap_or_default(),
                }),
            ),
            "/status" => {
                let status = u16::try_from(number("code")).unwrap_or(500);
                exchange::respond(out, status, &[("content-length", "0")]).finish();
            }
            "/announce" => {
                let status = u16::try_from(number("code")).unwrap_or(500);
                let length = number("bytes").to_string();
                let writer = exchange::respond(out, status, &[("content-length", &length)]);
                // As wstd does it, which is what most Rust apps are made with.
                writer.try_finish().expect("the host takes a body that is not sent as one of any length");
            }
            "/echo" => echo(&request, out),
            "/sum" => sum(&request, out),
            "/unread" => text(out, "unread"),
            "/pattern" => {
                pattern(out, number("bytes"), number("seed"), target::parameter(query, "chunked").is_some())
            }
            "/grow" => json(out, &json!({ "held": grow(number("bytes")) })),
            "/sleep" => {
                monotonic_clock::subscribe_duration(number("ms") * 1_000_000).block();
                text(out, "slept");
            }
            "/sleep-after" => {
                text(out, "answered");
                monotonic_clock::subscribe_duration(number("ms") * 1_000_000).block();
            }
            "/spin" => spin(),
            "/compute" => {
                let until = monotonic_clock::now() + number("ms") * 1_000_000;
                while monotonic_clock::now() < until {}
                text(out, "computed");
            }
            "/never" => loop {
                monotonic_clock::subscribe_duration(u64::MAX / 2).block();
            },
            "/silent" => std::mem::forget(out),
            "/trap" => panic!("asked to trap"),
            "/exit" => std::process::exit(0),
            "/trap-mid-body" | "/spin-mid-body" => {
                let mut writer = exchange::respond(out, 200, &[]);
                let _ = writer.write(b"0123456789").and_then(|()| writer.flush());
                if path == "/spin-mid-body" {
                    spin();
                }
                panic!("asked to trap");
            }
            "/unfinished" => {
                let mut writer = exchange::respond(out, 200, &[]);
                let _ = writer.write(b"0123456789").and_then(|()| writer.flush());
                std::mem::forget(writer);
            }
            // Header fields that nobody takes: memory of the host's, not of this instance's.
            "/hoard" => {
                let kept = (0..number("fields")).take_while(|_| hoard(number("bytes"))).count();
                text(out, &format!("kept {kept}"));
            }
            "/fetch-many" => {
                let url = target::parameter(query, "url").and_then(target::decoded).unwrap_or_default();
                json(out, &fetch::begin_many(&url, number("count")));
            }
            "/fetch" => {
                let url = target::parameter(query, "url").and_then(target::decoded).unwrap_or_default();
                json(out, &fetch::get(&url));
            }
            _ => exchange::answer(out, 404, "text/plain", b"no such path\n"),
        }
    }
}

/// Makes header fields of `bytes` and forgets them; whether the host let it.
fn hoard(bytes: u64) -> bool {
    let fields = Fields::new();
    let set = fields.append("x-hoard", &vec![b'x'; usize::try_from(bytes).unwrap_or(0)]);
    std::mem::forget(fields);
    set.is_ok()
}

fn text(out: ResponseOutparam, text: &str) {
    exchange::answer(out, 200, "text/plain", text.as_bytes());
}

fn json(out: ResponseOutparam, value: &Value) {
    exchange::answer(out, 200, "application/json", value.to_string().as_bytes());
}

fn headers(request: &IncomingRequest) -> Value {
    let headers = request.headers().entries();
    let headers: Vec<_> =
        headers.iter().map(|(name, value)| json!([name, String::from_utf8_lossy(value)])).collect();
    let scheme = match request.scheme() {
        Some(Scheme::Http) => "http".to_owned(),
        Some(Scheme::Https) => "https".to_owned(),
        Some(Scheme::Other(name)) => name,
        None => String::new(),
    };
    json!({
        "method": exchange::method(request),
        "scheme": scheme,
        "authority": request.authority(),
        "target": request.path_with_query(),
        "headers": headers,
    })
}

fn echo(request: &IncomingRequest, out: ResponseOutparam) {
    let length = exchange::content_length(request).map(|length| length.to_string());
    let headers: Vec<_> = length.iter().map(|length| ("content-length", length.as_str())).collect();
    let mut writer = exchange::respond(out, 200, &headers);
    let Ok(mut reader) = Reader::new(request) else { return };
    loop {
        match reader.piece() {
            Ok(Some(piece)) if writer.write(&piece).is_ok() => {}
            Ok(None) => return writer.finish(),
            // Not finished: an echo of half a body is no echo.
            Ok(Some(_)) | Err(_) => panic!("the client left in the middle of its body"),
        }
    }
}

fn sum(request: &IncomingRequest, out: ResponseOutparam) {
    let (mut bytes, mut hash) = (0, Sha256::new());
    let Ok(mut reader) = Reader::new(request) else { return };
    loop {
        match reader.piece() {
            Ok(Some(piece)) => {
                bytes += piece.len();
                hash.update(&piece);
            }
            Ok(None) => break,
            Err(_) => return exchange::answer(out, 400, "text/plain", b"interrupted\n"),
        }
    }
    let hash: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    json(out, &json!({ "bytes": bytes, "sha256": hash }));
}

fn pattern(out: ResponseOutparam, bytes: u64, seed: u64, chunked: bool) {
    let length = bytes.to_string();
    let headers: &[_] = if chunked { &[] } else { &[("content-length", length.as_str())] };
    let mut writer = exchange::respond(out, 200, headers);
    for piece in pattern::pieces(bytes, seed) {
        if writer.write(&piece).is_err() {
            return;
        }
    }
    writer.finish();
}

fn grow(bytes: u64) -> usize {
    HELD.with_borrow_mut(|held| {
        held.push(vec![1; usize::try_from(bytes).unwrap_or(usize::MAX)]);
        held.iter().map(Vec::len).sum()
    })
}

fn spin() -> ! {
    loop {
        std::hint::black_box(());
    }
}

wasip2::http::proxy::export!(Service);
