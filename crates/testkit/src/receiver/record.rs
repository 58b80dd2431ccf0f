//! The record of a receiver: its requests, how many were in flight at once, and over how many connections they came.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, Method};

/// The most bytes of bodies that are kept; the oldest requests are dropped first.
const KEPT_BYTES: usize = 256 * 1024 * 1024;
/// The most paths whose requests in flight are counted separately.
const COUNTED_PATHS: usize = 100_000;

/// One request as it arrived.
#[derive(Debug, Clone)]
pub struct Received {
    /// The method.
    pub method: Method,
    /// The path, without the query.
    pub path: String,
    /// The query, without `?`; empty if there is none.
    pub query: String,
    /// The headers, iterating in the order of arrival (values of one name together).
    pub headers: HeaderMap,
    /// The body's bytes.
    pub body: Bytes,
    /// When all of it had arrived.
    pub at: Instant,
    /// The number of its connection, counted from 1.
    pub connection: usize,
    /// Its number at this receiver, counted from 1.
    pub number: usize,
}

impl Received {
    /// A header's value, if it is there and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it isn't.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("not JSON ({e}): {}", self.text()))
    }

    /// One line for a failed test to print.
    pub(crate) fn summary(&self) -> String {
        let id = self.header("webhook-id").unwrap_or("-");
        let body: String = self.text().chars().take(120).collect();
        format!(
            "#{} {} {} webhook-id {id} connection {} body {body}",
            self.number, self.method, self.path, self.connection
        )
    }
}

/// The requests in flight on one path.
#[derive(Debug, Default)]
struct UnderWay {
    now: usize,
    most: usize,
}

/// The record.
#[derive(Debug)]
pub(crate) struct Record {
    kept: VecDeque<Arc<Received>>,
    kept_bytes: usize,
    keep: usize,
    pub(crate) total: usize,
    pub(crate) connections: usize,
    under_way: HashMap<String, UnderWay>,
    all_under_way: UnderWay,
}

impl Record {
    pub(crate) fn new(keep: usize) -> Self {
        Self {
            kept: VecDeque::new(),
            kept_bytes: 0,
            keep,
            total: 0,
            connections: 0,
            under_way: HashMap::new(),
            all_under_way: UnderWay::default(),
        }
    }

    /// Keeps at most `keep` requests from now on.
    pub(crate) fn keep(&mut self, keep: usize) {
        self.keep = keep;
        self.drop_oldest();
    }

    /// Numbers a request and records it.
    pub(crate) fn add(&mut self, mut received: Received) -> Arc<Received> {
        self.total += 1;
        received.number = self.total;
        let received = Arc::new(received);
        if self.keep > 0 {
            self.kept_bytes += received.body.len();
            self.kept.push_back(Arc::clone(&received));
            self.drop_oldest();
        }
        received
    }

    fn drop_oldest(&mut self) {
        while self.kept.len() > self.keep || self.kept_bytes > KEPT_BYTES {
            let Some(oldest) = self.kept.pop_front() else { return };
            self.kept_bytes -= oldest.body.len();
        }
    }

    /// The kept requests with a number above `number`, oldest first.
    pub(crate) fn after(&self, number: usize) -> impl Iterator<Item = &Arc<Received>> {
        let start = self.kept.partition_point(|received| received.number <= number);
        self.kept.range(start..)
    }

    pub(crate) fn begin(&mut self, path: &str) {
        self.all_under_way.begin();
        if let Some(path) = self.under_way.get_mut(path) {
            path.begin();
        } else if self.under_way.len() < COUNTED_PATHS {
            self.under_way.entry(path.to_owned()).or_default().begin();
        }
    }

    pub(crate) fn end(&mut self, path: &str) {
        self.all_under_way.now -= 1;
        if let Some(path) = self.under_way.get_mut(path) {
            path.now = path.now.saturating_sub(1);
        }
    }

    /// The most requests that were in flight at once, on `path` or on all.
    pub(crate) fn most_at_once(&self, path: Option<&str>) -> usize {
        match path {
            None => self.all_under_way.most,
            Some(path) => self.under_way.get(path).map_or(0, |path| path.most),
        }
    }

    /// The requests in flight, on `path` or on all.
    pub(crate) fn under_way(&self, path: Option<&str>) -> usize {
        match path {
            None => self.all_under_way.now,
            Some(path) => self.under_way.get(path).map_or(0, |path| path.now),
        }
    }
}

impl UnderWay {
    fn begin(&mut self) {
        self.now += 1;
        self.most = self.most.max(self.now);
    }
}
