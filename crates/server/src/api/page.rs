//! The page that the binary carries: no build step, nothing from anywhere else.

use std::sync::Arc;

use axum::{Router, http::header, response::IntoResponse, routing::get};

use crate::service::Service;

/// Nothing but our own files and our own API; in particular no inline script.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page's modules.
const SCRIPTS: [(&str, &str); 18] = [
    ("/ui/address.js", include_str!("../../ui/address.js")),
    ("/ui/api.js", include_str!("../../ui/api.js")),
    ("/ui/backups.js", include_str!("../../ui/backups.js")),
    ("/ui/dom.js", include_str!("../../ui/dom.js")),
    ("/ui/header.js", include_str!("../../ui/header.js")),
    ("/ui/inspector.js", include_str!("../../ui/inspector.js")),
    ("/ui/keys.js", include_str!("../../ui/keys.js")),
    ("/ui/list.js", include_str!("../../ui/list.js")),
    ("/ui/log.js", include_str!("../../ui/log.js")),
    ("/ui/moves.js", include_str!("../../ui/moves.js")),
    ("/ui/page.js", include_str!("../../ui/page.js")),
    ("/ui/play.js", include_str!("../../ui/play.js")),
    ("/ui/reference.js", include_str!("../../ui/reference.js")),
    ("/ui/sides.js", include_str!("../../ui/sides.js")),
    ("/ui/sql.js", include_str!("../../ui/sql.js")),
    ("/ui/stops.js", include_str!("../../ui/stops.js")),
    ("/ui/store.js", include_str!("../../ui/store.js")),
    ("/ui/timeline.js", include_str!("../../ui/timeline.js")),
];

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
    let script = |text| file("text/javascript; charset=utf-8", text);
    let mut router = Router::new()
        .route("/", file("text/html; charset=utf-8", include_str!("../../ui/index.html")))
        .route(
            "/ui/reference.html",
            file("text/html; charset=utf-8", include_str!("../../ui/reference.html")),
        )
        .route("/ui/reference.css", file("text/css; charset=utf-8", include_str!("../../ui/reference.css")))
        .route("/ui/page.css", file("text/css; charset=utf-8", include_str!("../../ui/page.css")));
    for (path, text) in SCRIPTS {
        router = router.route(path, script(text));
    }
    router
}
