//! The processes behind a server's address: one, or several nodes with a balancer in front.
//!
//! `TIDINGS_TEST_NODES` says how many. Several nodes share a PostgreSQL database, a Redis and a main key, and nothing
//! else. Sessions connect to the last node and all other requests go to the first, so that messages cross between
//! nodes. Pending deliveries are claimed by the node that is first.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::Credentials;
use super::launch::{Ready, ServerBuilder};
use super::locate::variable;
use crate::cluster::Cluster;
use crate::postgres::Database;
use crate::process::Process;
use crate::proxy::{Proxy, Route};

/// How many nodes a server has; unset: one.
const COUNT: &str = "TIDINGS_TEST_NODES";
/// The files that the first node makes and the others get a copy of: a server has one app and one set of keys.
const CREDENTIALS: &str = "tidings-data/credentials.toml";

/// One process.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) process: Process,
    pub(super) url: String,
    addr: SocketAddr,
}

/// All processes of a server, the first one first.
#[derive(Debug)]
pub(super) struct Nodes {
    pub(super) all: Vec<Node>,
    pub(super) credentials: Credentials,
    front: Option<Front>,
}

/// What only several nodes have.
#[derive(Debug)]
struct Front {
    balancer: Proxy,
    // Declared after the nodes, so that it is dropped after them.
    cluster: Cluster,
}

impl Nodes {
    /// Starts them; `dir` is the first node's folder.
    pub(super) async fn start(builder: &ServerBuilder, dir: &Path) -> anyhow::Result<Self> {
        let count = if builder.is_alone() { 1 } else { count()? };
        if count == 1 {
            let (all, credentials) = launch(builder, dir, 1, &[]).await?;
            return Ok(Self { all, credentials, front: None });
        }
        let cluster = Cluster::new().await;
        let (all, credentials) = launch(builder, dir, count, &cluster.env()).await?;
        let balancer = Proxy::on(route(&all));
        Ok(Self { all, credentials, front: Some(Front { balancer, cluster }) })
    }

    /// Starts them again in their folders, on the same shared servers; their address stays.
    pub(super) async fn restart(&mut self, builder: &ServerBuilder, dir: &Path) -> anyhow::Result<()> {
        let shared = self.front.as_ref().map(|front| front.cluster.env()).unwrap_or_default();
        (self.all, self.credentials) = launch(builder, dir, self.all.len(), &shared).await?;
        if let Some(front) = &self.front {
            front.balancer.reroute(route(&self.all));
        }
        Ok(())
    }

    /// The database that they share.
    pub(super) fn database(&self) -> Option<&Database> {
        self.front.as_ref().map(|front| &front.cluster.database)
    }

    /// The address of all of them.
    pub(super) fn addr(&self) -> SocketAddr {
        self.front.as_ref().map_or(self.all[0].addr, |front| front.balancer.addr())
    }

    /// The same as a URL.
    pub(super) fn url(&self) -> String {
        let scheme = self.all[0].url.split_once("://").map_or("http", |(scheme, _)| scheme);
        format!("{scheme}://{}", self.addr())
    }
}

fn route(nodes: &[Node]) -> Route {
    Route { sessions: nodes[nodes.len() - 1].addr, rest: nodes[0].addr }
}

/// Starts so many, one after the other: the first may have to make the files that all get.
async fn launch(
    builder: &ServerBuilder,
    dir: &Path,
    count: usize,
    shared: &[(String, String)],
) -> anyhow::Result<(Vec<Node>, Credentials)> {
    let mut all = Vec::new();
    let mut made = None;
    for n in 0..count {
        let own = folder(dir, n);
        if n > 0 {
            fs::create_dir_all(own.join("tidings-data")).context("no folder for one more node")?;
            fs::copy(dir.join(CREDENTIALS), own.join(CREDENTIALS)).context("the credentials cannot be copied")?;
        }
        let (process, Ready { url, addr, credentials }) = builder.launch(&own, shared).await?;
        all.push(Node { process, url, addr });
        made.get_or_insert(credentials);
    }
    Ok((all, made.unwrap_or_default()))
}

/// The working directory of the n-th node; the others are inside the first one's.
fn folder(dir: &Path, n: usize) -> PathBuf {
    if n == 0 { dir.to_owned() } else { dir.join(format!("node-{}", n + 1)) }
}

/// How many nodes a server has.
fn count() -> anyhow::Result<usize> {
    let Some(count) = variable(COUNT) else { return Ok(1) };
    match count.to_str().and_then(|count| count.parse().ok()) {
        Some(count @ 1..) => Ok(count),
        _ => bail!("{COUNT} is {}, and not a number of nodes", count.display()),
    }
}
