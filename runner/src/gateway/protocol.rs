//! What connections of the data plane speak, and which host a request is for. Knows neither fleet nor guests.

use std::time::Duration;

use ebb_units::ByteCount;
use http::header;
use hyper_util::{
    rt::{TokioExecutor, TokioTimer},
    server::conn::auto,
};

use crate::exchange::routes;

/// How often an HTTP/2 client is asked whether it is still there.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// HTTP/1.1 and HTTP/2. A request's head may be `header_limit` long, and of HTTP/1.1 take `head_timeout`.
pub(crate) fn connections(header_limit: ByteCount, head_timeout: Duration) -> auto::Builder<TokioExecutor> {
    let header_limit = usize::try_from(header_limit.0).unwrap_or(usize::MAX);
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        // Head and body of most answers fit into one buffer; to copy them there costs less than to have
        // the kernel gather them.
        .writev(false)
        .max_buf_size(header_limit);
    http.http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .max_header_list_size(u32::try_from(header_limit).unwrap_or(u32::MAX));
    http
}

/// What the client asks for, `host` or `host:port`: the target's authority, or the `Host` header. None if that names no host,
/// or if there are several: whose request it is would depend on who reads it.
///
/// Source: RFC 9112, section 3.2.
pub(crate) fn authority<B>(request: &http::Request<B>) -> Option<&str> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let header = hosts.next();
    if hosts.next().is_some() {
        return None;
    }
    let authority = request.uri().authority().map(http::uri::Authority::as_str);
    authority.or_else(|| header?.to_str().ok()).filter(|authority| names_host(authority))
}

/// Whether there is a host, and nothing that is part of none: neither a user, nor a path, nor a second host.
fn names_host(authority: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=:[]".contains(&byte);
    !routes::host(authority).is_empty() && authority.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn a_request_is_for_one_host_or_for_none() {
        let check = |target: &str, hosts: &[&str], expected: Option<&str>| {
            let mut request = Request::builder().uri(target);
            for host in hosts {
                request = request.header("host", *host);
            }
            assert_eq!(authority(&request.body(()).unwrap()), expected, "{target} {hosts:?}");
        };
        check("/", &["files.example.org:8080"], Some("files.example.org:8080"));
        check("/", &["[::1]:8080"], Some("[::1]:8080"));
        check("http://a.example.org/", &["b.example.org"], Some("a.example.org"));
        check("/", &[], None);
        for host in ["", ":80", "user@a", "a/b", "a b", "a, b", "a\"", "ä"] {
            check("/", &[host], None);
        }
        check("/", &["a", "a"], None);
        check("http://a/", &["a", "b"], None);
        check("http://user@a/", &["a"], None);
    }
}
