//! The query of a request to Pusher's HTTP API: read within bounds, and brought into the signed form once.
//!
//! Anyone can send such a request, and the caller is known only after the signature of the whole form is verified. So
//! the
//! work here must be linear in the bytes of the request: there are at most [`MAX_PARAMS`] parameters, they are sorted
//! once, and lists are joined by comparing neighbours.

use std::borrow::Cow;

use crate::secret::SecretString;
use crate::signing::{self, SIGNATURE};

/// The largest number of parameters: an event in 100 channels may come in the query, with its other parameters.
pub const MAX_PARAMS: usize = 128;

/// The query has more than [`MAX_PARAMS`] parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Too many parameters: send at most {MAX_PARAMS}")]
pub struct TooManyParams;

/// The parameters in the order in which they came, percent-decoded and otherwise as they were sent.
#[derive(Debug, Default)]
pub struct SignedQuery<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> SignedQuery<'a> {
    /// Reads a query, or a form in the same encoding.
    ///
    /// # Errors
    /// [`TooManyParams`]; parameters above the limit are not decoded.
    pub fn read(query: Option<&'a str>) -> Result<Self, TooManyParams> {
        let params: Vec<_> = pairs(query).take(MAX_PARAMS + 1).collect();
        if params.len() > MAX_PARAMS { Err(TooManyParams) } else { Ok(Self(params)) }
    }

    /// All parameters.
    pub fn all(&self) -> &[(Cow<'a, str>, Cow<'a, str>)] {
        &self.0
    }

    /// The first parameter with this name, in upper or lower case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| &**value)
    }

    /// The items of a list, as `name[]=…`, `name[0]=…`.
    pub fn list(&self, name: &str) -> Vec<&str> {
        let is_item =
            |own: &str| own.strip_prefix(name).is_some_and(|rest| rest.starts_with('[') && rest.ends_with(']'));
        self.0.iter().filter(|(own, _)| is_item(own)).map(|(_, value)| &**value).collect()
    }

    /// The parameters in the form that is signed.
    pub fn canonical(&self) -> CanonicalQuery<'_> {
        let mut given = self.0.iter().filter(|(name, _)| name.eq_ignore_ascii_case(SIGNATURE));
        let signature = match (given.next(), given.next()) {
            (Some((_, signature)), None) => Some(&**signature),
            _ => None,
        };
        CanonicalQuery { plain: signing::canonical(&self.0), joined: joined(&self.0), signature }
    }
}

/// The signed form of a query.
#[derive(Debug)]
pub struct CanonicalQuery<'q> {
    plain: String,
    /// The form with the items of each list joined by commas; `None` if there is no list among the parameters.
    joined: Option<String>,
    /// `auth_signature`, if it was sent exactly once.
    signature: Option<&'q str>,
}

impl CanonicalQuery<'_> {
    /// Whether `auth_signature` was made with this secret, for this method and path.
    ///
    /// Pusher's PHP library sends a list as `a[0]=x&a[1]=y` but signs it as `a=x,y`. That is accepted too.
    pub fn is_signed(&self, secret: &SecretString, method: &str, path: &str) -> bool {
        let Some(signature) = self.signature else { return false };
        std::iter::once(&self.plain)
            .chain(&self.joined)
            .any(|query| signing::verify_hex(secret, signing::request_text(method, path, query), signature))
    }

    /// The text that should have been signed.
    pub fn to_sign(&self, method: &str, path: &str) -> String {
        signing::request_text(method, path, &self.plain)
    }
}

/// The first parameter with this name in a query, in upper or lower case, however many parameters there are.
pub fn first<'a>(query: Option<&'a str>, name: &str) -> Option<Cow<'a, str>> {
    pairs(query).find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

fn pairs(query: Option<&str>) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    query.unwrap_or_default().split('&').filter(|part| !part.is_empty()).map(|part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        (decoded(name), decoded(value))
    })
}

/// Percent-decoded. A plus is a plus: Pusher's libraries send values unescaped.
pub fn decoded(text: &str) -> Cow<'_, str> {
    signing::steps::take(text.len());
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = (byte == b'%').then(|| after.split_at_checked(2)).flatten().and_then(|(digits, after)| {
            let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
            Some((u8::from_str_radix(digits, 16).ok()?, after))
        });
        let (byte, after) = escaped.unwrap_or((byte, after));
        bytes.push(byte);
        rest = after;
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

