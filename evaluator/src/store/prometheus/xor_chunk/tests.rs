use proptest::prelude::*;

use super::{encoder::encode, *};

fn decoded(chunk: &[u8]) -> Result<Vec<(i64, u64)>, ChunkError> {
    let mut samples = Vec::new();
    decode(chunk, |at, value| samples.push((at.0, value.to_bits()))).map(|()| samples)
}

#[test]
fn an_empty_chunk_has_no_samples() {
    assert_eq!(decoded(&[0, 0]), Ok(vec![]));
}

#[test]
fn a_chunk_that_ends_early_is_refused() {
    let chunk =
        encode(&[(1_700_000_000_000, 65_536.0), (1_700_000_010_000, 131_072.0), (1_700_000_020_000, 1.5)]);
    for length in 0..chunk.len() {
        assert!(decoded(&chunk[..length]).is_err(), "{length} of {} bytes", chunk.len());
    }
}

proptest! {
    #[test]
    fn what_was_encoded_is_decoded_to_the_bit(
        start in -1_000_000_000_000..4_000_000_000_000_i64,
        rows in prop::collection::vec(
            (
                prop_oneof![Just(10_000), 9_000..11_000_i64, 1..1_000_000_i64, 1..10_000_000_000_i64],
                prop_oneof![Just(65_536.0), (0..1_u64 << 40).prop_map(|n| (n * 65_536) as f64), any::<f64>()],
            ),
            1..150,
        ),
    ) {
        let mut at = start;
        let samples: Vec<(i64, f64)> = rows.into_iter().map(|(pause, value)| { at += pause; (at, value) }).collect();
        let expected: Vec<_> = samples.iter().map(|(at, value)| (*at, value.to_bits())).collect();
        prop_assert_eq!(decoded(&encode(&samples)), Ok(expected));
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(chunk in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = decoded(&chunk);
    }
}
