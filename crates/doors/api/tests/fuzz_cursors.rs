//! The body of the fuzz target about cursors.

#[path = "../../../../fuzz/bodies/cursor.rs"]
mod cursor;
#[path = "../../../../fuzz/inputs.rs"]
mod inputs;

use inputs::fuzz;

// covers: G028
#[test]
fn the_readers_of_cursors() {
    fuzz(
        cursor::run,
        60_000,
        &[
            b"\x01",
            b"\x02",
            b"5f3c:17",
            b"5f3c:",
            b":",
            b",",
            b"-",
            b"a-b:0",
            b"18446744073709551615",
            b"18446744073709551616",
            b".",
            b"+1",
            b"1.2",
            b"ZTox",
            b"ZDoxLjI",
            b"aDph",
            b"bDph",
            b"YTph",
            b"Yzph",
            b"=",
            b"e",
            "ä".as_bytes(),
        ],
    );
}
