//! Sizing and filling of blocked bloom filters.
//!
//! Bloom, "Space/time trade-offs in hash coding with allowable errors" (1970), for `m` and `k`; Putze, Sanders and Singler,
//! "Cache-, hash- and space-efficient bloom filters" (2007), for the blocks of one cache line, whose rate is worse than the
//! textbook's because their loads differ. `m` is therefore raised until the computed rate is what was asked for.

use crate::error::Damage;
use crate::format::index::{BLOCK_BYTES, FilterBlock, block_bits, bucket_of};

const BLOCK_BITS: f64 = 512.0;
const _: () = assert!(BLOCK_BYTES * 8 == 512);

/// Blocks and probes per key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) blocks: u32,
    pub(super) probes: u8,
}

/// The smallest filter for `keys` keys whose expected rate of false positives is at most `rate`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
pub(super) fn shape(keys: u64, rate: f64) -> Shape {
    let n = keys.max(1) as f64;
    let ln2 = std::f64::consts::LN_2;
    // The textbook's m = -n ln p / (ln 2)^2 and k = m / n ln 2.
    let mut bits = -n * rate.ln() / (ln2 * ln2);
    let probes = (bits / n * ln2).round().clamp(1.0, 30.0) as u8;
    while blocked_rate(n, bits, probes) > rate {
        bits *= 1.02;
    }
    Shape { blocks: (bits / BLOCK_BITS).ceil().clamp(1.0, f64::from(u32::MAX)) as u32, probes }
}

/// Expected rate of false positives of a blocked filter: the load of a block is Poisson-distributed.
fn blocked_rate(n: f64, bits: f64, probes: u8) -> f64 {
    let load = n * BLOCK_BITS / bits;
    let mut weight = (-load).exp();
    let mut rate = 0.0;
    for keys in 0..400u32 {
        let set = 1.0 - (1.0 - 1.0 / BLOCK_BITS).powf(f64::from(keys) * f64::from(probes));
        rate += weight * set.powi(i32::from(probes));
        weight *= load / f64::from(keys + 1);
    }
    rate
}

/// A filter of `shape` over hashed keys.
pub(super) fn build(shape: Shape, hashes: impl Iterator<Item = u64>) -> Result<Vec<FilterBlock>, Damage> {
    let mut blocks = vec![[0; 64]; shape.blocks as usize];
    for hash in hashes {
        let at = usize::try_from(bucket_of(hash, shape.blocks)).map_err(|_| Damage::OutOfBounds)?;
        let block = blocks.get_mut(at).ok_or(Damage::OutOfBounds)?;
        for bit in block_bits(hash, shape.probes) {
            *block.get_mut(bit / 8).ok_or(Damage::OutOfBounds)? |= 1 << (bit % 8);
        }
    }
    Ok(blocks)
}

/// Whether a key with this hash may be in the filter that `block` is a part of.
#[inline]
pub(super) fn contains(block: &FilterBlock, hash: u64, probes: u8) -> bool {
    block_bits(hash, probes).all(|bit| block.get(bit / 8).is_some_and(|byte| byte >> (bit % 8) & 1 == 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use xxhash_rust::xxh3::xxh3_64;

    #[test]
    #[expect(clippy::cast_precision_loss)]
    fn no_false_negatives_and_the_rate_that_was_asked_for() {
        for rate in [0.1, 0.01, 0.001] {
            let keys = 50_000u64;
            let shape = shape(keys, rate);
            let hash = |i: u64| xxh3_64(&i.to_le_bytes());
            let blocks = build(shape, (0..keys).map(hash)).unwrap();
            let has = |i: u64| {
                let block = &blocks[usize::try_from(bucket_of(hash(i), shape.blocks)).unwrap()];
                contains(block, hash(i), shape.probes)
            };
            assert!((0..keys).all(has), "no false negatives at {rate}");
            let probes = 200_000;
            let false_positives = (keys..keys + probes).filter(|i| has(*i)).count();
            let measured = false_positives as f64 / probes as f64;
            assert!(measured < rate * 1.15 && measured > rate * 0.5, "asked {rate}, measured {measured}");
        }
    }

    #[test]
    fn one_percent_takes_ten_bits_and_a_bit() {
        let shape = shape(1_000_000, 0.01);
        let bits = f64::from(shape.blocks) * BLOCK_BITS / 1e6;
        assert_eq!(shape.probes, 7);
        assert!((9.6..11.0).contains(&bits), "{bits}");
    }
}
