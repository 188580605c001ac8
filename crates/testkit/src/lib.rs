//! Development only: a PostgreSQL server, database and folder for each test.
