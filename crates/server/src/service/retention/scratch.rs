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
        let sql =
            "SELECT datname::text, pg_catalog.pg_database_size(oid) FROM pg_catalog.pg_database ORDER BY 1";
        for row in maintenance.query(sql, &[]).await? {
            let (name, bytes): (String, i64) = (row.get(0), row.get(1));
            if !is_scratch(&name) {
                continue;
            }
            let bytes = u64::try_from(bytes).unwrap_or_default();
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
