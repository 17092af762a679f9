//! The text of an answer, out of the server-sent events it comes as.

use serde_json::Value;

/// The longest event that is put together; an executor could send one without an end.
const MAX_EVENT: usize = 1 << 20;

/// Reads events as they come, in pieces of any size.
#[derive(Debug, Default)]
pub struct AnswerText {
    line: Vec<u8>,
    text: String,
}

impl AnswerText {
    /// Takes a piece; gives the text that came with it.
    pub fn feed(&mut self, data: &[u8]) -> String {
        let mut new = String::new();
        for byte in data {
            if *byte == b'\n' {
                read_line(&self.line, &mut new);
                self.line.clear();
            } else if self.line.len() < MAX_EVENT {
                self.line.push(*byte);
            }
        }
        self.text.push_str(&new);
        new
    }

    /// All of it.
    pub fn into_text(self) -> String {
        self.text
    }
}

fn read_line(line: &[u8], text: &mut String) {
    let Some(payload) = line.strip_prefix(b"data:") else {
        return;
    };
    // `[DONE]`, and what is no JSON, carries no text.
    let Ok(event) = serde_json::from_slice::<Value>(payload) else {
        return;
    };
    let choices = event.get("choices").and_then(Value::as_array);
    for choice in choices.into_iter().flatten() {
        if let Some(content) = choice.pointer("/delta/content").and_then(Value::as_str) {
            text.push_str(content);
        }
    }
}

/// What a stranger's text must not do to a terminal: move its cursor, change its title, or worse. Line ends and tabs
/// stay.
pub fn printable(text: &str) -> String {
    text.chars()
        .filter(|letter| !letter.is_control() || matches!(letter, '\n' | '\t'))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_may_be_cut_anywhere() {
        let stream = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n\
            data: {\"choices\":[{\"delta\":{\"content\":\"Grüß \"}}]}\r\n\r\n: ping\n\n\
            data:{\"choices\":[{\"delta\":{\"content\":\"Gott\"}}]}\n\ndata: [DONE]\n\n";
        for size in [1, 3, 7, stream.len()] {
            let mut answer = AnswerText::default();
            let pieces: String = stream.as_bytes().chunks(size).map(|piece| answer.feed(piece)).collect();
            assert_eq!(pieces, "Grüß Gott", "in pieces of {size}");
            assert_eq!(answer.into_text(), "Grüß Gott");
        }
    }

    #[test]
    fn terminals_are_safe() {
        assert_eq!(printable("a\u{1b}[2Jb\r\n\tc\u{7}"), "a[2Jb\n\tc");
    }
}
