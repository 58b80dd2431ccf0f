//! Clients' tokens: signed by others with every kind of key, issued by us, and all that must be refused.

#![expect(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use proptest::prelude::*;
use serde_json::{Value, json};
use sha2::Sha256;
use tidings_model::secret::SecretString;
use tidings_model::token::{Claims, IssueError, KeyError, LEEWAY_MS, MAX_TOKEN_LEN, PublicKey, TokenError, TokenKeys};

const NOW: i64 = 1_795_255_000_000;
const SECRET: &str = "a-secret-for-tokens";
const RSA: &str = include_str!("tokens/rsa.pem");
const P256: &str = include_str!("tokens/p256.pem");
const P384: &str = include_str!("tokens/p384.pem");
const ED25519: &str = include_str!("tokens/ed25519.pem");
/// An algorithm and a token a line, signed by OpenSSL with the private keys of these.
const SIGNED: &str = include_str!("tokens/signed.txt");

fn keys() -> TokenKeys {
    TokenKeys::new(SecretString::from(SECRET), Vec::new())
}

fn public() -> TokenKeys {
    let keys = vec![
        PublicKey::rsa(RSA).unwrap(),
        PublicKey::ecdsa(P256).unwrap(),
        PublicKey::ecdsa(P384).unwrap(),
        PublicKey::ed25519(ED25519).unwrap(),
    ];
    TokenKeys::new(SecretString::default(), keys)
}

/// A token with this header and these claims, signed with HMAC-SHA256, by another implementation.
fn made(secret: &str, header: &Value, claims: &str) -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let signed = format!("{}.{}", part(&header.to_string()), part(claims));
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap().chain_update(&signed).finalize();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.into_bytes()))
}

fn hs256(claims: Value) -> String {
    made(SECRET, &json!({"alg": "HS256"}), &claims.to_string())
}

#[test]
fn a_token_of_every_kind_of_key_is_believed() {
    for line in SIGNED.lines() {
        let (algorithm, token) = line.split_once(' ').unwrap();
        let claims = public().verify(token, NOW).unwrap_or_else(|error| panic!("{algorithm}: {error}"));
        assert_eq!(claims.sub.as_deref(), Some(algorithm));
        assert_eq!(claims.channels, ["$a", "b"]);
        assert_eq!(claims.exp, Some(4_000_000_000_000));
        assert_eq!(public().verify(token, 4_000_000_006_000), Err(TokenError::Expired), "{algorithm}");
        let mut altered = token.to_owned();
        altered.replace_range(40..41, if &token[40..41] == "A" { "B" } else { "A" });
        assert!(public().verify(&altered, NOW).is_err(), "{algorithm}");
        assert!(matches!(keys().verify(token, NOW), Err(TokenError::NoKey { .. })), "{algorithm}");
    }
}

#[test]
fn the_example_of_rfc_7515_is_believed() {
    // RFC 7515, appendix A.1: the key is given in base 64 and is no text, so what is checked is the form that it has.
    let token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.\
        eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
        dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    assert_eq!(keys().verify(token, NOW), Err(TokenError::BadSignature));
    let claims = "{\"iss\":\"joe\",\r\n \"exp\":1300819380,\r\n \"http://example.com/is_root\":true}";
    let own = made(SECRET, &json!({"typ": "JWT", "alg": "HS256"}), claims);
    assert_eq!(keys().verify(&own, 1_300_819_380_000 - 1).unwrap().exp, Some(1_300_819_380_000));
}

