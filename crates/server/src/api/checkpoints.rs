//! Checkpoints.

use axum::{Json, extract::Path, extract::State, http::StatusCode};

use super::{Answer, Shared, body::Body, query::Query};
use crate::{
    problem::Problem,
    resource::{
        checkpoint::{CheckpointAnswer, CheckpointQuery, CreateCheckpoint, PinMigration, RenameCheckpoint},
        session::Deleted,
    },
};

/// Names a position; now, exactly, when none is given.
#[utoipa::path(post, path = "/api/checkpoints", request_body = CreateCheckpoint,
    responses((status = 201, body = CheckpointAnswer), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn create(
    State(service): Shared,
    Body(request): Body<CreateCheckpoint>,
) -> Result<(StatusCode, Json<CheckpointAnswer>), Problem> {
    Ok((StatusCode::CREATED, Json(service.create_checkpoint(request).await?)))
}

/// All checkpoints in order of their positions, the fixed two first.
#[utoipa::path(get, path = "/api/checkpoints", params(CheckpointQuery),
    responses((status = 200, body = [CheckpointAnswer])))]
pub(super) async fn list(
    State(service): Shared,
    Query(query): Query<CheckpointQuery>,
) -> Answer<Vec<CheckpointAnswer>> {
    Ok(Json(service.checkpoints(query).await?))
}

/// One checkpoint, by id or name.
#[utoipa::path(get, path = "/api/checkpoints/{id}", params(("id" = String, Path), CheckpointQuery),
    responses((status = 200, body = CheckpointAnswer), (status = 404, body = Problem)))]
pub(super) async fn show(
    State(service): Shared,
    Path(id): Path<String>,
    Query(query): Query<CheckpointQuery>,
) -> Answer<CheckpointAnswer> {
    Ok(Json(service.checkpoint(&id, query).await?))
}

/// Gives a checkpoint another name.
#[utoipa::path(patch, path = "/api/checkpoints/{id}", params(("id" = String, Path), CheckpointQuery),
    request_body = RenameCheckpoint, responses((status = 200, body = CheckpointAnswer), (status = 404, body = Problem)))]
pub(super) async fn rename(
    State(service): Shared,
    Path(id): Path<String>,
    Query(query): Query<CheckpointQuery>,
    Body(request): Body<RenameCheckpoint>,
) -> Answer<CheckpointAnswer> {
    Ok(Json(service.rename_checkpoint(&id, query, &request.name).await?))
}

/// Deletes a checkpoint; the position stays.
#[utoipa::path(delete, path = "/api/checkpoints/{id}", params(("id" = String, Path), CheckpointQuery),
    responses((status = 200, body = Deleted), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn delete(
    State(service): Shared,
    Path(id): Path<String>,
    Query(query): Query<CheckpointQuery>,
) -> Answer<Deleted> {
    Ok(Json(service.delete_checkpoint(&id, query).await?))
}

/// Fixes MIGRATION at a position for good.
#[utoipa::path(post, path = "/api/checkpoints/migration/pin", request_body = PinMigration,
    responses((status = 200, body = CheckpointAnswer), (status = 422, body = Problem)))]
pub(super) async fn pin_migration(
    State(service): Shared,
    Body(request): Body<PinMigration>,
) -> Answer<CheckpointAnswer> {
    Ok(Json(service.pin_migration(request).await?))
}
