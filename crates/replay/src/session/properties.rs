//! Properties of a database that cloning it loses: owner, privileges, settings, comment.

use ptr_postgres::{quote_identifier, quote_literal};
use tokio_postgres::Client;

use crate::{
    base::DatabaseProperties,
    database::{DatabaseError, Doing},
};

/// Gives a database the captured database's properties.
pub(crate) async fn put_back(
    server: &Client,
    name: &str,
    properties: &DatabaseProperties,
) -> Result<(), DatabaseError> {
    let sql = "SELECT rolname::text FROM pg_roles";
    let rows = server.query(sql, &[]).await.doing("list the roles")?;
    let roles: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    for sql in statements(name, properties, &roles) {
        server
            .batch_execute(&sql)
            .await
            .doing_with(|| format!("give {name} the properties of the primary"))?;
    }
    Ok(())
}

/// Settings whose value is a list that `pg_db_role_setting` has quoted already (`GUC_LIST_QUOTE`).
const LISTS: [&str; 6] = [
    "search_path",
    "temp_tablespaces",
    "session_preload_libraries",
    "shared_preload_libraries",
    "local_preload_libraries",
    "unix_socket_directories",
];

fn statements(name: &str, properties: &DatabaseProperties, roles: &[String]) -> Vec<String> {
    let database = quote_identifier(name);
    let is_role = |role: &str| roles.iter().any(|known| known == role);
    let mut sql = Vec::new();
    if is_role(&properties.owner) {
        sql.push(format!("ALTER DATABASE {database} OWNER TO {}", quote_identifier(&properties.owner)));
    }
    if let Some(privileges) = &properties.privileges {
        // The defaults are CONNECT and TEMPORARY for PUBLIC, and everything for the owner.
        sql.push(format!("REVOKE ALL ON DATABASE {database} FROM PUBLIC"));
        if is_role(&properties.owner) {
            let owner = quote_identifier(&properties.owner);
            sql.push(format!("REVOKE ALL ON DATABASE {database} FROM {owner}"));
        }
        for privilege in privileges {
            let grantee = match &privilege.grantee {
                None => "PUBLIC".to_owned(),
                Some(role) if is_role(role) => quote_identifier(role),
                Some(_) => continue,
            };
            let option = if privilege.grantable { " WITH GRANT OPTION" } else { "" };
            sql.push(format!("GRANT {} ON DATABASE {database} TO {grantee}{option}", privilege.privilege));
        }
    }
    for setting in &properties.settings {
        let (setting_name, list) = (&setting.name, LISTS.contains(&setting.name.as_str()));
        let value = if list && !setting.value.is_empty() {
            setting.value.clone()
        } else {
            quote_literal(&setting.value)
        };
        let parts: Vec<String> = setting_name.split('.').map(quote_identifier).collect();
        let assignment = format!("SET {} = {value}", parts.join("."));
        match &setting.role {
            None => sql.push(format!("ALTER DATABASE {database} {assignment}")),
            Some(role) if is_role(role) => {
                sql.push(format!(
                    "ALTER ROLE {} IN DATABASE {database} {assignment}",
                    quote_identifier(role)
                ));
            }
            Some(_) => {}
        }
    }
    if let Some(comment) = &properties.comment {
        sql.push(format!("COMMENT ON DATABASE {database} IS {}", quote_literal(comment)));
    }
    sql
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{DatabasePrivilege, DatabaseSetting};

    #[test]
    fn privileges_and_settings_of_roles_that_are_not_here_are_left_out() {
        let privilege = |grantee: &str| DatabasePrivilege {
            grantee: Some(grantee.into()),
            privilege: "CONNECT".into(),
            grantable: false,
        };
        let properties = DatabaseProperties {
            owner: "gone".into(),
            privileges: Some(vec![privilege("gone"), privilege("here")]),
            settings: vec![DatabaseSetting {
                role: None,
                name: "search_path".into(),
                value: "\"$user\", shop".into(),
            }],
            ..DatabaseProperties::default()
        };
        assert_eq!(
            statements("d", &properties, &["here".into()]),
            vec![
                "REVOKE ALL ON DATABASE \"d\" FROM PUBLIC",
                "GRANT CONNECT ON DATABASE \"d\" TO \"here\"",
                "ALTER DATABASE \"d\" SET \"search_path\" = \"$user\", shop",
            ]
        );
    }
}
