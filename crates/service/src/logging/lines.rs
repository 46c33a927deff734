//! Log lines → standard error, by a thread of its own. Nobody who logs waits for whoever reads: lines that come faster
//! than they are read are kept up to [`QUEUE_BYTES_MAX`], and dropped beyond that. So are lines that cannot be written, to a
//! disk that is full for example. Both are counted.

use std::{
    borrow::Cow,
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{self, Receiver, Sender, SyncSender},
    },
    thread,
    time::Duration,
};

use tracing_subscriber::fmt::MakeWriter;

/// What is kept of lines that are not written yet, in bytes: some 30,000 usual lines.
const QUEUE_BYTES_MAX: usize = 8 << 20;

/// What a queued line costs besides its text.
const LINE_COST: usize = 64;

/// The longest line, in bytes. Guests' lines are 8 KiB at most, and what is quoted from elsewhere is clipped: this is
/// for what was forgotten.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// How many bytes are written at once.
const BATCH_BYTES: usize = 64 * 1024;

enum Message {
    Line(Vec<u8>),
    /// Asks to be told when everything before it is written.
    Flush(SyncSender<()>),
}

/// Where lines are handed over.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    sender: Sender<Message>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    queued_bytes: AtomicUsize,
    dropped: AtomicU64,
}

impl Lines {
    /// Starts the thread that writes to `sink`. `tell` is called there with the number of lines that were dropped or could not
    /// be written, once there is room again.
    pub(super) fn start(
        sink: impl Write + Send + 'static,
        tell: impl Fn(u64) + Send + 'static,
    ) -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel();
        let counts = Arc::<Counts>::default();
        let writer = Writer { receiver, counts: Arc::clone(&counts), sink, tell, told: 0 };
        thread::Builder::new().name("ebb-log".to_owned()).spawn(|| writer.run())?;
        Ok(Self { sender, counts })
    }

    /// How many lines were dropped, or could not be written.
    pub(super) fn dropped(&self) -> u64 {
        self.counts.dropped.load(Ordering::Relaxed)
    }

    /// Takes a line, line break included, or drops it. Never waits.
    pub(super) fn push(&self, line: &[u8]) {
        let line = clipped(line);
        let cost = line.len() + LINE_COST;
        let queued = self.counts.queued_bytes.fetch_add(cost, Ordering::Relaxed) + cost;
        if queued > QUEUE_BYTES_MAX || self.sender.send(Message::Line(line.into_owned())).is_err() {
            self.counts.queued_bytes.fetch_sub(cost, Ordering::Relaxed);
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until every line so far is written, but not longer than `within`.
    pub(super) fn flush(&self, within: Duration) {
        let (done, written) = mpsc::sync_channel(1);
        if self.sender.send(Message::Flush(done)).is_ok() {
            // Whoever does not read by now has lost the rest.
            let _ = written.recv_timeout(within);
        }
    }
}

fn clipped(line: &[u8]) -> Cow<'_, [u8]> {
    if line.len() <= LINE_BYTES_MAX {
        return line.into();
    }
    let beginning = String::from_utf8_lossy(&line[..LINE_BYTES_MAX]);
    format!("{beginning}… ({} bytes in all)\n", line.len()).into_bytes().into()
}

/// The formatter writes each line by one call.
impl Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

/// The thread's side.
struct Writer<W, T> {
    receiver: Receiver<Message>,
    counts: Arc<Counts>,
    sink: W,
    tell: T,
    told: u64,
}

