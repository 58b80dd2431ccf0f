//! The bodies of the fuzz targets about requests and tokens.

#[path = "../../../fuzz/inputs.rs"]
mod inputs;
#[path = "../../../fuzz/bodies/query.rs"]
mod query;
#[path = "../../../fuzz/bodies/token.rs"]
mod token;

use inputs::fuzz;

// covers: G028
#[test]
fn the_reader_of_signed_queries() {
    fuzz(
        query::run,
        20_000,
        &[
            b"auth_key=k",
            b"auth_signature",
            b"AUTH_SIGNATURE=",
            b"auth_timestamp=1",
            b"&",
            b"&&",
            b"=",
            b"a[]=1",
            b"a[0]=",
            b"a[1]",
            b"a[",
            b"]",
            b"A=b",
            b"%",
            b"%5B",
            b"%5d",
            b"%zz",
            b"%ff",
            b"%00",
            b"+",
            b",",
            b"&x[]&x[]&x[]&x[]&x[]&x[]&x[]&x[]&x[]&x[]&x[]&x[]&x[]&x[]&x[]&x[]&x[]&x[]&x[]&x[]",
            "ä".as_bytes(),
        ],
    );
}

// covers: G028
#[test]
fn the_reader_of_tokens() {
    fuzz(
        token::run,
        4_000,
        &[
            b".",
            b"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9",
            b"eyJhbGciOiJub25lIn0",
            b"eyJhbGciOiJSUzI1NiJ9",
            b"eyJhbGciOiJIUzI1NiIsImNyaXQiOltdfQ",
            b"eyJzdWIiOiJ1In0",
            b"eyJleHAiOjF9",
            b"e30",
            b"W10",
            b"AAAA",
            b"=",
            &[b'A'; 3_000],
            "ä".as_bytes(),
        ],
    );
}
