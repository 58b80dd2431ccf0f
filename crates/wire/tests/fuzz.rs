//! The bodies of the fuzz targets, run on plausible inputs that are the same each time.

#[path = "../../../fuzz/bodies/handshake.rs"]
mod handshake;
#[path = "../../../fuzz/inputs.rs"]
mod inputs;
#[path = "../../../fuzz/bodies/post.rs"]
mod post;
#[path = "../../../fuzz/bodies/sse.rs"]
mod sse;
#[path = "../../../fuzz/bodies/websocket.rs"]
mod websocket;

use inputs::fuzz;

#[test]
fn the_websocket_decoder() {
    fuzz(
        websocket::run,
        60_000,
        &[
            b"\xff\x05",
            b"\x81\x80\0\0\0\0",
            b"\x81\x83\0\0\0\0\xe2\x82\xac",
            b"\x01\x82\0\0\0\0\xe2\x82",
            b"\x80\x81\0\0\0\0\xac",
            b"\x80\x81\x01\x02\x03\x04x",
            b"\x00\x80\0\0\0\0",
            b"\x02\x84\x01\x02\x03\x04abcd",
            b"\x82\xfe\x00\x7e\x01\x02\x03\x04",
            b"\x82\xff\0\0\0\0\0\x01\0\0\0\0\0\0",
            &[b'x'; 126],
            b"\x89\x81\0\0\0\0!",
            b"\x8a\x80\x01\x02\x03\x04",
            b"\x88\x80\0\0\0\0",
            b"\x88\x85\0\0\0\0\x03\xe8bye",
        ],
    );
}

#[test]
fn the_handshake() {
    fuzz(
        handshake::run,
        60_000,
        &[
            b"GET\nconnection: keep-alive, upgrade\nupgrade:websocket\nsec-websocket-version: 13\n",
            b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\n",
            b"sec-websocket-protocol: a, b,,c\n",
            b"POST\n",
            b"connection: ",
            b"upgrade",
            b"upgrade: ",
            b"websocket\n",
            b"sec-websocket-version: ",
            b"13",
            b"\n",
            b", ",
        ],
    );
}

#[test]
fn the_reader_of_server_sent_events() {
    fuzz(
        sse::run,
        60_000,
        &[
            b"data: ",
            b"data",
            b"id: ",
            b"id",
            b"event: ",
            b"event:",
            b":",
            b": ",
            b"retry: 1",
            b"x",
            b"\n",
            b"\r",
            b"\r\n",
            b"\n\n",
            b"\xef\xbb\xbf",
            b"\0",
            b"\xe2\x82\xac",
            b"\xff",
            b"data: x\n\n",
            b"id: 7\r\n",
        ],
    );
}

#[test]
fn the_reader_of_plain_posts() {
    fuzz(
        post::run,
        60_000,
        &[
            b"POST / HTTP/1.1\r\n",
            b"POST /x?y HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}",
            b"POST http://h/ HTTP/1.1\n",
            b"Content-Length: 0\r\n",
            b"Content-Length: 1\r\n",
            b"Content-Length: 70000\r\n",
            b"Connection: keep-alive\r\n",
            b"Connection: close\r\n",
            b"Host: h\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"X: y\n",
            b"\r\n",
            b"\n",
            b"\r",
            b"P",
            b"OST / HTTP/1.1\r\n",
            &[b'x'; 500],
        ],
    );
}
