use proptest::prelude::*;

use super::*;

/// Writes bits, the most significant first.
#[derive(Default)]
struct Writer {
    data: Vec<u8>,
    used: u32,
}

impl Writer {
    fn write(&mut self, bits: u64, count: u32) {
        for n in (0..count).rev() {
            if self.used.is_multiple_of(8) {
                self.data.push(0);
            }
            let bit = u8::try_from(bits >> n & 1).unwrap();
            *self.data.last_mut().unwrap() |= bit << (7 - self.used % 8);
            self.used += 1;
        }
    }

    fn uvarint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.write(value & 0x7f | 0x80, 8);
            value >>= 7;
        }
        self.write(value, 8);
    }

    fn delta_of_delta(&mut self, value: i64) {
        let fits = |width: u32| value >= -((1_i64 << (width - 1)) - 1) && value <= 1_i64 << (width - 1);
        match value {
            0 => self.write(0, 1),
            _ if fits(14) => {
                self.write(0b10, 2);
                self.write(value.cast_unsigned(), 14);
            }
            _ if fits(17) => {
                self.write(0b110, 3);
                self.write(value.cast_unsigned(), 17);
            }
            _ if fits(20) => {
                self.write(0b1110, 4);
                self.write(value.cast_unsigned(), 20);
            }
            _ => {
                self.write(0b1111, 4);
                self.write(value.cast_unsigned(), 64);
            }
        }
    }

    /// The XOR of a value with the one before; `fresh` says where its significant bits are anew.
    fn xor(&mut self, xor: u64, place: &mut Option<(u32, u32)>) {
        if xor == 0 {
            self.write(0, 1);
            return;
        }
        self.write(1, 1);
        let (leading, trailing) = (xor.leading_zeros().min(31), xor.trailing_zeros());
        match *place {
            Some((l, t)) if leading >= l && trailing >= t => {
                self.write(0, 1);
                self.write(xor >> t, 64 - l - t);
            }
            _ => {
                *place = Some((leading, trailing));
                self.write(1, 1);
                self.write(u64::from(leading), 5);
                self.write(u64::from(64 - leading - trailing) & 0x3f, 6);
                self.write(xor >> trailing, 64 - leading - trailing);
            }
        }
    }
}

fn encode(samples: &[(i64, f64)]) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.write(samples.len() as u64, 16);
    let (mut delta, mut place) = (0, None);
    for (n, (at, value)) in samples.iter().enumerate() {
        if n == 0 {
            writer.uvarint(((at << 1) ^ (at >> 63)).cast_unsigned());
            writer.write(value.to_bits(), 64);
            continue;
        }
        let new_delta = at - samples[n - 1].0;
        if n == 1 {
            writer.uvarint(new_delta.cast_unsigned());
        } else {
            writer.delta_of_delta(new_delta - delta);
        }
        delta = new_delta;
        writer.xor(value.to_bits() ^ samples[n - 1].1.to_bits(), &mut place);
    }
    writer.data
}

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
