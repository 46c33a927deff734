//! TLS with certificates on both sides, users, and certificates that are replaced: on both programs, asked by Prometheus itself.

use std::{fs, path::Path, process::Command, time::Duration};

use ebb_testbed::{
    certificates::{Authority, Issued},
    evaluator::Evaluator,
    http, paths,
    prometheus::{Major, Prometheus},
    runner::Runner,
    wait,
};
use serde_json::Value;

use crate::support::{self, DEADLINE};

/// A web config that asks for certificates of `authority`, and for users if there are `more`.
fn web_config(authority: &Authority, name: &str, more: &str) -> String {
    let Issued { cert_file, key_file } = authority.issue(name);
    let path = authority.folder().join(format!("{name}.yml"));
    let text = format!(
        "tls_server_config: {{cert_file: {}, key_file: {}, client_ca_file: {}, client_auth_type: RequireAndVerifyClientCert}}\n{more}",
        cert_file.display(),
        key_file.display(),
        authority.ca_file().display()
    );
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// What a client of `authority` shows and believes, as both Prometheus and the evaluator write it.
fn tls_config(authority: &Authority, Issued { cert_file, key_file }: &Issued) -> String {
    format!(
        "tls_config: {{ca_file: {}, cert_file: {}, key_file: {}}}",
        authority.ca_file().display(),
        cert_file.display(),
        key_file.display()
    )
}

fn client(authority: &Authority, shows: Option<&Issued>) -> reqwest::Client {
    // It chooses the process' cryptography.
    let _ = http::client();
    let ca = fs::read(authority.ca_file()).unwrap();
    let builder =
        reqwest::Client::builder().tls_certs_only(reqwest::Certificate::from_pem_bundle(&ca).unwrap());
    let builder = match shows {
        Some(Issued { cert_file, key_file }) => {
            let pem = [fs::read(cert_file).unwrap(), fs::read(key_file).unwrap()].concat();
            builder.identity(reqwest::Identity::from_pem(&pem).unwrap())
        }
        None => builder,
    };
    builder.timeout(Duration::from_secs(30)).pool_max_idle_per_host(0).build().unwrap()
}

fn asked(program: &str, config: &Path, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(paths::program(program));
    let output = command.arg("--config").arg(config).args(arguments).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_works_over_mutual_tls_and_nothing_without() {
    let authority = Authority::new();
    let shown = authority.issue("client");
    let web = web_config(&authority, "runner", "");
    let runner = Runner::start_secure(
        &format!("  web_config_file: {web}"),
        &support::leaky(3),
        &client(&authority, Some(&shown)),
    )
    .await;
    let tls = tls_config(&authority, &shown);
    // Prometheus itself scrapes it so.
    let scrape = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n- job_name: ebb-runner\n  scheme: https\n  {tls}\n  \
         static_configs: [{{targets: [\"{}\"]}}]\n",
        runner.address
    );
    let prometheus = Prometheus::start_with(Major::Three, &scrape, &[]).await;
    let store = support::prometheus_store(&prometheus.url);
    let config = format!(
        "interval: 1s\n{store}runners: {{scheme: https, {tls}, allow: [\"{}\"]}}\n\
         defaults: {{policy: static, max_bytes: 16MiB, min_age: 2s}}\n",
        runner.address
    );
    let own = web_config(&authority, "evaluator", "");
    let evaluator = Evaluator::start_secure(
        &format!("web_config_file: {own}\n{config}"),
        &client(&authority, Some(&shown)),
    )
    .await;
    // Orders reach the runner.
    let https = client(&authority, Some(&shown));
    wait::until("a leak was restarted", DEADLINE, async || {
        let url = format!("https://{}/metrics", runner.address);
        let text = https.get(&url).send().await.ok()?.text().await.ok()?;
        let mut restarts = text.lines().filter(|line| line.starts_with("wasm_instance_restarts_total{"));
        restarts.any(|line| !line.ends_with(" 0")).then_some(())
    })
    .await;
    // Growth is asked for, and the commands find their own programs.
    let url = format!("https://{}/modules/leaky", evaluator.address);
    let page = https.get(&url).send().await.unwrap().text().await.unwrap();
    assert!(page.contains("Function that asked for memory"), "{page}");
    let runner_config = runner.dir().join("runner.yml");
    for (program, config, arguments, words) in [
        ("ebb-runner", &runner_config, &["healthy"][..], "is ready"),
        ("ebb-runner", &runner_config, &["growth", "leaky"], "ebb_guests::memory::leak"),
        ("ebb-evaluator", &evaluator.config_path(), &["healthy"], "is ready"),
        ("ebb-evaluator", &evaluator.config_path(), &["explain", "leaky/0"], "leaky/0 on"),
        ("ebb-evaluator", &evaluator.config_path(), &["check", "--live"], "takes orders without a token"),
    ] {
        let (_, said) = asked(program, config, arguments);
        assert!(said.contains(words), "{program} {arguments:?}: {said}");
    }
    // Who shows nothing, or what another authority has signed, gets nothing.
    let other = Authority::new();
    for stranger in [client(&authority, None), client(&authority, Some(&other.issue("client")))] {
        for address in [&runner.address, &evaluator.address] {
            let answer = stranger.get(format!("https://{address}/-/healthy")).send().await;
            assert!(answer.is_err(), "{answer:?}");
        }
    }
    assert!(reqwest::get(format!("http://{}/metrics", runner.address)).await.is_err());
    // Who believes another authority does not speak to the runner.
    let (found, said) = {
        let path = evaluator.config_path().with_file_name("other.yml");
        let text = fs::read_to_string(evaluator.config_path()).unwrap();
        let ours = authority.ca_file().display().to_string();
        fs::write(&path, text.replacen(&ours, &other.ca_file().display().to_string(), 1)).unwrap();
        asked("ebb-evaluator", &path, &["check", "--live"])
    };
    assert!(!found && said.contains("invalid peer certificate"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_replaced_under_load_and_no_request_fails() {
    let authority = Authority::new();
    let shown = authority.issue("client");
    let web = web_config(&authority, "runner", "");
    let https = client(&authority, Some(&shown));
    let runner =
        Runner::start_secure(&format!("  web_config_file: {web}"), &support::steady(1), &https).await;
    let url = format!("https://{}/metrics", runner.address);
    for replaced in 1..=3 {
        authority.issue("runner");
        // Each request is a connection of its own, and none fails.
        wait::until("the new certificate was read", DEADLINE, async || {
            assert_eq!(https.get(&url).send().await.unwrap().status(), 200);
            let read = runner.process.log().matches("certificates and users read again").count();
            (read >= replaced).then_some(())
        })
        .await;
    }
    // A broken one is told with its name, and the old one stays.
    fs::write(authority.folder().join("runner.pem"), "nothing").unwrap();
    wait::until("it was told", DEADLINE, async || {
        https.get(&url).send().await.unwrap();
        let log = runner.process.log();
        (log.contains("the old ones stay") && log.contains("runner.pem: expected certificates as PEM"))
            .then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_have_passwords_and_health_checks_need_none() {
    let authority = Authority::new();
    // Of "s3cret", as `htpasswd -nBC 4` prints it.
    let hash = "$2b$04$abcdefghijklmnopqrstuuLZYjhNQAOdpbzt4WxWlUHjv1wsyH5DG";
    let path = authority.folder().join("users.yml");
    fs::write(&path, format!("basic_auth_users: {{prom: \"{hash}\"}}\n")).unwrap();
    let runner =
        Runner::start_with(&format!("  web_config_file: {}", path.display()), &support::steady(1)).await;
    let http = http::client();
    let status = async |password: Option<&str>, path: &str| {
        let request = http.get(format!("http://{}{path}", runner.address));
        let request = match password {
            Some(password) => request.basic_auth("prom", Some(password)),
            None => request,
        };
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(status(Some("s3cret"), "/metrics").await, 200);
    assert_eq!(status(Some("wrong"), "/metrics").await, 401);
    assert_eq!(status(None, "/metrics").await, 401);
    assert_eq!(status(None, "/-/ready").await, 200);
    // Scraped by the evaluator, as that user.
    let password = authority.folder().join("password");
    fs::write(&password, "s3cret\n").unwrap();
    let user = format!("basic_auth: {{username: prom, password_file: {}}}", password.display());
    let store = support::scrape_store(&[&runner.address]);
    let config = support::evaluator(&store, &[&runner.address], "").replacen(
        "runners: {",
        &format!("runners: {{{user}, "),
        1,
    );
    let evaluator = Evaluator::start(&config).await;
    wait::until("the evaluator scrapes it", DEADLINE, async || {
        let modules: Value = evaluator.api("modules").await;
        (modules[0]["module"] == "steady").then_some(())
    })
    .await;
}

#[test]
fn what_is_wrong_with_certificates_keeps_a_program_from_starting_and_names_the_file() {
    let authority = Authority::new();
    authority.issue_expired("old");
    let web = authority.folder().join("web.yml");
    fs::write(&web, "tls_server_config: {cert_file: old.pem, key_file: old.key}\n").unwrap();
    let config = authority.folder().join("runner.yml");
    fs::write(&config, "control: {listen: \"127.0.0.1:0\", web_config_file: web.yml}\nmodules: []\n")
        .unwrap();
    let (is_valid, said) = asked("ebb-runner", &config, &["check"]);
    assert!(!is_valid && said.contains("old.pem: the certificate has expired"), "{said}");
    let config = authority.folder().join("evaluator.yml");
    fs::write(&config, "web_config_file: web.yml\ndry_run: true\nstore: {scrape: {targets: [\"r:1\"]}}\n")
        .unwrap();
    let (is_valid, said) = asked("ebb-evaluator", &config, &["check"]);
    assert!(!is_valid && said.contains("old.pem: the certificate has expired"), "{said}");
    fs::write(&web, "").unwrap();
    let open = "web_config_file: web.yml\nlisten: \"0.0.0.0:0\"\ndry_run: true\nstore: {scrape: {targets: [\"r:1\"]}}\n";
    fs::write(&config, open).unwrap();
    let (is_valid, said) = asked("ebb-evaluator", &config, &["check"]);
    assert!(!is_valid && said.contains("is reachable from other machines"), "{said}");
}
