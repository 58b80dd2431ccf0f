//! A frame's header (RFC 6455 § 5.2), and the protocol violations that a frame can contain.

/// The longest header: two bytes, eight of length, four of mask.
pub(super) const MAX_HEADER: usize = 14;
/// The most bytes that a control frame carries (§ 5.5).
pub(super) const MAX_CONTROL: usize = 125;

/// A client's violation of the protocol. The connection is closed with [`Violation::close_code`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// § 5.1: clients must mask every frame.
    #[error("frames from clients are masked")]
    Unmasked,
    /// § 5.2: reserved bits need an extension, and none was negotiated.
    #[error("reserved bits are set, and no extension was negotiated")]
    ReservedBits,
    /// § 5.2: the opcode has no meaning.
    #[error("an opcode that is reserved")]
    ReservedOpcode,
    /// § 5.2: the length must have the shortest form.
    #[error("a length that is longer than it needs to be, or too long for the protocol")]
    BadLength,
    /// § 5.5: control frames are short and not fragmented.
    #[error("a control frame that is fragmented or longer than 125 bytes")]
    BadControl,
    /// § 5.4: a continuation frame without a message to continue.
    #[error("a continuation of nothing")]
    NothingToContinue,
    /// § 5.4: a new message before the fragmented one has ended.
    #[error("a new message in the middle of another")]
    Interrupted,
    /// § 5.5.1 and § 7.4: the close frame's code is cut off or must not be sent.
    #[error("a close frame with one byte, or with a code that must not be sent")]
    BadClose,
    /// § 8.1: text messages and close reasons are UTF-8.
    #[error("text that is not UTF-8")]
    NotUtf8,
    /// The message is longer than the app's limit.
    #[error("a message longer than the server takes")]
    TooLong,
}

impl Violation {
    /// The code to close with (§ 7.4.1).
    pub fn close_code(self) -> u16 {
        match self {
            Self::NotUtf8 => 1007,
            Self::TooLong => 1009,
            _ => 1002,
        }
    }
}

/// A frame's opcode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    /// The opcode in a frame's first byte. The byte's reserved bits must not be set.
    fn of(first: u8) -> Result<Self, Violation> {
        if first & 0x70 != 0 {
            return Err(Violation::ReservedBits);
        }
        match first & 0x0f {
            0 => Ok(Self::Continuation),
            1 => Ok(Self::Text),
            2 => Ok(Self::Binary),
            8 => Ok(Self::Close),
            9 => Ok(Self::Ping),
            10 => Ok(Self::Pong),
            _ => Err(Violation::ReservedOpcode),
        }
    }

    pub(super) fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// A validated header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) is_final: bool,
    pub(super) opcode: Opcode,
    pub(super) mask: [u8; 4],
    /// The header's own length.
    pub(super) len: usize,
    /// The length of the payload that follows.
    pub(super) payload: usize,
}

impl Header {
    /// Reads a header; `None` while it is incomplete. A violation is reported as soon as its bytes have arrived.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<Self>, Violation> {
        let Some((first, rest)) = bytes.split_first() else { return Ok(None) };
        let is_final = first & 0x80 != 0;
        let opcode = Opcode::of(*first)?;
        if opcode.is_control() && !is_final {
            return Err(Violation::BadControl);
        }
        let Some((second, rest)) = rest.split_first() else { return Ok(None) };
        if second & 0x80 == 0 {
            return Err(Violation::Unmasked);
        }
        let short = usize::from(second & 0x7f);
        if opcode.is_control() && short > MAX_CONTROL {
            return Err(Violation::BadControl);
        }
        let Some((payload, behind)) = length(short, rest)? else { return Ok(None) };
        let Some(mask) = behind.first_chunk::<4>() else { return Ok(None) };
        let len = bytes.len() - behind.len() + mask.len();
        Ok(Some(Self { is_final, opcode, mask: *mask, len, payload }))
    }
}

/// The length of the payload, and the bytes behind the length.
fn length(short: usize, rest: &[u8]) -> Result<Option<(usize, &[u8])>, Violation> {
    match short {
        126 => {
            let Some((long, behind)) = rest.split_first_chunk() else { return Ok(None) };
            let long = u16::from_be_bytes(*long);
            if long < 126 { Err(Violation::BadLength) } else { Ok(Some((usize::from(long), behind))) }
        }
        127 => {
            let Some((long, behind)) = rest.split_first_chunk() else { return Ok(None) };
            let long = u64::from_be_bytes(*long);
            if long < 1 << 16 || long >> 63 != 0 {
                return Err(Violation::BadLength);
            }
            Ok(Some((usize::try_from(long).map_err(|_| Violation::TooLong)?, behind)))
        }
        short => Ok(Some((short, rest))),
    }
}

/// Removes or applies the mask (§ 5.3), eight bytes at a time.
pub(super) fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

/// Whether an endpoint may send this code in a close frame (§ 7.4, and the registry of codes).
pub(super) fn may_close_with(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}
