use lloom_receipts::TokenCount;

use super::chunk::{Chunk, ReportedUsage};

/// The most text kept for the tokenizer; a longer answer is counted by its deltas.
const MAX_KEPT_BYTES: usize = 4 * 1024 * 1024;

/// Counts an answer as it passes.
#[derive(Debug)]
pub(super) struct Meter {
    deltas: u32,
    bytes: usize,
    /// The answer, where a tokenizer is going to count it.
    kept: Option<String>,
    reported: Option<ReportedUsage>,
    finished: bool,
}

impl Meter {
    pub(super) fn new(keep_text: bool) -> Self {
        Self {
            deltas: 0,
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
            self.deltas = self.deltas.saturating_add(1);
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

    pub(super) fn reported(&self) -> Option<ReportedUsage> {
        self.reported
    }

    pub(super) fn kept(&self) -> Option<&str> {
        self.kept.as_deref()
    }

    /// Output tokens by deltas.
    pub(super) fn output(&self) -> TokenCount {
        TokenCount::new(self.deltas)
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
