//! Bootstrap by remote read's streamed chunks: the server sends its chunks as they lie on disk.
//!
//! Two queries in one request, answered one after the other: first the start times, which hold still
//! and are kept as runs, then the memory, joined with the runs while it streams. Nothing is held but
//! the runs and one frame.
//!
//! Protocol: Prometheus, `prompb/remote.proto` and `storage/remote/chunked.go`.

#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing;

use std::collections::HashMap;

use bytes::{Buf as _, Bytes, BytesMut};
use ebb_core::history::Sample;
use ebb_units::{Generation, Millis};
use prost::Message;
use reqwest::{Response, StatusCode, header};

use super::{
    client::{self, Client},
    xor_chunk,
};
use crate::{
    client::server_time,
    store::{
        answer::{ClockCheck, Fetched, Sink, StoreError},
        gauges::{MEMORY_METRIC, START_TIME_METRIC},
        labels::Labels,
        naming::{Gauge, Named, Nameless, Naming},
        series::{Numbers, bytes as size_in_bytes},
    },
};

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum ReadError {
    /// The server does not speak this protocol.
    Unsupported(String),
    Store(StoreError),
}

impl From<StoreError> for ReadError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// A frame beyond this is not read. Prometheus' default limit of the frames that it sends is 1 MiB. Decoded, the most
/// wasteful frame, which consists of empty labels and chunks, takes 24 times as much.
const FRAME_BYTES_MAX: usize = 16 << 20;

/// More series are not read: twice those of 100,000 instances and their predecessors of some deployments.
const SERIES_MAX: usize = 1_000_000;

/// More lifetimes are not read.
const RUNS_MAX: usize = 10_000_000;

const CONTENT_TYPE_STREAMED: &str = "application/x-streamed-protobuf";

/// Gives all samples after `from` up to `to` into `sink`.
pub(super) async fn read(
    client: &Client,
    naming: &Naming,
    matchers: &[String],
    from: Millis,
    clock: ClockCheck,
    sink: &mut Sink<'_>,
) -> Result<Fetched, ReadError> {
    let to = clock.now;
    let attempt = format!("remote read at {}", client.url());
    let sent = clock.shows();
    let response = send(client, &attempt, matchers, from, to).await?;
    clock.compare(&attempt, sent, server_time(response.headers()))?;
    let mut answer = Answer::new(naming, from, to);
    let mut frames = Frames { response, buffer: BytesMut::new() };
    loop {
        let frame = frames.next().await.map_err(|error| match error {
            FrameError::Transport(error) => client::failure(&attempt, client.bootstrap_timeout(), error),
            FrameError::Malformed(problem) => StoreError::Malformed { attempt: attempt.clone(), problem },
        })?;
        let Some(frame) = frame else { return Ok(answer.fetched) };
        answer
            .take(frame, sink)
            .map_err(|problem| StoreError::Malformed { attempt: attempt.clone(), problem })?;
    }
}

