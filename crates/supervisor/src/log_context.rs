//! The context of log lines: the request and the span that work belongs to, in whichever task or thread it is done.
//!
//! A span for each request could carry the id too, but costs 2 µs at level `info`, a tenth of a small publish. So the
//! id is carried by itself, and spans are for `debug`.

use std::fmt;
use std::sync::Arc;

use tracing::{Instrument as _, Span};

tokio::task_local! {
    static REQUEST: Option<RequestId>;
}

/// The longest id that is accepted from a client.
const MAX_LENGTH: usize = 128;
const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// The id of a request, in its answer and in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// The header that has it, in requests and in answers.
    pub const HEADER: &str = "x-request-id";

    /// A client's id; `None` if it is too long or has a character that could be misread in a log.
    pub fn read(text: &str) -> Option<Self> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._:+/=@-".contains(&byte);
        ((1..=MAX_LENGTH).contains(&text.len()) && text.bytes().all(fits)).then(|| Self(text.into()))
    }

    /// These bits as 32 hexadecimal digits.
    pub fn from_bits(bits: u128) -> Self {
        let digits: [u8; 32] = std::array::from_fn(|place| DIGITS[(bits >> (4 * (31 - place))) as usize & 0xf]);
        Self(std::str::from_utf8(&digits).unwrap_or_default().into())
    }

    /// The id of the request that the current task works on, if there is one.
    pub fn current() -> Option<Self> {
        REQUEST.try_with(Clone::clone).ok().flatten()
    }

    /// Runs the work of this request.
    pub fn scope<F: Future>(self, work: F) -> impl Future<Output = F::Output> {
        REQUEST.scope(Some(self), work)
    }

    /// As text: 1 to 128 characters of `A-Za-z0-9._:+/=@-`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What work takes along to another task or thread.
#[derive(Debug)]
pub struct LogContext {
    request: Option<RequestId>,
    span: Span,
}

impl LogContext {
    /// The caller's context.
    pub fn current() -> Self {
        Self::in_span(Span::none())
    }

    /// The caller's context, but in this span, if it is enabled.
    pub fn in_span(span: Span) -> Self {
        let span = if span.is_disabled() { Span::current() } else { span };
        Self { request: RequestId::current(), span }
    }

    /// The span that log lines are written in.
    pub fn span(&self) -> &Span {
        &self.span
    }

    /// Runs a closure in this context.
    pub fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        match &self.request {
            Some(id) => REQUEST.sync_scope(Some(id.clone()), || self.span.in_scope(work)),
            None => self.span.in_scope(work),
        }
    }

    /// Runs a future in this context.
    pub fn scope<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        REQUEST.scope(self.request.clone(), work.instrument(self.span.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // covers: G417
    #[test]
    fn an_id_is_taken_over_if_it_can_be_read_in_one_way() {
        let longest = "x".repeat(MAX_LENGTH);
        for own in ["1", "Root=1-67891233-abcdef012345678912345678", "a/b+c==", "urn:uuid:x@y.z", "-", &longest] {
            assert_eq!(RequestId::read(own).unwrap().as_str(), own);
        }
        let too_long = "x".repeat(MAX_LENGTH + 1);
        for bad in ["", " ", "a b", "a,b", "a\"b", "a\\b", "a\tb", "a\nb", "\u{e9}", &too_long] {
            assert_eq!(RequestId::read(bad), None, "{bad:?}");
        }
        assert_eq!(RequestId::from_bits(0x1f << 64 | 0xa).as_str(), "000000000000001f000000000000000a");
    }

    #[tokio::test]
    async fn a_task_and_a_thread_have_the_id_of_who_began_their_work() {
        assert_eq!(RequestId::current(), None);
        let id = RequestId::from_bits(1);
        let begun = id.clone().scope(async { LogContext::current() }).await;
        let in_task = tokio::spawn(begun.scope(async { RequestId::current() })).await.unwrap();
        let in_thread = std::thread::spawn(move || begun.run(RequestId::current)).join().unwrap();
        assert_eq!((in_task, in_thread), (Some(id.clone()), Some(id)));
        assert_eq!(RequestId::current(), None);
    }
}
