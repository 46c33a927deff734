//! Writes scrapes into Prometheus as they fall due, by remote write (protocol 1.0).

use std::time::{Duration, SystemTime};

use ebb_testbed::http;
use prost::encoding::encode_varint;

use super::fleet::{
    Fleet, MEMORY_METRIC, RUNNERS, SCRAPE_INTERVAL_MILLIS, START_TIME_METRIC, Slot, scraped_at,
};

/// Feeds one Prometheus.
pub(crate) struct Feed {
    url: String,
    fleet: Fleet,
    /// By slot: the labels of both series as remote write has them.
    labels: Vec<[Vec<u8>; 2]>,
    /// By runner: the number of its next scrape.
    next: Vec<i64>,
}

/// Scrapes of a series in one piece while catching up: half an hour. Prometheus takes no sample that is
/// an hour older than its newest.
const CATCH_UP_SCRAPES: i64 = 180;
/// Slots in a request while catching up: 100,000 samples.
const CATCH_UP_SLOTS: usize = 256;

impl Feed {
    /// Goes on with `fleet`, from its `scrape`-th scrape.
    pub(crate) fn new(url: &str, fleet: Fleet, scrape: i64) -> Self {
        let labels =
            |slot: &Slot| [MEMORY_METRIC, START_TIME_METRIC].map(|name| encoded_labels(&slot.labels(name)));
        let labels = fleet.slots.iter().map(labels).collect();
        let runners = usize::try_from(RUNNERS).expect("there are few runners");
        Self { url: format!("{url}/api/v1/write"), fleet, labels, next: vec![scrape; runners] }
    }

    /// Writes every scrape that is due.
    pub(crate) async fn catch_up(&mut self) {
        loop {
            let now = now_millis();
            let due = |runner: i64| (now - scraped_at(0, runner)).div_euclid(SCRAPE_INTERVAL_MILLIS) + 1;
            let until: Vec<i64> = (0..)
                .zip(&self.next)
                .map(|(runner, next)| due(runner).clamp(*next, next + CATCH_UP_SCRAPES))
                .collect();
            if until == self.next {
                return;
            }
            self.write_until(&until).await;
            self.next = until;
        }
    }

    /// Writes each scrape when it is due, while `work` is done.
    pub(crate) async fn live_while<T>(&mut self, work: impl Future<Output = T>) -> T {
        self.catch_up().await;
        let feeding = async {
            loop {
                tokio::time::sleep(Duration::from_millis(100)).await;
                self.catch_up().await;
            }
        };
        tokio::select! {
            done = work => done,
            () = feeding => unreachable!("feeding does not end by itself"),
        }
    }

    async fn write_until(&mut self, until: &[i64]) {
        for (slots, labels) in
            self.fleet.slots.chunks_mut(CATCH_UP_SLOTS).zip(self.labels.chunks(CATCH_UP_SLOTS))
        {
            let mut request = Vec::new();
            for (slot, [memory, start_time]) in slots.iter_mut().zip(labels) {
                let runner = usize::try_from(slot.runner).expect("runners are counted from 0");
                let read = |scrape| {
                    let at = scraped_at(scrape, slot.runner);
                    (at, slot.read(at))
                };
                let readings: Vec<_> = (self.next[runner]..until[runner]).map(read).collect();
                if readings.is_empty() {
                    continue;
                }
                series(&mut request, memory, readings.iter().map(|(at, read)| (*at, read.memory_bytes)));
                series(
                    &mut request,
                    start_time,
                    readings.iter().map(|(at, read)| (*at, read.start_time_seconds)),
                );
            }
            if !request.is_empty() {
                send(&self.url, &request).await;
            }
        }
    }
}

pub(crate) fn now_millis() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("the clock is past 1970");
    i64::try_from(now.as_millis()).expect("the clock is before the year 292 million")
}

async fn send(url: &str, request: &[u8]) {
    let body = snap::raw::Encoder::new().compress_vec(request).expect("a request is far below 4 GiB");
    let request = http::client()
        .post(url)
        .header("Content-Type", "application/x-protobuf")
        .header("Content-Encoding", "snappy")
        .header("X-Prometheus-Remote-Write-Version", "0.1.0")
        .body(body);
    let response = request.send().await.expect("Prometheus answers a remote write");
    let status = response.status();
    assert!(status.is_success(), "remote write: {status}: {}", response.text().await.unwrap_or_default());
}

/// The fields `labels` of a `TimeSeries` of `prompb/types.proto`.
fn encoded_labels(labels: &[(&str, String)]) -> Vec<u8> {
    let mut encoded = Vec::new();
    for (name, value) in labels {
        let mut label = Vec::new();
        field(&mut label, 1, name.as_bytes());
        field(&mut label, 2, value.as_bytes());
        field(&mut encoded, 1, &label);
    }
    encoded
}

/// Adds a `TimeSeries` to a `WriteRequest`.
fn series(request: &mut Vec<u8>, labels: &[u8], samples: impl Iterator<Item = (i64, f64)>) {
    let mut encoded = labels.to_vec();
    for (at, value) in samples {
        // Sample: field 1, the value, 64 bits; field 2, the time, a varint.
        let mut sample = vec![0x09];
        sample.extend(value.to_le_bytes());
        sample.push(0x10);
        encode_varint(at.cast_unsigned(), &mut sample);
        field(&mut encoded, 2, &sample);
    }
    field(request, 1, &encoded);
}

/// A field of wire type 2: length, bytes.
fn field(buffer: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    encode_varint(number << 3 | 2, buffer);
    encode_varint(bytes.len() as u64, buffer);
    buffer.extend(bytes);
}
