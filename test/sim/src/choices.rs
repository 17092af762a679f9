/// Where everything that happens comes from: a seed, or the bytes of a fuzzer.
///
/// The same source chooses the same again, on every machine and with every version of every library.
#[derive(Clone, Debug)]
pub struct Choices {
    state: u64,
    /// Given bytes, and how many of them are used up. Once all are, the calmest is chosen.
    bytes: Option<(Vec<u8>, usize)>,
}

impl Choices {
    /// The choices of a seed.
    pub const fn of_seed(seed: u64) -> Self {
        Self {
            state: seed,
            bytes: None,
        }
    }

    /// The choices that `bytes` spell out.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self {
            state: 0,
            bytes: Some((bytes.to_vec(), 0)),
        }
    }

    /// Choices of their own for one part of the simulation: what another part draws doesn't disturb them.
    pub fn branch(&mut self) -> Self {
        Self {
            state: self.draw(),
            bytes: None,
        }
    }

    /// Any number. SplitMix64: a seed's neighbours have nothing in common with it.
    pub fn draw(&mut self) -> u64 {
        if let Some((bytes, used)) = &mut self.bytes {
            let mut word = [0; 8];
            for byte in &mut word[..4] {
                *byte = bytes.get(*used).copied().unwrap_or(0);
                *used += 1;
            }
            return u64::from_le_bytes(word) << 32;
        }
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number below `limit`; zero for a limit of zero.
    pub fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.draw()) * u128::from(limit)) >> 64) as u64
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// Yes, `per_mille` times of a thousand. Never where the bytes have run out.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1_000) >= 1_000 - per_mille.min(1_000)
    }

    /// One of `of`.
    ///
    /// # Panics
    /// Where there is none.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }

    /// Thirty-two bytes.
    pub fn word(&mut self) -> [u8; 32] {
        let mut word = [0; 32];
        for part in word.chunks_mut(8) {
            part.copy_from_slice(&self.draw().to_le_bytes());
        }
        word
    }
}
