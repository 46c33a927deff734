//! What a guest or a client takes of the host costs itself, nobody else; and control answers when nothing else can.

use std::{
    fs,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ebb_testbed::{
    free_address,
    http::client,
    load::{
        Load,
        ask::{Ask, Expected},
    },
    metrics::Scrape,
    paths,
    runner::Runner,
    wait,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::support::{self, DEADLINE};

const MAX_RESTARTING: &str = "max_restarting: 1";

/// A module that must not notice anything.
fn hello() -> String {
    support::http("hello", 2, MAX_RESTARTING, "routes: [{host: other}]")
}

/// A command compiled from Rust.
fn command(name: &str, more: &str) -> String {
    let path = paths::guest(name);
    format!("  - name: {name}\n    path: {}\n    kind: command\n{more}", path.display())
}

/// Load on [`hello`].
fn others(runner: &Runner) -> Load {
    Load::start(&runner.http_address, 2, |_| Ask::get("/", Expected::Exactly("hello\n".into())).of("other"))
}

async fn crashes(runner: &Runner, module: &str) -> f64 {
    let module = format!("module=\"{module}\"");
    runner.scrape().await.sum("wasm_instance_restarts_total", &[&module, "reason=\"crash\""])
}

async fn figure(runner: &Runner, name: &str, module: &str) -> f64 {
    runner.scrape().await.sum(name, &[&format!("module=\"{module}\"")])
}

async fn open_descriptors(runner: &Runner) -> f64 {
    runner.scrape().await.one("process_open_fds", &[]).expect("/proc tells")
}

async fn restart_status(runner: &Runner, module: &str) -> u16 {
    runner.restart(module, 0).send().await.unwrap().status().as_u16()
}

/// Asks for `path` of `test_http`.
async fn ask(runner: &Runner, path: &str) -> (u16, String) {
    let response = client().get(format!("http://{}{path}", runner.http_address)).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

#[tokio::test]
async fn a_guest_that_opens_without_end_gets_an_error_at_its_own_limit() {
    let dirs = "    dirs: [{host: volume, guest: /data, read_only: true}]\n";
    let modules = [support::wat("opens", dirs), hello()].concat();
    let runner = Runner::start_limited((256, 1024), &modules).await;
    let others = others(&runner);
    let mut most = 0_f64;
    wait::until("it was ended three times", DEADLINE, async || {
        most = most.max(open_descriptors(&runner).await);
        (crashes(&runner, "opens").await >= 3.0).then_some(())
    })
    .await;
    assert_eq!(restart_status(&runner, "hello").await, 200);
    let summary = others.stop().await;
    assert_eq!(summary.failed, 0, "{summary}");
    let log = runner.process.says("too many handles: it held as many files").await;

    assert_eq!(runner.scrape().await.one("process_max_fds", &[]), Some(1024.0), "the soft limit is raised");
    // Of 1,024, 320 are kept back and 8 for each of two modules; half of 704 is for connections: 336 for two
    // instances of 512, as one may be replacing the other.
    assert_eq!(figure(&runner, "wasm_handles_limit", "opens").await, 168.0);
    assert!(most < 1024.0 - 320.0, "{most} descriptors open");
    let figures = "may need 5456 file descriptors, the process may open 1024: raise the hard limit";
    assert!(log.contains(figures), "{log}");
}

#[tokio::test]
async fn what_an_instance_has_open_is_in_a_gauge() {
    let runner = Runner::spawn("", &command("test-files", "    dirs: [{host: volume, guest: /data}]\n"));
    fs::write(runner.dir().join("volume/file"), "text").unwrap();
    wait::until("it reads", DEADLINE, async || {
        Scrape::of(&runner.address).await?;
        runner.process.log().contains("reads: 500").then_some(())
    })
    .await;
    // Two streams and a folder; while it reads, the file and its stream, too.
    wait::until("the open file is seen", DEADLINE, async || {
        let held = figure(&runner, "wasm_handles", "test-files").await;
        assert!((3.0..20.0).contains(&held), "{held}");
        (held >= 4.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn control_answers_beside_more_idle_clients_than_there_are_descriptors() {
    let runner = Runner::start_limited((256, 1024), &hello()).await;
    let mut held = Vec::new();
    for _ in 0..1100 {
        // Beyond the listener's queue, nobody answers.
        let connect = TcpStream::connect(&runner.http_address);
        if let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_millis(20), connect).await {
            held.push(stream);
        }
    }
    // 352 are open, half of what is not kept back; the others wait in the listener's queue, or outside.
    assert!(held.len() > 400, "{} connections", held.len());
    assert!(open_descriptors(&runner).await < 1024.0 - 300.0);
    assert_eq!(restart_status(&runner, "hello").await, 200);
    drop(held);
    let others = others(&runner);
    wait::until("requests are served again", DEADLINE, async || (others.served() > 10).then_some(())).await;
    assert_eq!(others.stop().await.failed, 0);
}

#[tokio::test]
async fn a_fleet_that_could_not_open_what_it_needs_is_refused_with_the_figure() {
    let dirs = "    replicas: 100\n    dirs: [{host: volume, guest: /data}]\n";
    let mut runner = Runner::spawn_limited((1024, 1024), &command("test-files", dirs));
    assert_eq!(runner.process.wait().code(), Some(2));
    let log = runner.process.log();
    assert!(log.contains("module \"test-files\": each of its 101 instances would get"), "{log}");
    assert!(log.contains("raise the hard limit (LimitNOFILE= of systemd"), "{log}");
}

#[tokio::test]
async fn header_fields_that_a_guest_keeps_are_bounded() {
    let modules = [support::http("test_http", 1, MAX_RESTARTING, "routes: [{path: /}]"), hello()].concat();
    let runner = Runner::start(&modules).await;
    let before = support::resident_bytes(&runner);
    for (fields, bytes) in
        [(1, 100_000), (100_000, 20_000), (100_000, 20_000), (100_000, 20_000), (100_000, 0)]
    {
        let (status, text) = ask(&runner, &format!("/hoard?fields={fields}&bytes={bytes}")).await;
        assert_eq!(status, 502, "{text}");
    }
    let more = support::resident_bytes(&runner).saturating_sub(before);
    // 512 fields of 20,000 bytes, twice, and what the allocator keeps.
    assert!(more < 64 << 20, "{more} bytes more");
    runner.process.says("too many handles").await;
    assert_eq!(ask(&runner, "/hoard?fields=100&bytes=20000").await, (200, "kept 100".to_owned()));
    assert!(figure(&runner, "wasm_handles", "test_http").await >= 100.0);
}

#[tokio::test]
async fn requests_to_a_peer_that_says_nothing_are_bounded() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = silent.local_addr().unwrap();
    let http = format!("outgoing: [\"{peer}\"], routes: [{{path: /}}]");
    let modules = [support::http("test_http", 1, MAX_RESTARTING, &http), hello()].concat();
    let runner = Runner::start(&modules).await;
    let before = open_descriptors(&runner).await;
    let (status, text) = ask(&runner, &format!("/fetch-many?url=http://{peer}/&count=200")).await;
    // 512 / 4 = 128 are sent.
    assert_eq!((status, text.as_str()), (200, r#"{"errors":{"ErrorCode::ConnectionLimitReached":72}}"#));
    wait::until("their connections are closed", DEADLINE, async || {
        (open_descriptors(&runner).await < before + 20.0).then_some(())
    })
    .await;
    // More than there are handles: the instance ends, and its connections with it.
    let (status, _) = ask(&runner, &format!("/fetch-many?url=http://{peer}/&count=5000")).await;
    assert_eq!(status, 502);
    assert_eq!(ask(&runner, "/hello").await.0, 200);
}

#[tokio::test]
async fn host_calls_that_never_return_take_only_their_modules_threads() {
    let dirs = "    start_timeout: 300ms\n    dirs: [{host: volume, guest: /data}]\n";
    let runner = Runner::spawn("", &[command("test-blocked", dirs), command("test-files", dirs)].concat());
    let volume = runner.dir().join("volume");
    fs::write(volume.join("file"), "text").unwrap();
    let made = Command::new("mkfifo").arg(volume.join("pipe")).status().expect("mkfifo of coreutils");
    assert!(made.success());

    // Each instance leaves a blocked thread behind, until there are as many as may be.
    wait::until("all of its threads are blocked", DEADLINE, async || {
        let scrape = Scrape::of(&runner.address).await?;
        if scrape.sum("wasm_host_calls", &["module=\"test-blocked\""]) >= 32.0 {
            return Some(());
        }
        restart_status(&runner, "test-blocked").await;
        None
    })
    .await;
    runner.process.says("all threads for host calls of this module are busy").await;
    let refused = runner.restart("test-blocked", 0).send().await.unwrap();
    assert_eq!(refused.status(), 503);
    let text = refused.text().await.unwrap();
    assert!(
        text.contains("opening the directories that the guest may access took longer than start_timeout"),
        "{text}"
    );

    wait::until("another is restarted", DEADLINE, async || {
        (restart_status(&runner, "test-files").await == 200).then_some(())
    })
    .await;
    let lines = || runner.process.log().matches("reads: ").count();
    let before = lines();
    wait::until("others read on", DEADLINE, async || (lines() > before + 2).then_some(())).await;
    assert_eq!(figure(&runner, "wasm_host_calls", "test-blocked").await, 32.0);
}

#[tokio::test]
async fn a_guest_that_may_use_the_network_has_names_tcp_and_udp() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = listener.local_addr().unwrap();
    let more = format!("    inherit_network: true\n    env: {{PEER: \"{peer}\"}}\n");
    let runner = Runner::start(&command("test-tcp-client", &more)).await;
    for said in ["resolve: ok", "connect: ok", "listen: ok", "udp: ok"] {
        wait::until(said, DEADLINE, async || runner.process.log().contains(said).then_some(())).await;
    }
}

#[tokio::test]
async fn a_tcp_server_that_is_restarted_under_load_gets_its_port_back() {
    let address = free_address();
    let port = address.rsplit_once(':').unwrap().1;
    let more = format!("    inherit_network: true\n    env: {{PORT: \"{port}\"}}\n");
    let runner = Runner::start(&command("test-tcp-server", &more)).await;
    let answered = Arc::new(AtomicU64::new(0));
    let clients: Vec<_> = (0..2)
        .map(|_| {
            let (address, answered) = (address.clone(), Arc::clone(&answered));
            // A connection that waits to be accepted breaks with the server; a later one is refused, or served.
            tokio::spawn(async move {
                loop {
                    match asked(&address).await {
                        Some(answer) if answer.ends_with("ok\n") => answered.fetch_add(1, Ordering::Relaxed),
                        Some(_) => return,
                        None => 0,
                    };
                }
            })
        })
        .collect();
    let serves = async || asked(&address).await.is_some_and(|answer| answer.ends_with("ok\n")).then_some(());
    for restart in 0..20 {
        let before = answered.load(Ordering::Relaxed);
        wait::until("it serves under load", DEADLINE, async || {
            (answered.load(Ordering::Relaxed) > before).then_some(())
        })
        .await;
        assert_eq!(restart_status(&runner, "test-tcp-server").await, 200, "{restart}");
    }
    wait::until("it serves", DEADLINE, serves).await;
    assert_eq!(crashes(&runner, "test-tcp-server").await, 0.0, "{}", runner.process.log());
    for client in clients {
        assert!(!client.is_finished(), "it was answered in part");
        client.abort();
    }
}

/// What the server at `address` answers; `None` when the connection is refused or breaks.
async fn asked(address: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    (!answer.is_empty()).then_some(answer)
}

#[tokio::test]
async fn replicas_that_want_the_same_port_are_told_so() {
    let address = free_address();
    let port = address.rsplit_once(':').unwrap().1;
    let more = format!("    replicas: 2\n    inherit_network: true\n    env: {{PORT: \"{port}\"}}\n");
    let runner = Runner::start(&command("test-tcp-server", &more)).await;
    let said = "the instance cannot bind this address: it is in use. Replicas share the host's ports";
    let line = wait::until("one of them is told", DEADLINE, async || {
        runner.process.log().lines().find(|line| line.contains(said)).map(str::to_owned)
    })
    .await;
    assert!(line.contains(&address) && line.contains("test-tcp-server"), "{line}");
}

/// CPU time that threads of this name have had, in clock ticks of 10 ms.
fn cpu_ticks(runner: &Runner, name: &str) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{}/task", runner.process.id())).unwrap();
    let threads = tasks.filter_map(|task| {
        let stat = fs::read_to_string(task.ok()?.path().join("stat")).ok()?;
        let (head, fields) = stat.rsplit_once(") ")?;
        let fields: Vec<_> = fields.split(' ').collect();
        // proc(5): the name is the second field, utime and stime are the 14th and the 15th.
        let ticks = || fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum::<u64>();
        head.ends_with(&format!("({name}")).then(ticks)
    });
    let threads: Vec<_> = threads.collect();
    assert!(!threads.is_empty(), "there are threads called {name}");
    threads.into_iter().sum()
}

#[tokio::test]
async fn guests_that_never_rest_leave_the_threads_of_the_others() {
    let modules = [
        support::wat("spin", ""),
        support::http("test_http", 2, MAX_RESTARTING, "request_timeout: 10m, routes: [{path: /}]"),
        hello(),
    ]
    .concat();
    let runner = Runner::start(&modules).await;
    let url = format!("http://{}/spin", runner.http_address);
    let spinning: Vec<_> = (0..2).map(|_| tokio::spawn(client().get(&url).send())).collect();
    wait::until("they have computed for three seconds", DEADLINE, async || {
        (cpu_ticks(&runner, "ebb-busy") > 300).then_some(())
    })
    .await;
    let (guests, http) = (cpu_ticks(&runner, "ebb-guest"), cpu_ticks(&runner, "ebb-http"));
    assert!(guests < 30 && http < 30, "{guests} and {http} ticks: a turn each, and what starting took");
    for request in spinning {
        request.abort();
    }
}
