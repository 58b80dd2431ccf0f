//! The destination set of a fan-out row or a leased batch, as bytes. Destinations are in ascending order; each is one
//! variable-length number (LEB128): the distance from the one before, and its kind of lane in the lowest two bits.

use tidings_model::id::DestinationNo;

use crate::error::StoreError;
use crate::log::Lane;

/// Encodes a set. It must be in ascending order of its numbers.
pub(crate) fn encode(set: impl ExactSizeIterator<Item = (DestinationNo, Lane)>) -> Vec<u8> {
    let mut out = Vec::with_capacity(set.len() * 2);
    let mut last = 0;
    for (no, lane) in set {
        let kind = match lane {
            Lane::Own => 0,
            Lane::Whole => 1,
            Lane::Key => 2,
        };
        let mut number = ((no.0.wrapping_sub(last)) as u64) << 2 | kind;
        last = no.0;
        while number >= 0x80 {
            out.push((number as u8 & 0x7f) | 0x80);
            number >>= 7;
        }
        out.push(number as u8);
    }
    out
}

/// Decodes the output of [`encode`].
pub(crate) fn decode(bytes: &[u8]) -> Result<Vec<(DestinationNo, Lane)>, StoreError> {
    let corrupt = || StoreError::Corrupt("a set of destinations".to_owned());
    let mut out = Vec::new();
    let mut last = 0i64;
    let (mut number, mut shift) = (0u64, 0u32);
    for byte in bytes {
        number |= u64::from(byte & 0x7f).checked_shl(shift).ok_or_else(corrupt)?;
        shift += 7;
        if byte & 0x80 != 0 {
            continue;
        }
        let lane = match number & 3 {
            0 => Lane::Own,
            1 => Lane::Whole,
            2 => Lane::Key,
            _ => return Err(corrupt()),
        };
        last = last.wrapping_add((number >> 2) as i64);
        out.push((DestinationNo(last), lane));
        (number, shift) = (0, 0);
    }
    if shift == 0 { Ok(out) } else { Err(corrupt()) }
}

/// Encodes the destinations of a leased batch: none of them is in a lane.
pub(crate) fn encode_batch(all: &[DestinationNo]) -> Vec<u8> {
    encode(all.iter().map(|&no| (no, Lane::Own)))
}

/// Decodes the output of [`encode_batch`].
pub(crate) fn decode_batch(bytes: &[u8]) -> Result<Vec<DestinationNo>, StoreError> {
    Ok(decode(bytes)?.into_iter().map(|(no, _)| no).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_set_comes_back_as_it_was(
            numbers in prop::collection::btree_set(1i64..1 << 40, 0..300), kinds in any::<u64>(),
        ) {
            let lanes = [Lane::Own, Lane::Whole, Lane::Key];
            let set: Vec<_> = numbers.into_iter().enumerate()
                .map(|(i, n)| (DestinationNo(n), lanes[(kinds.rotate_left(i as u32) % 3) as usize])).collect();
            prop_assert_eq!(decode(&encode(set.iter().copied())).unwrap(), set);
        }

        #[test]
        fn bytes_that_are_no_set_are_an_error_and_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            drop(decode(&bytes));
        }
    }
}
