//! What must hold for whatever bytes a remote read is answered with, and for the request.

use ebb_units::SeriesId;

use super::{
    super::fuzzing::{FROM, Samples},
    *,
};

/// A stream of frames: the same samples and the same error, however it is cut into pieces. The first byte says how; what
/// follows is taken as the stream, and once more as the data of one frame, which a mutation otherwise seldom makes.
///
/// # Panics
/// When that does not hold.
pub(in super::super) fn stream(data: &[u8]) {
    let Some((piece, data)) = data.split_first() else { return };
    let piece = usize::from(*piece).max(1);
    let mut framed = Vec::new();
    prost::encoding::encode_varint(data.len() as u64, &mut framed);
    framed.extend(crc32c::crc32c(data).to_be_bytes());
    framed.extend(data);
    for stream in [data, &framed] {
        let whole = read(stream, stream.len().max(1));
        assert_eq!(whole, read(stream, piece), "in pieces of {piece} bytes");
        let count: usize = whole.samples.iter().map(|(_, samples)| samples.len()).sum();
        assert!(count <= 4 * stream.len(), "{count} samples in {} bytes", stream.len());
        assert!(whole.samples.iter().flat_map(|(_, samples)| samples).all(|sample| sample.at > FROM));
    }
}

/// What came of a stream.
#[derive(Debug, PartialEq)]
struct Read {
    samples: Samples,
    series: usize,
    nameless: usize,
    problem: Option<String>,
}

fn read(stream: &[u8], piece: usize) -> Read {
    let naming = Naming::default();
    let mut answer = Answer::new(&naming, FROM, Millis(i64::MAX));
    let (mut buffer, mut samples) = (BytesMut::new(), Samples::new());
    let mut sink = |series: &SeriesId, found: &[Sample]| samples.push((series.clone(), found.to_vec()));
    let mut take = |bytes: &[u8]| -> Result<(), String> {
        buffer.extend_from_slice(bytes);
        while let Some(frame) = split_frame(&mut buffer)? {
            answer.take(frame, &mut sink)?;
        }
        Ok(())
    };
    let problem = stream.chunks(piece).find_map(|bytes| take(bytes).err());
    let Fetched { series, nameless_series, .. } = answer.fetched;
    Read { samples, series, nameless: nameless_series, problem }
}

/// A request with a matcher that a config may have is what it was after compression and decompression.
///
/// # Panics
/// When that does not hold.
pub(in super::super) fn request(matcher: &str) {
    // In single quotes, or with escapes of PromQL alone: then queries are asked.
    let Some(matcher) = proto::LabelMatcher::parse(matcher) else { return };
    let query = proto::Query { start_timestamp_ms: 1, end_timestamp_ms: 2, matchers: vec![matcher] };
    let request = proto::ReadRequest { queries: vec![query], accepted_response_types: vec![1] };
    let sent = snap::raw::Encoder::new().compress_vec(&request.encode_to_vec()).expect("it is small");
    let received = snap::raw::Decoder::new().decompress_vec(&sent).expect("it was compressed");
    assert_eq!(proto::ReadRequest::decode(&*received), Ok(request));
}
