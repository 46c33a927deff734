use super::*;

fn framed(data: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    prost::encoding::encode_varint(data.len() as u64, &mut frame);
    frame.extend(crc32c::crc32c(data).to_be_bytes());
    frame.extend(data);
    frame
}

#[test]
fn frames_are_split_however_their_bytes_arrive() {
    let (first, second) = (vec![7; 300], b"short".to_vec());
    let stream = [framed(&first), framed(&second)].concat();
    let (mut buffer, mut frames) = (BytesMut::new(), Vec::new());
    for byte in stream {
        buffer.extend_from_slice(&[byte]);
        while let Some(frame) = split_frame(&mut buffer).unwrap() {
            frames.push(frame.to_vec());
        }
    }
    assert_eq!(frames, [first, second]);
}

#[test]
fn a_frame_with_a_wrong_checksum_or_an_absurd_length_is_refused() {
    let mut broken = framed(b"data");
    *broken.last_mut().unwrap() ^= 1;
    assert!(split_frame(&mut BytesMut::from(&broken[..])).unwrap_err().contains("checksum"));
    let endless = [&[0xff; 10][..], &[1]].concat();
    for bytes in [&endless, &endless[..10]] {
        assert!(split_frame(&mut BytesMut::from(bytes)).unwrap_err().contains("does not end"));
    }
    for length in [FRAME_BYTES_MAX as u64 + 1, 1 << 40, u64::MAX] {
        let mut absurd = Vec::new();
        prost::encoding::encode_varint(length, &mut absurd);
        assert!(split_frame(&mut BytesMut::from(&absurd[..])).unwrap_err().contains("at most"), "{length}");
    }
}

#[test]
fn what_a_frame_announces_allocates_nothing() {
    let mut begun = BytesMut::new();
    let mut announced = Vec::new();
    prost::encoding::encode_varint(FRAME_BYTES_MAX as u64, &mut announced);
    begun.extend_from_slice(&announced);
    assert_eq!(split_frame(&mut begun), Ok(None));
    assert!(begun.capacity() < 1024, "{}", begun.capacity());
}

fn label(name: &str, value: &str) -> proto::Label {
    proto::Label { name: name.to_owned(), value: value.to_owned() }
}

fn series(metric: &str, chunks: Vec<proto::Chunk>) -> proto::ChunkedSeries {
    let labels =
        [("__name__", metric), ("module", "m"), ("digest", "d"), ("replica", "0"), ("instance", "r:1")];
    proto::ChunkedSeries { labels: labels.iter().map(|(name, value)| label(name, value)).collect(), chunks }
}

/// Samples that are taken out of a frame, and the largest number of them at once.
fn taken(series: Vec<proto::ChunkedSeries>) -> Result<(usize, usize), String> {
    let naming = Naming::default();
    let mut answer = Answer::new(&naming, Millis(0), Millis(i64::MAX));
    let frame = proto::ChunkedReadResponse { chunked_series: series }.encode_to_vec();
    assert!(frame.len() <= FRAME_BYTES_MAX, "{}", frame.len());
    let (mut all, mut at_once) = (0, 0);
    answer.take(frame.into(), &mut |_, samples: &[Sample]| {
        all += samples.len();
        at_once = at_once.max(samples.len());
    })?;
    Ok((all, at_once))
}

/// A chunk of `count` samples of the value 1, a second apart from 1 s on.
fn chunk(count: u16) -> proto::Chunk {
    let mut data = count.to_be_bytes().to_vec();
    // The first time as a zig-zag varint, the value, then the delta as a varint and "the same value".
    prost::encoding::encode_varint(2000, &mut data);
    data.extend(1.0_f64.to_bits().to_be_bytes());
    prost::encoding::encode_varint(1000, &mut data);
    // Two zero bits a sample: the same delta, the same value.
    data.resize(data.len() + 1 + usize::from(count) / 4, 0);
    proto::Chunk { encoding: proto::ENCODING_XOR, data: data.into() }
}

#[test]
fn samples_are_given_chunk_by_chunk_however_many_a_frame_holds() {
    let starts = series(START_TIME_METRIC, vec![chunk(u16::MAX)]);
    let memory = series(MEMORY_METRIC, vec![chunk(u16::MAX); 100]);
    assert_eq!(taken(vec![starts, memory]), Ok((100 * 65_535, 65_535)));
}

#[test]
fn a_frame_of_chunks_that_hold_nothing_costs_no_more_than_its_bytes() {
    // Four million chunks of four bytes: room for the usual 120 samples of each would take 11 GB.
    let empty = proto::Chunk { encoding: proto::ENCODING_XOR, data: vec![0, 0].into() };
    let starts = series(START_TIME_METRIC, vec![chunk(1)]);
    let memory = series(MEMORY_METRIC, vec![empty; 2_000_000]);
    assert_eq!(taken(vec![starts, memory]), Ok((0, 0)));
    let broken = proto::Chunk { encoding: proto::ENCODING_XOR, data: vec![0xff, 0xff, 0].into() };
    let problem = taken(vec![series(START_TIME_METRIC, vec![broken])]).unwrap_err();
    assert!(problem.contains("expected 65535 samples in a chunk of 3 bytes"), "{problem}");
}
