//! The real binary: flags, exit codes, signals.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{Read as _, Write as _},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    guests,
    support::{config_folder, module, write_config},
};

/// Long enough for a loaded machine with one processor; conditions are met in milliseconds.
const DEADLINE: Duration = Duration::from_secs(30);

/// A running process. It is killed when this value is dropped, as by a failing assertion, and by the kernel
/// if the tests die: what it runs may spin for ever.
struct Process {
    child: Child,
    output: TempDir,
}

/// What a process that ended leaves behind.
struct Ended {
    code: Option<i32>,
    stdout: String,
    log: String,
}

impl Process {
    fn spawn<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Self {
        let output = TempDir::new().unwrap();
        let file = |name| File::create(output.path().join(name)).unwrap();
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", env!("CARGO_BIN_EXE_ebb-runner")])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(file("stdout"))
            .stderr(file("stderr"))
            .spawn()
            .expect("setpriv of util-linux starts the runner: `apt-get install util-linux`");
        Self { child, output }
    }

    /// Starts a runner of the config in `folder`.
    fn start(folder: &TempDir) -> Self {
        Self::spawn([OsStr::new("--config"), folder.path().join("runner.yml").as_os_str()])
    }

    /// As [`Self::start`], and waits until it is ready.
    fn start_ready(folder: &TempDir) -> Self {
        let process = Self::start(folder);
        process
            .eventually("it is ready", || process.get("/-/ready").starts_with("HTTP/1.1 200").then_some(()));
        process
    }

    fn log(&self) -> String {
        self.read("stderr")
    }

