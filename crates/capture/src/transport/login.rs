//! From an open stream to a session that takes replication commands.

use fallible_iterator::FallibleIterator;
use postgres_protocol::{
    authentication::{
        md5_hash,
        sasl::{ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256},
    },
    message::{
        backend::{AuthenticationSaslBody, Message},
        frontend,
    },
};
use ptr_postgres::{
    CANONICAL_SETTINGS, ConnectError, Dsn, OpenedStream, SqlState, SslMode, dsn::ChannelBindingMode,
    open_stream, own_settings_sql, sqlstate,
};

use super::{TransportError, wire::Wire};

/// How long an ordinary login may take, when the DSN says nothing.
const PATIENCE: std::time::Duration = ptr_postgres::dsn::DEFAULT_CONNECT_TIMEOUT;

/// Opens a stream and logs in on it in replication mode.
pub(super) async fn log_in(dsn: &Dsn, application_name: &str) -> Result<Wire, TransportError> {
    match attempt(dsn, application_name).await {
        // pg_hba.conf may allow clear text only (`hostnossl`), as in `ptr_postgres::connect`.
        Err(TransportError::Connect(ConnectError::LoginRefused { error, .. }))
            if matches!(dsn.ssl().mode, SslMode::Allow | SslMode::Prefer)
                && error.sqlstate == SqlState::INVALID_AUTHORIZATION_SPECIFICATION =>
        {
            attempt(&dsn.with_sslmode(SslMode::Disable), application_name).await
        }
        result => result,
    }
}

async fn attempt(dsn: &Dsn, application_name: &str) -> Result<Wire, TransportError> {
    let opened = open_stream(dsn).await?;
    let host = opened.host.to_string();
    let limit = dsn.connect_timeout().unwrap_or(PATIENCE);
    match tokio::time::timeout(limit, authenticate(dsn, application_name, opened)).await {
        Err(_) => Err(ConnectError::Timeout { host, after: limit }.into()),
        Ok(Err(TransportError::Server { error, .. })) => Err(refused(dsn, host, error).into()),
        Ok(result) => result,
    }
}

fn refused(dsn: &Dsn, host: String, error: Box<ptr_postgres::ServerError>) -> ConnectError {
    if sqlstate::refuses_login(&error.sqlstate) {
        let (user, database) = (dsn.user().to_owned(), dsn.database().to_owned());
        return ConnectError::LoginRefused { host, user, database, error };
    }
    ConnectError::Server { host, error }
}

async fn authenticate(
    dsn: &Dsn,
    application_name: &str,
    opened: OpenedStream,
) -> Result<Wire, TransportError> {
    let login = Login {
        password: dsn.password_for(&opened.host).map(|password| password.reveal().as_bytes().to_vec()),
        user: dsn.user().to_owned(),
        channel_binding: opened.channel_binding,
        mode: dsn.channel_binding(),
    };
    let mut wire = Wire::new(opened.stream);
    let parameters = startup_parameters(dsn, application_name);
    wire.send(|buffer| frontend::startup_message(parameters, buffer)).await?;
    loop {
        match wire.message().await? {
            Message::AuthenticationOk
            | Message::AuthenticationCleartextPassword
            | Message::AuthenticationMd5Password(_)
                if dsn.is_scram_only() =>
            {
                let missing =
                    "but not a login by SCRAM, so it may be another server than ours, and was told nothing";
                return Err(TransportError::Login { asked: "a login".to_owned(), missing });
            }
            Message::AuthenticationOk if login.mode == ChannelBindingMode::Require => {
                return Err(login.unbound());
            }
            Message::AuthenticationOk => break,
            Message::AuthenticationCleartextPassword => {
                let password = login.password("a password")?;
                wire.send(|buffer| frontend::password_message(password, buffer)).await?;
            }
            Message::AuthenticationMd5Password(body) => {
                let hash = md5_hash(login.user.as_bytes(), login.password("an MD5 password")?, body.salt());
                wire.send(|buffer| frontend::password_message(hash.as_bytes(), buffer)).await?;
            }
            Message::AuthenticationSasl(body) => {
                login.scram(&mut wire, &body).await?;
                break;
            }
            _ => {
                let missing =
                    "which this program cannot do; use scram-sha-256 for replication in pg_hba.conf";
                return Err(TransportError::Login { asked: "another login method".to_owned(), missing });
            }
        }
    }
    until_ready(&mut wire).await?;
    wire.query(&own_settings_sql()).await?;
    until_ready(&mut wire).await?;
    Ok(wire)
}

