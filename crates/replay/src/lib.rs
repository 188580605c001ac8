//! Log to replica: plan, fold, SQL, apply, cursor, sessions.
