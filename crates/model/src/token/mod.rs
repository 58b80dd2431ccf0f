//! Clients' tokens: JSON Web Tokens (RFC 7519) in which an app says who its client is and which channels it may join.
//!
//! An app's servers make them with a secret that they share with us (HS256, HS384, HS512), or with a private key of
//! which we have the public one (RS*, PS*, ES256, ES384, EdDSA). Which algorithms a token may use is decided by the
//! kind of key that the app has, never by the token alone; `none` is no algorithm. The claims have Centrifugo's names.
//!
//! The times in a token are compared with a time that is handed in. The cryptography is named here and not taken from
//! the process, where another crate may have chosen another one.

mod claims;
mod keys;

pub use claims::Claims;
pub use keys::{IssueError, KeyError, LEEWAY_MS, MAX_TOKEN_LEN, PublicKey, TokenError, TokenKeys};
