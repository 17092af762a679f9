use lloom_receipts::TokenCount;
use serde_json::{Map, Value};

use crate::{backend::limit_output, wire::Refusal};

/// The names under which a body may limit its output, the newer one first.
const LIMITS: [&str; 2] = ["max_completion_tokens", "max_tokens"];

/// A checked `chat.completions` body, as the backend is asked it.
#[derive(Debug)]
pub(super) struct ChatBody(Map<String, Value>);

impl ChatBody {
    /// Reads a body.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let refuse = |detail: String| Refusal::MalformedBody { detail };
        let body: Map<String, Value> = serde_json::from_slice(bytes).map_err(|error| refuse(error.to_string()))?;
        if !body.get("messages").is_some_and(Value::is_array) {
            return Err(refuse("'messages' is no array".to_owned()));
        }
        // Each choice may fill the output limit, and one request pays for one answer.
        if !matches!(body.get("n").map(Value::as_u64), None | Some(Some(1))) && body.get("n") != Some(&Value::Null) {
            return Err(refuse("'n' is not 1".to_owned()));
        }
        Ok(Self(body))
    }

    /// Checks that the body asks for the model `id`.
    pub(super) fn check_model(&self, id: &str) -> Result<(), Refusal> {
        match self.0.get("model") {
            Some(Value::String(model)) if model == id => Ok(()),
            Some(Value::String(model)) => Err(Refusal::BodyModelMismatch { body: model.clone() }),
            _ => Err(Refusal::MalformedBody {
                detail: "'model' is no string".to_owned(),
            }),
        }
    }

    /// Checks that the body asks for no more output than `limit`, which the request pays for.
    pub(super) fn check_limit(&self, limit: TokenCount) -> Result<(), Refusal> {
        for name in LIMITS {
            match self.0.get(name) {
                None | Some(Value::Null) => {}
                Some(value) => match value.as_u64() {
                    Some(asked) if asked > u64::from(limit.get()) => {
                        return Err(Refusal::BodyLimitMismatch {
                            body: asked,
                            request: limit,
                        });
                    }
                    Some(_) => {}
                    None => {
                        return Err(Refusal::MalformedBody {
                            detail: format!("'{name}' is no count"),
                        });
                    }
                },
            }
        }
        Ok(())
    }

    /// What the prompt counts where nobody says it: a token for four bytes of the messages' text.
    pub(super) fn prompt_estimate(&self) -> TokenCount {
        let text_of = |part: &Value| part.get("text").and_then(Value::as_str).map_or(0, str::len);
        let messages = self.0.get("messages").and_then(Value::as_array);
        let bytes: usize = messages
            .into_iter()
            .flatten()
            .map(|message| match message.get("content") {
                Some(Value::String(text)) => text.len(),
                Some(Value::Array(parts)) => parts.iter().map(text_of).sum(),
                _ => 0,
            })
            .sum();
        TokenCount::new(u32::try_from(bytes.div_ceil(4)).unwrap_or(u32::MAX))
    }

    /// The body for the backend, with an output limit of at most `limit`. That it is streamed is the backend's affair.
    pub(super) fn prepare(self, limit: TokenCount) -> Result<Value, Refusal> {
        let mut body = Value::Object(self.0);
        match limit_output(&mut body, limit) {
            Ok(()) => Ok(body),
            Err(error) => Err(Refusal::MalformedBody {
                detail: error.to_string(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(body: &Value) -> Result<ChatBody, Refusal> {
        ChatBody::parse(&serde_json::to_vec(body).unwrap())
    }

    #[test]
    fn prepares_what_the_backend_is_asked() {
        let body = parse(&json!({"model": "m", "messages": [], "stream": false, "temperature": 0.5})).unwrap();
        body.check_model("m").unwrap();
        body.check_limit(TokenCount::new(1)).unwrap();
        assert_eq!(
            body.prepare(TokenCount::new(7)).unwrap(),
            json!({
                "model": "m", "messages": [], "temperature": 0.5, "max_tokens": 7,
                "stream": false,
            })
        );
        let limited = parse(&json!({"model": "m", "messages": [], "max_completion_tokens": 5})).unwrap();
        let prepared = limited.prepare(TokenCount::new(7)).unwrap();
        assert_eq!(prepared["max_completion_tokens"], 5);
        assert_eq!(prepared.get("max_tokens"), None);
    }

    #[test]
    fn keeps_the_order_of_keys_which_the_model_reads() {
        let asked = r#"{"tools":[{"zeta":1,"alpha":{"y":2,"b":3}}],"model":"m","messages":[]"#;
        let body = ChatBody::parse(format!("{asked}}}").as_bytes()).unwrap();
        let prepared = body.prepare(TokenCount::new(7)).unwrap();
        assert_eq!(prepared.to_string(), format!(r#"{asked},"max_tokens":7}}"#));
    }

    #[test]
    fn estimates_a_prompt_by_its_text() {
        let body = parse(&json!({"model": "m", "messages": [
            {"role": "user", "content": "12345"},
            {"role": "user", "content": [{"type": "text", "text": "678"}, {"type": "image_url", "image_url": {"url": "data:long"}}]},
            {"role": "assistant", "content": null},
        ]}));
        assert_eq!(body.unwrap().prompt_estimate(), TokenCount::new(2));
    }

    #[test]
    fn refuses_bodies_that_disagree_with_their_request() {
        for (body, refused) in [
            (json!([]), "malformed"),
            (json!({"model": "m"}), "malformed"),
            (json!({"model": "m", "messages": "hello"}), "malformed"),
            (json!({"model": "m", "messages": [], "n": 2}), "malformed"),
            (json!({"model": "m", "messages": [], "n": "1"}), "malformed"),
            (json!({"messages": []}), "malformed"),
            (json!({"model": "other", "messages": []}), "model"),
            (json!({"model": "m", "messages": [], "max_tokens": 8}), "limit"),
            (
                json!({"model": "m", "messages": [], "max_completion_tokens": 8}),
                "limit",
            ),
            (json!({"model": "m", "messages": [], "max_tokens": -1}), "malformed"),
        ] {
            let refusal = parse(&body)
                .and_then(|parsed| {
                    parsed.check_model("m")?;
                    parsed.check_limit(TokenCount::new(7))
                })
                .unwrap_err();
            let kind = match refusal {
                Refusal::MalformedBody { .. } => "malformed",
                Refusal::BodyModelMismatch { .. } => "model",
                Refusal::BodyLimitMismatch { body: 8, request } if request == TokenCount::new(7) => "limit",
                _ => "another",
            };
            assert_eq!(kind, refused, "{body}");
        }
        assert!(matches!(
            ChatBody::parse(b"{\"model\":"),
            Err(Refusal::MalformedBody { .. })
        ));
    }
}
