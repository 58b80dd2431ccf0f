//! Clients' tokens: JSON Web Tokens (RFC 7519) in which an app states the user of its client and the channels it may
//! join.
//!
//! An app's servers sign them with a secret that they share with us (HS256, HS384, HS512), or with a private key whose
//! public key we have (RS*, PS*, ES256, ES384, EdDSA). The kind of the app's key decides which algorithms a token may
//! use, never the token alone; `none` is not accepted. The claims have Centrifugo's names.
//!
//! The caller passes in the time that the token's times are compared with. The cryptography provider is chosen here
//! explicitly, because another crate may have set another default for the process.

mod claims;
mod keys;

pub use claims::Claims;
pub use keys::{IssueError, KeyError, LEEWAY_MS, MAX_TOKEN_LEN, PublicKey, TokenError, TokenKeys};
