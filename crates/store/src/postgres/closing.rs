//! Collects the closed deliveries and attempts of a transaction, and writes them in two statements at its end.

use sqlx::PgConnection;
use tidings_model::clock::Millis;
use tidings_model::delivery::{Attempt, DeliveryState};
use tidings_model::id::DeliveryKey;

use super::connect::sql;
use crate::error::StoreError;
use crate::records::micros;

/// Closed deliveries and attempts to write.
#[derive(Debug, Default)]
pub(super) struct Closing {
    ended: Vec<Ended>,
    attempts: Vec<(DeliveryKey, Attempt)>,
}

#[derive(Debug)]
struct Ended {
    key: DeliveryKey,
    state: DeliveryState,
    attempts: u32,
    wall: Millis,
    error: Option<String>,
    /// The attempt, if the first one delivered it. Most do; the row then holds both delivery and attempt.
    first: Option<Attempt>,
}

/// Replaces NUL, the one character that PostgreSQL's type `text` cannot store.
pub(super) fn text(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

impl Closing {
    /// Adds a closed delivery. The caller removes its open row.
    pub(super) fn close(
        &mut self,
        key: &DeliveryKey,
        state: DeliveryState,
        attempts: u32,
        wall: Millis,
        error: Option<&str>,
    ) {
        let error = error.map(text);
        self.ended.push(Ended { key: key.clone(), state, attempts, wall, error, first: None });
    }

    /// Adds a closed delivery that its first attempt delivered.
    pub(super) fn close_at_first(&mut self, key: &DeliveryKey, attempt: Attempt, wall: Millis) {
        let state = DeliveryState::Delivered;
        self.ended.push(Ended { key: key.clone(), state, attempts: 1, wall, error: None, first: Some(attempt) });
    }

    /// Adds an attempt, if there is one.
    pub(super) fn attempt(&mut self, key: &DeliveryKey, attempt: Option<Attempt>) {
        self.attempts.extend(attempt.map(|attempt| (key.clone(), attempt)));
    }

    /// Writes everything.
    pub(super) async fn write(self, db: &mut PgConnection) -> Result<(), StoreError> {
        write_ended(db, &self.ended).await?;
        write_attempts(db, &self.attempts).await
    }
}

async fn write_ended(db: &mut PgConnection, ended: &[Ended]) -> Result<(), StoreError> {
    if ended.is_empty() {
        return Ok(());
    }
    let first = |read: fn(&Attempt) -> Option<i64>| -> Vec<Option<i64>> {
        ended.iter().map(|e| e.first.as_ref().and_then(read)).collect()
    };
    // Most responses have no body: NULL takes less room.
    let body = |e: &Ended| e.first.as_ref().map(|a| a.response_body.clone()).filter(|body| !body.is_empty());
    sql("INSERT INTO closed (app, event, destination, state, attempts, closed_at, last_error, started_at, duration_us,
         status, remote, response_body)
         SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[],
         $7::text[],
                              $8::bigint[], $9::bigint[], $10::bigint[], $11::text[], $12::bytea[])
         ON CONFLICT (app, event, destination) DO UPDATE SET state = excluded.state, attempts = excluded.attempts,
         closed_at = excluded.closed_at, last_error = excluded.last_error, started_at = excluded.started_at,
         duration_us = excluded.duration_us, status = excluded.status, remote = excluded.remote,
         response_body = excluded.response_body")
    .bind(ended.iter().map(|e| e.key.app.as_str().to_owned()).collect::<Vec<_>>())
    .bind(ended.iter().map(|e| e.key.event.0).collect::<Vec<_>>())
    .bind(ended.iter().map(|e| e.key.destination.0).collect::<Vec<_>>())
    .bind(ended.iter().map(|e| e.state.as_str().to_owned()).collect::<Vec<_>>())
    .bind(ended.iter().map(|e| i64::from(e.attempts)).collect::<Vec<_>>())
    .bind(ended.iter().map(|e| e.wall).collect::<Vec<_>>())
    .bind(ended.iter().map(|e| e.error.clone()).collect::<Vec<_>>())
    .bind(first(|a| Some(a.started_at)))
    .bind(first(|a| Some(micros(a.duration))))
    .bind(first(|a| a.status.map(i64::from)))
    .bind(ended.iter().map(|e| e.first.as_ref().and_then(|a| a.remote.clone())).collect::<Vec<_>>())
    .bind(ended.iter().map(body).collect::<Vec<_>>())
    .execute(db)
    .await?;
    Ok(())
}

async fn write_attempts(db: &mut PgConnection, attempts: &[(DeliveryKey, Attempt)]) -> Result<(), StoreError> {
    if attempts.is_empty() {
        return Ok(());
    }
    let texts = |read: fn(&Attempt) -> Option<&String>| -> Vec<Option<String>> {
        attempts.iter().map(|(_, a)| read(a).map(|t| text(t))).collect()
    };
    sql("INSERT INTO attempt (event, destination, n, started_at, duration_us, outcome, status, error, remote, next_at,
         response_headers, response_body)
         SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[],
         $7::bigint[],
                              $8::text[], $9::text[], $10::bigint[], $11::text[], $12::bytea[])
         ON CONFLICT (event, destination, n) DO UPDATE
         SET started_at = excluded.started_at, duration_us = excluded.duration_us,
         outcome = excluded.outcome, status = excluded.status, error = excluded.error, remote = excluded.remote,
         next_at = excluded.next_at, response_headers = excluded.response_headers,
         response_body = excluded.response_body")
    .bind(attempts.iter().map(|(key, _)| key.event.0).collect::<Vec<_>>())
    .bind(attempts.iter().map(|(key, _)| key.destination.0).collect::<Vec<_>>())
    .bind(attempts.iter().map(|(_, a)| i64::from(a.n)).collect::<Vec<_>>())
    .bind(attempts.iter().map(|(_, a)| a.started_at).collect::<Vec<_>>())
    .bind(attempts.iter().map(|(_, a)| micros(a.duration)).collect::<Vec<_>>())
    .bind(texts(|a| Some(&a.outcome)))
    .bind(attempts.iter().map(|(_, a)| a.status.map(i64::from)).collect::<Vec<_>>())
    .bind(texts(|a| a.error.as_ref()))
    .bind(texts(|a| a.remote.as_ref()))
    .bind(attempts.iter().map(|(_, a)| a.next_at).collect::<Vec<_>>())
    .bind(texts(|a| a.response_headers.as_ref()))
    .bind(attempts.iter().map(|(_, a)| a.response_body.clone()).collect::<Vec<_>>())
    .execute(db)
    .await?;
    Ok(())
}
