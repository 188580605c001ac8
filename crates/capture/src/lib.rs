//! PostgreSQL to log: logical replication, decoding, schema events, source set-up.
