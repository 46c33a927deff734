//! Is an exchange making progress, and if not, whom does it wait for? Pure: the time is an argument.
//!
//! At every moment an exchange waits either for its client (to send what the guest asked for, or to take
//! what the guest has offered) or else for its guest. A guest is stuck when it has been waited for without
//! doing anything for the whole `timeout`. A client is too slow when it has been waited for that long,
//! interruptions not counted, and has moved less than a minimum of bytes meanwhile: without the minimum, a
//! client that sends a byte a second would hold an instance for hours.
//!
//! All times are since the exchange began.

use std::time::Duration;

/// Bytes per second of waiting that a client must move: what Kestrel asks of its clients, too.
const BYTES_PER_SECOND_MIN: u64 = 240;

/// The progress of one exchange.
#[derive(Debug)]
pub(crate) struct ProgressTimeout {
    timeout: Duration,
    upload: Upload,
    download: Download,
    /// When the one that is waited for now began to be waited for; of a guest, when it last did something.
    since: Duration,
    /// How long the client was waited for before that, since it last moved the minimum.
    client_waits: Duration,
    /// Bytes that the client moved in that time.
    client_moved: u64,
    /// Bytes that were offered to the client and not yet seen to be taken.
    offered: u64,
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
    /// The client waits for the guest: for the head, or for more of the body. Or it has all of it.
    Awaited,
    /// The client has not taken what there is.
    Offered,
    /// The guest was told that nobody takes more.
    Cut,
}

/// What to do about an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing until then.
    Fine(Duration),
    /// The client sends too slowly: the guest is to be told.
    CutUpload,
    /// The client takes too slowly: it is to be disconnected.
    CutDownload,
    /// The guest does nothing.
    GuestStuck,
}

