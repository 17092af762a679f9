use lloom_receipts::TokenCount;

use super::chunk::{Chunk, ReportedUsage};

/// The most text kept for the tokenizer; a longer answer is counted as it is seen.
const MAX_KEPT_BYTES: usize = 4 * 1024 * 1024;

/// Bytes of text that one token stands for at most: no tokenizer packs more on average. A text with more of them holds
/// several tokens.
pub(crate) const MAX_BYTES_PER_TOKEN: usize = 16;

/// Counts an answer as it passes.
#[derive(Debug)]
pub(super) struct Meter {
    /// Output tokens by what was seen: one for each delta, several for a long one.
    seen: u32,
    bytes: usize,
    /// The answer, where a tokenizer is going to count it.
    kept: Option<String>,
    reported: Option<ReportedUsage>,
    finished: bool,
}

impl Meter {
    pub(super) fn new(keep_text: bool) -> Self {
        Self {
            seen: 0,
            bytes: 0,
            kept: keep_text.then(String::new),
            reported: None,
            finished: false,
        }
    }

    pub(super) fn observe(&mut self, chunk: &Chunk) {
        let mut written = String::new();
        chunk.written(&mut written);
        if !written.is_empty() {
            let tokens = u32::try_from(written.len() / MAX_BYTES_PER_TOKEN).unwrap_or(u32::MAX);
            self.seen = self.seen.saturating_add(tokens.max(1));
            self.bytes = self.bytes.saturating_add(written.len());
            if let Some(kept) = &mut self.kept {
                kept.push_str(&written);
            }
            if self.bytes > MAX_KEPT_BYTES {
                self.kept = None;
            }
        }
        // Some servers report in every chunk; the last word counts.
        self.reported = chunk.usage().or(self.reported);
        self.finished |= chunk.finishes();
    }

    /// Whether the server has said that the answer is complete.
    pub(super) fn finished(&self) -> bool {
        self.finished
    }

    /// Output tokens by what was seen alone.
    pub(super) fn seen(&self) -> TokenCount {
        TokenCount::new(self.seen)
    }

    pub(super) fn reported(&self) -> Option<ReportedUsage> {
        self.reported
    }

    pub(super) fn kept(&self) -> Option<&str> {
        self.kept.as_deref()
    }

    /// Output tokens so far: by what was seen, or by what the server reports on the way, where that is more. An answer
    /// that is cut is billed by this.
    pub(super) fn output(&self) -> TokenCount {
        let reported = self.reported.map(|usage| self.justified(usage.output));
        TokenCount::new(self.seen).max(reported.unwrap_or_default())
    }

    /// `tokens`, or one for each byte that was written if that is less.
    pub(super) fn justified(&self, tokens: u64) -> TokenCount {
        at_most_one_a_byte(tokens, self.bytes)
    }
}

/// More tokens than bytes can't be justified to whoever sees the bytes.
pub(super) fn at_most_one_a_byte(tokens: u64, bytes: usize) -> TokenCount {
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    TokenCount::new(u32::try_from(tokens).unwrap_or(u32::MAX).min(bytes))
}
