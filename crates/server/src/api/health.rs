//! Whether the API answers.

use axum::Json;

use crate::resource::status::Health;

/// Whether the API answers. Needs no token.
#[utoipa::path(get, path = "/health", responses((status = 200, body = Health)))]
pub(super) async fn health() -> Json<Health> {
    Json(Health { status: "ok".into(), version: env!("CARGO_PKG_VERSION").into() })
}
