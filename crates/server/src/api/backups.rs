//! Backups.

use axum::{Json, extract::Path, extract::State, http::StatusCode};

use super::{Answer, Shared, body::Body};
use crate::{
    problem::Problem,
    resource::{
        backup::{BackupAnswer, BackupState, BackupVerified, CreateBackup, RestoreBackup, Restored},
        session::Deleted,
    },
};

/// Dumps the primary or a session. The dump goes on when the client goes away.
#[utoipa::path(post, path = "/api/backups", request_body = CreateBackup,
    responses((status = 201, body = BackupAnswer), (status = 202, body = BackupAnswer, description = "with `background`"),
        (status = 409, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn create(
    State(service): Shared,
    Body(request): Body<CreateBackup>,
) -> Result<(StatusCode, Json<BackupAnswer>), Problem> {
    let backup = service.create_backup(request).await?;
    let running = backup.state == BackupState::Running;
    Ok((if running { StatusCode::ACCEPTED } else { StatusCode::CREATED }, Json(backup)))
}

/// All backups, oldest first.
#[utoipa::path(get, path = "/api/backups", responses((status = 200, body = [BackupAnswer])))]
pub(super) async fn list(State(service): Shared) -> Answer<Vec<BackupAnswer>> {
    Ok(Json(service.backups().await?))
}

/// One backup.
#[utoipa::path(get, path = "/api/backups/{id}", params(("id" = String, Path)),
    responses((status = 200, body = BackupAnswer), (status = 404, body = Problem)))]
pub(super) async fn show(State(service): Shared, Path(id): Path<String>) -> Answer<BackupAnswer> {
    Ok(Json(service.backup(&id).await?))
}

/// Deletes a backup and its files.
#[utoipa::path(delete, path = "/api/backups/{id}", params(("id" = String, Path)),
    responses((status = 200, body = Deleted), (status = 404, body = Problem)))]
pub(super) async fn delete(State(service): Shared, Path(id): Path<String>) -> Answer<Deleted> {
    Ok(Json(service.delete_backup(&id).await?))
}

/// Restores a backup into a session's database or another one of the output server. It goes on when the client goes away.
#[utoipa::path(post, path = "/api/backups/{id}/restore", params(("id" = String, Path)), request_body = RestoreBackup,
    responses((status = 200, body = Restored), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn restore(
    State(service): Shared,
    Path(id): Path<String>,
    Body(request): Body<RestoreBackup>,
) -> Answer<Restored> {
    Ok(Json(service.restore_backup(&id, request).await?))
}

/// Restores a backup into a scratch database and compares. It goes on when the client goes away.
#[utoipa::path(post, path = "/api/backups/{id}/verify", params(("id" = String, Path)),
    responses((status = 200, body = BackupVerified), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn verify(State(service): Shared, Path(id): Path<String>) -> Answer<BackupVerified> {
    Ok(Json(service.verify_backup(&id).await?))
}
