//! Who may ask: every request passes here first.
//!
//! - A page of another site must not reach a service on this machine: without a token the `Host`
//!   must name this machine (else a name that was bound to 127.0.0.1 could lead here), and what a browser sends
//!   must be of the same origin and `application/json` (which no form can be).
//! - Where a token is set, everything but the page, `/health` and `/ready` needs it.
//! - What comes over the Unix socket in the data directory comes from who may enter that: it is always let in, and alone
//!   opens what holds passwords.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, Method, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::{
    configuration::ApiToken,
    problem::{Code, Problem},
    service::Service,
};

/// What requests are held against.
pub struct Guard {
    /// `API_TOKEN`.
    required: Option<ApiToken>,
    /// Whether only names of this machine are taken as `Host`.
    local_names_only: bool,
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Caller {
    /// The user who started the service, on this machine, by the way that nobody else has.
    Owner,
    /// Anybody else that is let in.
    Client,
}

impl Guard {
    /// The guard of a service, as it is configured.
    #[must_use]
    pub fn of(service: &Service) -> Self {
        Self {
            required: service.configuration().token.clone(),
            local_names_only: service.configuration().address.is_loopback()
                && service.configuration().token.is_none(),
        }
    }

    fn admit(&self, request: &Request) -> Result<Caller, Problem> {
        if request.extensions().get() == Some(&Caller::Owner) {
            return Ok(Caller::Owner);
        }
        let headers = request.headers();
        self.check_host(headers)?;
        let path = request.uri().path();
        let public = path == "/health" || path == "/ready" || path == "/" || path.starts_with("/ui/");
        let reading = request.method() == Method::GET || request.method() == Method::HEAD;
        if public && reading {
            return Ok(Caller::Client);
        }
        check_origin(headers, request.method())?;
        self.check_token(headers)?;
        Ok(Caller::Client)
    }

    fn check_host(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        match host {
            Some(host) if !self.local_names_only || is_local(host) => Ok(()),
            // Only what is called in this process, without a network, comes without a host.
            None => Ok(()),
            Some(host) => Err(Problem::new(Code::Forbidden, format!("the service is not known as {host:?}"))
                .with_hint("ask for localhost or 127.0.0.1; to serve other names set API_TOKEN")),
        }
    }

    fn check_token(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let Some(required) = &self.required else { return Ok(()) };
        let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let bearer = bearer.and_then(|value| value.split_once(' '));
        let given =
            bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
        match given {
            Some(token) if required.matches(token) => Ok(()),
            Some(_) => Err(Problem::new(Code::Unauthorized, "the token is not the one that is set")
                .with_hint(
                    "send the token, of which API_TOKEN may be the digest, as Authorization: Bearer TOKEN",
                )),
            None => Err(Problem::new(Code::Unauthorized, "the request carries no token").with_hint(
                "send the token, of which API_TOKEN may be the digest, as Authorization: Bearer TOKEN",
            )),
        }
    }
}

/// The guard as a layer of the router.
pub(super) async fn check(State(guard): State<Arc<Guard>>, mut request: Request, next: Next) -> Response {
    match guard.admit(&request) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

/// Whether a `Host` header names this machine's loopback.
fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
    let bare = bare.to_ascii_lowercase();
    bare == "localhost"
        || bare.ends_with(".localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// What a browser sends must come from our own page, and a request that changes something must be JSON.
fn check_origin(headers: &HeaderMap, method: &Method) -> Result<(), Problem> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let (origin, site) = (text("origin"), text("sec-fetch-site"));
    let browser = origin.is_some() || headers.keys().any(|name| name.as_str().starts_with("sec-fetch-"));
    if !browser {
        return Ok(());
    }
    let foreign = |from: &str| {
        Problem::new(Code::Forbidden, format!("the request comes from another site ({from})"))
            .with_hint("use the page that the service itself serves, or a client that is no browser")
    };
    if let Some(site) = site.filter(|site| !matches!(*site, "same-origin" | "none")) {
        return Err(foreign(site));
    }
    if let Some(origin) = origin {
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        if authority.is_none() || authority != text("host") {
            return Err(foreign(origin));
        }
    }
    let writes = matches!(*method, Method::POST | Method::PUT | Method::PATCH);
    let media = text("content-type").unwrap_or_default();
    let media = media.split(';').next().unwrap_or_default().trim();
    if writes && !media.eq_ignore_ascii_case("application/json") {
        return Err(Problem::new(Code::Forbidden, "a browser's request must be application/json")
            .with_hint("set Content-Type: application/json"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn guard(required: Option<ApiToken>) -> Guard {
        Guard { local_names_only: required.is_none(), required }
    }

    fn request(method: Method, path: &str, headers: &[(&str, &str)]) -> Request {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Body::empty()).unwrap()
    }

    #[test]
    fn only_names_of_this_machine_lead_to_a_loopback_service() {
        let code = |host: &str| {
            guard(None).admit(&request(Method::GET, "/api/status", &[("host", host)])).map_err(|p| p.code)
        };
        for host in ["localhost:8080", "127.0.0.1", "[::1]:8080", "a.localhost", "LOCALHOST."] {
            assert_eq!(code(host), Ok(Caller::Client), "{host}");
        }
        for host in
            ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "192.168.0.1", "localhost.evil"]
        {
            assert_eq!(code(host), Err(Code::Forbidden), "{host}");
        }
    }

    #[test]
    fn a_browser_must_be_on_our_own_page_and_send_json() {
        let json = ("content-type", "application/json");
        let host = ("host", "localhost:8080");
        let code = |headers: &[(&str, &str)]| {
            guard(None).admit(&request(Method::POST, "/api/navigate", headers)).map_err(|p| p.code)
        };
        assert_eq!(code(&[host]), Ok(Caller::Client), "no browser");
        assert_eq!(code(&[host, json, ("origin", "http://localhost:8080")]), Ok(Caller::Client));
        assert_eq!(code(&[host, json, ("origin", "http://localhost:3000")]), Err(Code::Forbidden));
        assert_eq!(code(&[host, json, ("origin", "null")]), Err(Code::Forbidden));
        assert_eq!(code(&[host, json, ("sec-fetch-site", "same-site")]), Err(Code::Forbidden));
        assert_eq!(code(&[host, ("sec-fetch-site", "same-origin")]), Err(Code::Forbidden), "no JSON");
        assert_eq!(code(&[host, json, ("sec-fetch-site", "same-origin")]), Ok(Caller::Client));
    }

    #[test]
    fn a_token_is_needed_for_all_but_the_page_and_health() {
        let guard = guard(ApiToken::parse("the-token").ok());
        let code = |path: &str, authorization: Option<String>| {
            let headers: Vec<(&str, &str)> =
                authorization.iter().map(|a| ("authorization", a.as_str())).collect();
            guard.admit(&request(Method::GET, path, &headers)).map_err(|p| p.code)
        };
        assert_eq!(code("/health", None), Ok(Caller::Client));
        assert_eq!(code("/", None), Ok(Caller::Client));
        assert_eq!(code("/api/config", None), Err(Code::Unauthorized));
        assert_eq!(code("/api/config", Some("Bearer nonsense".into())), Err(Code::Unauthorized));
        assert_eq!(code("/api/config", Some("Bearer the-token".into())), Ok(Caller::Client));
        assert_eq!(code("/api/config", Some("bearer the-token".into())), Ok(Caller::Client));
        let mut own = request(Method::POST, "/api/shutdown", &[("host", "any")]);
        own.extensions_mut().insert(Caller::Owner);
        assert_eq!(guard.admit(&own).map_err(|p| p.code), Ok(Caller::Owner));
    }
}
