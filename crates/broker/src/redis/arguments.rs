//! A script's arguments by name, as a MessagePack map, which scripts unpack in one step. Names and values as separate
//! arguments would be twice as many for Redis to parse, which makes a publish measurably slower.

/// Arguments by name.
#[derive(Debug, Clone, Default)]
pub(super) struct Arguments {
    count: u16,
    packed: Vec<u8>,
}

impl Arguments {
    pub(super) fn text(mut self, name: &str, text: impl AsRef<[u8]>) -> Self {
        self.name(name);
        string(&mut self.packed, text.as_ref());
        self
    }

    /// Adds a number. Lua's numbers are exact only up to 2^53.
    pub(super) fn number(mut self, name: &str, number: i64) -> Self {
        self.name(name);
        self.packed.push(0xd3);
        self.packed.extend_from_slice(&number.to_be_bytes());
        self
    }

    /// Adds a number that is never negative.
    pub(super) fn count(self, name: &str, count: impl TryInto<i64>) -> Self {
        self.number(name, count.try_into().unwrap_or(i64::MAX))
    }

    pub(super) fn flag(mut self, name: &str, flag: bool) -> Self {
        self.name(name);
        self.packed.push(if flag { 0xc3 } else { 0xc2 });
        self
    }

    pub(super) fn list(mut self, name: &str, items: &[Self]) -> Self {
        self.name(name);
        self.packed.push(0xdd);
        self.packed.extend_from_slice(&length(items.len()));
        items.iter().for_each(|item| self.packed.extend_from_slice(&item.packed()));
        self
    }

    /// The arguments as a MessagePack map.
    pub(super) fn packed(&self) -> Vec<u8> {
        [&[0xde], &self.count.to_be_bytes()[..], &self.packed].concat()
    }

    fn name(&mut self, name: &str) {
        self.count += 1;
        string(&mut self.packed, name.as_bytes());
    }
}

fn string(packed: &mut Vec<u8>, text: &[u8]) {
    match u8::try_from(text.len()) {
        Ok(short @ 0..32) => packed.push(0xa0 | short),
        _ => {
            packed.push(0xdb);
            packed.extend_from_slice(&length(text.len()));
        }
    }
    packed.extend_from_slice(text);
}

/// A length as four bytes. Redis accepts no longer values.
fn length(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_packed_as_messagepack_specifies() {
        let one = Arguments::default().flag("f", false);
        let long = "x".repeat(40);
        let all =
            Arguments::default().text("a", "b").number("n", -2).flag("t", true).list("l", &[one]).text("x", &long);
        let head = b"\xde\0\x05\xa1a\xa1b\xa1n\xd3\xff\xff\xff\xff\xff\xff\xff\xfe\xa1t\xc3";
        let tail = b"\xa1l\xdd\0\0\0\x01\xde\0\x01\xa1f\xc2\xa1x\xdb\0\0\0\x28";
        assert_eq!(all.packed(), [&head[..], tail, long.as_bytes()].concat());
        assert_eq!(
            Arguments::default().count("n", u64::MAX).packed()[5..],
            [0xd3; 1].into_iter().chain(i64::MAX.to_be_bytes()).collect::<Vec<_>>()
        );
    }
}
