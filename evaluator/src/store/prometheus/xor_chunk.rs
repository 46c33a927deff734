//! PURE: one chunk of Prometheus' XOR encoding → its samples.
//!
//! Format: Prometheus, `tsdb/docs/format/chunks.md` ("XOR chunk data"), after Pelkonen et al., *Gorilla: A
//! Fast, Scalable, In-Memory Time Series Database* (VLDB 2015), section 4.1: timestamps as deltas of deltas,
//! values as the XOR with the value before.

#[cfg(any(test, fuzzing))]
pub(super) mod encoder;

use ebb_units::Millis;

/// A chunk that ends before its last sample.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} samples in a chunk of {bytes} bytes, found {found}")]
pub(super) struct ChunkError {
    expected: usize,
    found: usize,
    bytes: usize,
}

/// Calls `sample` with the time and value of each sample of `chunk`.
pub(super) fn decode(chunk: &[u8], mut sample: impl FnMut(Millis, f64)) -> Result<(), ChunkError> {
    let mut found = 0;
    let expected = match chunk {
        [high, low, ..] => usize::from(u16::from_be_bytes([*high, *low])),
        _ => 0,
    };
    let complete = decode_all(chunk.get(2..).unwrap_or_default(), expected, |at, value| {
        found += 1;
        sample(at, value);
    });
    match complete {
        Some(()) if chunk.len() >= 2 => Ok(()),
        _ => Err(ChunkError { expected, found, bytes: chunk.len() }),
    }
}

fn decode_all(data: &[u8], expected: usize, mut sample: impl FnMut(Millis, f64)) -> Option<()> {
    if expected == 0 {
        return Some(());
    }
    let mut bits = Bits { data, next: 0, window: 0, available: 0 };
    let mut at = bits.varint()?;
    let mut value = Xor { bits: bits.read(64)?, leading: 0, significant: 0 };
    sample(Millis(at), f64::from_bits(value.bits));
    if expected == 1 {
        return Some(());
    }
    let mut delta = bits.uvarint()?.cast_signed();
    at = at.wrapping_add(delta);
    value.read(&mut bits)?;
    sample(Millis(at), f64::from_bits(value.bits));
    for _ in 2..expected {
        delta = delta.wrapping_add(bits.delta_of_delta()?);
        at = at.wrapping_add(delta);
        value.read(&mut bits)?;
        sample(Millis(at), f64::from_bits(value.bits));
    }
    Some(())
}

/// The value before, and where its significant bits were.
struct Xor {
    bits: u64,
    leading: u32,
    significant: u32,
}

impl Xor {
    fn read(&mut self, bits: &mut Bits<'_>) -> Option<()> {
        if bits.read(1)? == 0 {
            return Some(());
        }
        if bits.read(1)? == 1 {
            self.leading = u32::try_from(bits.read(5)?).ok()?;
            // 64 significant bits do not fit into 6 bits and are written as 0.
            self.significant = match u32::try_from(bits.read(6)?).ok()? {
                0 => 64,
                significant => significant,
            };
        }
        let trailing = 64_u32.checked_sub(self.leading + self.significant)?;
        self.bits ^= bits.read(self.significant)?.checked_shl(trailing)?;
        Some(())
    }
}

/// Reads bits, the most significant first.
struct Bits<'a> {
    data: &'a [u8],
    next: usize,
    /// The bits read ahead, left-aligned.
    window: u64,
    available: u32,
}

impl Bits<'_> {
    /// The next `count` bits, at most 64.
    fn read(&mut self, count: u32) -> Option<u64> {
        if count == 0 {
            return Some(0);
        }
        if count > 32 {
            let high = self.read(count - 32)?;
            return Some(high << 32 | self.read(32)?);
        }
        if self.available < count {
            self.fill();
            if self.available < count {
                return None;
            }
        }
        let bits = self.window >> (64 - count);
        self.window <<= count;
        self.available -= count;
        Some(bits)
    }

    fn fill(&mut self) {
        while self.available <= 56 {
            let Some(byte) = self.data.get(self.next) else { return };
            self.window |= u64::from(*byte) << (56 - self.available);
            self.available += 8;
            self.next += 1;
        }
    }

    /// A timestamp's delta of delta: 0, or 14, 17, 20 or 64 bits behind a prefix.
    fn delta_of_delta(&mut self) -> Option<i64> {
        let mut ones = 0;
        while ones < 4 && self.read(1)? == 1 {
            ones += 1;
        }
        let width = match ones {
            0 => return Some(0),
            1 => 14,
            2 => 17,
            3 => 20,
            _ => return self.read(64).map(u64::cast_signed),
        };
        let bits = self.read(width)?.cast_signed();
        // Unlike two's complement, the range is −(2^(width−1) − 1) to 2^(width−1).
        Some(if bits > 1 << (width - 1) { bits - (1 << width) } else { bits })
    }

    fn uvarint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.read(8)?;
            value |= (byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    /// A zig-zag coded integer.
    fn varint(&mut self) -> Option<i64> {
        let value = self.uvarint()?;
        Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }
}

#[cfg(test)]
mod tests;
