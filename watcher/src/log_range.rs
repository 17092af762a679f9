/// The most blocks asked for at once, however well it goes.
const MAX_BLOCKS: u64 = 10_000;

/// How many blocks one `eth_getLogs` asks for: halves when an endpoint refuses, grows by a quarter when it doesn't.
///
/// Endpoints limit blocks, logs, bytes or seconds, each its own way and in its own words, so the width is found by
/// trying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogRange(u64);

impl LogRange {
    pub(crate) const fn new(blocks: u64) -> Self {
        Self(if blocks == 0 {
            1
        } else if blocks > MAX_BLOCKS {
            MAX_BLOCKS
        } else {
            blocks
        })
    }

    pub(crate) const fn blocks(self) -> u64 {
        self.0
    }

    pub(crate) fn succeeded(&mut self) {
        *self = Self::new(self.0 + (self.0 / 4).max(1));
    }

    /// Whether a narrower range is left to try.
    pub(crate) fn refused(&mut self) -> bool {
        let narrower = self.0 > 1;
        *self = Self::new(self.0 / 2);
        narrower
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_an_endpoints_limit_and_stays_near_it() {
        const LIMIT: u64 = 800;
        let mut range = LogRange::new(5_000);
        let mut widths = Vec::new();
        for _ in 0..40 {
            if range.blocks() <= LIMIT {
                widths.push(range.blocks());
                range.succeeded();
            } else {
                assert!(range.refused());
            }
        }
        assert!(widths.len() > 25, "most requests succeed: {widths:?}");
        assert!(widths.iter().skip(5).all(|width| *width >= LIMIT / 2 - 1), "{widths:?}");
    }

    #[test]
    fn stays_between_one_block_and_its_limit() {
        let mut range = LogRange::new(2);
        assert!(range.refused());
        assert_eq!(range.blocks(), 1);
        assert!(!range.refused());
        assert_eq!(range.blocks(), 1);
        for _ in 0..100 {
            range.succeeded();
        }
        assert_eq!(range.blocks(), MAX_BLOCKS);
    }
}
