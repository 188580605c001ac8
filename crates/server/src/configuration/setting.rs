//! The settings by name: one table, from which flags, variables, JSON keys and reports are made.

/// Something that can be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Setting {
    /// The captured server and database.
    InputDsn,
    /// The server that replays, and the default session's database.
    OutputDsn,
    /// The captured databases, when there are several.
    InputDatabases,
    /// Where the API listens: `HOST`, `HOST:PORT` or `:PORT`.
    ServerAddress,
    /// The API's port.
    ServerPort,
    /// What requests must carry, or its digest.
    ApiToken,
    /// The certificate of the API, with those that lead to its authority.
    ServerTlsCert,
    /// The certificate's private key.
    ServerTlsKey,
    /// The data directory.
    DataDirectory,
    /// The folder of the logs.
    WalLogPath,
    /// The folder of the backups.
    BackupPath,
    /// The folder of the catalog, which holds sessions and checkpoints.
    SessionPath,
    /// The same folder, by the other name.
    CheckpointPath,
    /// The replication slot.
    ReplicationSlot,
    /// The publication.
    PublicationName,
    /// The folder of PostgreSQL's programs.
    PgBin,
    /// `full` or `leave`.
    ReplicaIdentity,
    /// Tables whose replica identity is left alone.
    ExcludeTables,
    /// Bytes that keyframes and spares of one captured database may have.
    KeyframeBudget,
    /// Bytes of WAL on the primary at which the slot is let go.
    SlotLimit,
    /// How old a transaction may become before a running service lets it go.
    RetainAge,
    /// How large a log may become before a running service lets its oldest part go.
    RetainBytes,
}

impl Setting {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 22] = [
        Self::InputDsn,
        Self::OutputDsn,
        Self::InputDatabases,
        Self::ServerAddress,
        Self::ServerPort,
        Self::ApiToken,
        Self::ServerTlsCert,
        Self::ServerTlsKey,
        Self::DataDirectory,
        Self::WalLogPath,
        Self::BackupPath,
        Self::SessionPath,
        Self::CheckpointPath,
        Self::ReplicationSlot,
        Self::PublicationName,
        Self::PgBin,
        Self::ReplicaIdentity,
        Self::ExcludeTables,
        Self::KeyframeBudget,
        Self::SlotLimit,
        Self::RetainAge,
        Self::RetainBytes,
    ];

    /// Its name as an environment variable, in `.env`, and in reports.
    #[must_use]
    pub fn variable(self) -> &'static str {
        match self {
            Self::InputDsn => "INPUT_DSN",
            Self::OutputDsn => "OUTPUT_DSN",
            Self::InputDatabases => "INPUT_DATABASES",
            Self::ServerAddress => "SERVER_ADDR",
            Self::ServerPort => "SERVER_PORT",
            Self::ApiToken => "API_TOKEN",
            Self::ServerTlsCert => "SERVER_TLS_CERT",
            Self::ServerTlsKey => "SERVER_TLS_KEY",
            Self::DataDirectory => "POSTGRES_TEST_REPLAY_DATA_DIR",
            Self::WalLogPath => "WAL_LOG_PATH",
            Self::BackupPath => "BACKUP_PATH",
            Self::SessionPath => "SESSION_PATH",
            Self::CheckpointPath => "CHECKPOINT_PATH",
            Self::ReplicationSlot => "REPLICATION_SLOT",
            Self::PublicationName => "PUBLICATION_NAME",
            Self::PgBin => "PG_BIN",
            Self::ReplicaIdentity => "REPLICA_IDENTITY",
            Self::ExcludeTables => "EXCLUDE_TABLES",
            Self::KeyframeBudget => "KEYFRAME_BUDGET",
            Self::SlotLimit => "SLOT_LIMIT",
            Self::RetainAge => "RETAIN_AGE",
            Self::RetainBytes => "RETAIN_BYTES",
        }
    }

    /// The setting of that variable.
    #[must_use]
    pub fn from_variable(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|setting| setting.variable() == name)
    }

    /// Whether it names a file or folder, which is then relative to the file that sets it.
    pub(super) fn is_path(self) -> bool {
        use Setting::{
            BackupPath, CheckpointPath, DataDirectory, PgBin, ServerTlsCert, ServerTlsKey, SessionPath,
            WalLogPath,
        };
        matches!(
            self,
            DataDirectory
                | WalLogPath
                | BackupPath
                | SessionPath
                | CheckpointPath
                | PgBin
                | ServerTlsCert
                | ServerTlsKey
        )
    }
}
