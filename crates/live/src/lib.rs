//! Live sessions: sockets, shards, slow readers. Knows no door and no protocol.
//!
//! A shard is a thread that owns sockets. It takes its inbox in order (what the broker tells, what was asked and is now
//! answered), walks the subscribers of a channel, and writes frames that all of them share. It never waits. A session
//! is a
//! [`SessionProtocol`]: a state machine that does no I/O; what it cannot decide alone it asks ([`SessionRequest`]), and
//! the answers come back through the inbox.
//!
//! Called by doors, which attach connections ([`Live::attach`]), and by `engine`, which starts and stops it.
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
