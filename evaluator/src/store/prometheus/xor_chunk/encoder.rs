//! Samples → one chunk: the inverse of what this module does, to check it by.

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
            let bit = u8::try_from(bits >> n & 1).expect("a bit fits into a byte");
            *self.data.last_mut().expect("a byte was pushed at its first bit") |= bit << (7 - self.used % 8);
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

/// `samples`, times in Unix milliseconds, as one chunk.
pub(in super::super) fn encode(samples: &[(i64, f64)]) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.write(samples.len() as u64, 16);
    let (mut delta, mut place) = (0, None);
    for (n, (at, value)) in samples.iter().enumerate() {
        if n == 0 {
            writer.uvarint(((at << 1) ^ (at >> 63)).cast_unsigned());
            writer.write(value.to_bits(), 64);
            continue;
        }
        let new_delta = at.wrapping_sub(samples[n - 1].0);
        if n == 1 {
            writer.uvarint(new_delta.cast_unsigned());
        } else {
            writer.delta_of_delta(new_delta.wrapping_sub(delta));
        }
        delta = new_delta;
        writer.xor(value.to_bits() ^ samples[n - 1].1.to_bits(), &mut place);
    }
    writer.data
}
