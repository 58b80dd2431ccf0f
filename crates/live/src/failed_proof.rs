//! What a door says below HTTP of a request whose proof did not hold: so all doors are protected from guessing in one
//! place.

/// Which proof did not hold. A door puts it among the answer's extensions; the server's accept loop counts it, and
/// slows down an address that fails often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailedProof {
    /// An API key, or an operator's key.
    ApiKey,
    /// A signature with an app's secret, or what has to be signed.
    Signature,
    /// A client's token.
    Token,
    /// A client's token that was right once.
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

    /// Whether it may be a guess at something secret.
    pub fn is_guess(self) -> bool {
        matches!(self, Self::ApiKey | Self::Signature | Self::Token)
    }
}
