//! What a guest prints → log lines with its name on them.
//!
//! A guest cannot fill the host's memory or log through its output: a line is cut at [`LINE_BYTES_MAX`],
//! nothing is queued, and beyond [`LINES_PER_SECOND_MAX`] or [`BYTES_PER_SECOND_MAX`] lines are dropped and
//! counted.

use std::{
    io, mem,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use ebb_units::{Generation, ModuleName, Replica};
use tokio::io::AsyncWrite;
use tracing::{info, warn};
use wasmtime_wasi::{
    async_trait,
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamResult},
};

/// The longest log line, in bytes; a longer one is logged in pieces.
pub(crate) const LINE_BYTES_MAX: usize = 8 * 1024;

/// More lines than this of one stream within a second are dropped.
pub(crate) const LINES_PER_SECOND_MAX: u32 = 500;

/// More bytes than this of one stream per second, on average over four, are dropped: 500 lines of full
/// length would be 4 MB. What names the guest in each line is not counted.
pub(crate) const BYTES_PER_SECOND_MAX: u32 = 64 * 1024;

/// A guest that was quiet may print at once what it could have printed in this time: a report of 256 KiB.
const BURST: Duration = Duration::from_secs(4);

/// What a guest may write in one call. WASI's usual permit.
const PERMIT_BYTES: usize = 64 * 1024;

/// Which of its two streams a guest wrote to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// One output stream of one lifetime. Clones write to the same line.
#[derive(Clone)]
pub(crate) struct GuestLog(Arc<Mutex<Writer>>);

struct Writer {
    stream: Stream,
    module: ModuleName,
    replica: Replica,
    generation: Generation,
    lines: LineBuffer,
    rate: Rate,
}

impl GuestLog {
    /// The log of `stream` of a lifetime.
    pub(crate) fn new(stream: Stream, module: ModuleName, replica: Replica, generation: Generation) -> Self {
        let (lines, rate) = (LineBuffer::default(), Rate::default());
        Self(Arc::new(Mutex::new(Writer { stream, module, replica, generation, lines, rate })))
    }

    fn append(&self, bytes: &[u8]) {
        // A writer whose thread panicked is as good as before: at worst a line is cut.
        let mut writer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lines = mem::take(&mut writer.lines);
        lines.append(bytes, |line| writer.log(line));
        writer.lines = lines;
    }
}

impl Writer {
    fn log(&mut self, line: &[u8]) {
        match self.rate.admit(line.len(), Instant::now()) {
            Admission::Drop => return,
            Admission::Log { dropped_before: 0 } => {}
            Admission::Log { dropped_before } => self.tell_of_dropped(dropped_before),
        }
        let Self { stream, module, replica, generation, .. } = self;
        let (stream, replica, generation) = (stream.as_str(), replica.0, generation.0);
        let line = String::from_utf8_lossy(line);
        // A root event: the host's spans around a WASI call say nothing about the guest.
        info!(target: "guest", parent: None, %module, replica, generation, stream, "{line}");
    }

    fn tell_of_dropped(&self, dropped: u64) {
        let Self { stream, module, replica, generation, .. } = self;
        let (stream, replica, generation) = (stream.as_str(), replica.0, generation.0);
        warn!(
            target: "guest", parent: None, %module, replica, generation, stream, dropped,
            "the guest prints too much: lines were dropped"
        );
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let rest = mem::take(&mut self.lines).rest;
        if !rest.is_empty() {
            self.log(&rest);
        }
        if self.rate.dropped > 0 {
            self.tell_of_dropped(self.rate.dropped);
        }
    }
}

/// Bytes → lines, the incomplete one kept.
#[derive(Default)]
struct LineBuffer {
    rest: Vec<u8>,
}

impl LineBuffer {
    fn append(&mut self, mut bytes: &[u8], mut log: impl FnMut(&[u8])) {
        while !bytes.is_empty() {
            let room = LINE_BYTES_MAX - self.rest.len();
            let piece = &bytes[..bytes.len().min(room)];
            if let Some(end) = piece.iter().position(|&byte| byte == b'\n') {
                self.rest.extend_from_slice(&piece[..end]);
                bytes = &bytes[end + 1..];
            } else {
                self.rest.extend_from_slice(piece);
                bytes = &bytes[piece.len()..];
                if self.rest.len() < LINE_BYTES_MAX {
                    return;
                }
            }
            log(self.rest.strip_suffix(b"\r").unwrap_or(&self.rest));
            self.rest.clear();
        }
        // A quiet guest keeps no buffer: there may be ten thousand of them.
        if self.rest.is_empty() {
            self.rest = Vec::new();
        }
    }
}

