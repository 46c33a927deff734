//! Is an exchange making progress, and if not, whom does it wait for? Pure: the time is an argument.
//!
//! Progress is a response's head, or a minimum of body bytes in either direction: without the minimum, a
//! client that sends a byte a second would hold an instance for hours.

use std::time::{Duration, Instant};

/// Bytes per second that count as progress: what Kestrel asks of its clients, too.
const BYTES_PER_SECOND_MIN: u64 = 240;

/// The progress of one exchange.
#[derive(Debug)]
pub struct Pace {
    timeout: Duration,
    /// When something last moved that counts.
    since: Instant,
    /// Bytes since then that do not count yet.
    moved: u64,
    upload: Upload,
    download: Download,
}

/// Where the request's body is stuck, if it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Upload {
    /// The guest does not ask for more.
    Resting,
    /// The guest waits for the client.
    Awaited,
    /// The guest was told that nothing more comes.
    Cut,
}

/// Where the response is stuck, if it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Download {
    /// The client waits for the guest: for the head, or for more of the body.
    Awaited,
    /// The client has not taken what there is.
    Offered,
    /// The guest was told that nobody takes more.
    Cut,
}

/// What to do about an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing until then.
    Fine(Instant),
    /// The client sends too slowly: the guest is to be told.
    CutUpload,
    /// The client takes too slowly: it is to be disconnected.
    CutDownload,
    /// The guest does nothing.
    GuestStuck,
}

impl Pace {
    /// An exchange that begins `now` and may go without progress for `timeout`.
    #[must_use]
    pub fn new(timeout: Duration, now: Instant) -> Self {
        Self { timeout, since: now, moved: 0, upload: Upload::Resting, download: Download::Awaited }
    }

    /// The guest waits for more of the request's body.
    pub fn upload_awaited(&mut self) {
        if self.upload == Upload::Resting {
            self.upload = Upload::Awaited;
        }
    }

    /// `bytes` of the request's body reached the guest; none: its end.
    pub fn uploaded(&mut self, bytes: u64, now: Instant) {
        if self.upload == Upload::Awaited {
            self.upload = Upload::Resting;
        }
        self.count(bytes, now);
    }

    /// Whether the guest was told that nothing more comes.
    #[must_use]
    pub fn upload_is_cut(&self) -> bool {
        self.upload == Upload::Cut
    }

    /// The response's head, or `bytes` of its body, were offered to the client.
    pub fn offered(&mut self, bytes: Option<u64>, now: Instant) {
        if self.download == Download::Awaited {
            self.download = Download::Offered;
        }
        match bytes {
            None => self.advance(now),
            Some(bytes) => self.count(bytes, now),
        }
    }

    /// The client waits for more of the response's body.
    pub fn download_awaited(&mut self, now: Instant) {
        if self.download == Download::Offered {
            self.download = Download::Awaited;
            // What the client took its time for is not the guest's to answer for.
            self.advance(now);
        }
    }

    /// What to do about it. Each side is cut once; after that only the guest is left to blame.
    #[must_use]
    pub fn judge(&mut self, now: Instant) -> Verdict {
        let until = self.since + self.timeout;
        if now < until {
            return Verdict::Fine(until);
        }
        self.advance(now);
        if self.upload == Upload::Awaited {
            self.upload = Upload::Cut;
            Verdict::CutUpload
        } else if self.download == Download::Offered {
            self.download = Download::Cut;
            Verdict::CutDownload
        } else {
            Verdict::GuestStuck
        }
    }

    fn count(&mut self, bytes: u64, now: Instant) {
        self.moved += bytes;
        let minimum = self.timeout.as_secs_f64() * BYTES_PER_SECOND_MIN as f64;
        if self.moved as f64 >= minimum {
            self.advance(now);
        }
    }

    fn advance(&mut self, now: Instant) {
        self.since = now;
        self.moved = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    /// A pace, and a clock that reads seconds from its beginning.
    fn begin() -> (Pace, impl Fn(u64) -> Instant) {
        let start = Instant::now();
        (Pace::new(TIMEOUT, start), move |seconds| start + Duration::from_secs(seconds))
    }

    #[test]
    fn a_guest_that_does_nothing_is_stuck_after_the_timeout() {
        let (mut pace, at) = begin();
        assert_eq!(pace.judge(at(9)), Verdict::Fine(at(10)));
        assert_eq!(pace.judge(at(10)), Verdict::GuestStuck);
    }

    #[test]
    fn a_head_is_progress_and_so_is_a_fast_body() {
        let (mut pace, at) = begin();
        pace.offered(None, at(8));
        assert_eq!(pace.judge(at(10)), Verdict::Fine(at(18)));
        pace.download_awaited(at(9));
        pace.offered(Some(2400), at(15));
        assert_eq!(pace.judge(at(18)), Verdict::Fine(at(25)));
    }

    #[test]
    fn a_client_that_sends_a_byte_a_second_is_cut_and_then_the_guest_has_the_timeout_again() {
        let (mut pace, at) = begin();
        for second in 1..10 {
            pace.upload_awaited();
            pace.uploaded(1, at(second));
        }
        pace.upload_awaited();
        assert_eq!(pace.judge(at(10)), Verdict::CutUpload);
        assert!(pace.upload_is_cut());
        assert_eq!(pace.judge(at(19)), Verdict::Fine(at(20)));
        assert_eq!(pace.judge(at(20)), Verdict::GuestStuck);
    }

    #[test]
    fn a_client_that_does_not_take_its_answer_is_cut_and_the_guest_is_not_to_blame() {
        let (mut pace, at) = begin();
        pace.offered(None, at(1));
        assert_eq!(pace.judge(at(11)), Verdict::CutDownload);
        assert_eq!(pace.judge(at(21)), Verdict::GuestStuck);
    }

    #[test]
    fn a_guest_may_take_the_timeout_after_a_client_that_took_its_time() {
        let (mut pace, at) = begin();
        pace.offered(None, at(1));
        pace.download_awaited(at(10));
        assert_eq!(pace.judge(at(11)), Verdict::Fine(at(20)));
        assert_eq!(pace.judge(at(20)), Verdict::GuestStuck);
    }

    #[test]
    fn a_body_at_the_least_rate_goes_on_for_ever() {
        let (mut pace, at) = begin();
        for second in 1..=100 {
            pace.upload_awaited();
            pace.uploaded(241, at(second));
            assert!(matches!(pace.judge(at(second)), Verdict::Fine(_)), "{second}");
        }
    }
}
