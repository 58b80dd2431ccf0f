//! Standard Webhooks signatures: published vectors, the `standardwebhooks` crate as judge in both directions, rotation.
#![expect(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;
use standardwebhooks::Webhook;
use tidings_model::signature::{
    KeyRing, MAX_PREVIOUS, Secret, SecretError, SignedHeaders, TOLERANCE_SECS, VerifyError, sign, verify,
};

/// Secret, id, timestamp, body, signature: of the specification's Rust and Python libraries.
const VECTORS: [(&str, &str, i64, &str, &str); 2] = [
    (
        "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
        "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
        1_649_367_553,
        r#"{"email":"test@example.com","username":"test_user"}"#,
        "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
    ),
    (
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1_614_265_330,
        r#"{"test": 2432232314}"#,
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    ),
];

fn secret(byte: u8) -> Secret {
    Secret::from_bytes(&[byte; 32]).unwrap()
}

fn check(signature: &str, timestamp: &str, body: &[u8], key: &Secret, now: i64) -> Result<(), VerifyError> {
    verify(&SignedHeaders { id: "msg_1", timestamp, signature }, body, &[key], now, TOLERANCE_SECS)
}

#[test]
fn published_vectors() {
    for (key, id, timestamp, body, signature) in VECTORS {
        let key = Secret::parse(key).unwrap();
        assert_eq!(sign(id, timestamp, body.as_bytes(), &[&key]), signature);
        let headers = SignedHeaders { id, timestamp: &timestamp.to_string(), signature };
        assert_eq!(verify(&headers, body.as_bytes(), &[&key], timestamp + 10, TOLERANCE_SECS), Ok(()));
    }
}

// covers: K04
#[test]
fn one_item_per_key_and_each_with_a_comma() {
    let (a, b) = (secret(1), secret(2));
    let value = sign("msg_1", 1, b"{}", &[&a, &b]);
    let items: Vec<&str> = value.split(' ').collect();
    assert_eq!(items, [sign("msg_1", 1, b"{}", &[&a]), sign("msg_1", 1, b"{}", &[&b])]);
    assert!(items.iter().all(|item| item.starts_with("v1,")));
    assert_eq!(sign("msg_1", 1, b"{}", &[]), "");
    for key in [&a, &b] {
        assert_eq!(check(&value, "1", b"{}", key, 1), Ok(()));
    }
}

// covers: P02
#[test]
fn old_and_future_messages_are_refused() {
    let key = secret(1);
    let value = sign("msg_1", 1_000, b"{}", &[&key]);
    for now in [1_000, 1_300, 700] {
        assert_eq!(check(&value, "1000", b"{}", &key, now), Ok(()), "{now}");
    }
    assert_eq!(check(&value, "1000", b"{}", &key, 1_301), Err(VerifyError::TooOld { seconds: 301 }));
    assert_eq!(check(&value, "1000", b"{}", &key, 699), Err(VerifyError::TooNew { seconds: 301 }));
    for bad in ["", "x", "1e3", "1000.0", " 1000", "99999999999999999999"] {
        assert_eq!(check(&value, bad, b"{}", &key, 1_000), Err(VerifyError::BadTimestamp), "{bad:?}");
    }
    for far in [i64::MIN, i64::MAX] {
        assert!(check(&value, &far.to_string(), b"{}", &key, 1_000).is_err());
    }
}

// covers: K05
#[test]
fn anything_changed_is_noticed() {
    let (key, other) = (secret(1), secret(2));
    let value = sign("msg_1", 1_000, b"{\"a\":1}", &[&key]);
    assert_eq!(check(&value, "1000", b"{\"a\":2}", &key, 1_000), Err(VerifyError::NoMatch));
    assert_eq!(check(&value, "1001", b"{\"a\":1}", &key, 1_000), Err(VerifyError::NoMatch));
    assert_eq!(check(&value, "1000", b"{\"a\":1}", &other, 1_000), Err(VerifyError::NoMatch));
    let headers = SignedHeaders { id: "msg_2", timestamp: "1000", signature: &value };
    assert_eq!(verify(&headers, b"{\"a\":1}", &[&key], 1_000, TOLERANCE_SECS), Err(VerifyError::NoMatch));
    assert_eq!(verify(&headers, b"", &[], 1_000, TOLERANCE_SECS), Err(VerifyError::NoMatch));
    for none in ["", " ", "v1", "v2,abc", "v1a,abc", "nonsense"] {
        assert_eq!(check(none, "1000", b"{\"a\":1}", &key, 1_000), Err(VerifyError::NoSignature), "{none:?}");
    }
    for wrong in ["v1,", "v1,!!!", "v1,AAAA", &value[..value.len() - 4]] {
        assert_eq!(check(wrong, "1000", b"{\"a\":1}", &key, 1_000), Err(VerifyError::NoMatch), "{wrong:?}");
    }
    let among_others = format!("v1a,xyz nonsense v1,!!! {value} v2,abc");
    assert_eq!(check(&among_others, "1000", b"{\"a\":1}", &key, 1_000), Ok(()));
}

