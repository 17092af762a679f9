use alloy::primitives::keccak256;

/// A token's most characters.
const PIECE: usize = 4;

/// The words answers are made of.
const WORDS: &[&str] = &[
    "a",
    "the",
    "and",
    "of",
    "with",
    "under",
    "once",
    "more",
    "river",
    "lantern",
    "copper",
    "quiet",
    "harbour",
    "seven",
    "letter",
    "window",
    "measure",
    "carries",
    "answers",
    "turns",
    "slowly",
    "between",
    "mountains",
    "kettle",
    "orchard",
    "winter",
    "bridge",
    "borrowed",
    "because",
    "listens",
    "number",
    "garden",
    "yellow",
    "signal",
    "thread",
    "paper",
];

/// How many tokens `text` has.
pub fn tokens_of(text: &str) -> u32 {
    let pieces = text
        .split_whitespace()
        .map(|word| word.chars().count().div_ceil(PIECE))
        .sum::<usize>();
    u32::try_from(pieces).unwrap_or(u32::MAX)
}

/// How many tokens a conversation has that is a user's one message.
pub fn prompt_tokens(prompt: &str) -> u32 {
    tokens_of("user") + tokens_of(prompt)
}

/// The answer to `prompt`, token by token: at most `limit` of them, exactly `length` when that is below the limit, and
/// else a number that depends on the prompt. White space stands before a token, so the text is their concatenation.
pub fn answer(prompt: &str, limit: u32, length: Option<u32>) -> Vec<String> {
    let mut random = SplitMix(u64::from_be_bytes(
        *keccak256(prompt).first_chunk().expect("a hash has 32 bytes"),
    ));
    let wanted = length.unwrap_or_else(|| {
        let least = limit.div_ceil(4);
        least + u32::try_from(random.next() % u64::from(limit - least + 1)).expect("it is below a u32")
    });
    let wanted = usize::try_from(wanted.min(limit)).unwrap_or(usize::MAX);
    let mut tokens = Vec::with_capacity(wanted);
    while tokens.len() < wanted {
        let word = WORDS[usize::try_from(random.next() % WORDS.len() as u64).expect("it is below the words' number")];
        let gap = match tokens.len() {
            0 => "",
            so_far if so_far % 97 == 96 => "\n\n",
            _ => " ",
        };
        let characters: Vec<char> = word.chars().collect();
        let pieces = characters.chunks(PIECE).map(|piece| piece.iter().collect::<String>());
        let before = tokens.len();
        tokens.extend(pieces);
        tokens[before].insert_str(0, gap);
    }
    tokens.truncate(wanted);
    tokens
}

/// The generator of Steele, Lea and Flood: 64 bits of state, good enough for words.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_a_piece_of_a_word() {
        for (text, tokens) in [
            ("", 0),
            ("  \n", 0),
            ("moss", 1),
            ("mosses", 2),
            ("a bc\tdefgh", 4),
            ("日本語日本", 2),
        ] {
            assert_eq!(tokens_of(text), tokens, "{text:?}");
        }
    }

    #[test]
    fn an_answer_has_the_tokens_it_says() {
        for limit in [1, 2, 7, 100, 1_000] {
            let tokens = answer("why?", limit, None);
            let count = u32::try_from(tokens.len()).unwrap();
            assert!(count <= limit && count >= limit / 4);
            assert_eq!(tokens_of(&tokens.concat()), count);
            assert_eq!(tokens, answer("why?", limit, None));
        }
        assert_eq!(answer("why?", 50, Some(20)).len(), 20);
        assert_eq!(answer("why?", 10, Some(20)).len(), 10);
        assert!(answer("why?", 0, None).is_empty());
    }
}
