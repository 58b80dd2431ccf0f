//! Live sessions: sockets, shards, slow readers. Knows no door and no protocol.
//!
//! A shard is a thread that owns sockets. It processes its inbox in order (messages of the broker, responses to
//! requests), walks the subscribers of a channel, and writes frames that they share. It never blocks. A session is a
//! [`SessionProtocol`]: a state machine without I/O. What it cannot decide alone it requests ([`SessionRequest`]); the
//! responses come back through the inbox.
//!
//! Doors attach connections ([`Live::attach`]); `engine` starts and stops it.
#![forbid(unsafe_code)]

mod failed_proof;
mod hijack;
mod inbox;
mod live;
mod metrics;
mod new_session;
mod protocol;
mod protocol_tester;
mod refusals;
mod requests;
mod session_limiter;
mod settings;
mod shard;
mod socket;
mod stream;
mod traffic;
mod transport;
pub mod upgrade;
mod wheel;

pub use failed_proof::FailedProof;
pub use hijack::{BorrowedConn, ConnHandle};
pub use inbox::Inboxes;
pub use live::Live;
pub use metrics::Sizes;
pub use protocol::{CloseReason, CloseWith, Context, Message, SessionProtocol};
pub use protocol_tester::ProtocolTester;
pub use refusals::Refused;
pub use requests::{
    ClientEvent, DoorAnswer, DoorRequest, JoinRequest, LeaveFailed, NoDoorAnswer, Proof, PublishRefused,
    RequestContext, RequestHandler, ResponseFuture, SessionRequest,
};
pub use session_limiter::{NotAdmitted, SessionPermit};
pub use settings::Settings;
pub use socket::{ClientAddr, Guard, Io, Socket};
pub use stream::Stream;
