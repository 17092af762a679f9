use lloom_receipts::TokenCount;
use serde_json::{Map, Value, json};

use super::error::BackendError;

/// Bytes of prompt that count as a token where nobody counts: English text has about four a token, other languages and
/// code fewer, so that this errs on the payer's side.
const BYTES_PER_TOKEN: usize = 4;

/// A chat request on its way to the server.
#[derive(Clone, Debug)]
pub(super) struct ChatBody {
    fields: Map<String, Value>,
    /// The size as the client sent it, near enough: serialized without spaces.
    bytes: usize,
    wants_usage: bool,
}

impl ChatBody {
    /// Checks that the request is one and has it streamed, with usage.
    pub(super) fn new(body: Value) -> Result<Self, BackendError> {
        let bytes = body.to_string().len();
        let Value::Object(mut fields) = body else {
            return Err(BackendError::Request("it is no JSON object"));
        };
        if !fields.get("model").is_some_and(Value::is_string) {
            return Err(BackendError::Request("it names no model"));
        }
        if !fields.get("messages").is_some_and(Value::is_array) {
            return Err(BackendError::Request("it holds no messages"));
        }
        check_choices(&fields)?;
        fields.insert("stream".to_owned(), Value::Bool(true));
        let mut options = match fields.shift_remove("stream_options") {
            Some(Value::Object(options)) => options,
            None | Some(Value::Null) => Map::new(),
            Some(_) => return Err(BackendError::Request("'stream_options' is no object")),
        };
        let wants_usage = options.insert("include_usage".to_owned(), Value::Bool(true)) == Some(Value::Bool(true));
        fields.insert("stream_options".to_owned(), Value::Object(options));
        Ok(Self {
            fields,
            bytes,
            wants_usage,
        })
    }

    pub(super) fn fields(&self) -> &Map<String, Value> {
        &self.fields
    }

    /// More prompt tokens than this can't be billed.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether the client asked for the chunk that holds usage.
    pub(super) fn wants_usage(&self) -> bool {
        self.wants_usage
    }
}

/// Makes `body` ask for at most `limit` output tokens: a smaller limit of the client's own stays. The field the client
/// used is kept (`max_completion_tokens` or `max_tokens`), the latter is set where there is neither.
///
/// # Errors
/// [`BackendError::Request`] when the body is no object, or asks for several answers, of which each would have the
/// limit to itself.
pub fn limit_output(body: &mut Value, limit: TokenCount) -> Result<(), BackendError> {
    let Some(fields) = body.as_object_mut() else {
        return Err(BackendError::Request("it is no JSON object"));
    };
    check_choices(fields)?;
    let mut limited = false;
    for name in ["max_completion_tokens", "max_tokens"] {
        if let Some(value) = fields.get_mut(name).filter(|value| !value.is_null()) {
            let asked = value.as_u64().unwrap_or(u64::MAX);
            *value = json!(asked.min(u64::from(limit.get())));
            limited = true;
        }
    }
    if !limited {
        fields.insert("max_tokens".to_owned(), json!(limit.get()));
    }
    Ok(())
}

fn check_choices(fields: &Map<String, Value>) -> Result<(), BackendError> {
    match fields.get("n") {
        None | Some(Value::Null) => Ok(()),
        Some(count) if count.as_u64() == Some(1) => Ok(()),
        Some(_) => Err(BackendError::Request("'n' must be 1: one answer is billed")),
    }
}

/// The text of a prompt: every string in its messages and tools, a line each. Pictures and sounds, given inline, are no
/// text.
pub(super) fn prompt_text(body: &Value) -> String {
    let mut text = String::new();
    for name in ["messages", "tools", "functions"] {
        collect_text(body.get(name).unwrap_or(&Value::Null), &mut text);
    }
    text
}

fn collect_text(value: &Value, text: &mut String) {
    match value {
        Value::String(string) if !string.starts_with("data:") => {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(string);
        }
        Value::Array(items) => items.iter().for_each(|item| collect_text(item, text)),
        Value::Object(fields) => fields.values().for_each(|field| collect_text(field, text)),
        _ => {}
    }
}

/// Prompt tokens where nobody counts them.
pub(super) fn estimate_input(text: &str) -> usize {
    text.len().div_ceil(BYTES_PER_TOKEN)
}
