//! Compares JSON numbers by their digits.
//!
//! `1`, `1.0` and `10e-1` are one number; 2^64 and 2^64+1 are two, though they are one `f64`; `1e400` is a number although
//! no `f64` holds it.

/// A JSON number as written, taken apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Number<'t> {
    text: &'t str,
    negative: bool,
    whole: &'t str,
    fraction: &'t str,
    /// The power of ten that the text names; `None` if it does not fit, which takes an exponent of 19 digits.
    exponent: Option<i64>,
}

/// The digits of a number without its zeros at both ends, and where its point is relative to the first of them.
struct Significant {
    skip: usize,
    count: usize,
    point: i128,
}

impl<'t> Number<'t> {
    /// Takes a valid JSON number apart.
    pub(crate) fn new(text: &'t str) -> Self {
        let (negative, rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse().ok()),
            None => (rest, Some(0)),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        Self { text, negative, whole, fraction, exponent }
    }

    /// Whether both are the same number. With an exponent beyond `i64` on either side the texts are compared.
    pub(crate) fn same(&self, other: &Self) -> bool {
        if self.text == other.text {
            return true;
        }
        let (Some(a), Some(b)) = (self.significant(), other.significant()) else { return false };
        if a.count == 0 || b.count == 0 {
            return a.count == b.count;
        }
        self.negative == other.negative
            && a.point == b.point
            && a.count == b.count
            && self.digits().skip(a.skip).take(a.count).eq(other.digits().skip(b.skip).take(b.count))
    }

    /// Whether it is a whole number: `1`, `1.0` and `1e2` are, `1.5` is not.
    pub(crate) fn is_whole(&self) -> bool {
        match self.significant() {
            Some(s) => s.count == 0 || s.point >= s.count as i128,
            // A power of ten this large or small leaves no doubt.
            None => !self.text.contains("e-") && !self.text.contains("E-"),
        }
    }

    fn digits(&self) -> impl DoubleEndedIterator<Item = u8> + use<'t> {
        self.whole.bytes().chain(self.fraction.bytes())
    }

    fn significant(&self) -> Option<Significant> {
        let skip = self.digits().take_while(|digit| *digit == b'0').count();
        let total = self.whole.len() + self.fraction.len();
        if skip == total {
            return Some(Significant { skip, count: 0, point: 0 });
        }
        let trailing = self.digits().rev().take_while(|digit| *digit == b'0').count();
        let point = self.whole.len() as i128 - skip as i128 + i128::from(self.exponent?);
        Some(Significant { skip, count: total - skip - trailing, point })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(a: &str, b: &str) -> bool {
        let (a, b) = (Number::new(a), Number::new(b));
        assert_eq!(a.same(&b), b.same(&a), "{a:?} and {b:?}");
        a.same(&b)
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
