//! Bytes that are known at every place, so that whoever gets them can tell whether they are the right ones.

/// Bytes of a piece.
pub const PIECE_BYTES: u64 = 64 * 1024;

/// `bytes` bytes in pieces, in order; byte `i` is `(seed + i) · 31 + (i >> 8)`, modulo 256.
pub fn pieces(bytes: u64, seed: u64) -> impl Iterator<Item = Vec<u8>> {
    let piece = move |from: u64| {
        let to = bytes.min(from + PIECE_BYTES);
        (from..to)
            .map(|i| (seed.wrapping_add(i).wrapping_mul(31).wrapping_add(i >> 8) & 0xff) as u8)
            .collect()
    };
    (0..bytes.div_ceil(PIECE_BYTES)).map(move |n| piece(n * PIECE_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_together_are_the_pattern() {
        let bytes = PIECE_BYTES + 3;
        let whole: Vec<u8> = pieces(bytes, 5).flatten().collect();
        assert_eq!(whole.len() as u64, bytes);
        // (5 + 0) · 31 = 155; (5 + 1) · 31 = 186; (5 + 256) · 31 + 1 = 8092 = 31 · 256 + 156.
        assert_eq!([whole[0], whole[1], whole[256]], [155, 186, 156]);
        assert_eq!(pieces(0, 5).count(), 0);
    }
}
