//! The storage service: what is stored comes back, memory swells, and a restart gives it back to the host.

use std::{fs, time::Duration};

use ebb_testbed::{
    http::client,
    load::{
        Connection, Load,
        ask::{Ask, Expected, Pattern},
    },
    runner::Runner,
    wait,
};
use serde_json::Value;

use crate::support::{self, DEADLINE, rude::Rude};

const MIB: u64 = 1 << 20;

/// How long the host may take to show that memory came back.
const SHRINKS_WITHIN: Duration = Duration::from_secs(1);

async fn ask(runner: &Runner, ask: &Ask) {
    let mut connection = Connection::open(&runner.http_address).await.unwrap();
    connection.ask(ask).await.unwrap_or_else(|failure| panic!("{} {}: {failure}", ask.method, ask.path));
}

#[tokio::test]
async fn files_of_all_sizes_come_back_and_a_restart_gives_their_memory_back_to_the_host() {
    let runner = Runner::start(&support::storage(1, "1GiB", "")).await;
    for (name, bytes) in [("empty", 0), ("small.txt", 1024), ("large.bin", 300 * MIB)] {
        let content = Pattern { bytes, seed: bytes };
        ask(&runner, &Ask::put(format!("/files/{name}"), content)).await;
        ask(&runner, &Ask::get(format!("/files/{name}?download"), Expected::Pattern(content))).await;
    }
    let held = runner.scrape().await.one("wasm_linear_memory_bytes", &[]).unwrap();
    assert!(held >= (300 * MIB) as f64, "a file that was read as a whole swells its instance: {held}");
    let before = support::resident_bytes(&runner);
    let restarted = runner.restart("storage", 0).send().await.unwrap();
    assert_eq!(restarted.status(), 200);
    let restarted: Value = serde_json::from_slice(&restarted.bytes().await.unwrap()).unwrap();
    let reclaimed = restarted["reclaimed_bytes"].as_u64().unwrap();
    assert!(reclaimed >= 300 * MIB, "{restarted}");
    let released = restarted["resident_released_bytes"].as_u64().unwrap();
    assert!(released * 10 >= reclaimed * 9, "{restarted}");
    wait::until("90 % of it left the process", SHRINKS_WITHIN, async || {
        (before.saturating_sub(support::resident_bytes(&runner)) * 10 >= reclaimed * 9).then_some(())
    })
    .await;
    ask(
        &runner,
        &Ask::get("/files/small.txt?download", Expected::Pattern(Pattern { bytes: 1024, seed: 1024 })),
    )
    .await;
}

#[tokio::test]
async fn a_streaming_instance_does_not_swell() {
    let runner = Runner::start(&support::storage(1, "16MiB", "STREAM: 1")).await;
    let content = Pattern { bytes: 50 * MIB, seed: 5 };
    ask(&runner, &Ask::put("/large.bin", content)).await;
    ask(&runner, &Ask::get("/large.bin?download", Expected::Pattern(content))).await;
    let held = runner.scrape().await.one("wasm_linear_memory_bytes", &[]).unwrap();
    assert!(held < (4 * MIB) as f64, "{held}");
}

#[tokio::test]
async fn the_api_keeps_its_promises() {
    let runner = Runner::start(&support::storage(2, "64MiB", "")).await;
    let volume = runner.dir().join("volume");
    let url = |path: &str| format!("http://{}{path}", runner.http_address);
    let send = async |request: reqwest::RequestBuilder| {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        (status, headers, response.bytes().await.unwrap())
    };
    let json = |body: &[u8]| serde_json::from_slice::<Value>(body).unwrap();

    let put = client().put(url("/a/b%20c/%C3%A9.txt")).body("0123456789");
    let (status, _, body) = send(put.try_clone().unwrap()).await;
    assert_eq!((status, &json(&body)["size"]), (201, &10.into()));
    assert_eq!(send(put).await.0, 200, "replaced");
    assert_eq!(fs::read_to_string(volume.join("a/b c/é.txt")).unwrap(), "0123456789");
    assert_eq!(fs::read_dir(volume.join("a/b c")).unwrap().count(), 1, "nothing temporary is left");
    let (status, _, body) = send(client().get(url("/a/b%20c/"))).await;
    let listed = json(&body);
    assert_eq!(
        (status, &listed["type"], &listed["entries"][0]["name"]),
        (200, &"directory".into(), &"é.txt".into())
    );
    assert_eq!(listed["entries"][0]["type"], "text/plain; charset=utf-8");

    let download = || client().get(url("/a/b%20c/%C3%A9.txt?download"));
    let (status, headers, body) = send(download().header("range", "bytes=2-4")).await;
    assert_eq!(
        (status, &body[..], &headers["content-range"]),
        (206, &b"234"[..], &"bytes 2-4/10".parse().unwrap())
    );
    assert_eq!(send(download().header("range", "bytes=10-")).await.0, 416);
    let tag = headers["etag"].clone();
    assert_eq!(send(download().header("if-none-match", &tag)).await.0, 304);
    let (status, headers, body) = send(client().head(url("/a/b%20c/%C3%A9.txt?download"))).await;
    assert_eq!((status, headers["content-length"].to_str().unwrap(), body.len()), (200, "10", 0));
    let (_, headers, body) = send(client().get(url("/")).header("accept", "text/html")).await;
    assert!(
        headers["content-type"].to_str().unwrap().starts_with("text/html") && body.starts_with(b"<!doctype")
    );

    assert_eq!(send(client().get(url("/missing"))).await.0, 404);
    assert_eq!(send(client().put(url("/a")).body("x")).await.0, 409, "a folder is there");
    assert_eq!(send(client().delete(url("/a"))).await.0, 409, "not empty");
    assert_eq!(send(client().post(url("/new/"))).await.0, 201);
    assert_eq!(send(client().delete(url("/new"))).await.0, 204);
    assert_eq!(send(client().delete(url("/"))).await.0, 409);
    assert_eq!(send(client().patch(url("/a"))).await.0, 405);

    // Out of the Volume: by the path, by its encoding, by a link.
    let outside = runner.dir().join("outside.txt");
    fs::write(&outside, "secret").unwrap();
    std::os::unix::fs::symlink(&outside, volume.join("link.txt")).unwrap();
    let mut raw = Connection::open(&runner.http_address).await.unwrap();
    for path in [
        "/../outside.txt?download",
        "/a/../../outside.txt?download",
        "/%2e%2e/outside.txt?download",
        "/..%2foutside.txt?download",
    ] {
        let refused = Ask { status: &[400], ..Ask::get(path, Expected::Anything) };
        raw.ask(&refused).await.unwrap_or_else(|failure| panic!("{path}: {failure}"));
    }
    assert_eq!(send(client().get(url("/link.txt?download"))).await.0, 404);
}

