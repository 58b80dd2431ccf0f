//! Maps PostgreSQL's errors to the store's.

use sqlx::Error;

use crate::error::StoreError;

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        match &error {
            Error::Database(reply) => match reply.code().as_deref() {
                Some(code) => by_code(code, reply.message(), reply.constraint()),
                None => Self::Database(reply.to_string()),
            },
            Error::PoolTimedOut => {
                Self::Unreachable("all connections are in use, or no new one can be made".to_owned())
            }
            Error::PoolClosed | Error::WorkerCrashed => Self::Closed,
            Error::Io(_) | Error::Tls(_) | Error::Protocol(_) | Error::BeginFailed => {
                Self::Unreachable(tidings_tls::describe(&error))
            }
            Error::ColumnDecode { .. } | Error::Decode(_) => Self::Corrupt(error.to_string()),
            _ => Self::Database(error.to_string()),
        }
    }
}

/// Maps an error by its SQLSTATE code (appendix A of PostgreSQL's manual).
fn by_code(code: &str, message: &str, constraint: Option<&str>) -> StoreError {
    match code {
        // A serialization failure, deadlock or lock timeout, or two nodes that chose the same event number: the same
        // transaction works if it is run again.
        "40001" | "40P01" | "55P03" => StoreError::Locked,
        "23505" if constraint == Some("event_pkey") => StoreError::Locked,
        "53100" => StoreError::Full,
        // Callers replace NUL. These are characters that the database's encoding lacks if it is not UTF8.
        "22021" | "22P05" => StoreError::Text,
        "57014" => StoreError::TooSlow,
        // The server (or a pooler before it) is shutting down, is starting, has too many connections, or is a standby;
        // or it ended an idle transaction or session.
        "25P03" | "57P01" | "57P02" | "57P03" | "57P05" | "53300" | "25006" => {
            StoreError::Unreachable(message.to_owned())
        }
        // A standby refuses locks and transaction ids.
        "55000" | "0A000" if message.contains("recovery") => StoreError::Unreachable(message.to_owned()),
        _ if code.starts_with("08") => StoreError::Unreachable(message.to_owned()),
        _ if code.starts_with("XX") => StoreError::Corrupt(message.to_owned()),
        _ => StoreError::Database(message.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use sqlx::Connection as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn what_passes_is_told_from_what_stays() {
        for code in ["40P01", "53100", "57014", "57P01", "57P05", "08006", "08P01", "25006", "25P03"] {
            assert!(by_code(code, "", None).is_temporary(), "{code}");
        }
        let standby = "cannot acquire lock mode ExclusiveLock on database objects while recovery is in progress";
        assert!(matches!(by_code("55000", standby, None), StoreError::Unreachable(_)));
        assert_eq!(by_code("23505", "", Some("event_pkey")), StoreError::Locked);
        assert_eq!(by_code("22P05", "", None), StoreError::Text);
        for code in ["22021", "23505", "42P01", "28P01", "55000", "XX001"] {
            assert!(!by_code(code, "", Some("event_id")).is_temporary(), "{code}");
        }
    }

    // covers: G322
    #[tokio::test]
    async fn a_failure_of_tls_is_told_in_words() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("postgres://u@{}/d?sslmode=require", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut server, _) = listener.accept().await.unwrap();
            let mut asked = [0; 8];
            server.read_exact(&mut asked).await.unwrap();
            // Yes to TLS, and then no word of it.
            server.write_all(b"SE no such thing").await.unwrap();
            server.read_to_end(&mut Vec::new()).await.ok();
        });
        let error = sqlx::PgConnection::connect(&url).await.err().unwrap();
        let told = StoreError::from(error);
        assert!(matches!(&told, StoreError::Unreachable(why) if why.contains("does not speak TLS")), "{told}");
    }
}
