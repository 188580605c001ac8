//! A call of the API, before it is known how it travels. Pure.

use hyper::Method;
use serde::Serialize;
use serde_json::Value;

/// What to ask of the API.
#[derive(Clone, PartialEq, Debug)]
pub struct Call {
    pub(super) method: Method,
    pub(super) path: String,
    query: String,
    body: Vec<u8>,
}

impl Call {
    /// To read something.
    pub fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), query: String::new(), body: Vec::new() }
    }

    /// To do something.
    pub fn post(path: impl Into<String>, request: &impl Serialize) -> Self {
        Self { method: Method::POST, body: json(request).to_string().into_bytes(), ..Self::get(path) }
    }

    /// To change something.
    pub fn patch(path: impl Into<String>, request: &impl Serialize) -> Self {
        Self { method: Method::PATCH, ..Self::post(path, request) }
    }

    /// To remove something.
    pub fn delete(path: impl Into<String>) -> Self {
        Self { method: Method::DELETE, ..Self::get(path) }
    }

    /// With a query's fields as parameters; those without a value are left out.
    #[must_use]
    pub fn query(mut self, query: &impl Serialize) -> Self {
        let Value::Object(fields) = json(query) else { return self };
        for (name, value) in fields {
            let text = match value {
                Value::Null => continue,
                Value::String(text) => text,
                other => other.to_string(),
            };
            self.query.push(if self.query.is_empty() { '?' } else { '&' });
            self.query.push_str(&format!("{name}={}", encode(&text)));
        }
        self
    }

    /// Path and query.
    pub(super) fn target(&self) -> String {
        format!("{}{}", self.path, self.query)
    }

    /// The body; empty for a call without one.
    pub(super) fn body(&self) -> Vec<u8> {
        self.body.clone()
    }
}

fn json(request: &impl Serialize) -> Value {
    serde_json::to_value(request).expect("requests are structs of texts, numbers and booleans")
}

/// Percent-encodes what stands in one path segment or query value.
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                encoded.push(char::from(byte))
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use ptr_server::resource::{checkpoint::CreateCheckpoint, entry::EntryQuery};

    use super::*;

    #[test]
    fn names_travel_in_paths_and_queries_as_they_are() {
        let query = EntryQuery { since: Some("5m ago".into()), limit: Some(7), ..EntryQuery::default() };
        let call = Call::get(format!("/api/checkpoints/{}", encode("a/b ü"))).query(&query);
        assert_eq!(call.target(), "/api/checkpoints/a%2Fb%20%C3%BC?limit=7&since=5m%20ago");
        assert!(call.body().is_empty());
    }

    #[test]
    fn what_is_left_out_is_not_sent() {
        let request = CreateCheckpoint { name: "x".into(), ..CreateCheckpoint::default() };
        assert_eq!(Call::post("/api/checkpoints", &request).body(), br#"{"name":"x"}"#);
    }
}