impl ProgressTimeout {
    /// An exchange whose sides may each be waited for without progress for `timeout`.
    pub(crate) const fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            upload: Upload::Resting,
            download: Download::Awaited,
            since: Duration::ZERO,
            client_waits: Duration::ZERO,
            client_moved: 0,
            offered: 0,
        }
    }

    /// The guest waits for more of the request's body.
    pub(crate) fn upload_awaited(&mut self, now: Duration) {
        if self.upload == Upload::Resting {
            self.turn(now);
            self.upload = Upload::Awaited;
        }
    }

    /// `bytes` of the request's body reached the guest; none: its end.
    pub(crate) fn uploaded(&mut self, bytes: u64, now: Duration) {
        self.turn(now);
        if self.upload == Upload::Awaited {
            self.upload = Upload::Resting;
        }
        self.client_moves(bytes);
    }

    /// Whether the guest was told that nothing more comes.
    pub(crate) fn upload_is_cut(&self) -> bool {
        self.upload == Upload::Cut
    }

    /// The response's head, or `bytes` of its body, are there for the client to take.
    pub(crate) fn offered(&mut self, bytes: u64, now: Duration) {
        self.turn(now);
        if self.download == Download::Awaited {
            self.download = Download::Offered;
        }
        self.offered += bytes;
    }

    /// The client has taken all that was offered.
    pub(crate) fn taken(&mut self, now: Duration) {
        if self.download == Download::Offered {
            self.turn(now);
            self.download = Download::Awaited;
            let taken = std::mem::take(&mut self.offered);
            self.client_moves(taken);
        }
    }

    /// What to do about it. Each side is cut once; after that only the guest is left to blame.
    #[must_use]
    pub(crate) fn check(&mut self, now: Duration) -> Verdict {
        let left = if self.waits_for_client() {
            self.timeout.saturating_sub(self.client_waits)
        } else {
            self.timeout
        };
        let until = self.since + left;
        if now < until {
            return Verdict::Fine(until);
        }
        let verdict = if self.upload == Upload::Awaited {
            self.upload = Upload::Cut;
            Verdict::CutUpload
        } else if self.download == Download::Offered {
            self.download = Download::Cut;
            Verdict::CutDownload
        } else {
            Verdict::GuestStuck
        };
        self.since = now;
        self.client_begins_anew();
        verdict
    }

    fn waits_for_client(&self) -> bool {
        self.upload == Upload::Awaited || self.download == Download::Offered
    }

    /// Something happens `now`, after which it may be another's turn.
    fn turn(&mut self, now: Duration) {
        if self.waits_for_client() {
            self.client_waits += now.saturating_sub(self.since);
        }
        self.since = now;
    }

    fn client_moves(&mut self, bytes: u64) {
        self.client_moved += bytes;
        if self.client_moved as f64 >= self.timeout.as_secs_f64() * BYTES_PER_SECOND_MIN as f64 {
            self.client_begins_anew();
        }
    }

    fn client_begins_anew(&mut self) {
        self.client_waits = Duration::ZERO;
        self.client_moved = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_guest_that_does_nothing_is_stuck_after_the_timeout() {
        let mut progress = ProgressTimeout::new(TIMEOUT);
        assert_eq!(progress.check(at(9)), Verdict::Fine(at(10)));
        assert_eq!(progress.check(at(10)), Verdict::GuestStuck);
    }

    #[test]
    fn whatever_a_guest_does_gives_it_the_timeout_again() {
        let mut progress = ProgressTimeout::new(TIMEOUT);
        progress.offered(0, at(8));
        progress.taken(at(8));
        assert_eq!(progress.check(at(10)), Verdict::Fine(at(18)));
        // One byte now and then: a stream of events, say.
        progress.offered(1, at(15));
        progress.taken(at(15));
        assert_eq!(progress.check(at(24)), Verdict::Fine(at(25)));
        assert_eq!(progress.check(at(25)), Verdict::GuestStuck);
    }

    #[test]
    fn a_client_that_sends_a_byte_a_second_is_cut_and_then_the_guest_has_the_timeout_again() {
        let mut progress = ProgressTimeout::new(TIMEOUT);
        for second in 1..10 {
            progress.upload_awaited(at(second - 1));
            progress.uploaded(1, at(second));
        }
        progress.upload_awaited(at(9));
        assert_eq!(progress.check(at(9)), Verdict::Fine(at(10)));
        assert_eq!(progress.check(at(10)), Verdict::CutUpload);
        assert!(progress.upload_is_cut());
        assert_eq!(progress.check(at(19)), Verdict::Fine(at(20)));
        assert_eq!(progress.check(at(20)), Verdict::GuestStuck);
    }

    #[test]
    fn a_client_that_is_slow_in_both_directions_is_cut() {
        let mut progress = ProgressTimeout::new(TIMEOUT);
        let mut second = 0;
        // An echo: a byte comes after a second, and goes back at once.
        let verdict = loop {
            progress.upload_awaited(at(second));
            second += 1;
            match progress.check(at(second)) {
                Verdict::Fine(_) => {}
                verdict => break verdict,
            }
            progress.uploaded(1, at(second));
            progress.offered(1, at(second));
            progress.taken(at(second));
        };
        assert_eq!((verdict, second), (Verdict::CutUpload, 10));
    }

    #[test]
    fn a_client_that_does_not_take_its_answer_is_cut_and_the_guest_is_not_to_blame() {
        let mut progress = ProgressTimeout::new(TIMEOUT);
        progress.offered(0, at(1));
        assert_eq!(progress.check(at(10)), Verdict::Fine(at(11)));
        assert_eq!(progress.check(at(11)), Verdict::CutDownload);
        assert_eq!(progress.check(at(21)), Verdict::GuestStuck);
    }

    #[test]
    fn a_client_that_takes_too_little_at_a_time_is_cut() {
        let mut progress = ProgressTimeout::new(TIMEOUT);
        // 100 bytes in 4 seconds, and again; the minimum is 2400 in 10 seconds of waiting.
        progress.offered(100, at(0));
        progress.taken(at(4));
        progress.offered(100, at(4));
        progress.taken(at(8));
        progress.offered(100, at(8));
        assert_eq!(progress.check(at(9)), Verdict::Fine(at(10)));
        assert_eq!(progress.check(at(10)), Verdict::CutDownload);
    }

    #[test]
    fn a_client_that_has_its_answer_is_never_cut_for_what_the_guest_does_after_it() {
        let mut progress = ProgressTimeout::new(TIMEOUT);
        progress.offered(5, at(1));
        progress.taken(at(1));
        assert_eq!(progress.check(at(10)), Verdict::Fine(at(11)));
        assert_eq!(progress.check(at(11)), Verdict::GuestStuck);
    }

    #[test]
    fn a_guest_may_take_the_timeout_after_a_client_that_took_its_time() {
        let mut progress = ProgressTimeout::new(TIMEOUT);
        progress.offered(10_000, at(0));
        progress.taken(at(9));
        assert_eq!(progress.check(at(18)), Verdict::Fine(at(19)));
        assert_eq!(progress.check(at(19)), Verdict::GuestStuck);
    }

    #[test]
    fn a_body_at_the_least_rate_goes_on_for_ever() {
        let mut progress = ProgressTimeout::new(TIMEOUT);
        for second in 1..=100 {
            progress.upload_awaited(at(second - 1));
            progress.uploaded(241, at(second));
            assert!(matches!(progress.check(at(second)), Verdict::Fine(_)), "{second}");
        }
    }
}