// covers: K05
#[test]
fn no_token_chooses_how_it_is_checked() {
    let claims = json!({"sub": "u"}).to_string();
    let unsigned = |alg: &str| {
        format!("{}.{}.", URL_SAFE_NO_PAD.encode(json!({"alg": alg}).to_string()), URL_SAFE_NO_PAD.encode(&claims))
    };
    for keys in [keys(), public(), TokenKeys::default()] {
        for alg in ["none", "None", "NONE", "", "HS256", "RS256", "EdDSA"] {
            assert!(keys.verify(&unsigned(alg), NOW).is_err(), "{alg}");
        }
    }
    // The public key as the secret of an HMAC.
    let both = TokenKeys::new(SecretString::from(SECRET), vec![PublicKey::rsa(RSA).unwrap()]);
    let confused = made(RSA, &json!({"alg": "HS256"}), &claims);
    assert!(matches!(public().verify(&confused, NOW), Err(TokenError::NoKey { .. })));
    assert_eq!(both.verify(&confused, NOW), Err(TokenError::BadSignature));
    let as_rsa = made(SECRET, &json!({"alg": "RS256"}), &claims);
    assert_eq!(both.verify(&as_rsa, NOW), Err(TokenError::BadSignature));
    // A secret that isn't set is not the empty secret.
    let of_nothing = made("", &json!({"alg": "HS256"}), &claims);
    assert!(matches!(TokenKeys::default().verify(&of_nothing, NOW), Err(TokenError::NoKey { .. })));
    // Extensions that we would have to understand; keys that the token brings along.
    let critical = made(SECRET, &json!({"alg": "HS256", "crit": ["b64"], "b64": false}), &claims);
    assert_eq!(keys().verify(&critical, NOW), Err(TokenError::Malformed));
    let own_key = made("evil", &json!({"alg": "HS256", "jwk": {"kty": "oct", "k": "ZXZpbA"}}), &claims);
    assert_eq!(keys().verify(&own_key, NOW), Err(TokenError::BadSignature));
}

#[test]
fn a_token_is_good_from_then_until_then() {
    let seconds = NOW / 1_000;
    let leeway = LEEWAY_MS / 1_000;
    let check = |claims: Value, expected: Result<(), TokenError>| {
        let verified = keys().verify(&hs256(claims.clone()), NOW).map(|_| ());
        assert_eq!(verified, expected, "{claims}");
    };
    check(json!({}), Ok(()));
    check(json!({"exp": seconds + 1, "nbf": seconds - 1, "iat": seconds}), Ok(()));
    check(json!({"exp": seconds as f64 + 0.5}), Ok(()));
    check(json!({"exp": 1e300}), Ok(()));
    check(json!({"exp": seconds - leeway + 1}), Ok(()));
    check(json!({"exp": seconds - leeway}), Err(TokenError::Expired));
    check(json!({"exp": 0}), Err(TokenError::Expired));
    check(json!({"nbf": seconds + leeway}), Ok(()));
    check(json!({"nbf": seconds + leeway + 1}), Err(TokenError::NotYet));
    check(json!({"iat": seconds + leeway + 1}), Err(TokenError::NotYet));
    // A time that can't be read must not be one that is not there.
    for (name, bad) in
        [("exp", json!("1")), ("exp", json!(-1)), ("exp", json!(null)), ("nbf", json!([])), ("iat", json!({}))]
    {
        check(json!({name: bad}), Err(TokenError::BadClaims));
    }
    assert_eq!(
        keys().verify(&made(SECRET, &json!({"alg": "HS256"}), "{\"exp\":0,\"exp\":9999999999}"), NOW),
        Err(TokenError::BadClaims)
    );
    // Only who has the key learns that a token is merely old.
    let old = made("other", &json!({"alg": "HS256"}), "{\"exp\":0}");
    assert_eq!(keys().verify(&old, NOW), Err(TokenError::BadSignature));
}

