use ebb_units::ByteCount;

use super::*;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new("etc/runner.yml"), text)
}

#[test]
fn a_module_needs_three_keys_and_gets_defaults_for_the_rest() {
    let config = parse("modules:\n  - {name: a, path: a.wasm, kind: command}\n").unwrap();
    assert_eq!(config.control.listen.to_string(), "127.0.0.1:9742");
    assert_eq!(config.engine.epoch_tick.0, Duration::from_millis(10));
    let module = &config.modules[0];
    assert_eq!((module.replicas, module.max_restarting.get()), (1, 1));
    assert_eq!(module.guest.memory_limit, ByteCount::mib(256));
    assert_eq!(module.backoff.max, Duration::from_secs(30));
    assert!(!module.guest.inherit_network);
}

#[test]
fn paths_are_taken_from_the_config_files_folder() {
    let config = parse(
        "control: {bearer_token_file: token}\nengine: {compile_cache: cache}\nmodules:\n  - {name: a, \
         path: ../a.wasm, kind: command, dirs: [{host: data, guest: /data}, {host: /abs, guest: /abs}]}\n",
    )
    .unwrap();
    assert_eq!(config.control.bearer_token_file, Some("etc/token".into()));
    assert_eq!(config.engine.compile_cache, OwnFolder::Folder("etc/cache".into()));
    assert_eq!(config.modules[0].path, Path::new("etc/../a.wasm"));
    assert_eq!(config.modules[0].guest.dirs[0].host, Path::new("etc/data"));
    assert_eq!(config.modules[0].guest.dirs[1].host, Path::new("/abs"));
}

#[test]
fn the_compile_cache_can_be_switched_off() {
    for word in ["off", "\"off\"", "false"] {
        let config = parse(&format!("engine: {{compile_cache: {word}}}\nmodules: []\n")).unwrap();
        assert_eq!(config.engine.compile_cache, OwnFolder::Off, "{word}");
    }
}

#[test]
fn text_for_guests_is_what_is_written() {
    let config =
        parse(&module("args: [1.10, 0x1F, \"1.0\", on]\n    env: {VERSION: 1.10, EXPONENT: 1e3, YES: true}"));
    let guest = config.unwrap().modules.remove(0).guest;
    assert_eq!(guest.args, ["1.10", "0x1F", "1.0", "on"]);
    let env: Vec<_> = guest.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(env, ["EXPONENT=1e3", "VERSION=1.10", "YES=true"]);
}

/// `text` is refused; the message starts with the place and names all of `needles`.
fn check_refused(text: &str, place: &str, needles: &[&str]) {
    let error = parse(text).expect_err(text).to_string();
    assert!(error.starts_with(&format!("etc/runner.yml:{place}: ")), "{text}\n{error}");
    for needle in needles {
        assert!(error.contains(needle), "{needle}\n{error}");
    }
}

fn module(extra: &str) -> String {
    format!("modules:\n  - name: a\n    path: a.wasm\n    kind: command\n    {extra}\n")
}

#[test]
fn errors_name_file_line_column_and_field() {
    check_refused("modules: []\ncontrl: {}\n", "2:1", &["unknown field `contrl`", "control"]);
    check_refused("control: {}\n", "1:1", &["missing field `modules`"]);
    check_refused(&module("replcas: 2"), "5:5", &["modules[0]", "`replcas`", "replicas"]);
    check_refused(&module("replicas: many"), "5:15", &["modules[0].replicas", "many"]);
    check_refused(&module("replicas: -1"), "5:15", &["modules[0].replicas"]);
    check_refused(&module("replicas: 2000000"), "5:15", &["modules[0].replicas", "1000000"]);
    check_refused(&module("memory_limit: lots"), "5:19", &["modules[0].memory_limit", "64MiB"]);
    check_refused(&module("memory_limit: 1KiB"), "5:19", &["modules[0].memory_limit", "64KiB to 4GiB"]);
    check_refused(&module("memory_limit: 8GiB"), "5:19", &["modules[0].memory_limit", "64KiB to 4GiB"]);
    check_refused(&module("max_restarting: 0"), "5:21", &["modules[0].max_restarting"]);
    check_refused(&module("start_timeout: 5"), "5:20", &["modules[0].start_timeout", "10s"]);
    check_refused(&module("start_timeout: 0s"), "5:20", &["longer than zero"]);
    let twice = "dirs: [{host: a, guest: /x}, {host: b, guest: /x}]";
    check_refused(&module(twice), "2:5", &["modules[0]", "dirs", "duplicate guest path \"/x\""]);
    check_refused("modules:\n", "1:9", &["modules", "a list"]);
    check_refused(&module("env: {A: [1]}"), "5:14", &["modules[0].env.A", "expected text"]);
    check_refused(&module("env: {EBB_MODULE: x}"), "5:11", &["modules[0].env", "set by the runner"]);
    check_refused(&module("env: {\"A=B\": x}"), "5:11", &["environment variable"]);
    check_refused(&module("dirs: [{host: x}]"), "5:12", &["modules[0].dirs[0]", "missing field `guest`"]);
    check_refused(&module("restart: {backoff_min: 5s, backoff_max: 1s}"), "5:14", &["backoff_min 5s"]);
    check_refused("modules: [{name: 9a, path: a, kind: command}]\n", "1:18", &["modules[0].name", "9a"]);
    check_refused(
        "modules: [{name: a, path: a, kind: https}]\n",
        "1:36",
        &["modules[0].kind", "unknown variant `https`, expected `command` or `http`"],
    );
    check_refused(
        "modules:\n  - {name: a, path: a, kind: command}\n  - {name: a, path: b, kind: command}\n",
        "2:3",
        &["modules", "duplicate module \"a\""],
    );
    check_refused("engine: {epoch_tick: 2s}\nmodules: []\n", "1:22", &["engine.epoch_tick", "1ms to 1s"]);
    check_refused("engine: {guest_threads: 0}\nmodules: []\n", "1:25", &["engine.guest_threads"]);
    check_refused("control: {listen: here}\nmodules: []\n", "1:19", &["control.listen"]);
    check_refused("log: {format: xml}\nmodules: []\n", "1:15", &["log.format", "`json`"]);
}

