//! Writes a block of Prometheus' database as Prometheus would have: hours of history in seconds.
//!
//! Format: Prometheus, `tsdb/docs/format/{index,chunks}.md`, index version 2 without the two label tables,
//! which its readers have long ceased to read.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    ops::Range,
    path::Path,
};

use prost::encoding::encode_varint;
use serde_json::json;

use super::{
    fleet::{Fleet, MEMORY_METRIC, START_TIME_METRIC, scraped_at},
    xor_chunk::Encoder,
};

/// Samples of a full chunk, as Prometheus cuts them.
const CHUNK_SAMPLES: usize = 120;
const CHUNK_SEGMENT_HEADER: [u8; 8] = [0x85, 0xbd, 0x40, 0xdd, 1, 0, 0, 0];
const INDEX_HEADER: [u8; 5] = [0xba, 0xaa, 0xd7, 0x00, 2];
const ENCODING_XOR: u8 = 1;

/// A series with its chunks as they lie in a segment.
struct Series {
    labels: Vec<(&'static str, String)>,
    chunks: Vec<Chunk>,
    data: Vec<u8>,
}

struct Chunk {
    first_at: i64,
    last_at: i64,
    /// Where it begins in the series' data.
    offset: usize,
}

/// Writes the fleet's `scrapes` as a block below `data`, Prometheus' folder. `number` tells blocks apart.
///
/// # Panics
/// When a file cannot be written.
pub(crate) fn write(data: &Path, number: u32, scrapes: Range<i64>, fleet: &mut Fleet) {
    let ulid = format!("{number:026}");
    let folder = data.join(&ulid);
    fs::create_dir_all(folder.join("chunks")).expect("a folder can be made in a temporary one");
    let mut all = Vec::with_capacity(2 * fleet.slots.len());
    for slot in &mut fleet.slots {
        let mut memory = Series::new(slot.labels(MEMORY_METRIC));
        let mut start_time = Series::new(slot.labels(START_TIME_METRIC));
        let mut readings = scrapes.clone().map(|scrape| {
            let at = scraped_at(scrape, slot.runner);
            (at, slot.read(at))
        });
        loop {
            let chunk: Vec<_> = readings.by_ref().take(CHUNK_SAMPLES).collect();
            if chunk.is_empty() {
                break;
            }
            memory.push(chunk.iter().map(|(at, reading)| (*at, reading.memory_bytes)));
            start_time.push(chunk.iter().map(|(at, reading)| (*at, reading.start_time_seconds)));
        }
        all.extend([memory, start_time]);
    }
    all.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
    let mut segment = CHUNK_SEGMENT_HEADER.to_vec();
    let starts: Vec<usize> = all
        .iter()
        .map(|series| {
            let start = segment.len();
            segment.extend(&series.data);
            start
        })
        .collect();
    let chunks: usize = all.iter().map(|series| series.chunks.len()).sum();
    let samples = (scrapes.end - scrapes.start).unsigned_abs() * all.len() as u64;
    let meta = json!({
        "ulid": ulid,
        "minTime": scraped_at(scrapes.start, 0),
        "maxTime": scraped_at(scrapes.end, 0),
        "stats": {"numSamples": samples, "numSeries": all.len(), "numChunks": chunks},
        "compaction": {"level": 1, "sources": [ulid]},
        "version": 1,
    });
    let write = |name: &str, bytes: &[u8]| {
        fs::write(folder.join(name), bytes)
            .unwrap_or_else(|error| panic!("writing {name} of a block: {error}"));
    };
    write("chunks/000001", &segment);
    write("index", &index(&all, &starts));
    write("meta.json", meta.to_string().as_bytes());
}

impl Series {
    fn new(labels: Vec<(&'static str, String)>) -> Self {
        Self { labels, chunks: Vec::new(), data: Vec::new() }
    }

    fn push(&mut self, samples: impl Iterator<Item = (i64, f64)>) {
        let mut chunk = Chunk { first_at: i64::MAX, last_at: i64::MIN, offset: self.data.len() };
        let mut encoder = Encoder::new();
        for (at, value) in samples {
            encoder.push(at, value);
            chunk.first_at = chunk.first_at.min(at);
            chunk.last_at = at;
        }
        let encoded = encoder.finish();
        encode_varint(encoded.len() as u64, &mut self.data);
        let checked_from = self.data.len();
        self.data.push(ENCODING_XOR);
        self.data.extend(encoded);
        self.data.extend(crc32c::crc32c(&self.data[checked_from..]).to_be_bytes());
        self.chunks.push(chunk);
    }
}

/// The index of `all`, whose chunk data begins in the segment at `starts`.
fn index(all: &[Series], starts: &[usize]) -> Vec<u8> {
    let mut index = INDEX_HEADER.to_vec();
    let texts = all.iter().flat_map(|series| &series.labels);
    let symbols: BTreeSet<&str> = texts.flat_map(|(name, value)| [*name, value.as_str()]).collect();
    let symbols_at = index.len() as u64;
    section(&mut index, |table| {
        table.extend(length(symbols.len()));
        symbols.iter().for_each(|symbol| text(table, symbol));
    });
    let symbols: BTreeMap<&str, u64> = symbols.into_iter().zip(0..).collect();

    let series_at = index.len() as u64;
    let mut postings: BTreeMap<(&str, &str), Vec<u32>> = BTreeMap::new();
    for (series, start) in all.iter().zip(starts) {
        index.resize(index.len().next_multiple_of(16), 0);
        let reference = u32::try_from(index.len() / 16).expect("an index of this size has 32-bit references");
        postings.entry(("", "")).or_default().push(reference);
        for (name, value) in &series.labels {
            postings.entry((name, value)).or_default().push(reference);
        }
        let entry = series_entry(series, *start as u64, &symbols);
        encode_varint(entry.len() as u64, &mut index);
        index.extend(&entry);
        index.extend(crc32c::crc32c(&entry).to_be_bytes());
    }

    let postings_at = index.len().next_multiple_of(4) as u64;
    let mut offsets = Vec::new();
    for (label, references) in postings {
        index.resize(index.len().next_multiple_of(4), 0);
        offsets.push((label, index.len() as u64));
        section(&mut index, |list| {
            list.extend(length(references.len()));
            references.iter().for_each(|reference| list.extend(reference.to_be_bytes()));
        });
    }
    let offsets_at = index.len() as u64;
    section(&mut index, |table| {
        table.extend(length(offsets.len()));
        for ((name, value), offset) in offsets {
            table.push(2);
            text(table, name);
            text(table, value);
            encode_varint(offset, table);
        }
    });

    let no_table = 0;
    let contents = [symbols_at, series_at, no_table, no_table, postings_at, offsets_at];
    let contents = contents.map(u64::to_be_bytes).concat();
    index.extend(&contents);
    index.extend(crc32c::crc32c(&contents).to_be_bytes());
    index
}

fn series_entry(series: &Series, start: u64, symbols: &BTreeMap<&str, u64>) -> Vec<u8> {
    let mut entry = Vec::new();
    encode_varint(series.labels.len() as u64, &mut entry);
    for (name, value) in &series.labels {
        encode_varint(symbols[name], &mut entry);
        encode_varint(symbols[value.as_str()], &mut entry);
    }
    encode_varint(series.chunks.len() as u64, &mut entry);
    let mut before: Option<&Chunk> = None;
    for chunk in &series.chunks {
        let span = (chunk.last_at - chunk.first_at).unsigned_abs();
        match before {
            None => {
                zigzag(chunk.first_at, &mut entry);
                encode_varint(span, &mut entry);
                encode_varint(start + chunk.offset as u64, &mut entry);
            }
            Some(before) => {
                encode_varint((chunk.first_at - before.last_at).unsigned_abs(), &mut entry);
                encode_varint(span, &mut entry);
                zigzag(((chunk.offset - before.offset) as u64).cast_signed(), &mut entry);
            }
        }
        before = Some(chunk);
    }
    entry
}

fn zigzag(value: i64, buffer: &mut Vec<u8>) {
    encode_varint(((value << 1) ^ (value >> 63)).cast_unsigned(), buffer);
}

/// Length, content, checksum.
fn section(index: &mut Vec<u8>, content: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = Vec::new();
    content(&mut bytes);
    index.extend(length(bytes.len()));
    index.extend(&bytes);
    index.extend(crc32c::crc32c(&bytes).to_be_bytes());
}

fn length(length: usize) -> [u8; 4] {
    u32::try_from(length).expect("sections of an index of this size have 32-bit lengths").to_be_bytes()
}

fn text(buffer: &mut Vec<u8>, text: &str) {
    encode_varint(text.len() as u64, buffer);
    buffer.extend(text.as_bytes());
}
