//! Host and path → whose request it is. Pure.

use std::cmp::Reverse;

use crate::config::{HostPattern, Route};

/// All routes, the most specific first.
#[derive(Debug)]
pub(crate) struct Routes<T>(Vec<(Route, T)>);

impl<T> Default for Routes<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Clone> Routes<T> {
    /// The table of `routes`.
    pub(crate) fn new(routes: impl IntoIterator<Item = (Route, T)>) -> Self {
        let mut routes: Vec<_> = routes.into_iter().collect();
        routes.sort_by_key(|(route, _)| {
            let host = match &route.host {
                HostPattern::Exact(_) => (2, 0),
                HostPattern::Subdomains(domain) => (1, domain.len()),
                HostPattern::Any => (0, 0),
            };
            Reverse((host, route.path.length()))
        });
        Self(routes)
    }

    /// Whose request it is: an exact host goes before a domain, a longer domain before a shorter one, any
    /// host last; for the same host, a longer path goes first.
    ///
    /// `authority`: what the client asks for, `host` or `host:port`.
    pub(crate) fn find(&self, authority: &str, path: &str) -> Option<&T> {
        let host = host(authority);
        let lower;
        let host = if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            lower = host.to_ascii_lowercase();
            lower.as_str()
        } else {
            host
        };
        let found = self.0.iter().find(|(route, _)| route.host.matches(host) && route.path.matches(path));
        found.map(|(_, owner)| owner)
    }
}

/// `host:port` → `host`. An IPv6 address keeps its brackets.
pub(crate) fn host(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn route(host: &str, path: &str) -> (Route, String) {
        let route = Route { host: host.parse().unwrap(), path: path.parse().unwrap() };
        let name = route.to_string();
        (route, name)
    }

    fn find<'a>(routes: &'a Routes<String>, authority: &str, path: &str) -> &'a str {
        routes.find(authority, path).map_or("nobody", String::as_str)
    }

    #[test]
    fn the_most_specific_route_wins_whatever_the_order() {
        let all = [
            route("*", "/"),
            route("*", "/files"),
            route("*.example.org", "/"),
            route("*.a.example.org", "/"),
            route("b.a.example.org", "/files"),
        ];
        for rotation in 0..all.len() {
            let mut all = all.to_vec();
            all.rotate_left(rotation);
            let routes = Routes::new(all);
            assert_eq!(find(&routes, "b.a.example.org", "/files/x"), "b.a.example.org/files");
            assert_eq!(find(&routes, "B.A.example.ORG:8080", "/other"), "*.a.example.org/");
            assert_eq!(find(&routes, "c.example.org", "/files"), "*.example.org/");
            assert_eq!(find(&routes, "example.org", "/files/"), "*/files");
            assert_eq!(find(&routes, "[::1]:80", "/filesystem"), "*/");
        }
    }

    #[test]
    fn what_no_route_matches_is_nobodys() {
        let routes = Routes::new([route("example.org", "/a")]);
        assert_eq!(find(&routes, "example.org", "/"), "nobody");
        assert_eq!(find(&routes, "other.org", "/a"), "nobody");
        assert_eq!(find(&Routes::default(), "other.org", "/a"), "nobody");
    }

    #[test]
    fn a_port_is_not_part_of_the_host() {
        assert_eq!([host("a:80"), host("a"), host("[::1]:80"), host("[::1]")], ["a", "a", "[::1]", "[::1]"]);
    }

    proptest! {
        #[test]
        fn no_request_makes_it_panic(authority in ".*", path in ".*") {
            let routes = Routes::new([route("*", "/a"), route("*.b", "/"), route("c", "/")]);
            let _ = routes.find(&authority, &path);
        }
    }
}
