//! PURE: samples → chunks of Prometheus' XOR encoding.
//!
//! Format: Prometheus, `tsdb/docs/format/chunks.md` ("XOR chunk data").

/// Encodes one chunk.
pub(crate) struct Encoder {
    bits: Bits,
    samples: u16,
    at: i64,
    delta: i64,
    value: u64,
    /// Leading and trailing zeros of the last difference that was written with its place.
    place: Option<(u32, u32)>,
}

impl Encoder {
    pub(crate) fn new() -> Self {
        let bits = Bits { bytes: vec![0, 0], free: 0 };
        Self { bits, samples: 0, at: 0, delta: 0, value: 0, place: None }
    }

    pub(crate) fn push(&mut self, at: i64, value: f64) {
        let value = value.to_bits();
        match self.samples {
            0 => {
                self.bits.uvarint(((at << 1) ^ (at >> 63)).cast_unsigned());
                self.bits.write(value, 64);
            }
            1 => {
                self.delta = at - self.at;
                self.bits.uvarint(self.delta.cast_unsigned());
                self.difference(self.value ^ value);
            }
            _ => {
                let delta = at - self.at;
                self.delta_of_delta(delta - self.delta);
                self.delta = delta;
                self.difference(self.value ^ value);
            }
        }
        self.at = at;
        self.value = value;
        self.samples += 1;
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.bits.bytes[..2].copy_from_slice(&self.samples.to_be_bytes());
        self.bits.bytes
    }

    fn delta_of_delta(&mut self, delta: i64) {
        let fits = |width: u32| (-((1 << (width - 1)) - 1)..=1 << (width - 1)).contains(&delta);
        let (prefix, prefix_width, width) = match delta {
            0 => (0, 1, 0),
            _ if fits(14) => (0b10, 2, 14),
            _ if fits(17) => (0b110, 3, 17),
            _ if fits(20) => (0b1110, 4, 20),
            _ => (0b1111, 4, 64),
        };
        self.bits.write(prefix, prefix_width);
        self.bits.write(delta.cast_unsigned(), width);
    }

    fn difference(&mut self, difference: u64) {
        if difference == 0 {
            self.bits.write(0, 1);
            return;
        }
        let leading = difference.leading_zeros().min(31);
        let trailing = difference.trailing_zeros();
        let (leading, trailing) = match self.place {
            Some((before, after)) if leading >= before && trailing >= after => {
                self.bits.write(0b10, 2);
                (before, after)
            }
            _ => {
                self.bits.write(0b11, 2);
                self.bits.write(u64::from(leading), 5);
                // 64 significant bits do not fit into 6 bits and are written as 0.
                self.bits.write(u64::from(64 - leading - trailing), 6);
                self.place = Some((leading, trailing));
                (leading, trailing)
            }
        };
        self.bits.write(difference >> trailing, 64 - leading - trailing);
    }
}

/// Writes bits, the most significant first.
struct Bits {
    bytes: Vec<u8>,
    /// Bits of the last byte that are not written yet.
    free: u32,
}

impl Bits {
    /// Writes the lowest `width` bits of `value`.
    fn write(&mut self, value: u64, width: u32) {
        let mut left = width;
        while left > 0 {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            let count = left.min(self.free);
            let piece = (value >> (left - count)) & ((1 << count) - 1);
            let last = self.bytes.last_mut().expect("a byte was pushed where none was free");
            *last |= u8::try_from(piece << (self.free - count)).expect("the piece fits into what is free");
            self.free -= count;
            left -= count;
        }
    }

    fn uvarint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.write(value & 0x7f | 0x80, 8);
            value >>= 7;
        }
        self.write(value, 8);
    }
}