/// Counts lines second by second, and bytes over [`BURST`].
#[derive(Default)]
struct Rate {
    second: Option<Instant>,
    lines: u32,
    /// When all bytes so far have had their time, at [`BYTES_PER_SECOND_MAX`].
    settled: Option<Instant>,
    dropped: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Admission {
    Log { dropped_before: u64 },
    Drop,
}

impl Rate {
    /// Judges a line of `bytes` bytes. A line that is dropped counts for nothing but that.
    fn admit(&mut self, bytes: usize, now: Instant) -> Admission {
        let same_second = self.second.is_some_and(|start| now.duration_since(start) < Duration::from_secs(1));
        if !same_second {
            self.second = Some(now);
            self.lines = 0;
        }
        let settled = self.settled.map_or(now, |settled| settled.max(now)) + time_of(bytes);
        if self.lines >= LINES_PER_SECOND_MAX || settled.duration_since(now) > BURST {
            self.dropped += 1;
            return Admission::Drop;
        }
        self.lines += 1;
        self.settled = Some(settled);
        Admission::Log { dropped_before: mem::take(&mut self.dropped) }
    }
}

/// How long `bytes` take at [`BYTES_PER_SECOND_MAX`].
fn time_of(bytes: usize) -> Duration {
    let bytes = u32::try_from(bytes).expect("a line has at most LINE_BYTES_MAX bytes");
    Duration::from_secs(1) * bytes / BYTES_PER_SECOND_MAX
}

impl IsTerminal for GuestLog {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for GuestLog {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for GuestLog {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.append(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(PERMIT_BYTES)
    }
}

#[async_trait]
impl Pollable for GuestLog {
    async fn ready(&mut self) {}
}

impl AsyncWrite for GuestLog {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.append(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(writes: &[&str]) -> (Vec<String>, String) {
        let mut buffer = LineBuffer::default();
        let mut lines = Vec::new();
        for write in writes {
            buffer.append(write.as_bytes(), |line| lines.push(String::from_utf8_lossy(line).into_owned()));
        }
        (lines, String::from_utf8(buffer.rest).unwrap())
    }

    #[test]
    fn a_line_is_logged_when_it_is_complete() {
        assert_eq!(lines(&["ab", "c\nd", "e"]), (vec!["abc".to_owned()], "de".to_owned()));
        assert_eq!(lines(&["a\r\n\nb\n"]), (vec!["a".into(), String::new(), "b".into()], String::new()));
    }

    #[test]
    fn a_line_without_end_is_logged_in_pieces() {
        let (lines, rest) = lines(&[&"x".repeat(2 * LINE_BYTES_MAX + 5)]);
        assert_eq!(lines.iter().map(String::len).collect::<Vec<_>>(), [LINE_BYTES_MAX, LINE_BYTES_MAX]);
        assert_eq!(rest.len(), 5);
    }

    #[test]
    fn lines_beyond_the_rate_are_dropped_counted_and_told_later() {
        let mut rate = Rate::default();
        let start = Instant::now();
        for _ in 0..LINES_PER_SECOND_MAX {
            assert_eq!(rate.admit(1, start), Admission::Log { dropped_before: 0 });
        }
        assert_eq!(rate.admit(1, start), Admission::Drop);
        assert_eq!(rate.admit(1, start + Duration::from_millis(999)), Admission::Drop);
        assert_eq!(rate.admit(1, start + Duration::from_secs(1)), Admission::Log { dropped_before: 2 });
        assert_eq!(rate.admit(1, start + Duration::from_secs(1)), Admission::Log { dropped_before: 0 });
    }

    #[test]
    fn bytes_beyond_the_rate_are_dropped_counted_and_told_later() {
        let mut rate = Rate::default();
        let start = Instant::now();
        // 4 s · 64 KiB/s = 256 KiB = 32 lines of 8 KiB at once; each of them takes 125 ms.
        for _ in 0..32 {
            assert_eq!(rate.admit(LINE_BYTES_MAX, start), Admission::Log { dropped_before: 0 });
        }
        assert_eq!(rate.admit(LINE_BYTES_MAX, start), Admission::Drop);
        assert_eq!(rate.admit(LINE_BYTES_MAX, start + Duration::from_millis(124)), Admission::Drop);
        let later = start + Duration::from_millis(125);
        assert_eq!(rate.admit(LINE_BYTES_MAX, later), Admission::Log { dropped_before: 2 });
        assert_eq!(rate.admit(LINE_BYTES_MAX, later), Admission::Drop);
        // However long it was quiet, no more than a burst.
        let much_later = start + Duration::from_secs(3600);
        for line in 0..33 {
            let expected = match line {
                0 => Admission::Log { dropped_before: 1 },
                32 => Admission::Drop,
                _ => Admission::Log { dropped_before: 0 },
            };
            assert_eq!(rate.admit(LINE_BYTES_MAX, much_later), expected, "{line}");
        }
    }

    #[test]
    fn a_guest_that_prints_without_end_is_logged_at_the_rate() {
        let (mut rate, start) = (Rate::default(), Instant::now());
        // Full lines, one each millisecond, for 100 s: 256 KiB at once, then 64 KiB/s: 32 + 8 · 100 lines.
        let logged = (0..100_000)
            .filter(|&ms| rate.admit(LINE_BYTES_MAX, start + Duration::from_millis(ms)) != Admission::Drop)
            .count();
        assert!((831..=832).contains(&logged), "{logged}");
    }
}
