//! How a door reports a request with a wrong credential to the accept loop, which protects all doors from guessing in
//! one place.

/// Which credential was wrong. A door puts it into the response's extensions; the server's accept loop counts it, and
/// slows down an address that fails often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailedProof {
    /// An API key, or an operator's key.
    ApiKey,
    /// A signature with an app's secret, or the signed parameters.
    Signature,
    /// A client's token.
    Token,
    /// A client's token that was valid and has expired.
    ExpiredToken,
    /// An app's key, which is public.
    AppKey,
}

impl FailedProof {
    /// A word for metrics and logs.
    pub fn reason(self) -> &'static str {
        match self {
            Self::ApiKey => "api_key",
            Self::Signature => "signature",
            Self::Token => "token",
            Self::ExpiredToken => "expired_token",
            Self::AppKey => "app_key",
        }
    }

    /// Whether the request may be an attempt to guess a secret.
    pub fn is_guess(self) -> bool {
        matches!(self, Self::ApiKey | Self::Signature | Self::Token)
    }
}
