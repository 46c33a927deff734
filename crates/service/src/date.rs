//! The `Date` header of answers, by the clock as it is now.
//!
//! hyper writes one by itself, and keeps it until the clock has passed it: after a clock was set back it goes on to tell
//! the time from before, for as long as that lies ahead. Whoever compares clocks by it would be misled.

use std::{
    cell::RefCell,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::http::{HeaderMap, HeaderValue, header};

/// Sets the `Date` header (RFC 9110, section 6.6.1), unless there is one.
pub fn set(headers: &mut HeaderMap) {
    headers.entry(header::DATE).or_insert_with(|| at(SystemTime::now()));
}

/// For a router's answers.
pub async fn stamp(mut response: axum::response::Response) -> axum::response::Response {
    set(response.headers_mut());
    response
}

/// Written once a second and thread.
fn at(now: SystemTime) -> HeaderValue {
    /// The last second that the format can write.
    const LAST: u64 = 253_402_300_799;
    thread_local! {
        static WRITTEN: RefCell<Option<(u64, HeaderValue)>> = const { RefCell::new(None) };
    }
    let second = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().min(LAST);
    WRITTEN.with_borrow_mut(|written| match written {
        Some((of, value)) if *of == second => value.clone(),
        _ => {
            let text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(second));
            let value = HeaderValue::try_from(text).expect("a date is ASCII");
            *written = Some((second, value.clone()));
            value
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_back_is_told_at_once() {
        let text = |seconds: u64| at(UNIX_EPOCH + Duration::from_millis(seconds * 1000 + 999));
        assert_eq!(text(1_700_000_000), "Tue, 14 Nov 2023 22:13:20 GMT");
        assert_eq!(text(1_700_003_600), "Tue, 14 Nov 2023 23:13:20 GMT");
        assert_eq!(text(1_700_000_000), "Tue, 14 Nov 2023 22:13:20 GMT");
    }

    #[test]
    fn a_clock_that_shows_what_cannot_be_written_is_told_all_the_same() {
        assert_eq!(at(UNIX_EPOCH - Duration::from_secs(1)), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(at(UNIX_EPOCH + Duration::from_secs(1 << 40)), "Fri, 31 Dec 9999 23:59:59 GMT");
    }

    #[test]
    fn a_date_that_was_set_stays() {
        let mut headers = HeaderMap::new();
        set(&mut headers);
        assert!(headers[header::DATE].to_str().unwrap().ends_with("GMT"));
        headers.insert(header::DATE, HeaderValue::from_static("then"));
        set(&mut headers);
        assert_eq!(headers[header::DATE], "then");
    }
}