impl<W: Write, T: Fn(u64)> Writer<W, T> {
    fn run(mut self) {
        let mut batch = Vec::new();
        while let Ok(message) = self.receiver.recv() {
            let mut next = Some(message);
            let mut lines = 0;
            let mut flushed = None;
            while let Some(message) = next {
                match message {
                    Message::Line(line) => {
                        batch.extend(line);
                        lines += 1;
                    }
                    Message::Flush(done) => {
                        flushed = Some(done);
                        break;
                    }
                }
                next = if batch.len() < BATCH_BYTES { self.receiver.try_recv().ok() } else { None };
            }
            if self.sink.write_all(&batch).and_then(|()| self.sink.flush()).is_err() {
                // Some of them may have been written, the last in part.
                self.counts.dropped.fetch_add(lines as u64, Ordering::Relaxed);
            }
            self.counts.queued_bytes.fetch_sub(batch.len() + lines * LINE_COST, Ordering::Relaxed);
            batch.clear();
            self.tell_of_dropped();
            if let Some(done) = flushed {
                // Whoever waits may have left.
                let _ = done.try_send(());
            }
        }
    }

    fn tell_of_dropped(&mut self) {
        let dropped = self.counts.dropped.load(Ordering::Relaxed);
        let has_room = self.counts.queued_bytes.load(Ordering::Relaxed) < QUEUE_BYTES_MAX / 2;
        if dropped > self.told && has_room {
            (self.tell)(dropped - self.told);
            self.told = dropped;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader, Read as _},
        sync::Mutex,
        time::Instant,
    };

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn lines_are_written_in_order_and_flushed() {
        let (reader, sink) = io::pipe().unwrap();
        let lines = Lines::start(sink, |_| panic!("nothing was dropped")).unwrap();
        for number in 0..1000 {
            (&lines).write_all(format!("line {number}\n").as_bytes()).unwrap();
        }
        // 11 KB are less than a pipe holds: they are there, though nobody has read.
        lines.flush(LONG);
        drop(lines);
        let read: Vec<_> = BufReader::new(reader).lines().map(Result::unwrap).collect();
        assert_eq!(read, (0..1000).map(|number| format!("line {number}")).collect::<Vec<_>>());
    }

    #[test]
    fn nobody_waits_for_a_pipe_that_is_not_read_and_what_is_dropped_is_counted_and_told() {
        const LINES: u64 = 100_000;
        let (mut reader, sink) = io::pipe().unwrap();
        let told = Arc::new(Mutex::new(0));
        let tell = Arc::clone(&told);
        let lines = Lines::start(sink, move |dropped| *tell.lock().unwrap() += dropped).unwrap();
        let line = [b'x'; 200];
        let pushed = {
            let lines = lines.clone();
            thread::spawn(move || (0..LINES).for_each(|_| lines.push(&line)))
        };
        // 20 MB, of which a pipe holds 64 KiB: this returns though nobody reads.
        pushed.join().unwrap();
        let dropped = lines.dropped();
        assert!(dropped > LINES / 2, "{dropped}");
        lines.flush(Duration::from_millis(50));

        let mut text = String::new();
        let read = thread::spawn(move || reader.read_to_string(&mut text).map(|_| text).unwrap());
        lines.flush(LONG);
        let waits_since = Instant::now();
        while *told.lock().unwrap() < dropped {
            assert!(waits_since.elapsed() < LONG, "{} of {dropped} told", told.lock().unwrap());
            thread::yield_now();
        }
        drop(lines);
        assert_eq!(read.join().unwrap().len() as u64, (LINES - dropped) * 200);
        assert_eq!(*told.lock().unwrap(), dropped);
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted() {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let lines = Lines::start(full, |_| {}).unwrap();
        for _ in 0..7 {
            lines.push(b"no space left on device\n");
        }
        lines.flush(LONG);
        // What is told of them in the log cannot be written either.
        assert!(lines.dropped() >= 7, "{}", lines.dropped());
    }

    #[test]
    fn a_line_is_no_longer_than_it_may_be() {
        let line = vec![b'x'; 10_000_000];
        let clipped = String::from_utf8(clipped(&line).into_owned()).unwrap();
        assert!(clipped.len() < LINE_BYTES_MAX + 50 && clipped.ends_with("x… (10000000 bytes in all)\n"));
    }
}
