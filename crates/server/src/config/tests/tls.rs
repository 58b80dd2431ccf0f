//! `[tls]`: files that are accepted, and the problems of others.

use std::path::Path;

use super::*;
use crate::tls::tests::certificate;

fn write(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn a_certificate_with_its_key_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = certificate("a.example");
    let (cert, key) = (write(dir.path(), "cert.pem", &cert), write(dir.path(), "key.pem", &key));
    for text in [
        format!("[tls]\ncert = \"{cert}\"\nkey = \"{key}\""),
        format!("[tls]\ncert = \"{cert}\"\nkey = {{ file = \"{key}\" }}"),
    ] {
        let tls = settings(&text).tls.unwrap();
        assert_eq!((tls.cert.to_str(), tls.key.to_str()), (Some(cert.as_str()), Some(key.as_str())));
    }
    assert!(settings("[tls]\ncert = \"\"").tls.is_none());
}

#[test]
fn files_that_cannot_be_served_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let (cert_text, key_text) = certificate("a.example");
    let cert = write(dir.path(), "cert.pem", &cert_text);
    let key = write(dir.path(), "key.pem", &key_text);
    let other = write(dir.path(), "other.pem", &certificate("a.example").1);
    let none = dir.path().join("none.pem").display().to_string();
    let no_key = write(dir.path(), "broken.pem", "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n");
    let refuses = |cert: &str, key: &str, expected: &str| {
        check(&format!("[tls]\ncert = \"{cert}\"\nkey = \"{key}\""), &[expected]);
    };
    refuses(
        &none,
        &key,
        &format!(
            "tidings.toml:2:1: the certificate file {none} cannot be read: No such file or directory (os error 2)"
        ),
    );
    refuses(
        &cert,
        &none,
        &format!("tidings.toml:3:1: the key's file {none} cannot be read: No such file or directory (os error 2)"),
    );
    refuses(&key, &key, &format!("tidings.toml:2:1: the certificate file {key} holds no CERTIFICATE in PEM"));
    let refused = "holds no PRIVATE KEY in PEM without a password";
    refuses(&cert, &cert, &format!("tidings.toml:3:1: the key's file {cert} {refused}"));
    let broken = format!("tidings.toml:3:1: the key in {no_key} cannot be used with the certificate in {cert}: ");
    let problems = read(&format!("[tls]\ncert = \"{cert}\"\nkey = \"{no_key}\"")).unwrap_err().to_string();
    assert!(problems.starts_with(&broken) && !problems.contains("hunter2"), "{problems}");
    refuses(
        &cert,
        &other,
        &format!("tidings.toml:3:1: the key in {other} is not that of the first certificate in {cert}"),
    );
    check(&format!("[tls]\ncert = \"{cert}\""), &["tidings.toml:1:2: a certificate needs its key: key = \"key.pem\""]);
    check(&format!("[tls]\nkey = \"{key}\""), &["tidings.toml:1:2: a key needs its certificate: cert = \"cert.pem\""]);
}
