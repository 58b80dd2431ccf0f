//! The commands and flags, with their aliases.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use ipnet::IpNet;

use super::app::AppCommand;
use super::channel::ChannelCommand;
use super::check::CheckArgs;
use super::connect::Connection;
use super::delivery::DeliveryCommand;
use super::doctor::DoctorArgs;
use super::event::EventCommand;
use super::hook::HookCommand;
use super::init::InitArgs;
use super::listen::ListenArgs;
use super::listener::ListenerCommand;
use super::migrate::MigrateArgs;
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

Exit codes: 0 done, 1 failed, 2 usage error.";

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve. This is what `tidings` alone does
    #[command(visible_alias = "server", alias = "run", alias = "start")]
    Serve(ServeArgs),
    /// Write a commented tidings.toml with the keys that the server here made, or with fresh ones
    Init(InitArgs),
    /// Report everything that is wrong with a config
    Check(CheckArgs),
    /// Copy an SQLite database into an empty PostgreSQL database
    Migrate(MigrateArgs),
    /// Publish an event
    #[command(visible_alias = "pub", alias = "send")]
    Publish(PublishArgs),
    /// Print the messages of channels as they are published
    #[command(visible_alias = "sub", alias = "follow")]
    Subscribe(SubscribeArgs),
    /// Make a token, by which a client may join channels
    #[command(alias = "tokens")]
    Token(TokenArgs),
    /// Check a server as its clients see it, and say which of their options is wrong
    Doctor(DoctorArgs),
    /// Receive webhooks on this machine, and show and verify them
    Listen(ListenArgs),
    /// Event names in the catalogue
    #[command(alias = "hooks")]
    Hook {
        #[command(subcommand)]
        command: HookCommand,
    },
    /// URLs that receive events
    #[command(alias = "listeners")]
    Listener {
        #[command(subcommand)]
        command: ListenerCommand,
    },
    /// Deliveries of events to listeners, and their attempts
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

/// The flags of `serve`.
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
    /// Whether none of the flags was given.
    pub(crate) fn is_empty(&self) -> bool {
        self.config.is_none() && self.listen.is_none() && self.egress_allow.is_empty() && self.log.is_none()
    }

    /// Merges with the flags that were given before `serve`; those after it win.
    pub(crate) fn over(self, before: Self) -> Self {
        Self {
            config: self.config.or(before.config),
            listen: self.listen.or(before.listen),
            egress_allow: [before.egress_allow, self.egress_allow].concat(),
            log: self.log.or(before.log),
        }
    }
}
