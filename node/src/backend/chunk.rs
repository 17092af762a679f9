use serde_json::Value;

/// Fields of a delta that hold names and tags, not what the model wrote.
const UNWRITTEN: [&str; 4] = ["role", "id", "type", "index"];

/// One event of a streamed chat completion, read for what is billed. Unknown fields are passed on unread.
#[derive(Debug)]
pub(super) struct Chunk {
    value: Value,
}

/// What a server says an inference used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReportedUsage {
    pub(super) input: u64,
    pub(super) output: u64,
}

impl Chunk {
    /// Nothing when `data` is no JSON object.
    pub(super) fn parse(data: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(data).ok()?;
        value.is_object().then_some(Self { value })
    }

    /// What the server says went wrong.
    pub(super) fn error(&self) -> Option<String> {
        match self.value.get("error")? {
            Value::Null => None,
            Value::String(message) => Some(message.clone()),
            error => Some(match error.get("message") {
                Some(Value::String(message)) => message.clone(),
                _ => error.to_string(),
            }),
        }
    }

    /// What the server says was used, if both numbers can be read.
    pub(super) fn usage(&self) -> Option<ReportedUsage> {
        let usage = self.value.get("usage")?;
        Some(ReportedUsage {
            input: usage.get("prompt_tokens")?.as_u64()?,
            output: usage.get("completion_tokens")?.as_u64()?,
        })
    }

    /// Whether it is the extra chunk that holds usage and nothing else.
    pub(super) fn only_usage(&self) -> bool {
        self.usage().is_some() && self.choices().is_empty()
    }

    /// Whether a choice ends with this chunk.
    pub(super) fn finishes(&self) -> bool {
        self.choices()
            .iter()
            .any(|choice| choice.get("finish_reason").is_some_and(|reason| !reason.is_null()))
    }

    /// Appends what the model wrote in this chunk: content, reasoning, refusals, names and arguments of tool calls.
    pub(super) fn written(&self, text: &mut String) {
        for choice in self.choices() {
            collect(choice.get("delta").unwrap_or(&Value::Null), text);
        }
    }

    fn choices(&self) -> &[Value] {
        self.value
            .get("choices")
            .and_then(Value::as_array)
            .map_or(&[], Vec::as_slice)
    }
}

fn collect(value: &Value, text: &mut String) {
    match value {
        Value::String(string) => text.push_str(string),
        Value::Array(items) => items.iter().for_each(|item| collect(item, text)),
        Value::Object(fields) => fields
            .iter()
            .filter(|(name, _)| !UNWRITTEN.contains(&name.as_str()))
            .for_each(|(_, field)| collect(field, text)),
        _ => {}
    }
}
