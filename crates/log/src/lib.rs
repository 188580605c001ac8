//! The durable history: segments, recovery, transaction index, catalog of checkpoints and sessions.
