//! Compares JSON numbers by their digits.
//!
//! `1`, `1.0` and `10e-1` are one number; 2^64 and 2^64+1 are two, though they are one `f64`; `1e400` is a number
//! although no `f64` holds it.

use std::cmp::Ordering;

/// The parts of a JSON number, as written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Number<'t> {
    text: &'t str,
    negative: bool,
    whole: &'t str,
    fraction: &'t str,
    /// The exponent in the text.
    exponent: Exponent,
}

/// A power of ten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exponent {
    Of(i64),
    /// Above the range of `i64`, which takes 19 digits.
    Huge,
    /// Below the range of `i64`.
    Tiny,
}

/// The digits of a number without zeros at both ends, and the position of its point relative to the first digit.
struct Significant {
    skip: usize,
    count: usize,
    /// `i128::MAX` and `i128::MIN` for an exponent that is [`Exponent::Huge`] or [`Exponent::Tiny`].
    point: i128,
}

/// A number whose significant digits have been found once, for any number of comparisons.
pub(crate) struct Measured<'t> {
    number: Number<'t>,
    significant: Significant,
}

/// A number that others are compared with. The cost of a comparison depends only on the length of the other number.
#[derive(Debug)]
pub(crate) struct Decimal {
    text: Box<str>,
    negative: bool,
    digits: Box<[u8]>,
    point: i128,
}

impl<'t> Number<'t> {
    /// Splits a valid JSON number into its parts.
    pub(crate) fn new(text: &'t str) -> Self {
        let (negative, rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, Exponent::of(exponent)),
            None => (rest, Exponent::Of(0)),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        Self { text, negative, whole, fraction, exponent }
    }

    /// Finds its significant digits.
    pub(crate) fn measure(self) -> Measured<'t> {
        Measured { number: self, significant: self.significant() }
    }

    /// Whether it is a whole number: `1`, `1.0` and `1e2` are, `1.5` is not.
    pub(crate) fn is_whole(&self) -> bool {
        let Significant { count, point, .. } = self.significant();
        count == 0 || point >= count as i128
    }

    fn digits(&self) -> impl DoubleEndedIterator<Item = u8> + use<'t> {
        self.whole.bytes().chain(self.fraction.bytes())
    }

    fn significant(&self) -> Significant {
        let skip = self.digits().take_while(|digit| *digit == b'0').count();
        let total = self.whole.len() + self.fraction.len();
        if skip == total {
            return Significant { skip, count: 0, point: 0 };
        }
        let trailing = self.digits().rev().take_while(|digit| *digit == b'0').count();
        let point = match self.exponent {
            Exponent::Of(exponent) => self.whole.len() as i128 - skip as i128 + i128::from(exponent),
            Exponent::Huge => i128::MAX,
            Exponent::Tiny => i128::MIN,
        };
        Significant { skip, count: total - skip - trailing, point }
    }
}

impl Exponent {
    fn of(text: &str) -> Self {
        match text.parse() {
            Ok(exponent) => Self::Of(exponent),
            Err(_) if text.starts_with('-') => Self::Tiny,
            Err(_) => Self::Huge,
        }
    }
}

impl Decimal {
    /// Reads a valid JSON number.
    pub(crate) fn new(text: &str) -> Self {
        let number = Number::new(text);
        let Significant { skip, count, point } = number.significant();
        let digits = number.digits().skip(skip).take(count).collect();
        Self { text: text.into(), negative: number.negative && count > 0, digits, point }
    }

    /// Bytes on the heap.
    pub(crate) fn size(&self) -> usize {
        self.text.len() + self.digits.len()
    }

    /// Whether `other` is the same number. If both exponents are outside of `i64`, the texts are compared.
    pub(crate) fn is(&self, other: &Measured<'_>) -> bool {
        self.order(other) == Some(Ordering::Equal)
    }