#[tokio::test]
async fn an_interrupted_upload_leaves_nothing() {
    for env in ["", "STREAM: 1"] {
        let runner = Runner::start(&support::storage(1, "64MiB", env)).await;
        let volume = runner.dir().join("volume");
        let head = "PUT /half.bin HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n";
        let mut client = Rude::say(&runner.http_address, head).await;
        client.send(&[7; 500_000]).await.unwrap();
        if !env.is_empty() {
            wait::until("it is being written", DEADLINE, async || {
                fs::read_dir(&volume).unwrap().next().is_some().then_some(())
            })
            .await;
        }
        drop(client);
        wait::until("the request is over", DEADLINE, async || {
            let scrape = runner.scrape().await;
            let over = scrape.sum("wasm_requests_total", &[]) == 1.0;
            (over && fs::read_dir(&volume).unwrap().next().is_none()).then_some(())
        })
        .await;
        assert_eq!(runner.scrape().await.sum("wasm_instance_restarts_total", &[]), 0.0);
    }
}

#[tokio::test]
async fn a_file_that_is_replaced_while_it_is_read_is_the_old_one_or_the_new_one() {
    let runner = Runner::start(&support::storage(2, "64MiB", "")).await;
    let content = |n: u64| Pattern { bytes: 100_000 + n % 2 * 150_000, seed: n % 2 };
    ask(&runner, &Ask::put("/f.bin", content(0))).await;
    let writer = Load::start(&runner.http_address, 1, move |n| Ask::put("/f.bin", content(n)));
    let whole = [content(0), content(1)].map(|content| content.piece(0, usize::MAX));
    let mut seen = [0_u32; 2];
    wait::until("both versions were read many times", DEADLINE, async || {
        let url = format!("http://{}/f.bin?download", runner.http_address);
        let read = client().get(url).send().await.unwrap().bytes().await.unwrap();
        let version = whole.iter().position(|whole| *whole == read);
        seen[version.expect("an answer is one of the versions")] += 1;
        (seen.iter().all(|&count| count >= 30)).then_some(())
    })
    .await;
    let summary = writer.stop().await;
    assert_eq!(summary.failed, 0, "{summary}");
}

#[tokio::test]
async fn a_folder_is_listed_while_files_come_and_go_in_it() {
    let runner = Runner::start(&support::storage(3, "64MiB", "")).await;
    ask(&runner, &Ask::put("/kept", Pattern { bytes: 10, seed: 0 })).await;
    // Each upload is a temporary file for a moment.
    let writer = Load::start(&runner.http_address, 2, |n| {
        Ask::put(format!("/{}", n % 5), Pattern { bytes: 1000, seed: n })
    });
    let mut listings = 0;
    wait::until("the folder was listed many times", DEADLINE, async || {
        let answer = client().get(format!("http://{}/", runner.http_address)).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 200);
        let listed: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        let entries = listed["entries"].as_array().unwrap();
        assert!(entries.iter().any(|entry| entry["name"] == "kept"), "{listed:#}");
        listings += 1;
        (listings >= 300).then_some(())
    })
    .await;
    let summary = writer.stop().await;
    assert_eq!(summary.failed, 0, "{summary}");
}
