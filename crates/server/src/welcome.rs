//! The text that a started server prints on stdout: its addresses and files, and commands to try first.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use ipnet::IpNet;

use crate::credentials;
use crate::output::shell_quoted;

/// What the text depends on.
#[derive(Debug)]
pub(crate) struct Welcome<'a> {
    /// `http` or `https`.
    pub(crate) scheme: &'a str,
    /// Where connections are accepted.
    pub(crate) bound: SocketAddr,
    /// How clients reach the server, if the config sets it.
    pub(crate) public_url: Option<&'a str>,
    /// This program.
    pub(crate) program: &'a Path,
    /// The data folder.
    pub(crate) data: &'a Path,
    /// The config file, if there is one.
    pub(crate) config: Option<&'a Path>,
    /// Private networks that deliveries may reach.
    pub(crate) allowed: &'a [IpNet],
}

/// The text. It holds no secret: terminals are shared and recorded.
pub(crate) fn text(welcome: &Welcome<'_>) -> String {
    let &Welcome { scheme, bound, public_url, program, data, config, allowed } = welcome;
    let kept = data.join("credentials.toml");
    let program = shell_quoted(&program.display().to_string());
    let parent = data.parent().unwrap_or(data);
    // Commands look for tidings-data/credentials.toml in their current folder; any other place has to be passed.
    let flag = if parent.join(credentials::DEFAULT_PATH) == kept {
        String::new()
    } else {
        format!(" --credentials {}", shell_quoted(&kept.display().to_string()))
    };
    let folder = shell_quoted(&parent.display().to_string());
    let public_url = public_url.map(|url| format!("\n  public url   {url}")).unwrap_or_default();
    let config = config.map(|config| format!("\n  config       {}", config.display())).unwrap_or_default();
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let restart = if allowed.iter().any(|network| network.contains(&loopback)) {
        String::new()
    } else {
        "start the server with --egress-allow 127.0.0.0/8, ".to_owned()
    };
    format!(
        "tidings {version} is listening on {scheme}://{bound}{public_url}{config}
  data         {data}
  credentials  {kept}

See an event arrive: paste this into another terminal
  cd {folder} && {program} publish --event hello --data '{{\"to\":\"world\"}}' --idempotency-key first-hello{flag} && \
  {program} event list{flag}
Live: run this, and beside it the same with `publish news --event hello --data '{{\"to\":\"world\"}}'`
  cd {folder} && {program} subscribe news{flag}
Webhooks to this machine: {restart}run `tidings listen 9000`, and beside it
  cd {folder} && {program} hook create hello{flag} && {program} listener create --url \
  http://127.0.0.1:9000 --hook hello{flag}",
        version = env!("CARGO_PKG_VERSION"),
        data = data.display(),
        kept = kept.display(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn welcome(data: &str, allowed: &[&str]) -> String {
        let allowed: Vec<IpNet> = allowed.iter().map(|network| network.parse().unwrap()).collect();
        text(&Welcome {
            scheme: "http",
            bound: "127.0.0.1:8000".parse().unwrap(),
            public_url: Some("https://push.example.com"),
            program: Path::new("/opt/my tools/tidings"),
            data: Path::new(data),
            config: None,
            allowed: &allowed,
        })
    }

    #[test]
    fn the_line_to_paste_works_from_anywhere() {
        let text = welcome("/srv/it's here/tidings-data", &[]);
        let line = text.lines().find(|line| line.contains("publish")).unwrap().trim();
        assert_eq!(
            line,
            "cd '/srv/it'\\''s here' && '/opt/my tools/tidings' publish --event hello --data '{\"to\":\"world\"}' \
            --idempotency-key first-hello && '/opt/my tools/tidings' event list"
        );
        assert!(text.lines().next().unwrap().ends_with("listening on http://127.0.0.1:8000"));
    }

    #[test]
    fn the_address_for_others_is_named() {
        assert!(welcome("/d/tidings-data", &[]).contains("\n  public url   https://push.example.com\n"));
    }

    #[test]
    fn data_elsewhere_is_named() {
        assert!(
            welcome("/var/lib/tidings", &[]).contains("event list --credentials /var/lib/tidings/credentials.toml")
        );
    }

    #[test]
    fn who_has_allowed_it_is_not_told_to() {
        assert!(welcome("/d/tidings-data", &[]).contains("--egress-allow 127.0.0.0/8"));
        assert!(!welcome("/d/tidings-data", &["127.0.0.0/8"]).contains("--egress-allow"));
    }
}
