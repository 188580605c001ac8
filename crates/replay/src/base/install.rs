//! The steps of an installation.

use ptr_postgres::{Dsn, QualifiedName, ServerError, quote_identifier, quote_literal};
use tokio_postgres::Client;

use super::{
    BaseError, BaseOptions, BaseProgress, DatabaseProperties, InstalledBase, Manifest, OriginalIdentity,
    restore, views,
};
use crate::{
    apply,
    cursor::{self, Cursor, CursorState},
    database::{self, DatabaseError, Doing},
    keyframe::{self, Keyframe, Kind, Mark, Reason},
    session::{self, maintenance},
};

/// Makes the template database of a base image, or finds it made.
///
/// # Errors
/// [`BaseError`]; what was made so far is made again at the next try.
pub async fn install_base(
    options: &BaseOptions,
    progress: &(dyn Fn(BaseProgress) + Send + Sync),
) -> Result<InstalledBase, BaseError> {
    let manifest = Manifest::read(&options.directory)?;
    let template = manifest.template();
    let server = database::open(&maintenance(&options.output, &template)).await?;
    preflight(&server, &manifest).await?;
    let was_there = InstalledBase { template: template.clone(), roles_created: Vec::new(), was_there: true };
    if is_finished(&server, &template, &manifest).await? {
        return Ok(was_there);
    }
    // Whoever sweeps leaves the unfinished one alone, and nobody else makes it too. The lock ends with the connection.
    keyframe::wait_for_lock(&server, manifest.log_id).await?;
    if is_finished(&server, &template, &manifest).await? {
        server.close().await;
        return Ok(was_there);
    }
    let roles_created = make(&server, options, &manifest, progress).await?;
    close(&server, &template, &manifest).await?;
    server.close().await;
    progress(BaseProgress::Finished);
    Ok(InstalledBase { template, roles_created, was_there: false })
}

/// Makes the database of a base image, at its position and still open; returns the roles that were made. The caller has
/// the lock under which images are made, and closes it.
pub(crate) async fn make(
    server: &Client,
    options: &BaseOptions,
    manifest: &Manifest,
    progress: &(dyn Fn(BaseProgress) + Send + Sync),
) -> Result<Vec<String>, BaseError> {
    let template = manifest.template();
    session::drop_database(server, &template).await?;
    let roles_created = apply::create_missing_roles(server, &manifest.roles).await?;
    let tablespaces = apply::tablespaces::missing(server, &manifest.tablespaces).await?;
    apply::tablespaces::create(server, &tablespaces).await?;
    create_empty(server, &template, &manifest.database).await?;
    mark(server, &template, manifest, Kind::Unfinished).await?;
    let target = options.output.with_database(&template);
    let (dump, list) =
        (options.directory.join(&manifest.dump), options.directory.join(&manifest.restore_list));
    restore::restore(options, &dump, &list, &target, progress).await?;
    finish(options, &target, manifest, progress).await?;
    Ok(roles_created)
}

/// Whether the output server can take this base image and replay onto it.
///
/// # Errors
/// [`BaseError::Precondition`] with what to do.
pub async fn preflight(server: &Client, manifest: &Manifest) -> Result<(), BaseError> {
    let version = database::server_version(server).await?;
    if u32::try_from(version / 10_000).is_ok_and(|major| major < manifest.server_major) {
        return Err(BaseError::Precondition {
            problem: format!(
                "the output server is PostgreSQL {}, older than the primary's {}",
                version / 10_000,
                manifest.server_major
            ),
            remedy: "use an output server of the same major version or a newer one".to_owned(),
            sqlstate: None,
        });
    }
    let try_it = "BEGIN; SET LOCAL session_replication_role = replica; ROLLBACK";
    if let Err(error) = server.batch_execute(try_it).await {
        // The failed statement left its transaction open.
        server.batch_execute("ROLLBACK").await.doing("roll back")?;
        let refused = ServerError::of(&error);
        return Err(BaseError::Precondition {
            problem: "the output role may not set session_replication_role".to_owned(),
            remedy: "connect as a superuser, or on PostgreSQL 15 and newer run GRANT SET ON PARAMETER \
                     session_replication_role TO the role"
                .to_owned(),
            sqlstate: refused.map(|refused| refused.sqlstate.code().to_owned()),
        });
    }
    Ok(())
}

async fn is_finished(server: &Client, template: &str, manifest: &Manifest) -> Result<bool, DatabaseError> {
    let images = keyframe::list(server, manifest.log_id).await?;
    let is_it = |one: &Keyframe| one.database == template && one.position == manifest.beginning();
    Ok(images.keyframes.iter().any(is_it))
}

