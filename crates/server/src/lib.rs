//! Configuration, the service that ties the parts together, the REST API, the page and the backups.
//!
//! [`configuration`] says what the user wants -> [`service`] opens the data directory and starts what its role
//! asks for -> [`api`] answers requests by calling one method of the service each. [`resource`] holds the
//! requests and answers, [`problem`] the errors. The command line calls the same router, over a Unix socket where a
//! service runs and in its own process where none does.
//!
//! # Routes
//! | method and path | request | answer |
//! |---|---|---|
//! | `GET /health` | | [`resource::status::Health`] (public) |
//! | `GET /api/status` | | [`resource::status::Status`] |
//! | `GET /api/config` | | [`configuration::ConfigurationReport`] |
//! | `GET /api/dsn/{input,output,session}` | [`resource::status::DsnQuery`] | [`resource::status::DsnAnswer`] |
//! | `POST /api/sessions` | [`resource::session::CreateSession`] | 201 [`resource::session::SessionAnswer`] |
//! | `GET /api/sessions` | [`resource::session::SessionQuery`] | array of the same |
//! | `GET /api/sessions/{id or name}` | | the same |
//! | `DELETE /api/sessions/{id or name}` | [`resource::session::DeleteSession`] | [`resource::session::Deleted`] |
//! | `POST /api/sessions/switch` | [`resource::session::SwitchSession`] | the session |
//! | `POST /api/sessions/{id or name}/open` | [`resource::session::OpenSession`] | the session |
//! | `POST /api/checkpoints` | [`resource::checkpoint::CreateCheckpoint`] | 201 [`resource::checkpoint::CheckpointAnswer`] |
//! | `GET /api/checkpoints` | [`resource::checkpoint::CheckpointQuery`] | array of the same |
//! | `GET /api/checkpoints/{id or name}` | `?database=` | the same |
//! | `PATCH /api/checkpoints/{id or name}` | [`resource::checkpoint::RenameCheckpoint`] | the same |
//! | `DELETE /api/checkpoints/{id or name}` | | [`resource::session::Deleted`] |
//! | `POST /api/checkpoints/migration/pin` | [`resource::checkpoint::PinMigration`] | the checkpoint |
//! | `POST /api/navigate` | [`resource::navigation::Navigate`] | [`resource::navigation::Navigated`], 202 [`resource::navigation::MoveAnswer`], or [`resource::navigation::Between`] |
//! | `POST /api/replay` | [`resource::navigation::Replay`] | [`resource::navigation::Navigated`] |
//! | `POST /api/undo`, `POST /api/redo` | [`resource::navigation::Step`] | [`resource::navigation::Navigated`] |
//! | `GET /api/moves` | [`resource::navigation::MoveQuery`] | array of [`resource::navigation::MoveAnswer`], newest first |
//! | `GET`, `DELETE /api/moves/{id}` | | [`resource::navigation::MoveAnswer`] |
//! | `GET /api/position` | [`resource::position::PositionQuery`] | [`resource::position::PositionAnswer`] |
//! | `GET /api/wal-logs` | [`resource::entry::EntryQuery`] | [`resource::entry::EntryPage`] |
//! | `GET /api/transactions` | [`resource::transaction::TransactionQuery`] | [`resource::transaction::TransactionPage`] |
//! | `GET /api/transactions/{xid}` | `limit`, `cursor`, `database` of the same | [`resource::transaction::TransactionDetail`] |
//! | `GET /api/diff` | [`resource::diff::DiffQuery`] | [`resource::diff::DiffAnswer`] |
//! | `POST /api/verify` | [`resource::status::Verify`] | [`resource::status::Verified`] |
//! | `GET /api/doctor` | | [`resource::status::Doctor`] |
//! | `POST /api/doctor/fix` | [`resource::status::Mend`] | [`resource::status::Doctor`] |
//! | `POST /api/teardown` | [`resource::status::Teardown`] | [`resource::status::TornDown`] |
//! | `POST /api/backups` | [`resource::backup::CreateBackup`] | 201 (202 with `background`) [`resource::backup::BackupAnswer`] |
//! | `GET /api/backups`, `GET /api/backups/{id}` | | array of the same, one |
//! | `POST /api/backups/{id}/restore` | [`resource::backup::RestoreBackup`] | [`resource::backup::Restored`] |
//! | `POST /api/backups/{id}/verify` | | [`resource::backup::BackupVerified`] |
//! | `DELETE /api/backups/{id}` | | [`resource::session::Deleted`] |
//! | `GET /api/events` | | server-sent [`resource::event::Event`]s |
//! | `POST /api/shutdown` | (own socket) | 202; the service ends |
//! | `GET /api/openapi.json` | | OpenAPI 3.1 |
//!
//! Every error is a [`problem::Problem`]; its [`problem::Code`] fixes HTTP status and exit status.

pub mod api;
mod backups;
pub mod configuration;
mod held;
pub mod problem;
pub mod resource;
mod serve;
pub mod service;

pub use api::{router, router_of_owner};
pub use configuration::{Configuration, ConfigurationError, DataDirectory, Flags, Setting};
pub use problem::{Code, Problem};
/// For the folders that the command line makes itself.
pub use ptr_log::create_private_folder;
pub use serve::serve;
pub use service::{Announcement, Announcer, Role, Running, Service, ServiceError};