/// The canonical form with the items of each list joined by commas; `None` if there is no list.
fn joined(params: &[(Cow<'_, str>, Cow<'_, str>)]) -> Option<String> {
    let mut named: Vec<(bool, &str, &str)> = params
        .iter()
        .map(|(name, value)| {
            let list = list_of(name);
            (list.is_some(), list.unwrap_or(name), &**value)
        })
        .collect();
    if !named.iter().any(|(is_item, ..)| *is_item) {
        return None;
    }
    // The sort is stable, so the items of a list become neighbours and keep their order.
    named.sort_by(|(_, a, _), (_, b, _)| signing::by_name(a, b));
    let mut merged: Vec<(&str, String)> = Vec::with_capacity(named.len());
    for (is_item, name, value) in named {
        match merged.last_mut() {
            Some((before, items)) if is_item && *before == name => {
                items.push(',');
                items.push_str(value);
            }
            _ => merged.push((name, value.to_owned())),
        }
    }
    Some(signing::canonical(&merged))
}

/// The list that an item's name (`a[]`, `a[7]`) belongs to.
fn list_of(name: &str) -> Option<&str> {
    let (list, index) = name.strip_suffix(']')?.rsplit_once('[')?;
    index.bytes().all(|byte| byte.is_ascii_digit()).then_some(list)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::signing::{request_string_to_sign, sign_hex, steps};

    fn secret() -> SecretString {
        SecretString::from("7ad3773142a6692b25b8")
    }

    fn is_signed(params: &[(&str, &str)], method: &str, path: &str) -> bool {
        let query = params.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&");
        SignedQuery::read(Some(&query)).unwrap().canonical().is_signed(&secret(), method, path)
    }

    #[test]
    fn values_are_decoded_and_otherwise_left_alone() {
        let text = "a=1%2C2&b=x+y&&c&channels[]=p&channels%5B1%5D=q&A=3&d=%zz%2&e=%c3%a4=%ff";
        let query = SignedQuery::read(Some(text)).unwrap();
        assert_eq!(query.get("a"), Some("1,2"));
        assert_eq!(query.get("B"), Some("x+y"));
        assert_eq!(query.get("c"), Some(""));
        assert_eq!(query.get("d"), Some("%zz%2"));
        assert_eq!(query.get("e"), Some("ä=\u{fffd}"));
        assert_eq!(query.get("f"), None);
        assert_eq!(query.list("channels"), ["p", "q"]);
        assert!(query.list("channel").is_empty());
        assert!(SignedQuery::read(None).unwrap().all().is_empty());
        assert_eq!(first(Some(text), "D").as_deref(), Some("%zz%2"));
        assert_eq!(first(Some(text), "f"), None);
    }

    #[test]
    fn pushers_own_example_is_signed() {
        let params = [
            ("auth_signature", "da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c"),
            ("auth_key", "278d425bdf160c739803"),
            ("body_md5", "ec365a775a4cd0599faeb73354201b6f"),
            ("auth_version", "1.0"),
            ("auth_timestamp", "1353088179"),
        ];
        assert!(is_signed(&params, "POST", "/apps/3/events"));
        assert!(!is_signed(&params, "GET", "/apps/3/events"));
        assert!(!is_signed(&params, "POST", "/apps/4/events"));
        assert!(!is_signed(&params[1..], "POST", "/apps/3/events"));
        assert!(!is_signed(&[&params[..], &params[..1]].concat(), "POST", "/apps/3/events"), "signed twice");
    }

    #[test]
    fn a_list_may_be_signed_as_php_does() {
        let signed_as = |query: &str, names: [&str; 2]| {
            let signature = sign_hex(&secret(), format!("GET\n/apps/1/channels\n{query}"));
            let [first, second] = names.map(|name| (name, ""));
            let params = [
                (first.0, "user_count"),
                ("auth_key", "k"),
                (second.0, "subscription_count"),
                ("auth_signature", &signature),
            ];
            is_signed(&params, "GET", "/apps/1/channels")
        };
        let joined = "auth_key=k&info=user_count,subscription_count";
        assert!(signed_as(joined, ["info[0]", "info[1]"]));
        assert!(signed_as(joined, ["info[]", "info[]"]));
        assert!(!signed_as(joined, ["info[a]", "info[b]"]));
        assert!(!signed_as(joined, ["info", "info"]));
        // Other libraries sign what they send.
        assert!(signed_as("auth_key=k&info[0]=user_count&info[1]=subscription_count", ["info[0]", "info[1]"]));
    }

    #[test]
    fn the_form_is_the_one_that_clients_sign() {
        let query = SignedQuery::read(Some("B=2&a=1&AUTH_SIGNATURE=x&c[]=3")).unwrap();
        let params = [("a", "1"), ("c[]", "3"), ("b", "2")];
        assert_eq!(query.canonical().to_sign("get", "/p"), request_string_to_sign("GET", "/p", &params));
    }

    proptest! {
        #[test]
        fn the_order_of_parameters_and_the_case_of_names_do_not_count(
            params in proptest::collection::btree_map("[a-z_]{1,8}", any::<String>(), 0..6).prop_flat_map(|map| {
                Just(map.into_iter().collect::<Vec<_>>()).prop_shuffle()
            }),
            place in any::<prop::sample::Index>(),
        ) {
            let text = request_string_to_sign("GET", "/apps/1/ä", &params);
            let signature = sign_hex(&secret(), &text);
            let mut sent: Vec<(String, String)> =
                params.iter().map(|(name, value)| (name.to_ascii_uppercase(), value.clone())).collect();
            sent.insert(place.index(sent.len() + 1), ("auth_signature".to_owned(), signature));
            let escaped = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
            let is_signed = |sent: &[(String, String)]| {
                let pairs = sent.iter().map(|(name, value)| format!("{name}={}", escaped(value)));
                let query = pairs.collect::<Vec<_>>().join("&");
                SignedQuery::read(Some(&query)).unwrap().canonical().is_signed(&secret(), "get", "/apps/1/ä")
            };
            prop_assert!(is_signed(&sent));
            // Every value is covered.
            for n in 0..sent.len() {
                let mut other = sent.clone();
                other[n].1.push('0');
                prop_assert!(!is_signed(&other));
            }
        }
    }

    // covers: G025
    #[test]
    fn more_parameters_than_any_request_has_are_refused() {
        let query = |count: usize| (0..count).map(|n| format!("a{n}=&")).collect::<String>();
        assert_eq!(SignedQuery::read(Some(&query(MAX_PARAMS))).unwrap().all().len(), MAX_PARAMS);
        assert_eq!(SignedQuery::read(Some(&query(MAX_PARAMS + 1))).err(), Some(TooManyParams));
        assert_eq!(SignedQuery::read(Some(&"x[]&".repeat(100_000))).err(), Some(TooManyParams));
    }

    /// What judging a request takes, for each of its bytes.
    fn steps_per_byte(query: &str) -> f64 {
        steps::reset();
        if let Ok(read) = SignedQuery::read(Some(query)) {
            let canonical = read.canonical();
            assert!(!canonical.is_signed(&secret(), "GET", "/apps/1/channels"));
            drop(canonical.to_sign("GET", "/apps/1/channels"));
        }
        steps::taken() as f64 / query.len() as f64
    }

    // covers: G026
    #[test]
    fn judging_a_request_takes_steps_in_proportion_to_its_bytes() {
        let items = |count: usize, name: &dyn Fn(usize) -> String, value: &str| {
            let params = (0..count).map(|n| format!("{}={value}", name(n)));
            params.chain([format!("auth_signature={}", "a".repeat(64))]).collect::<Vec<_>>().join("&")
        };
        let long = "x".repeat(400);
        let kinds: [(&str, &dyn Fn(usize) -> String); 5] = [
            ("one list", &|_| "aaa[]".to_owned()),
            ("lists of their own", &|n| format!("{}[]", "a".repeat(n + 1))),
            ("names alike to their last byte", &|n| format!("{long}{n:03}")),
            ("names in upper case", &|n| format!("{}{n:03}[{n}]", long.to_uppercase())),
            ("in the wrong order", &|n| format!("{:05}[{n}]", 99_999 - n)),
        ];
        for (what, name) in kinds {
            for value in ["", "v", &"%2C".repeat(300)] {
                let all = steps_per_byte(&items(120, name, value));
                assert!(all < 24.0, "{what}: {all} steps for each byte");
                let few = steps_per_byte(&items(12, name, value));
                assert!(all < 2.0 * few.max(8.0), "{what}: {all} steps for each byte, and {few} of a tenth of it");
            }
        }
        // What is refused for its number is not read to its end.
        assert!(steps_per_byte(&items(10_000, &|n| format!("a{n}[]"), "")) < 1.0);
    }
}
