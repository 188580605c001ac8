//! Every request that a page sends is one that the API's description has, with its parameters and fields; and none goes
//! anywhere else.

use serde_json::Value;

use crate::browser::Browser;

/// Holds what was sent since this was asked last against the description. The service must answer.
#[track_caller]
pub fn assert_described(page: &mut Browser) {
    let sent = page.requests();
    let description = page.eval(
        "fetch('/api/openapi.json', { headers: sessionStorage.getItem('token') ? { Authorization: `Bearer ${sessionStorage.getItem('token')}` } : {} }) \
         .then((answer) => answer.json())",
    );
    assert!(description["paths"].is_object(), "{description}");
    let wrong: Vec<String> = sent.iter().filter_map(|request| undescribed(&description, request)).collect();
    assert_eq!(wrong, Vec::<String>::new(), "of {} requests", sent.len());
    let calls = sent.iter().filter(|[_, address, _]| address.contains("/api/")).count();
    assert!(calls > 3, "only {calls} calls of the API among {sent:?}");
}

/// What is not in the description about a request.
fn undescribed(description: &Value, [method, address, body]: &[String; 3]) -> Option<String> {
    let Some((_, rest)) = address.split_once("://") else {
        return (!address.starts_with("data:")).then(|| format!("an address of another kind: {address}"));
    };
    let (host, rest) = rest.split_once('/').unwrap_or((rest, ""));
    if !host.starts_with("127.0.0.1:") {
        return Some(format!("it goes elsewhere: {address}"));
    }
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    if !path.starts_with("api/") {
        let own = path.is_empty() || path.starts_with("ui/");
        return (!own).then(|| format!("neither the page nor the API: {address}"));
    }
    if path == "api/openapi.json" {
        return None;
    }
    let Some(operation) = operation(description, method, &format!("/{path}")) else {
        return Some(format!("{method} /{path} is not described"));
    };
    let parameters = operation["parameters"].as_array().map_or(&[][..], Vec::as_slice);
    let knows = |name: &str| parameters.iter().any(|one| one["in"] == "query" && one["name"] == name);
    let names =
        query.split('&').filter(|part| !part.is_empty()).map(|part| part.split('=').next().unwrap_or(part));
    if let Some(name) = names.into_iter().find(|name| !knows(name)) {
        return Some(format!("{method} /{path} has no parameter {name}"));
    }
    let given: Value = serde_json::from_str(body).unwrap_or(Value::Null);
    let fields = given.as_object().into_iter().flatten().map(|(name, _)| name);
    let schema = schema(description, &operation["requestBody"]["content"]["application/json"]["schema"]);
    let unknown = fields.into_iter().find(|name| !schema["properties"][name.as_str()].is_object());
    unknown.map(|name| format!("{method} /{path} takes no field {name}"))
}

fn operation<'a>(description: &'a Value, method: &str, path: &str) -> Option<&'a Value> {
    let paths = description["paths"].as_object().expect("paths");
    // What is written out goes before what is filled in.
    let fits = |(template, _): &(&String, &Value)| {
        let (template, path): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
        template.len() == path.len()
            && template.iter().zip(&path).all(|(part, given)| part.starts_with('{') || part == given)
    };
    let exact = paths.get(path).filter(|_| !path.contains('{'));
    let found = exact.or_else(|| paths.iter().find(fits).map(|(_, methods)| methods))?;
    found.get(method.to_lowercase())
}

fn schema<'a>(description: &'a Value, of: &'a Value) -> &'a Value {
    match of["$ref"].as_str() {
        Some(reference) => {
            &description["components"]["schemas"][reference.rsplit('/').next().unwrap_or_default()]
        }
        None => of,
    }
}

#[test]
fn what_is_not_described_is_found() {
    let description = serde_json::json!({
        "paths": {
            "/api/sessions/switch": {"post": {"requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Switch"}}}}}},
            "/api/sessions/{id}": {"delete": {}},
            "/api/log": {"get": {"parameters": [{"in": "query", "name": "limit"}]}},
        },
        "components": {"schemas": {"Switch": {"properties": {"session_id": {"type": "string"}}}}},
    });
    let found = |method: &str, path: &str, body: &str| {
        undescribed(&description, &[method.into(), format!("http://127.0.0.1:8080{path}"), body.into()])
    };
    for (method, path, body) in [
        ("GET", "/", ""),
        ("GET", "/?at=0/1", ""),
        ("GET", "/ui/page.js", ""),
        ("GET", "/api/log?limit=3", ""),
        ("DELETE", "/api/sessions/7", ""),
        ("POST", "/api/sessions/switch", r#"{"session_id": "x"}"#),
    ] {
        assert_eq!(found(method, path, body), None, "{method} {path}");
    }
    for (method, path, body) in [
        ("GET", "/other", ""),
        ("GET", "/api/log?limit=3&colour=red", ""),
        ("POST", "/api/log", ""),
        ("GET", "/api/log/7", ""),
        ("POST", "/api/sessions/switch", r#"{"session": "x"}"#),
    ] {
        assert!(found(method, path, body).is_some(), "{method} {path}");
    }
    assert!(undescribed(&description, &["GET", "https://example.org/", ""].map(Into::into)).is_some());
}
