//! Live sessions: sockets, shards, slow readers. Knows no door and no protocol.
//!
//! A shard is a thread that owns sockets. It takes its inbox in order (what the broker tells, what was asked and is now
//! answered), walks the subscribers of a channel, and writes frames that all of them share. It never waits. A session is a
//! [`SessionProtocol`]: a state machine that does no I/O; what it cannot decide alone it asks ([`SessionRequest`]), and the answers
//! come back through the inbox.
//!
//! Called by doors, which attach connections ([`Live::attach`]), and by `engine`, which starts and stops it.
#![forbid(unsafe_code)]

mod requests;
mod failed_proof;
mod inbox;
mod live;
mod metrics;
mod session_limiter;
mod protocol;
mod refusals;
mod protocol_tester;
mod settings;
mod shard;
mod socket;
mod hijack;
mod traffic;
mod transport;
pub mod upgrade;
mod wheel;

pub use requests::{SessionResponse, SessionRequest, RequestContext, ResponseFuture, RequestHandler, ClientEvent, JoinRequest, Proof, PublishRefused};
pub use failed_proof::FailedProof;
pub use inbox::Inboxes;
pub use live::Live;
pub use metrics::Sizes;
pub use session_limiter::{NotAdmitted, SessionPermit};
pub use protocol::{CloseReason, Context, CloseWith, Message, SessionProtocol};
pub use refusals::Refused;
pub use protocol_tester::ProtocolTester;
pub use settings::Settings;
pub use socket::{ClientAddr, Guard, Io, Socket};
pub use hijack::{ConnHandle, BorrowedConn};
pub use transport::Stream;
