//! What a PostgreSQL server needs from its client: DSNs, TLS, connections, programs, private clusters.