#[test]
fn an_http_module_gets_defaults_and_a_listener() {
    assert_eq!(parse("modules: []\n").unwrap().http, None);
    let config = parse("modules: [{name: a, path: a, kind: http}]\n").unwrap();
    assert_eq!(config.http.unwrap().listen.to_string(), "127.0.0.1:8080");
    let KindConfig::Http(serve) = &config.modules[0].kind else { panic!("it is of kind http") };
    assert_eq!(serve.routes[0].to_string(), "*/");
    assert_eq!((serve.queue_limit, serve.drain_timeout), (256, Duration::from_secs(30)));
    let config = parse(
        "http: {listen: \"[::1]:80\", access_log: true, header_limit: 8KiB}\nmodules: [{name: a, path: a, kind: http, \
         http: {routes: [{host: \"*.b.org\"}, {path: /c/}], concurrency: 4, outgoing: [\"d:81\"]}}]\n",
    )
    .unwrap();
    assert!(config.http.unwrap().access_log);
    let KindConfig::Http(serve) = &config.modules[0].kind else { panic!("it is of kind http") };
    assert_eq!(serve.routes.iter().map(ToString::to_string).collect::<Vec<_>>(), ["*.b.org/", "*/c"]);
    assert_eq!(serve.concurrency.map(std::num::NonZeroU32::get), Some(4));
    assert!(serve.outgoing[0].matches("d", 81));
}

#[test]
fn errors_in_http_settings_name_their_place() {
    let http =
        |extra: &str| format!("modules:\n  - name: a\n    path: a\n    kind: http\n    http: {{{extra}}}\n");
    check_refused(&http("routes: []"), "5:20", &["modules[0].http.routes", "at least one route"]);
    check_refused(&http("routes: [{path: x}]"), "5:28", &["routes[0].path", "invalid path \"x\""]);
    check_refused(&http("routes: [{host: \"a:80\"}]"), "5:28", &["routes[0].host", "without a port"]);
    check_refused(&http("concurrency: 0"), "5:25", &["http.concurrency"]);
    check_refused(&http("request_timeout: 0s"), "5:29", &["http.request_timeout"]);
    check_refused(&http("outgoing: [\"a:b\"]"), "5:23", &["http.outgoing", "invalid port \"b\""]);
    check_refused(&http("que: 1"), "5:12", &["unknown field `que`", "queue_limit"]);
    check_refused(
        "http: {header_limit: 1KiB}\nmodules: []\n",
        "1:22",
        &["http.header_limit", "8KiB to 16MiB"],
    );
    check_refused("http: {max_connections: 0}\nmodules: []\n", "1:25", &["http.max_connections"]);
    check_refused(&module("http: {}"), "2:5", &["only allowed for kind `http`", "kind `command`"]);
    check_refused(
        "modules:\n  - {name: a, path: a, kind: http}\n  - {name: b, path: b, kind: http}\n",
        "2:3",
        &["route */ belongs to both \"a\" and \"b\""],
    );
}

#[test]
fn an_address_beyond_loopback_needs_a_token() {
    check_refused(
        "control: {listen: \"0.0.0.0:9742\"}\nmodules: []\n",
        "1:10",
        &["control: listen: 0.0.0.0:9742", "bearer_token_file"],
    );
    parse("control: {listen: \"0.0.0.0:9742\", bearer_token_file: t}\nmodules: []\n").unwrap();
    parse("control: {listen: \"[::1]:9742\"}\nmodules: []\n").unwrap();
}
