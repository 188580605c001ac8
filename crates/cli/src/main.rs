//! A time machine for a PostgreSQL database.
fn main() {}
