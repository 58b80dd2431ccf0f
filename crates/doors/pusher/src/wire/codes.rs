//! Every numeric code that clients receive: as a WebSocket close code, in `pusher:error`, or as both.
//!
//! The range of a close code decides what a client library does next (Pusher Channels protocol, "Error codes"): after
//! 4000–4099 it does not reconnect, after 4100–4199 it reconnects in a second or more, after 4200–4299 at once. A code
//! from 4300 on is sent in `pusher:error` alone: as a close code, it would keep the client away for good.
//! `docs/pusher.md` has a row for each.

/// Declares the codes once, as an enum and as the list that the documentation is checked against.
macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal,)*) => {
        /// A code of Pusher's protocol, or of RFC 6455 § 7.4.1.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u16)]
        pub(crate) enum Code { $($(#[$doc])* $name = $number,)* }

        #[cfg(test)]
        const ALL: &[Code] = &[$(Code::$name,)*];
    };
}

codes! {
    /// Too many messages that are not of the protocol. RFC 6455's "protocol error", after which pusher-js waits before
    /// it reconnects.
    ProtocolError = 1002,
    UnknownApp = 4001,
    AppDisabled = 4003,
    PathNotFound = 4005,
    UnsupportedVersion = 4007,
    NoVersion = 4008,
    /// The origin is not allowed, authentication failed or came too late, or the app ended the session.
    NotAuthorized = 4009,
    /// A limit is reached, the client is too slow, or the server restarts: reconnect in a moment.
    OverCapacity = 4100,
    /// The node stops, or has lost track of a channel: reconnect at once.
    ReconnectAtOnce = 4200,
    PongMissing = 4201,
    ClientEventRejected = 4301,
    WatchlistTooLong = 4302,
}

impl Code {
    pub(crate) const fn number(self) -> u16 {
        self as u16
    }

    /// Whether the code may end a connection.
    pub(crate) const fn closes(self) -> bool {
        self.number() < 4300
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_documentation_has_a_row_for_each_code_and_no_other() {
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../docs/pusher.md")).unwrap();
        let table = page.lines().skip_while(|line| !line.starts_with("| code |")).skip(2);
        let mut documented = BTreeSet::new();
        for row in table.take_while(|line| line.starts_with('|')) {
            let mut cells = row.split('|').skip(1);
            let numbers = cells.next().unwrap().split(',').map(|number| number.trim().parse::<u16>().unwrap());
            let is_no_close = cells.next().unwrap().trim_start().starts_with("not a close");
            for number in numbers {
                let code = ALL.iter().find(|code| code.number() == number);
                let code = code.unwrap_or_else(|| panic!("{number} is documented and never sent"));
                assert_eq!(code.closes(), !is_no_close, "{number}");
                assert!(documented.insert(number), "{number} has two rows");
            }
        }
        assert_eq!(documented, ALL.iter().map(|code| code.number()).collect::<BTreeSet<_>>());
    }
}