async fn send(
    client: &Client,
    attempt: &str,
    matchers: &[String],
    from: Millis,
    to: Millis,
) -> Result<Response, ReadError> {
    let Some(matchers) =
        matchers.iter().map(|matcher| proto::LabelMatcher::parse(matcher)).collect::<Option<Vec<_>>>()
    else {
        return Err(ReadError::Unsupported(
            "a matcher of the config is not of the form label=\"value\"".to_owned(),
        ));
    };
    let query = |metric| proto::Query {
        start_timestamp_ms: from.0,
        end_timestamp_ms: to.0,
        matchers: [vec![proto::LabelMatcher::equal("__name__", metric)], matchers.clone()].concat(),
    };
    let request = proto::ReadRequest {
        queries: vec![query(START_TIME_METRIC), query(MEMORY_METRIC)],
        accepted_response_types: vec![proto::STREAMED_XOR_CHUNKS],
    };
    let body = snap::raw::Encoder::new()
        .compress_vec(&request.encode_to_vec())
        .expect("a request of a few hundred bytes is below snappy's limit of 4 GiB");
    let request = client
        .post("/api/v1/read")
        .header(header::CONTENT_TYPE, "application/x-protobuf")
        .header(header::CONTENT_ENCODING, "snappy")
        .header("X-Prometheus-Remote-Read-Version", "0.1.0")
        .body(body);
    let response = client.send(attempt, request, client.bootstrap_timeout()).await?;
    let status = response.status();
    let streamed = response
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.starts_with(CONTENT_TYPE_STREAMED));
    match status {
        StatusCode::OK if streamed => Ok(response),
        StatusCode::OK => Err(ReadError::Unsupported("the answer is not streamed".to_owned())),
        StatusCode::BAD_REQUEST
        | StatusCode::NOT_FOUND
        | StatusCode::METHOD_NOT_ALLOWED
        | StatusCode::UNSUPPORTED_MEDIA_TYPE
        | StatusCode::NOT_IMPLEMENTED => Err(ReadError::Unsupported(format!("status {status}"))),
        _ => Err(client.body(attempt, response, 0).await.expect_err("the status is not 200").into()),
    }
}

/// The answer as far as it was read.
struct Answer<'a> {
    naming: &'a Naming,
    from: Millis,
    to: Millis,
    numbers: Numbers,
    /// By the number of the series, in order of time.
    runs: HashMap<usize, Vec<Run>>,
    runs_count: usize,
    fetched: Fetched,
    /// Samples of one chunk; kept for its room.
    samples: Vec<Sample>,
}

/// A time span in which a series' start time held still.
struct Run {
    first: Millis,
    last: Millis,
    generation: Generation,
}

impl<'a> Answer<'a> {
    fn new(naming: &'a Naming, from: Millis, to: Millis) -> Self {
        let (numbers, runs, fetched) = Default::default();
        Self { naming, from, to, numbers, runs, runs_count: 0, fetched, samples: Vec::new() }
    }

    fn take(&mut self, frame: Bytes, sink: &mut Sink<'_>) -> Result<(), String> {
        let response = proto::ChunkedReadResponse::decode(frame)
            .map_err(|error| format!("expected a frame with a ChunkedReadResponse: {error}"))?;
        for series in response.chunked_series {
            let labels: Labels<'_> =
                series.labels.iter().map(|label| (&*label.name, &*label.value)).collect();
            let (gauge, id) = match self.naming.parse(&labels) {
                Ok(Named::Slot(gauge, id)) => (gauge, id),
                Ok(Named::Host(..) | Named::Limit(..) | Named::Other) => continue,
                Err(nameless) => {
                    self.fetched.pass_over(Some(&nameless));
                    continue;
                }
            };
            let number = self.numbers.of(id);
            if self.numbers.len() > SERIES_MAX {
                return Err(format!("expected at most {SERIES_MAX} series"));
            }
            self.fetched.series += 1;
            match gauge {
                Gauge::StartTime => self.take_start_times(number, &series.chunks)?,
                Gauge::Memory => self.take_memory(number, &series.chunks, sink)?,
            }
        }
        Ok(())
    }

    fn take_start_times(&mut self, number: usize, chunks: &[proto::Chunk]) -> Result<(), String> {
        let runs = self.runs.entry(number).or_default();
        let before = runs.len();
        let refused = each_sample(chunks, self.from, self.to, |at, value| {
            let Some(generation) = Generation::from_start_time(value) else { return false };
            match runs.last_mut() {
                Some(run) if run.generation == generation => run.last = at,
                _ => runs.push(Run { first: at, last: at, generation }),
            }
            true
        })?;
        self.runs_count += runs.len() - before;
        if self.runs_count > RUNS_MAX {
            return Err(format!("expected at most {RUNS_MAX} lifetimes"));
        }
        if refused > 0 {
            *self.fetched.refused_samples.entry("not_a_time").or_default() += refused;
        }
        Ok(())
    }