    /// How `other` compares to it; `None` for two numbers whose exponents are both outside of `i64` on the same side.
    pub(crate) fn order(&self, other: &Measured<'_>) -> Option<Ordering> {
        let Measured { number: other, significant: theirs } = other;
        if other.text == &*self.text {
            return Some(Ordering::Equal);
        }
        let sign = |negative: bool, count: usize| if count == 0 { 0 } else { 1 - 2 * i8::from(negative) };
        let (ours, sign) = (sign(self.negative, self.digits.len()), sign(other.negative, theirs.count));
        if sign != ours || sign == 0 {
            return Some(sign.cmp(&ours));
        }
        let beyond = |point: i128| point == i128::MAX || point == i128::MIN;
        let magnitude = match theirs.point.cmp(&self.point) {
            Ordering::Equal if beyond(self.point) => return None,
            Ordering::Equal => other.digits().skip(theirs.skip).take(theirs.count).cmp(self.digits.iter().copied()),
            different => different,
        };
        Some(if sign < 0 { magnitude.reverse() } else { magnitude })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(a: &str, b: &str) -> bool {
        let is = Decimal::new(a).is(&Number::new(b).measure());
        assert_eq!(is, Decimal::new(b).is(&Number::new(a).measure()), "{a:?} and {b:?}");
        is
    }

    #[test]
    fn numbers_are_ordered_by_their_digits() {
        let ascending = [
            "-1e99999999999999999999",
            "-1e400",
            "-18446744073709551617",
            "-18446744073709551616.5",
            "-2",
            "-1.5",
            "-1e-400",
            "0",
            "1e-99999999999999999999",
            "1e-400",
            "0.1",
            "0.10000000000000000001",
            "1",
            "1.5",
            "2",
            "9.9",
            "10",
            "11",
            "9007199254740992",
            "9007199254740993",
            "1e400",
            "1.1e400",
            "1e99999999999999999999",
        ];
        for (at, a) in ascending.iter().enumerate() {
            for (other, b) in ascending.iter().enumerate() {
                assert_eq!(Decimal::new(a).order(&Number::new(b).measure()), Some(other.cmp(&at)), "{b} to {a}");
            }
        }
        assert_eq!(
            Decimal::new("1e99999999999999999999").order(&Number::new("2e99999999999999999999").measure()),
            None
        );
    }

    #[test]
    fn equal_numbers_are_equal_however_they_are_written() {
        for (a, b) in [
            ("1", "1.0"),
            ("1", "1e0"),
            ("100", "1e2"),
            ("100", "1.00E+2"),
            ("0.1", "1e-1"),
            ("0", "-0"),
            ("0", "0.00e99"),
            ("0", "0e99999999999999999999"),
            ("1e400", "10e399"),
            ("18446744073709551617", "18446744073709551617.0"),
            ("-5", "-5.0"),
            ("1e99999999999999999999", "1e99999999999999999999"),
        ] {
            assert!(same(a, b), "{a} {b}");
        }
    }

    #[test]
    fn different_numbers_differ_even_when_one_f64_stands_for_both() {
        for (a, b) in [
            ("1", "-1"),
            ("1", "10"),
            ("1", "2"),
            ("0", "1"),
            ("18446744073709551616", "18446744073709551617"),
            ("9007199254740993", "9007199254740992"),
            ("1e400", "1e401"),
            ("0.1", "0.10000000000000000555"),
            ("1", "1.5"),
            ("1e99999999999999999999", "1e99999999999999999998"),
            ("1e99999999999999999999", "1"),
        ] {
            assert!(!same(a, b), "{a} {b}");
        }
    }

    #[test]
    fn whole_numbers() {
        for text in ["0", "-0.0", "1", "1.0", "1e2", "1.5e1", "1e400", "1e99999999999999999999", "0e-5"] {
            assert!(Number::new(text).is_whole(), "{text}");
        }
        for text in ["1.5", "1e-1", "0.001", "1e-99999999999999999999", "15e-1"] {
            assert!(!Number::new(text).is_whole(), "{text}");
        }
    }
}