#[test]
fn secrets_are_read_strictly_and_told_clearly() {
    let text = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    assert_eq!(Secret::parse(text).unwrap().expose().as_str(), text);
    let unpadded = Secret::from_bytes(&[7; 32]).unwrap().expose().trim_end_matches('=').to_owned();
    assert_eq!(Secret::parse(&unpadded).unwrap(), secret(7));
    for (len, fits) in [(0, false), (23, false), (24, true), (64, true), (65, false)] {
        let result = Secret::from_bytes(&vec![1; len]);
        assert_eq!(result.err(), (!fits).then_some(SecretError::Length { len }), "{len}");
    }
    assert_eq!(Secret::parse("whsec_").err(), Some(SecretError::Length { len: 0 }));
    assert_eq!(Secret::parse("whsec_not base64!").err(), Some(SecretError::NotBase64));
    for key in ["whsk_6Xb/dCcHpPea21PS1N9VYw==", "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="] {
        assert_eq!(Secret::parse(key).err(), Some(SecretError::Asymmetric));
    }
    let (a, b) = (Secret::generate().unwrap(), Secret::generate().unwrap());
    assert_ne!(a, b);
    assert_eq!(Secret::parse(&a.expose()).unwrap(), a);
    assert_eq!(a.expose().len(), "whsec_".len() + 44);
}

// covers: K01
#[test]
fn nothing_that_is_printed_holds_a_secret() {
    let ring = KeyRing { current: secret(b'k'), previous: vec![(secret(b'l'), 5)] };
    assert_eq!(format!("{:?}", ring.current), "Secret(redacted)");
    let printed = format!("{ring:?}");
    for part in ["kkkk", "llll", "107, 107", "a2tr", "whsec"] {
        assert!(!printed.contains(part), "{printed}");
    }
}

// covers: K04
#[test]
fn an_old_secret_signs_until_its_grace_is_over() {
    let mut ring = KeyRing::new(secret(1));
    ring.rotate(secret(2), 1_000, 500);
    assert_eq!(ring.signing_keys(1_499), [&secret(2), &secret(1)]);
    assert_eq!(ring.signing_keys(1_500), [&secret(2)]);

    ring.rotate(secret(3), 1_200, 1_000);
    assert_eq!(ring.signing_keys(1_300), [&secret(3), &secret(2), &secret(1)], "an earlier one keeps its time");
    assert_eq!(ring.signing_keys(1_600), [&secret(3), &secret(2)]);

    ring.rotate(secret(4), 1_300, 0);
    assert_eq!(ring.signing_keys(1_300), [&secret(4)], "a leaked secret stops at once, and so do those before it");

    ring.rotate(secret(4), 1_400, 1_000);
    assert_eq!(ring.signing_keys(1_400), [&secret(4)], "the same one again does not sign twice");
    ring.rotate(secret(5), 1_400, 1_000);
    ring.rotate(secret(4), 1_400, 1_000);
    assert_eq!(ring.signing_keys(1_400), [&secret(4), &secret(5)], "nor one that comes back");

    for n in 10..40 {
        ring.rotate(secret(n), 2_000, i64::MAX);
        assert!(ring.previous.len() <= MAX_PREVIOUS);
    }
    assert_eq!(ring.signing_keys(i64::MAX - 1).len(), 1 + MAX_PREVIOUS);
    assert_eq!(ring.previous[0].0, secret(38), "the newest are kept");
}

proptest! {
    #[test]
    fn the_other_library_makes_what_we_make_and_takes_what_we_send(
        key in proptest::collection::vec(any::<u8>(), 24..=64),
        before in proptest::collection::vec(any::<u8>(), 24..=64),
        id in "[A-Za-z0-9_-]{1,30}",
        body in "\\PC{0,200}",
        ago in -200..200_i64,
    ) {
        let (ours, old) = (Secret::from_bytes(&key).unwrap(), Secret::from_bytes(&before).unwrap());
        let theirs = Webhook::new(&ours.expose()).unwrap();
        let now = jiff::Timestamp::now().as_second();
        let timestamp = now - ago;

        // Theirs to us.
        let signature = theirs.sign(&id, timestamp, body.as_bytes()).unwrap();
        prop_assert_eq!(&signature, &sign(&id, timestamp, body.as_bytes(), &[&ours]));
        let headers = SignedHeaders { id: &id, timestamp: &timestamp.to_string(), signature: &signature };
        prop_assert_eq!(verify(&headers, body.as_bytes(), &[&old, &ours], now, TOLERANCE_SECS), Ok(()));

        // Ours to them, as sent while a secret rotates.
        let mut map = HeaderMap::new();
        let value = |text: &str| HeaderValue::from_str(text).unwrap();
        map.insert("webhook-id", value(&id));
        map.insert("webhook-timestamp", value(&timestamp.to_string()));
        map.insert("webhook-signature", value(&sign(&id, timestamp, body.as_bytes(), &[&old, &ours])));
        prop_assert!(theirs.verify(body.as_bytes(), &map).is_ok());
    }

    #[test]
    fn no_text_makes_it_panic(secret in "\\PC{0,100}", timestamp in "\\PC{0,20}", signature in "\\PC{0,100}") {
        Secret::parse(&secret).ok();
        Secret::parse(&format!("whsec_{secret}")).ok();
        prop_assert!(check(&signature, &timestamp, b"", &self::secret(1), 0).is_err());
        let prefixed = format!("v1,{signature}");
        prop_assert!(check(&prefixed, "0", b"", &self::secret(1), 0).is_err());
    }
}
