//! The real binary: flags, exit codes, signals.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    guests,
    support::{config_folder, module, write_config},
};

fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ebb-runner"));
    command.arg("--config").arg(folder.join("runner.yml"));
    command
}

/// A running process. Killed if the test fails before it ended.
struct Process {
    child: Child,
    address: SocketAddr,
    log: std::thread::JoinHandle<String>,
}

impl Process {
    fn start(folder: &TempDir) -> Self {
        let mut child = command(folder.path()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (mut seen, mut address) = (String::new(), None);
        for line in lines.by_ref() {
            let line = line.unwrap();
            seen = seen + &line + "\n";
            if let Some(text) = line.split("address=").nth(1) {
                address = text.split(' ').next().unwrap().parse().ok();
            }
            if line.contains("all modules started") {
                break;
            }
        }
        let log = std::thread::spawn(move || {
            lines.map_while(Result::ok).fold(String::new(), |log, line| log + &line + "\n")
        });
        Self { child, address: address.unwrap_or_else(|| panic!("no address in the log:\n{seen}")), log }
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    fn wait(mut self) -> (ExitStatus, String) {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status, self.log.join().unwrap());
            }
            if start.elapsed() > Duration::from_secs(20) {
                self.child.kill().unwrap();
                panic!("did not end within 20 s");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn get(&self, path: &str) -> String {
        use std::io::Write as _;
        let mut connection = std::net::TcpStream::connect(self.address).unwrap();
        write!(connection, "GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        answer
    }
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    command(folder).args(arguments).output().unwrap()
}

#[test]
fn sigterm_stops_sleeping_and_busy_guests_and_exits_with_zero() {
    let folder = config_folder(
        &[("spinner.wat", guests::spinner()), ("sleeper.wat", guests::sleeper())],
        &format!("{}{}", module("spinner", 4, ""), module("sleeper", 4, "")),
        "",
    );
    for signal in ["-TERM", "-INT"] {
        let process = Process::start(&folder);
        assert!(process.get("/-/healthy").starts_with("HTTP/1.1 200"));
        process.signal(signal);
        let start = Instant::now();
        let (status, log) = process.wait();
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(start.elapsed() < Duration::from_secs(10));
        assert!(log.contains("stopped"), "{log}");
    }
}

#[test]
fn sighup_reloads() {
    let folder = config_folder(&[("a.wat", guests::sleeper())], &module("a", 1, ""), "");
    let process = Process::start(&folder);
    write_config(folder.path(), &module("a", 2, ""), "");
    process.signal("-HUP");
    let start = Instant::now();
    while !process.get("/metrics").contains(r#"wasm_instance_up{module="a",replica="1"} 1"#) {
        assert!(start.elapsed() < Duration::from_secs(20), "the second replica does not come up");
        std::thread::sleep(Duration::from_millis(5));
    }
    process.signal("-TERM");
    assert_eq!(process.wait().0.code(), Some(0));
}

#[test]
fn what_a_guest_prints_is_logged_with_its_name() {
    let guest = guests::core(
        r#"(memory (export "memory") 1) (data (i32.const 200) "hello\nworld")"#,
        "(i32.store (i32.const 128) (i32.const 200)) (i32.store (i32.const 132) (i32.const 11))
         (drop (call $write (i32.const 2) (i32.const 128) (i32.const 1) (i32.const 136)))
         (call $sleep_for_ever)",
    );
    let folder = config_folder(&[("a.wat", guest)], &module("a", 1, ""), "log: {format: json}\n");
    let mut child = command(folder.path()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let line = lines.find(|line| line.as_ref().unwrap().contains("hello")).unwrap().unwrap();
    let json: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        (&json["target"], &json["message"], &json["module"], &json["replica"], &json["stream"]),
        (&"guest".into(), &"hello".into(), &"a".into(), &0.into(), &"stderr".into())
    );
    assert!(json["generation"].as_u64().unwrap() > 1_600_000_000_000);
    Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    // The line without an end comes when the lifetime ends.
    assert!(lines.any(|line| line.unwrap().contains("world")));
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_valid_config_is_called_valid() {
    let folder = config_folder(&[("a.wat", guests::sleeper())], &module("a", 3, ""), "");
    let output = run(folder.path(), &["check"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("valid, 1 modules, 3 instances"));
}

#[test]
fn a_wrong_config_exits_with_two_and_names_the_place() {
    let check = |modules: &str, extra: &str, needles: &[&str]| {
        let folder = config_folder(&[("a.wat", guests::sleeper())], modules, extra);
        for arguments in [&["check"][..], &[]] {
            let output = run(folder.path(), arguments);
            let message = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{message}");
            for needle in needles {
                assert!(message.contains(needle), "{needle}: {message}");
            }
        }
    };
    check(&module("a", 1, ", colour: red"), "", &["runner.yml:", "modules[0]", "unknown field `colour`"]);
    check(&module("b", 1, ""), "", &["module \"b\"", "b.wat", "is it built"]);
    check(&module("a", 1, ", dirs: [{host: nowhere, guest: /x}]"), "", &["nowhere", "dirs.host"]);
    check(&module("a", 20_000, ""), "", &["vm.max_map_count", "sysctl -w"]);
    let control = "control: {listen: \"127.0.0.1:0\", bearer_token_file: nowhere}\n";
    check(&module("a", 1, ""), control, &["bearer_token_file", "nowhere"]);
    check(&module("a", 1, ""), "log: {level: \"a=b=c\"}\n", &["log.level"]);
}

#[test]
fn without_a_config_the_flags_are_explained() {
    let output = Command::new(env!("CARGO_BIN_EXE_ebb-runner")).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--config FILE"));
    let version = Command::new(env!("CARGO_BIN_EXE_ebb-runner")).arg("--version").output().unwrap();
    assert!(String::from_utf8_lossy(&version.stdout).starts_with("ebb-runner 0."));
}

#[test]
fn an_address_in_use_exits_with_one_and_names_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let folder = config_folder(
        &[("a.wat", guests::sleeper())],
        &module("a", 1, ""),
        &format!("control: {{listen: \"{address}\"}}\n"),
    );
    let output = run(folder.path(), &[]);
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains(&format!("control.listen: {address}")), "{message}");
}

#[test]
fn a_spoilt_compile_cache_does_no_harm() {
    let cache = tempfile::tempdir().unwrap();
    let engine = format!("engine: {{compile_cache: {}}}\n", cache.path().display());
    let folder = config_folder(&[("a.wat", guests::sleeper())], &module("a", 1, ""), &engine);
    let judge = || assert_eq!(run(folder.path(), &["check"]).status.code(), Some(0));
    judge();
    let spoilt = spoil(cache.path());
    assert!(spoilt > 0, "the cache was used");
    judge();
}

/// Overwrites every file below `folder`, and says how many there were.
fn spoil(folder: &Path) -> usize {
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            count += spoil(&path);
        } else {
            fs::write(&path, b"spoilt").unwrap();
            count += 1;
        }
    }
    count
}