    fn read(&self, file: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.output.path().join(file)).unwrap()).into_owned()
    }

    /// The address in its log, as soon as that is there.
    fn address(&self) -> SocketAddr {
        self.eventually("it logs its address", || {
            let log = self.log();
            // Up to the blank: the line may not be written to its end yet.
            let (address, _) = log.split("address=").nth(1)?.split_once(' ')?;
            Some(address.parse().unwrap())
        })
    }

    fn eventually<T>(&self, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(answer) = ask() {
                return answer;
            }
            assert!(start.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}; log:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits until it has ended by itself.
    fn wait(mut self) -> Ended {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Ended { code: status.code(), stdout: self.read("stdout"), log: self.log() };
            }
            assert!(start.elapsed() < DEADLINE, "did not end within {DEADLINE:?}; log:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn get(&self, path: &str) -> String {
        let mut connection = std::net::TcpStream::connect(self.address()).unwrap();
        write!(connection, "GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both do nothing to a process that was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(folder: &TempDir, arguments: &[&str]) -> Ended {
    let file = folder.path().join("runner.yml");
    let config = [OsStr::new("--config"), file.as_os_str()];
    Process::spawn(config.into_iter().chain(arguments.iter().map(OsStr::new))).wait()
}

#[test]
fn a_runner_does_not_outlive_a_test_that_fails() {
    let folder = config_folder(&[("spinner.wat", guests::spinner())], &module("spinner", 1, ""), "");
    let (sender, process_id) = std::sync::mpsc::channel();
    let failing = std::thread::spawn(move || {
        let process = Process::start_ready(&folder);
        sender.send(process.child.id()).unwrap();
        // As a failing assertion, without its message.
        std::panic::resume_unwind(Box::new(()));
    });
    assert!(failing.join().is_err());
    let process_id = process_id.recv().unwrap();
    assert!(!Path::new(&format!("/proc/{process_id}")).exists(), "process {process_id} still runs");
}

#[test]
fn sigterm_stops_sleeping_and_busy_guests_and_exits_with_zero() {
    let folder = config_folder(
        &[("spinner.wat", guests::spinner()), ("sleeper.wat", guests::sleeper())],
        &format!("{}{}", module("spinner", 4, ""), module("sleeper", 4, "")),
        "",
    );
    for signal in ["-TERM", "-INT"] {
        let process = Process::start_ready(&folder);
        assert!(process.get("/-/healthy").starts_with("HTTP/1.1 200"));
        process.signal(signal);
        let start = Instant::now();
        let Ended { code, log, .. } = process.wait();
        assert_eq!(code, Some(0), "{log}");
        assert!(start.elapsed() < Duration::from_secs(10));
        assert!(log.contains("stopped"), "{log}");
    }
}

#[test]
fn sighup_reloads() {
    let folder = config_folder(&[("a.wat", guests::sleeper())], &module("a", 1, ""), "");
    let process = Process::start_ready(&folder);
    write_config(folder.path(), &module("a", 2, ""), "");
    process.signal("-HUP");
    process.eventually("the second replica comes up", || {
        process.get("/metrics").contains(r#"wasm_instance_up{module="a",replica="1"} 1"#).then_some(())
    });
    process.signal("-TERM");
    assert_eq!(process.wait().code, Some(0));
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
    let process = Process::start(&folder);
    let line = process.eventually("the first line is logged", || {
        // Up to its end: the last line may still be being written.
        let log = process.log();
        log.split_inclusive('\n')
            .find(|line| line.contains("hello") && line.ends_with('\n'))
            .map(str::to_owned)
    });
    let json: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        (&json["target"], &json["message"], &json["module"], &json["replica"], &json["stream"]),
        (&"guest".into(), &"hello".into(), &"a".into(), &0.into(), &"stderr".into())
    );
    assert!(json["generation"].as_u64().unwrap() > 1_600_000_000_000);
    process.signal("-TERM");
    let Ended { code, log, .. } = process.wait();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("world"), "the line without an end comes when the lifetime ends: {log}");
}

#[test]
fn a_valid_config_is_called_valid() {
    let folder = config_folder(&[("a.wat", guests::sleeper())], &module("a", 3, ""), "");
    let Ended { code, stdout, log } = run(&folder, &["check"]);
    assert_eq!(code, Some(0), "{log}");
    assert!(stdout.contains("valid, 1 modules, 3 instances"), "{stdout}");
}

#[test]
fn a_wrong_config_exits_with_two_and_names_the_place() {
    let check = |modules: &str, extra: &str, needles: &[&str]| {
        let folder = config_folder(&[("a.wat", guests::sleeper())], modules, extra);
        for arguments in [&["check"][..], &[]] {
            let Ended { code, log: message, .. } = run(&folder, arguments);
            assert_eq!(code, Some(2), "{message}");
            for needle in needles {
                assert!(message.contains(needle), "{needle}: {message}");
            }
        }
    };
    check(&module("a", 1, ", colour: red"), "", &["runner.yml:", "modules[0]", "unknown field `colour`"]);
    check(&module("b", 1, ""), "", &["module \"b\"", "b.wat", "is it built"]);
    check(&module("a", 1, ", dirs: [{host: nowhere, guest: /x}]"), "", &["nowhere", "dirs.host"]);
    // An instance with one memory begins with four maps, so these need more than there are.
    let too_many = memory_maps_max() / 4 + 1;
    assert!(too_many <= 1_000_000, "a config takes no more replicas; lower vm.max_map_count for this test");
    check(&module("a", too_many, ""), "", &["vm.max_map_count", "sysctl -w"]);
    let control = "control: {listen: \"127.0.0.1:0\", bearer_token_file: nowhere}\n";
    check(&module("a", 1, ""), control, &["bearer_token_file", "nowhere"]);
    check(&module("a", 1, ""), "log: {level: \"a=b=c\"}\n", &["log.level"]);
}

/// What the host allows; hosts differ (65,530 by the kernel's default, 1,048,576 by some distributions').
fn memory_maps_max() -> u32 {
    let text = fs::read_to_string("/proc/sys/vm/max_map_count").unwrap();
    text.trim().parse().unwrap()
}

#[test]
fn without_a_config_the_flags_are_explained() {
    let nothing: [&str; 0] = [];
    let Ended { code, log, .. } = Process::spawn(nothing).wait();
    assert_eq!(code, Some(2));
    assert!(log.contains("--config FILE"), "{log}");
    let version = Process::spawn(["--version"]).wait().stdout;
    assert!(version.starts_with("ebb-runner 0."), "{version}");
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
    let Ended { code, log: message, .. } = run(&folder, &[]);
    assert_eq!(code, Some(1));
    assert!(message.contains(&format!("control.listen: {address}")), "{message}");
}

#[test]
fn a_spoilt_compile_cache_does_no_harm() {
    let cache = tempfile::tempdir().unwrap();
    let engine = format!("engine: {{compile_cache: {}}}\n", cache.path().display());
    let folder = config_folder(&[("a.wat", guests::sleeper())], &module("a", 1, ""), &engine);
    let judge = || assert_eq!(run(&folder, &["check"]).code, Some(0));
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
