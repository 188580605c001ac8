//! The page that the binary carries: three files, no build step, nothing from anywhere else.

use std::sync::Arc;

use axum::{Router, http::header, response::IntoResponse, routing::get};

use crate::service::Service;

/// Nothing but our own files and our own API; in particular no inline script.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) fn routes() -> Router<Arc<Service>> {
    let file = |kind: &'static str, text: &'static str| {
        get(move || async move {
            let headers = [
                (header::CONTENT_TYPE, kind),
                (header::CONTENT_SECURITY_POLICY, POLICY),
                (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
                (header::REFERRER_POLICY, "no-referrer"),
                (header::CACHE_CONTROL, "no-cache"),
            ];
            (headers, text).into_response()
        })
    };
    Router::new()
        .route("/", file("text/html; charset=utf-8", include_str!("../../ui/index.html")))
        .route("/ui/page.js", file("text/javascript; charset=utf-8", include_str!("../../ui/page.js")))
        .route("/ui/page.css", file("text/css; charset=utf-8", include_str!("../../ui/page.css")))
}
