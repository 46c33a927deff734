use axum::http::{HeaderValue, header};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use ebb_testbed::certificates::{Authority, Issued};

use super::*;

fn written(authority: &Authority, text: &str) -> PathBuf {
    let path = authority.folder().join("web.yml");
    fs::write(&path, text).unwrap();
    path
}

fn tls(Issued { cert_file, key_file }: &Issued, more: &str) -> String {
    // Relative to the file, as Prometheus has it.
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    format!("tls_server_config: {{cert_file: {}, key_file: {}{more}}}\n", name(cert_file), name(key_file))
}

fn loaded(authority: &Authority, text: &str) -> Result<Arc<WebConfig>, String> {
    WebConfig::load(&written(authority, text), &["http/1.1"]).map_err(|error| Chain(&error).to_string())
}

#[test]
fn what_prometheus_reads_is_read_and_paths_are_beside_the_file() {
    let authority = Authority::new();
    let issued = authority.issue("server");
    let plain = loaded(&authority, "").unwrap();
    assert!(!plain.is_tls() && !plain.keeps_others_out());
    let with_tls = loaded(&authority, &tls(&issued, ", min_version: TLS13")).unwrap();
    assert!(with_tls.is_tls() && !with_tls.keeps_others_out());
    let mutual = tls(&issued, ", client_ca_file: ca.pem, client_auth_type: RequireAndVerifyClientCert");
    let mutual = loaded(&authority, &format!("{mutual}http_server_config: {{http2: false}}\n")).unwrap();
    assert!(mutual.is_tls() && mutual.keeps_others_out());
}

#[test]
fn what_cannot_be_used_is_refused_with_the_file_that_is_wrong() {
    let authority = Authority::new();
    let (server, other) = (authority.issue("server"), authority.issue("other"));
    let old = authority.issue_expired("old");
    let refused = |text: &str, file: &str, words: &str| {
        let problem = loaded(&authority, text).unwrap_err();
        assert!(problem.contains(file) && problem.contains(words), "{text}: {problem}");
    };
    refused(&tls(&old, ""), "old.pem", "the certificate has expired");
    let mixed = Issued { cert_file: server.cert_file.clone(), key_file: other.key_file };
    refused(&tls(&mixed, ""), "other.key", "expected the key of");
    let missing = Issued { cert_file: authority.folder().join("none.pem"), ..server.clone() };
    refused(&tls(&missing, ""), "none.pem", "No such file");
    let swapped = Issued { cert_file: server.key_file.clone(), key_file: server.cert_file.clone() };
    refused(&tls(&swapped, ""), "server.key", "expected certificates as PEM: found none");
    refused(&tls(&server, ", client_ca_file: ca.pem"), "web.yml", "expected RequireAndVerifyClientCert");
    refused(
        &tls(&server, ", client_auth_type: RequireAndVerifyClientCert"),
        "web.yml",
        "needs client_ca_file",
    );
    refused(&tls(&server, ", client_auth_type: RequestClientCert"), "web.yml", "RequestClientCert");
    refused(&tls(&server, ", cipher_suites: [x]"), "web.yml", "cipher_suites");
    refused("basic_auth_users: {a: secret}\n", "web.yml", "basic_auth_users.a: expected a bcrypt hash");
}

fn asked(authorization: &str) -> HeaderMap {
    [(header::AUTHORIZATION, HeaderValue::from_str(authorization).unwrap())].into_iter().collect()
}

fn basic(user: &str) -> HeaderMap {
    asked(&format!("Basic {}", BASE64_STANDARD.encode(user)))
}

#[tokio::test]
async fn users_are_let_in_by_their_password_and_orders_by_their_token() {
    let authority = Authority::new();
    let hash = bcrypt::hash("s3cret", 4).unwrap();
    let path = written(&authority, &format!("basic_auth_users: {{prom: \"{hash}\"}}\n"));
    let token_file = authority.folder().join("token");
    fs::write(&token_file, "tok\n").unwrap();
    let web = WebConfig::load(&path, &[]).unwrap();
    let token = BearerToken::from_file(&token_file).unwrap();
    assert!(web.keeps_others_out());
    for allowed in [basic("prom:s3cret"), basic("prom:s3cret"), asked("Bearer tok")] {
        assert!(web.authenticate(&allowed, Some(&token)).await.is_ok(), "{allowed:?}");
    }
    for refused in [
        HeaderMap::new(),
        basic("prom:wrong"),
        basic("nobody:s3cret"),
        basic("prom"),
        asked("Basic ???"),
        asked("Bearer other"),
    ] {
        assert!(web.authenticate(&refused, Some(&token)).await.is_err(), "{refused:?}");
    }
    assert!(web.authenticate(&asked("Bearer tok"), None).await.is_err());
}

#[test]
fn a_password_of_nobody_takes_as_long_as_a_wrong_one() {
    assert!(!bcrypt::verify("x", users::NOBODY).unwrap());
}

#[test]
fn a_certificate_that_is_replaced_is_read_again_and_a_broken_one_changes_nothing() {
    let authority = Authority::new();
    let issued = authority.issue("server");
    let web = loaded(&authority, &tls(&issued, "")).unwrap();
    let serves = || web.loaded().tls.clone().unwrap();
    let first = serves();
    let until = |what: &str, is: &dyn Fn() -> bool| {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !is() {
            assert!(Instant::now() < deadline, "{what}");
            std::thread::yield_now();
        }
    };
    authority.issue("server");
    until("the new one is used", &|| !Arc::ptr_eq(&first, &serves()));
    let second = serves();
    fs::write(&issued.cert_file, "nothing").unwrap();
    until("it was looked at", &|| {
        !web.state.lock().unwrap().refused.is_empty() || web.loaded().tls.is_none()
    });
    assert!(Arc::ptr_eq(&second, &serves()));
}