/// Settings travel as startup parameters, each a name and a value, so nothing has to be quoted. What the DSN
/// has as `options` comes first on the server, and so cannot change them.
fn startup_parameters<'a>(dsn: &'a Dsn, application_name: &'a str) -> Vec<(&'a str, &'a str)> {
    let mut parameters = vec![
        ("user", dsn.user()),
        ("database", dsn.database()),
        ("replication", "database"),
        ("client_encoding", "UTF8"),
        ("application_name", dsn.application_name().unwrap_or(application_name)),
    ];
    parameters.extend(dsn.options().map(|options| ("options", options)));
    parameters.extend(CANONICAL_SETTINGS.iter().copied());
    parameters
}

async fn until_ready(wire: &mut Wire) -> Result<(), TransportError> {
    loop {
        match wire.message().await? {
            Message::ReadyForQuery(_) => return Ok(()),
            Message::AuthenticationOk | Message::BackendKeyData(_) => {}
            Message::RowDescription(_) | Message::DataRow(_) | Message::CommandComplete(_) => {}
            _ => {
                return Err(TransportError::Protocol {
                    what: "something else at the end of the login".to_owned(),
                });
            }
        }
    }
}

/// What we have to prove who we are.
struct Login {
    user: String,
    password: Option<Vec<u8>>,
    channel_binding: Option<Vec<u8>>,
    mode: ChannelBindingMode,
}

impl Login {
    fn password(&self, asked: &str) -> Result<&[u8], TransportError> {
        if self.mode == ChannelBindingMode::Require {
            return Err(self.unbound());
        }
        self.known_password(asked)
    }

    fn known_password(&self, asked: &str) -> Result<&[u8], TransportError> {
        self.password.as_deref().ok_or_else(|| TransportError::Login {
            asked: asked.to_owned(),
            missing: "and the DSN has none; put it into the DSN, PGPASSWORD or ~/.pgpass",
        })
    }

    fn unbound(&self) -> TransportError {
        TransportError::Login {
            asked: "a login without channel binding".to_owned(),
            missing: "but the DSN has channel_binding=require; the server must offer SCRAM-SHA-256-PLUS over TLS",
        }
    }

    /// SCRAM, bound to the TLS channel where both ends can (RFC 5802, RFC 5929 `tls-server-end-point`).
    async fn scram(&self, wire: &mut Wire, body: &AuthenticationSaslBody) -> Result<(), TransportError> {
        let (mechanism, binding) = self.mechanism(body)?;
        let mut scram = ScramSha256::new(self.known_password("a password")?, binding);
        wire.send(|buffer| frontend::sasl_initial_response(mechanism, scram.message(), buffer)).await?;
        let Message::AuthenticationSaslContinue(challenge) = wire.message().await? else {
            return Err(TransportError::Protocol { what: "no SCRAM challenge".to_owned() });
        };
        scram.update(challenge.data())?;
        wire.send(|buffer| frontend::sasl_response(scram.message(), buffer)).await?;
        let Message::AuthenticationSaslFinal(proof) = wire.message().await? else {
            return Err(TransportError::Protocol { what: "no SCRAM proof of its own".to_owned() });
        };
        scram.finish(proof.data())?;
        Ok(())
    }

    fn mechanism(
        &self,
        body: &AuthenticationSaslBody,
    ) -> Result<(&'static str, ChannelBinding), TransportError> {
        let offered: Vec<String> = body.mechanisms().map(|name| Ok(name.to_owned())).collect()?;
        let offers = |mechanism: &str| offered.iter().any(|name| name == mechanism);
        let bound = self.channel_binding.clone().filter(|_| self.mode != ChannelBindingMode::Disable);
        match bound {
            Some(data) if offers(SCRAM_SHA_256_PLUS) => {
                Ok((SCRAM_SHA_256_PLUS, ChannelBinding::tls_server_end_point(data)))
            }
            _ if self.mode == ChannelBindingMode::Require => Err(self.unbound()),
            Some(_) if offers(SCRAM_SHA_256) => Ok((SCRAM_SHA_256, ChannelBinding::unrequested())),
            None if offers(SCRAM_SHA_256) => Ok((SCRAM_SHA_256, ChannelBinding::unsupported())),
            _ => Err(TransportError::Login {
                asked: format!("a login by {}", offered.join(", ")),
                missing: "of which this program knows none",
            }),
        }
    }
}
