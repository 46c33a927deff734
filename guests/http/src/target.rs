//! A request's target: its path and its query.

/// `/path?query` → the path, still encoded, and the query, if there is one.
#[must_use]
pub fn split(target: &str) -> (&str, Option<&str>) {
    match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    }
}

/// The value of `name` in a query such as `a=1&b`; empty if there is no `=`.
#[must_use]
pub fn parameter<'a>(query: Option<&'a str>, name: &str) -> Option<&'a str> {
    query?.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then_some(value)
    })
}

/// `%41` → `A`. `None` if a percent sign is not followed by two hexadecimal digits, or if the result is not
/// UTF-8.
#[must_use]
pub fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        bytes.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_has_a_path_and_perhaps_a_query() {
        assert_eq!(split("/a?b=c?d"), ("/a", Some("b=c?d")));
        assert_eq!(split("/a"), ("/a", None));
        let query = Some("a=1&flag&c=x=y");
        assert_eq!(parameter(query, "a"), Some("1"));
        assert_eq!(parameter(query, "flag"), Some(""));
        assert_eq!(parameter(query, "c"), Some("x=y"));
        assert_eq!((parameter(query, "d"), parameter(None, "a")), (None, None));
    }

    #[test]
    fn percent_signs_are_decoded_or_refused() {
        assert_eq!(decoded("a%20b%C3%A9").as_deref(), Some("a bé"));
        for bad in ["%", "%4", "%zz", "%+1", "%ff"] {
            assert_eq!(decoded(bad), None, "{bad}");
        }
    }
}
