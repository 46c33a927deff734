//! What must hold for whatever bytes come from outside: the bodies of the fuzzing targets in `fuzz/`, which `make fuzz`
//! runs. Tests replay the inputs that are committed in `fuzz/corpus/`.

use std::{
    collections::HashSet,
    convert::Infallible,
    path::Path,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use ebb_units::ByteCount;
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    runtime::{Builder, Runtime},
};

use crate::{
    config::{Config, Route},
    exchange::routes::{Routes, host},
    gateway::protocol,
};

/// What ends a line in YAML 1.1.
const LINE_BREAKS: [char; 5] = ['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}'];

/// A config file. One that is accepted has each name and each route once, and its routes are read as they are written;
/// an error points into the file.
///
/// # Panics
/// When that does not hold.
pub(crate) fn runner_config(data: &[u8]) {
    let (Ok(text), path) = (str::from_utf8(data), Path::new("/etc/runner.yml")) else { return };
    match Config::parse(path, text) {
        Ok(config) => {
            let names: HashSet<_> = config.modules.iter().map(|module| &module.name).collect();
            assert_eq!(names.len(), config.modules.len());
            let serving = config.modules.iter().filter_map(|module| module.kind.serve_config());
            for route in serving.flat_map(|serve| &serve.routes) {
                assert_eq!(route.host.to_string().parse(), Ok(route.host.clone()));
                assert_eq!(route.path.to_string().parse(), Ok(route.path.clone()));
            }
        }
        Err(error) => {
            let error = error.to_string();
            let place = error.strip_prefix("/etc/runner.yml:").expect("an error names the file");
            if let Some(Ok(line)) = place.split(':').next().map(str::parse::<usize>) {
                assert!(line <= text.matches(LINE_BREAKS).count() + 2, "{error}");
            }
        }
    }
}

/// What a client sends to the gateway: the same requests are seen however its bytes are cut into pieces, and each has a
/// host that can be one. The first byte says how they are cut.
///
/// # Panics
/// When that does not hold.
pub(crate) fn gateway_request(data: &[u8]) {
    let Some((piece, data)) = data.split_first() else { return };
    let piece = usize::from(*piece).max(data.len() / 16).max(1);
    let whole = requests(data, data.len().max(1));
    // Streams of HTTP/2 are side by side: what is seen of one when another breaks the connection is a matter of time.
    if !data.starts_with(b"PRI") {
        assert_eq!(whole, requests(data, piece), "in pieces of {piece} bytes");
    }
}

/// A request as it was seen.
#[derive(Debug, PartialEq)]
struct Seen {
    head: String,
    owner: Option<&'static str>,
    /// None if it did not come whole.
    body: Option<Bytes>,
}

/// The requests of a connection on which `data` is sent in pieces of `piece` bytes, each when the one before was taken.
fn requests(data: &[u8], piece: usize) -> Vec<Seen> {
    thread_local! {
        static RUNTIME: Runtime =
            Builder::new_current_thread().enable_time().build().expect("a runtime can be built");
    }
    RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let (client, server) = tokio::io::duplex(1 << 20);
            let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
            let service = {
                let seen = Arc::clone(&seen);
                service_fn(move |request| {
                    let seen = Arc::clone(&seen);
                    async move {
                        let request = see(request).await;
                        seen.lock().unwrap_or_else(PoisonError::into_inner).push(request);
                        Ok::<_, Infallible>(http::Response::new(Full::new(Bytes::from_static(b"seen"))))
                    }
                })
            };
            let served = tokio::spawn(async move {
                let http = protocol::connections(ByteCount(64 * 1024), Duration::from_secs(120));
                // A client that does not speak HTTP is no fault of ours.
                let _ = http.serve_connection(TokioIo::new(server), service).await;
            });
            let (mut from_server, mut to_server) = tokio::io::split(client);
            let answers = tokio::spawn(async move {
                let mut answers = Vec::new();
                let _ = from_server.read_to_end(&mut answers).await;
            });
            for piece in data.chunks(piece) {
                if to_server.write_all(piece).await.is_err() {
                    break;
                }
                settle().await;
            }
            settle().await;
            let _ = to_server.shutdown().await;
            served.await.expect("serving a connection does not panic");
            drop(to_server);
            answers.await.expect("reading does not panic");
            std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner))
        })
    })
}

/// Lets the other tasks go on until they wait for more: all are on this thread, and none waits for time or system.
async fn settle() {
    for _ in 0..16 {
        tokio::task::yield_now().await;
    }
}

/// Some routes, and the path of each.
static ROUTES: LazyLock<Routes<&'static str>> = LazyLock::new(|| {
    Routes::new([("*", "/a"), ("*.b", "/"), ("c", "/")].map(|(host, path)| {
        let (host, prefix) = (host.parse().expect("it is a host"), path.parse().expect("it is a path"));
        (Route { host, path: prefix }, path)
    }))
});

async fn see(request: http::Request<hyper::body::Incoming>) -> Seen {
    let authority = protocol::authority(&request);
    let owner = authority.and_then(|authority| ROUTES.find(authority, request.uri().path()).copied());
    if let Some(authority) = authority {
        assert!(!host(authority).is_empty() && !authority.contains(['@', '/', ' ', ',']), "{authority:?}");
        assert_eq!(
            request.headers().get_all(http::header::HOST).iter().count().max(1),
            1,
            "of which hosts is it?"
        );
    }
    let head = format!("{} {} {authority:?} {:?}", request.method(), request.uri(), request.headers());
    Seen {
        head,
        owner,
        body: request.into_body().collect().await.ok().map(http_body_util::Collected::to_bytes),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, panic::catch_unwind};

    use super::*;

    type Target = fn(&[u8]);

    const TARGETS: [(&str, Target); 2] =
        [("gateway_request", gateway_request), ("runner_config", runner_config)];

    #[test]
    fn every_target_of_this_crate_is_replayed() {
        let targets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/targets");
        let files = fs::read_dir(targets).unwrap().map(|file| file.unwrap().path());
        let ours = files.filter(|file| fs::read_to_string(file).unwrap().contains("ebb_fuzz::"));
        let mut names: Vec<_> =
            ours.map(|file| file.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
        names.sort();
        assert_eq!(names, TARGETS.map(|(name, _)| name));
    }

    #[test]
    fn all_inputs_of_the_corpora_are_taken_as_they_must_be() {
        for (target, check) in TARGETS {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
            let inputs =
                fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
            let inputs: Vec<_> = inputs.map(|entry| entry.unwrap().path()).collect();
            assert!(!inputs.is_empty(), "{} is empty", folder.display());
            for input in inputs {
                let data = fs::read(&input).unwrap();
                assert!(catch_unwind(|| check(&data)).is_ok(), "{}: see above", input.display());
            }
        }
    }
}
