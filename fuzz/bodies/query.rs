//! Whatever query a request has: it is read or refused, what is signed of it can be signed, and nothing else counts as
//! signed.

use tidings_model::secret::SecretString;
use tidings_model::signed_query::{MAX_PARAMS, SignedQuery, first};
use tidings_model::signing::{request_string_to_sign, sign_hex};

/// The query of a request, as it was sent.
pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let parts = text.split('&').filter(|part| !part.is_empty()).count();
    let Ok(query) = SignedQuery::read(Some(text)) else {
        assert!(parts > MAX_PARAMS);
        return;
    };
    assert_eq!(query.all().len(), parts);
    for (name, _) in query.all() {
        assert_eq!(query.get(name).map(str::to_owned), first(Some(text), name).map(|value| value.into_owned()));
    }
    let canonical = query.canonical();
    let to_sign = canonical.to_sign("GET", "/p");
    assert_eq!(to_sign, request_string_to_sign("get", "/p", query.all()));
    let secret = SecretString::from("secret");
    let is_unsigned = query.get("auth_signature").is_none();
    assert!(!is_unsigned || !canonical.is_signed(&secret, "GET", "/p"));
    if is_unsigned && parts < MAX_PARAMS {
        let signed = format!("{text}&auth_signature={}", sign_hex(&secret, &to_sign));
        let signed = SignedQuery::read(Some(&signed)).unwrap_or_default();
        assert!(signed.canonical().is_signed(&secret, "GET", "/p"), "{text:?}");
        assert!(!signed.canonical().is_signed(&SecretString::from("other"), "GET", "/p"));
        assert!(!signed.canonical().is_signed(&secret, "GET", "/q"));
    }
}