    fn take_memory(
        &mut self,
        number: usize,
        chunks: &[proto::Chunk],
        sink: &mut Sink<'_>,
    ) -> Result<(), String> {
        let Some(runs) = self.runs.get(&number) else {
            let alone = Nameless::alone(self.numbers.id(number), START_TIME_METRIC);
            self.fetched.pass_over(Some(&alone));
            return Ok(());
        };
        let mut run = 0;
        // Chunk by chunk: a chunk of some bytes can hold thousands of samples, and a frame millions of chunks.
        for chunk in chunks {
            self.samples.clear();
            let refused = each_sample(std::slice::from_ref(chunk), self.from, self.to, |at, value| {
                while runs.get(run).is_some_and(|run| run.last < at) {
                    run += 1;
                }
                let Some(bytes) = size_in_bytes(value) else { return false };
                if let Some(run) = runs.get(run).filter(|run| run.first <= at) {
                    self.samples.push(Sample { at, generation: run.generation, bytes });
                }
                true
            })?;
            if refused > 0 {
                *self.fetched.refused_samples.entry("not_a_size").or_default() += refused;
            }
            if !self.samples.is_empty() {
                sink(self.numbers.id(number), &self.samples);
            }
        }
        Ok(())
    }
}

/// Decodes the samples after `from` up to `to`; returns how many of them `take` refused. Stale markers,
/// which are a NaN of their own, are passed over as queries pass over them.
fn each_sample(
    chunks: &[proto::Chunk],
    from: Millis,
    to: Millis,
    mut take: impl FnMut(Millis, f64) -> bool,
) -> Result<u64, String> {
    const STALE_MARKER: u64 = 0x7ff0_0000_0000_0002;
    let mut refused = 0;
    for chunk in chunks {
        if chunk.encoding != proto::ENCODING_XOR {
            return Err(format!("expected XOR chunks (1), got encoding {}", chunk.encoding));
        }
        xor_chunk::decode(&chunk.data, |at, value| {
            if at > from && at <= to && value.to_bits() != STALE_MARKER && !take(at, value) {
                refused += 1;
            }
        })
        .map_err(|error| error.to_string())?;
    }
    Ok(refused)
}

/// The stream's frames: length as a varint, CRC-32C of the data, data.
struct Frames {
    response: Response,
    buffer: BytesMut,
}

enum FrameError {
    Transport(reqwest::Error),
    Malformed(String),
}

impl Frames {
    async fn next(&mut self) -> Result<Option<Bytes>, FrameError> {
        loop {
            if let Some(frame) = split_frame(&mut self.buffer).map_err(FrameError::Malformed)? {
                return Ok(Some(frame));
            }
            match self.response.chunk().await.map_err(FrameError::Transport)? {
                Some(more) => self.buffer.extend_from_slice(&more),
                None if self.buffer.is_empty() => return Ok(None),
                None => {
                    let problem =
                        format!("the stream ended inside a frame, {} bytes into it", self.buffer.len());
                    return Err(FrameError::Malformed(problem));
                }
            }
        }
    }
}

/// Takes the first frame out of `buffer`; `None` when it has not arrived whole.
fn split_frame(buffer: &mut BytesMut) -> Result<Option<Bytes>, String> {
    const CHECKSUM_BYTES: usize = 4;
    const LENGTH_BYTES_MAX: usize = 10;
    let ends = buffer.iter().take(LENGTH_BYTES_MAX).position(|byte| *byte < 0x80);
    let Some(length_bytes) = ends.map(|last| last + 1) else {
        return if buffer.len() < LENGTH_BYTES_MAX {
            Ok(None)
        } else {
            Err("a frame's length does not end".to_owned())
        };
    };
    let length =
        prost::encoding::decode_varint(&mut &buffer[..length_bytes]).map_err(|error| error.to_string())?;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > FRAME_BYTES_MAX {
        return Err(format!("expected frames of at most {FRAME_BYTES_MAX} bytes, got one of {length}"));
    }
    let header_bytes = length_bytes + CHECKSUM_BYTES;
    // Room is made as bytes come, not as they are announced.
    if buffer.len() < header_bytes + length {
        return Ok(None);
    }
    buffer.advance(length_bytes);
    let checksum = buffer.get_u32();
    let data = buffer.split_to(length).freeze();
    if crc32c::crc32c(&data) != checksum {
        return Err("a frame's checksum does not match its data".to_owned());
    }
    Ok(Some(data))
}

