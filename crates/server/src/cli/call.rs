//! The kinds of API calls (list, show, change, delete), and how their answers are printed.

use anyhow::Context;
use clap::Args;
use http::Method;
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::client::Client;
use super::fields::{self, Record};
use crate::output;

/// Which page of a list.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Page {
    /// The most entries to show, 1 to 250
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=250))]
    limit: Option<u32>,
    /// Continue after an earlier page: the cursor that it ended with
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
}

/// A page of a list, as the API answers it.
#[derive(Deserialize)]
struct List {
    data: Vec<Record>,
    next: Option<String>,
}

/// Prints a list as columns: a head and, for each entry, its cells.
pub(super) async fn list(
    client: &Client,
    path: &[&str],
    filters: &[(&str, Option<String>)],
    page: &Page,
    head: &[&str],
    row: impl Fn(&Record) -> Vec<String>,
) -> anyhow::Result<()> {
    let mut url = client.address(path);
    let limit = page.limit.map(|limit| limit.to_string());
    let all = filters.iter().cloned().chain([("limit", limit), ("cursor", page.cursor.clone())]);
    for (name, value) in all.filter_map(|(name, value)| Some((name, value?))) {
        url.query_pairs_mut().append_pair(name, &value);
    }
    let answer = client.send(Method::GET, url, None, &[]).await?;
    if client.json() {
        output::line(answer.text.trim_end());
        return Ok(());
    }
    let list: List = serde_json::from_str(&answer.text).context("the server's answer is not a list")?;
    let cells = |entry: &Record| row(entry).iter().map(|cell| fields::one_line(cell)).collect();
    let rows: Vec<Vec<String>> = list.data.iter().map(cells).collect();
    if rows.is_empty() {
        output::stderr_line("none");
        return Ok(());
    }
    output::line(output::table(head, &rows));
    if let Some(next) = list.next {
        output::stderr_line(format!("there are more: --cursor {}", output::shell_quoted(&next)));
    }
    Ok(())
}

/// Sends a request and prints the record that comes back.
pub(super) async fn record(client: &Client, method: Method, path: &[&str], body: Option<Value>) -> anyhow::Result<()> {
    record_at(client, method, client.address(path), body).await
}

/// Like [`record`], for a URL with a query.
pub(super) async fn record_at(client: &Client, method: Method, url: Url, body: Option<Value>) -> anyhow::Result<()> {
    let answer = client.send(method, url, body.map(|body| body.to_string()), &[]).await?;
    let record = serde_json::from_str::<Record>(&answer.text).context("the server's answer is not a JSON object");
    // Warnings go to stderr, in both output formats.
    for warning in record.as_ref().map(|record| record.texts("warnings")).unwrap_or_default() {
        output::stderr_line(format!("warning: {}", output::printable(&warning)));
    }
    if client.json() {
        output::line(answer.text.trim_end());
    } else {
        output::line(record?.lines());
    }
    Ok(())
}

/// Deletes something, and prints that it is deleted.
pub(super) async fn delete(client: &Client, path: &[&str], what: &str) -> anyhow::Result<()> {
    let answer = client.send(Method::DELETE, client.address(path), None, &[]).await?;
    if !client.json() {
        output::line(format!("{what} is deleted"));
    } else if !answer.text.is_empty() {
        output::line(answer.text.trim_end());
    }
    Ok(())
}
