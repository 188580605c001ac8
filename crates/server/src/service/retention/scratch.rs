//! What a restore or a comparison of a backup made on the output server and left when its process was killed.

use super::{Collected, thing};
use crate::{
    backups::{is_scratch, take_over_scratch},
    service::{Service, ServiceError},
};

use ptr_replay::inventory::drop_database;

impl Service {
    /// Drops those under whose lock nobody is, while their lock is held here.
    pub(super) async fn collect_scratch(&self, done: &mut Collected) -> Result<(), ServiceError> {
        let maintenance = self.output_maintenance().await?;
        let sql = "SELECT datname::text FROM pg_catalog.pg_database ORDER BY 1";
        let names = maintenance.query(sql, &[]).await?.into_iter().map(|row| row.get::<_, String>(0));
        for name in names.filter(|name| is_scratch(name)) {
            // It may have gone meanwhile.
            let size =
                "SELECT pg_catalog.pg_database_size(oid) FROM pg_catalog.pg_database WHERE datname = $1";
            let size =
                maintenance.query_opt(size, &[&name]).await?.and_then(|row| row.get::<_, Option<i64>>(0));
            let bytes = size.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default();
            if !take_over_scratch(&maintenance, &name).await? {
                let reason = "a backup is being restored into it".to_owned();
                done.kept.push(thing("database", &name, bytes, reason));
                continue;
            }
            if !done.dry_run {
                drop_database(self.output()?, &name).await?;
            }
            let reason = "the restore of a backup that was killed left it".to_owned();
            done.removed.push(thing("database", &name, bytes, reason));
        }
        maintenance.close().await;
        Ok(())
    }
}