/// The messages of `prompb/remote.proto` and `prompb/types.proto` that are used here.
mod proto {
    pub(super) const STREAMED_XOR_CHUNKS: i32 = 1;
    pub(super) const ENCODING_XOR: i32 = 1;

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct ReadRequest {
        #[prost(message, repeated, tag = "1")]
        pub(super) queries: Vec<Query>,
        #[prost(int32, repeated, tag = "2")]
        pub(super) accepted_response_types: Vec<i32>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Query {
        #[prost(int64, tag = "1")]
        pub(super) start_timestamp_ms: i64,
        #[prost(int64, tag = "2")]
        pub(super) end_timestamp_ms: i64,
        #[prost(message, repeated, tag = "3")]
        pub(super) matchers: Vec<LabelMatcher>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct LabelMatcher {
        #[prost(int32, tag = "1")]
        kind: i32,
        #[prost(string, tag = "2")]
        name: String,
        #[prost(string, tag = "3")]
        value: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct ChunkedReadResponse {
        #[prost(message, repeated, tag = "1")]
        pub(super) chunked_series: Vec<ChunkedSeries>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct ChunkedSeries {
        #[prost(message, repeated, tag = "1")]
        pub(super) labels: Vec<Label>,
        #[prost(message, repeated, tag = "2")]
        pub(super) chunks: Vec<Chunk>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Label {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(string, tag = "2")]
        pub(super) value: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Chunk {
        #[prost(int32, tag = "3")]
        pub(super) encoding: i32,
        #[prost(bytes = "bytes", tag = "4")]
        pub(super) data: bytes::Bytes,
    }

    impl LabelMatcher {
        pub(super) fn equal(name: &str, value: &str) -> Self {
            Self { kind: 0, name: name.to_owned(), value: value.to_owned() }
        }

        /// A matcher as PromQL writes it: `job="ebb"`, `env!="test"`, `zone=~"a|b"`, `zone!~"c.*"`.
        pub(super) fn parse(matcher: &str) -> Option<Self> {
            let (name, rest) = matcher.split_at(matcher.find(['=', '!'])?);
            let (kind, quoted) = [("=~", 2), ("!~", 3), ("!=", 1), ("=", 0)]
                .into_iter()
                .find_map(|(operator, kind)| Some((kind, rest.strip_prefix(operator)?)))?;
            let value = serde_json::from_str(quoted.trim()).ok()?;
            Some(Self { kind, name: name.trim().to_owned(), value })
        }
    }

    #[cfg(test)]
    mod tests {
        use super::LabelMatcher;

        #[test]
        fn matchers_are_read_as_promql_writes_them() {
            let check = |text: &str, kind: i32, name: &str, value: &str| {
                let expected = LabelMatcher { kind, name: name.to_owned(), value: value.to_owned() };
                assert_eq!(LabelMatcher::parse(text), Some(expected), "{text}");
            };
            check(r#"job="ebb""#, 0, "job", "ebb");
            check(r#"env != "te\"st""#, 1, "env", "te\"st");
            check(r#"zone=~"a|b""#, 2, "zone", "a|b");
            check(r#"zone!~"c.*""#, 3, "zone", "c.*");
            assert_eq!(LabelMatcher::parse("job"), None);
            assert_eq!(LabelMatcher::parse("job=ebb"), None);
        }
    }
}

#[cfg(test)]
mod tests;
