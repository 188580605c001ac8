//! The database's own properties and the cluster's roles.

use ptr_model::RoleDefinition;
use ptr_postgres::Connection;

use super::{
    super::{Doing, SourceError},
    manifest::{DatabaseDescription, DatabasePrivilege, DatabaseSetting},
};

// Columns that differ between versions are read out of the row as JSON.
const DATABASE: &str = "SELECT d.datname::text, pg_catalog.pg_get_userbyid(d.datdba)::text,
        pg_catalog.pg_encoding_to_char(d.encoding)::text, d.datcollate::text, d.datctype::text,
        coalesce(pg_catalog.to_jsonb(d) ->> 'datlocprovider', 'c'),
        coalesce(pg_catalog.to_jsonb(d) ->> 'datlocale', pg_catalog.to_jsonb(d) ->> 'daticulocale'),
        pg_catalog.to_jsonb(d) ->> 'daticurules',
        pg_catalog.shobj_description(d.oid, 'pg_database'), d.datconnlimit,
        (SELECT spcname::text FROM pg_catalog.pg_tablespace t WHERE t.oid = d.dattablespace),
        d.datacl IS NULL
    FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()";

const PRIVILEGES: &str =
    "SELECT CASE WHEN a.grantee <> 0 THEN pg_catalog.pg_get_userbyid(a.grantee)::text END,
        a.privilege_type::text, a.is_grantable
    FROM pg_catalog.pg_database d, pg_catalog.aclexplode(d.datacl) a
    WHERE d.datname = pg_catalog.current_database()";

const SETTINGS: &str = "SELECT CASE WHEN s.setrole <> 0 THEN pg_catalog.pg_get_userbyid(s.setrole)::text END, item
    FROM pg_catalog.pg_db_role_setting s, pg_catalog.unnest(s.setconfig) AS item
    WHERE s.setdatabase = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
    ORDER BY s.setrole, item";

const ROLES: &str = "SELECT r.rolname::text, r.rolsuper, r.rolinherit, r.rolcreaterole, r.rolcreatedb, r.rolbypassrls,
        ARRAY(SELECT DISTINCT g.rolname::text FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles g ON g.oid = m.roleid
               WHERE m.member = r.oid ORDER BY 1)
    FROM pg_catalog.pg_roles r WHERE r.rolname !~ '^pg_' ORDER BY r.rolname";

const TABLESPACES: &str = "SELECT spcname::text FROM pg_catalog.pg_tablespace WHERE oid >= 16384 ORDER BY 1";

const ROLES_USED: &str = "SELECT DISTINCT r.rolname::text FROM pg_catalog.pg_shdepend d
    JOIN pg_catalog.pg_roles r ON r.oid = d.refobjid AND d.refclassid = 'pg_catalog.pg_authid'::regclass
    WHERE d.dbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
      AND r.rolname !~ '^pg_'";

const TABLESPACES_USED: &str = "SELECT DISTINCT t.spcname::text FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_tablespace t ON t.oid = c.reltablespace WHERE t.oid >= 16384 ORDER BY 1";

pub(super) async fn database(
    connection: &Connection,
) -> Result<(DatabaseDescription, Vec<RoleDefinition>, Vec<String>), SourceError> {
    let doing = || "describing the database".to_owned();
    let row = connection.query_one(DATABASE, &[]).await.doing(doing)?;
    let has_default_rights: bool = row.get(11);
    let privileges = if has_default_rights { None } else { Some(privileges(connection).await?) };
    let description = DatabaseDescription {
        name: row.get(0),
        owner: row.get(1),
        encoding: row.get(2),
        collate: row.get(3),
        ctype: row.get(4),
        locale_provider: row.get(5),
        locale: row.get(6),
        icu_rules: row.get(7),
        comment: row.get(8),
        connection_limit: row.get(9),
        tablespace: row.get(10),
        privileges,
        settings: settings(connection).await?,
    };
    let tablespaces = connection.query(TABLESPACES, &[]).await.doing(doing)?;
    Ok((description, roles(connection).await?, tablespaces.iter().map(|row| row.get(0)).collect()))
}

/// Roles and tablespaces that the database's objects depend on.
pub(super) async fn used(connection: &Connection) -> Result<(Vec<RoleDefinition>, Vec<String>), SourceError> {
    let doing = || "looking which roles and tablespaces are used".to_owned();
    let names = connection.query(ROLES_USED, &[]).await.doing(doing)?;
    let names: Vec<String> = names.iter().map(|row| row.get(0)).collect();
    let mut used = roles(connection).await?;
    used.retain(|role| names.contains(&role.name));
    let tablespaces = connection.query(TABLESPACES_USED, &[]).await.doing(doing)?;
    Ok((used, tablespaces.iter().map(|row| row.get(0)).collect()))
}

async fn privileges(connection: &Connection) -> Result<Vec<DatabasePrivilege>, SourceError> {
    let rows =
        connection.query(PRIVILEGES, &[]).await.doing(|| "reading the database's rights".to_owned())?;
    let privileges = rows.iter().map(|row| DatabasePrivilege {
        grantee: row.get(0),
        privilege: row.get(1),
        grantable: row.get(2),
    });
    Ok(privileges.collect())
}

async fn settings(connection: &Connection) -> Result<Vec<DatabaseSetting>, SourceError> {
    let rows =
        connection.query(SETTINGS, &[]).await.doing(|| "reading the database's settings".to_owned())?;
    let settings = rows.iter().filter_map(|row| {
        let item: String = row.get(1);
        let (name, value) = item.split_once('=')?;
        Some(DatabaseSetting { role: row.get(0), name: name.to_owned(), value: value.to_owned() })
    });
    Ok(settings.collect())
}

async fn roles(connection: &Connection) -> Result<Vec<RoleDefinition>, SourceError> {
    let rows = connection.query(ROLES, &[]).await.doing(|| "reading the roles".to_owned())?;
    let roles = rows.iter().map(|row| RoleDefinition {
        name: row.get(0),
        superuser: row.get(1),
        inherit: row.get(2),
        create_role: row.get(3),
        create_db: row.get(4),
        bypass_rls: row.get(5),
        member_of: row.get(6),
    });
    Ok(roles.collect())
}
