use std::path::Path;

use eyre::{Result, WrapErr};
use serde::Deserialize;

/// A prompt of `test/data/prompts.jsonl`.
#[derive(Clone, Debug, Deserialize)]
pub struct Prompt {
    /// Names the prompt.
    pub id: String,
    /// What is asked.
    pub prompt: String,
    /// The most tokens the answer may have.
    pub max_tokens: u32,
}

/// All prompts, in the file's order.
///
/// # Errors
/// When the file is missing or a line isn't a prompt.
pub fn prompts() -> Result<Vec<Prompt>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/prompts.jsonl");
    let text = std::fs::read_to_string(&path).wrap_err_with(|| format!("reading {}", path.display()))?;
    text.lines()
        .map(|line| serde_json::from_str(line).wrap_err_with(|| format!("in {}: {line}", path.display())))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn are_many_different_and_of_varied_length() {
        let prompts = prompts().unwrap();
        assert!(prompts.len() >= 40);
        let ids: HashSet<_> = prompts.iter().map(|prompt| &prompt.id).collect();
        assert_eq!(ids.len(), prompts.len());
        let lengths = || prompts.iter().map(|prompt| prompt.prompt.len());
        assert!(lengths().min().unwrap() < 20 && lengths().max().unwrap() > 800);
    }
}
