//! Damaged copies of good input, made from a seed, for the tests of the parsers.

/// A small generator of numbers; the same seed gives the same damage.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

/// Calls `check` with `good` in thousands of damaged forms; the seed is the first argument, for the message.
pub(crate) fn damaged(good: &[u8], mut check: impl FnMut(u64, &[u8])) {
    for seed in 0..4000 {
        let mut random = Random::new(seed);
        let mut bytes = good.to_vec();
        for _ in 0..=random.below(8) {
            let at = random.below(bytes.len());
            match random.below(5) {
                0 => bytes.truncate(at),
                1 => bytes.iter_mut().skip(at).take(8).for_each(|byte| *byte = 0xff),
                2 => bytes.insert(at, random.next() as u8),
                3 => bytes.extend_from_within(at..),
                _ => {
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte = random.next() as u8;
                    }
                }
            }
            bytes.truncate(good.len() * 4);
        }
        check(seed, &bytes);
    }
}
