//! What can be typed: commands, flags, other names for them.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use ipnet::IpNet;

use super::app::AppCommand;
use super::channel::ChannelCommand;
use super::connect::Connection;
use super::delivery::DeliveryCommand;
use super::doctor::DoctorArgs;
use super::event::EventCommand;
use super::hook::HookCommand;
use super::listen::ListenArgs;
use super::listener::ListenerCommand;
use super::publish::PublishArgs;
use super::subscribe::SubscribeArgs;
use super::token::TokenArgs;
use crate::logs::LogFormat;

/// Tidings: say it once; everyone who should know is told.
///
/// Without a command it serves.
#[derive(Debug, Parser)]
#[command(name = "tidings", version, disable_help_subcommand = true, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) serve: ServeArgs,
    #[command(flatten)]
    pub(crate) connection: Connection,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

const AFTER_HELP: &str = "\
Commands that talk to a server find it by --url and --key, or TIDINGS_URL and TIDINGS_API_KEY, or
tidings-data/credentials.toml, which a server writes where it is started.

Exit codes: 0 done, 1 failed, 2 not understood.";

/// What there is to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve. This is what `tidings` alone does
    #[command(visible_alias = "server", alias = "run", alias = "start")]
    Serve(ServeArgs),
    /// Write a commented tidings.toml with the keys that the server here made, or with fresh ones
    Init(InitArgs),
    /// Say everything that is wrong with a config
    Check(CheckArgs),
    /// Copy what SQLite holds into an empty PostgreSQL
    Migrate(MigrateArgs),
    /// Say that something happened
    #[command(visible_alias = "pub", alias = "send")]
    Publish(PublishArgs),
    /// Print what is said in channels, as it is said
    #[command(visible_alias = "sub", alias = "follow")]
    Subscribe(SubscribeArgs),
    /// Make a token, by which a client may join channels
    #[command(alias = "tokens")]
    Token(TokenArgs),
    /// Look at a server as its clients do, and say which of their options is wrong
    Doctor(DoctorArgs),
    /// Receive webhooks on this machine, and show and verify them
    Listen(ListenArgs),
    /// Event names in the catalogue
    #[command(alias = "hooks")]
    Hook {
        #[command(subcommand)]
        command: HookCommand,
    },
    /// URLs that want events
    #[command(alias = "listeners")]
    Listener {
        #[command(subcommand)]
        command: ListenerCommand,
    },
    /// Events owed to listeners, and the attempts made
    #[command(alias = "deliveries")]
    Delivery {
        #[command(subcommand)]
        command: DeliveryCommand,
    },
    /// Who is in which channel
    #[command(alias = "channels")]
    Channel {
        #[command(subcommand)]
        command: ChannelCommand,
    },
    /// The tenants, for the operator
    #[command(alias = "apps")]
    App {
        #[command(subcommand)]
        command: AppCommand,
    },
    /// The log of events
    #[command(alias = "events")]
    Event {
        #[command(subcommand)]
        command: EventCommand,
    },
}

/// How to serve.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ServeArgs {
    /// The config file; without one, defaults and what ./tidings-data/ holds
    #[arg(long, short = 'c', value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Where to accept connections; port 0 takes a free one [default: 127.0.0.1:8000]
    #[arg(long, value_name = "ADDR", value_parser = crate::config::address)]
    pub(crate) listen: Option<SocketAddr>,
    /// A private network that deliveries may go to, such as 127.0.0.0/8; can be given several times
    #[arg(long, value_name = "CIDR", value_parser = crate::config::network, value_delimiter = ',')]
    pub(crate) egress_allow: Vec<IpNet>,
    /// How the log on stderr is written [default: text]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) log: Option<LogFormat>,
}

impl ServeArgs {
    /// Whether nothing of it was given.
    pub(crate) fn is_empty(&self) -> bool {
        self.config.is_none() && self.listen.is_none() && self.egress_allow.is_empty() && self.log.is_none()
    }

    /// What was given before `serve` together with what was given after it, which wins.
    pub(crate) fn over(self, before: Self) -> Self {
        Self {
            config: self.config.or(before.config),
            listen: self.listen.or(before.listen),
            egress_allow: [before.egress_allow, self.egress_allow].concat(),
            log: self.log.or(before.log),
        }
    }
}

/// What to write.
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// The file to write; one that is there is left as it is
    #[arg(long, short = 'c', value_name = "FILE", default_value = "tidings.toml")]
    pub(crate) config: PathBuf,
    /// The credentials file whose app and keys it is to have, where there is one
    /// [default: tidings-data/credentials.toml]
    #[arg(long, value_name = "FILE")]
    pub(crate) credentials: Option<PathBuf>,
}

/// What to copy, and to where.
#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    /// The database of a server that is stopped, as sqlite://tidings-data/tidings.db
    #[arg(long, value_name = "URL")]
    pub(crate) from: String,
    /// An empty database, as postgres://user:password@host/database
    #[arg(long, value_name = "URL")]
    pub(crate) to: String,
}

/// What to check.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The config file
    #[arg(long, short = 'c', value_name = "FILE", default_value = "tidings.toml")]
    pub(crate) config: PathBuf,
}