async fn create_empty(server: &Client, name: &str, properties: &DatabaseProperties) -> Result<(), BaseError> {
    let version = database::server_version(server).await?;
    let sql = create_statement(name, properties, version);
    server.batch_execute(&sql).await.map_err(|error| {
        let refused = ServerError::of(&error);
        match refused {
            None => BaseError::from(DatabaseError::new("create the template database", error)),
            Some(refused) => BaseError::Precondition {
                problem: format!("the output server cannot make a database like the primary's: {refused}"),
                remedy: format!(
                    "it needs the locale {} and encoding {}, and a role that may create databases",
                    properties.collate, properties.encoding
                ),
                sqlstate: Some(refused.sqlstate.code().to_owned()),
            },
        }
    })
}

fn create_statement(name: &str, properties: &DatabaseProperties, version: i32) -> String {
    let mut sql = format!("CREATE DATABASE {} TEMPLATE template0", quote_identifier(name));
    let mut add = |word: &str, value: &str| {
        if !value.is_empty() {
            sql.push_str(&format!(" {word} {}", quote_literal(value)));
        }
    };
    add("ENCODING", &properties.encoding);
    add("LC_COLLATE", &properties.collate);
    add("LC_CTYPE", &properties.ctype);
    let locale = properties.locale.as_deref().unwrap_or_default();
    match properties.locale_provider.as_str() {
        "i" if version >= 150_000 => {
            add("LOCALE_PROVIDER", "icu");
            add("ICU_LOCALE", locale);
            add("ICU_RULES", properties.icu_rules.as_deref().unwrap_or_default());
        }
        "b" if version >= 170_000 => {
            add("LOCALE_PROVIDER", "builtin");
            add("BUILTIN_LOCALE", locale);
        }
        _ => {}
    }
    sql
}

/// What the dump does not do.
async fn finish(
    options: &BaseOptions,
    target: &Dsn,
    manifest: &Manifest,
    progress: &(dyn Fn(BaseProgress) + Send + Sync),
) -> Result<(), BaseError> {
    let client = database::open(target).await?;
    database::fire_nothing(&client).await?;
    for view in &manifest.materialized_views {
        views::load(&client, view, &options.directory).await?;
    }
    for original in &manifest.identities {
        let Some(sql) = identity_statement(original) else { continue };
        let doing = || format!("give {} back its replica identity", original.table);
        client.batch_execute(&sql).await.doing_with(doing)?;
    }
    cursor::install(&client).await?;
    let cursor = Cursor {
        log_id: manifest.log_id,
        session_id: None,
        position: manifest.beginning(),
        state: CursorState::Settled,
    };
    cursor::write(&client, &cursor).await?;
    progress(BaseProgress::Analyzing);
    client.batch_execute("ANALYZE").await.doing("gather statistics")?;
    client.close().await;
    Ok(())
}

fn identity_statement(original: &OriginalIdentity) -> Option<String> {
    let identity = match (original.identity, &original.index) {
        ('d', _) => "DEFAULT".to_owned(),
        ('n', _) => "NOTHING".to_owned(),
        ('i', Some(index)) => format!("USING INDEX {}", quote_identifier(index)),
        _ => return None,
    };
    let table = QualifiedName::new(&original.schema, &original.table);
    Some(format!("ALTER TABLE ONLY {table} REPLICA IDENTITY {identity}"))
}

pub(crate) async fn close(server: &Client, template: &str, manifest: &Manifest) -> Result<(), DatabaseError> {
    let name = quote_identifier(template);
    let sql = format!("ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false");
    server.batch_execute(&sql).await.doing("close the template database to connections")?;
    mark(server, template, manifest, Kind::Keyframe).await
}

async fn mark(server: &Client, template: &str, manifest: &Manifest, kind: Kind) -> Result<(), DatabaseError> {
    let mark = Mark {
        kind,
        log_id: manifest.log_id,
        position: manifest.beginning(),
        reason: Reason::Creation,
        bytes: keyframe::size(server, template).await?,
        notices: Vec::new(),
    };
    let sql = keyframe::mark_statement(template, &mark);
    server.batch_execute(&sql).await.doing("mark the template database")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_made_with_the_primarys_locale() {
        let properties = DatabaseProperties {
            encoding: "UTF8".into(),
            collate: "C".into(),
            ctype: "C.UTF-8".into(),
            locale_provider: "i".into(),
            locale: Some("de-DE".into()),
            ..DatabaseProperties::default()
        };
        assert_eq!(
            create_statement("a\"b", &properties, 150_018),
            "CREATE DATABASE \"a\"\"b\" TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C.UTF-8' \
             LOCALE_PROVIDER 'icu' ICU_LOCALE 'de-DE'"
        );
    }
}