#[test]
fn claims_are_read_as_centrifugo_names_them() {
    let token = hs256(json!({
        "sub": "u1", "channels": ["news", "$chat"], "channel": "#server-to-user-u1", "info": {"name": "Ann", "n": 1.50},
        "iss": "app", "aud": "us", "jti": "7", "meta": {},
    }));
    let claims = keys().verify(&token, NOW).unwrap();
    assert_eq!((claims.sub.as_deref(), claims.exp), (Some("u1"), None));
    assert_eq!(claims.info.as_deref(), Some(&br#"{"n":1.5,"name":"Ann"}"#[..]));
    for (channel, named) in
        [("news", true), ("$chat", true), ("#u1", true), ("chat", false), ("#u2", false), ("", false)]
    {
        assert_eq!(claims.names(channel), named, "{channel}");
    }
    assert_eq!(keys().verify(&hs256(json!({"sub": ""})), NOW).unwrap().sub, None);
    for bad in
        [json!({"sub": 1}), json!({"channels": "a"}), json!({"channels": [1]}), json!({"channel": ["a"]}), json!([])]
    {
        assert_eq!(keys().verify(&hs256(bad.clone()), NOW), Err(TokenError::BadClaims), "{bad}");
    }
}

#[test]
fn what_is_no_token_is_refused() {
    let good = hs256(json!({"sub": "u"}));
    for bad in [
        "",
        ".",
        "..",
        "a.b",
        "a.b.c",
        "a.b.c.d",
        &good[1..],
        &format!("{good}="),
        &format!("{good}."),
        &format!(" {good}"),
    ] {
        assert!(keys().verify(bad, NOW).is_err(), "{bad}");
    }
    let long = hs256(json!({"sub": "u".repeat(MAX_TOKEN_LEN)}));
    assert_eq!(keys().verify(&long, NOW), Err(TokenError::TooLong));
}

#[test]
fn a_key_of_another_kind_is_none() {
    assert!(PublicKey::rsa(&format!("\n{RSA}\n\n")).is_ok());
    for (read, wrong) in [
        (PublicKey::rsa as fn(&str) -> _, [P256, ED25519, "x"]),
        (PublicKey::ecdsa, [RSA, ED25519, ""]),
        (PublicKey::ed25519, [RSA, P384, "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"]),
    ] {
        for pem in wrong {
            assert!(matches!(read(pem), Err(KeyError::NotPem { .. })), "{pem}");
        }
        let private = format!("-----BEGIN {0}-----\nAAAA\n-----END {0}-----", "PRIVATE KEY");
        assert!(matches!(read(&private), Err(KeyError::Private)));
    }
}

// covers: K01
#[test]
fn keys_do_not_show_themselves() {
    let shown = format!("{:?}", TokenKeys::new(SecretString::from(SECRET), vec![PublicKey::rsa(RSA).unwrap()]));
    assert_eq!(shown, "TokenKeys { hmac: SecretString(hidden), public: [PublicKey(Rsa)] }");
}

#[test]
fn tokens_are_issued_with_a_secret_only() {
    assert_eq!(public().issue(&Claims::default(), NOW), Err(IssueError::NoSecret));
    let bad = Claims { info: Some("{".into()), ..Claims::default() };
    assert_eq!(keys().issue(&bad, NOW), Err(IssueError::BadInfo));
    let long = Claims { channels: vec!["c".repeat(200); 50], ..Claims::default() };
    assert_eq!(keys().issue(&long, NOW), Err(IssueError::TooLong));
    // Signed as other implementations would.
    let token = keys().issue(&Claims { sub: Some("u".into()), ..Claims::default() }, NOW).unwrap();
    assert_eq!(token, made(SECRET, &json!({"alg": "HS256", "typ": "JWT"}), "{\"sub\":\"u\",\"iat\":1795255000}"));
}

proptest! {
    #[test]
    fn what_is_issued_is_what_is_read(
        sub in proptest::option::of("\\PC{1,20}"),
        channels in proptest::collection::vec("\\PC{1,20}", 0..5),
        channel in proptest::option::of("\\PC{1,20}"),
        seconds in proptest::option::of(1..4_000_000_000_i64),
        info in proptest::option::of("\\PC{0,20}"),
    ) {
        let info = info.map(|text| json!({"text": text}).to_string().into());
        let exp = seconds.map(|seconds| seconds * 1_000);
        let claims = Claims { sub, channels, channel, exp, info };
        let token = keys().issue(&claims, NOW).unwrap();
        let expired = exp.is_some_and(|exp| exp + LEEWAY_MS <= NOW);
        let expected = if expired { Err(TokenError::Expired) } else { Ok(claims) };
        prop_assert_eq!(keys().verify(&token, NOW), expected);
        let other = TokenKeys::new(SecretString::from("another"), Vec::new());
        prop_assert_eq!(other.verify(&token, NOW), Err(TokenError::BadSignature));
    }

    #[test]
    fn no_text_makes_it_stumble(text in "\\PC{0,60}", parts in proptest::collection::vec("[A-Za-z0-9_-]{0,40}", 0..5)) {
        prop_assert!(keys().verify(&text, NOW).is_err());
        prop_assert!(keys().verify(&parts.join("."), NOW).is_err());
    }
}
