//! Quantities of isolators and flags: `500m`, `16Mi`, `1.5G`, `2e3` (spec pods.md 3.8).
//!
//! Internally whole numbers only, so that no limit is off by a rounding of floating point.

use std::{fmt, str::FromStr};

use super::field::quoted;

const NANO: u128 = 1_000_000_000;

/// The largest quantity, as in the tools that read manifests so far.
const MAX: u128 = i64::MAX as u128 * NANO;

/// Why a text is not a quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is not a quantity: {rule}", quoted(.text))]
pub struct QuantityError {
    text: String,
    rule: &'static str,
}

impl QuantityError {
    /// What a valid text looks like.
    pub fn hint(&self) -> Option<String> {
        Some("a quantity looks like 16Mi, 50M, 1.5G, 500m or 2".into())
    }
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

impl ByteSize {
    /// Makes a size of a number of bytes.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Makes a size of a number of 1024 * 1024 bytes.
    pub const fn mib(count: u32) -> Self {
        Self((count as u64) << 20)
    }

    /// Returns the number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

/// Shows the plain number of bytes.
impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// An amount that is not negative, with the text that it was written as. Equal when the texts are equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quantity {
    text: String,
    /// In units of 10^-9, rounded up.
    nano: u128,
}

impl Quantity {
    /// Returns the text as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the amount in whole units, rounded up.
    pub fn units(&self) -> u64 {
        u64::try_from(self.nano.div_ceil(NANO)).expect("the largest quantity fits")
    }

    /// Returns the amount in thousandths, rounded up; what does not fit is the largest number.
    pub fn milli(&self) -> u64 {
        u64::try_from(self.nano.div_ceil(NANO / 1000)).unwrap_or(u64::MAX)
    }

    /// Returns the amount as a size, a fraction of a byte being a whole one.
    pub fn byte_size(&self) -> ByteSize {
        ByteSize(self.units())
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let error = |rule| QuantityError { text: text.to_owned(), rule };
        if text.starts_with('-') {
            return Err(error("it must not be negative"));
        }
        let unsigned = text.strip_prefix('+').unwrap_or(text);
        let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(error("it must begin with a decimal number"));
        }
        let scale = Scale::parse(suffix)
            .ok_or_else(|| error("after the number only n, u, m, k, M, G, T, P, E, Ki, Mi, Gi, Ti, Pi, Ei or an exponent such as e3 may stand"))?;
        let nano = scale
            .apply(whole, fraction)
            .filter(|nano| *nano <= MAX)
            .ok_or_else(|| error("it is larger than 9223372036854775807"))?;
        Ok(Self { text: text.to_owned(), nano })
    }
}

/// What a number is multiplied with: 10 to a power, or 2 to a power.
#[derive(Clone, Copy)]
enum Scale {
    Ten(i32),
    Two(u32),
}

impl Scale {
    fn parse(suffix: &str) -> Option<Self> {
        Some(match suffix {
            "" => Self::Ten(0),
            "n" => Self::Ten(-9),
            "u" => Self::Ten(-6),
            "m" => Self::Ten(-3),
            "k" | "K" => Self::Ten(3),
            "M" => Self::Ten(6),
            "G" => Self::Ten(9),
            "T" => Self::Ten(12),
            "P" => Self::Ten(15),
            "E" => Self::Ten(18),
            "Ki" => Self::Two(10),
            "Mi" => Self::Two(20),
            "Gi" => Self::Two(30),
            "Ti" => Self::Two(40),
            "Pi" => Self::Two(50),
            "Ei" => Self::Two(60),
            exponent => {
                let digits = exponent.strip_prefix(['e', 'E'])?;
                // `+` and `-` are part of the grammar, and Rust's parser knows both; three digits are already absurd.
                (digits.len() <= 4).then(|| digits.parse().ok()).flatten().map(Self::Ten)?
            }
        })
    }

    /// Returns `whole.fraction` in units of 10^-9 after scaling, rounded up; `None` if it is too large.
    fn apply(self, whole: &str, fraction: &str) -> Option<u128> {
        let digits = [whole, fraction].concat();
        let digits = digits.trim_start_matches('0');
        if digits.is_empty() {
            return Some(0);
        }
        let (power, factor) = match self {
            Self::Ten(power) => (power, 1),
            Self::Two(power) => (0, 1u128 << power),
        };
        // digits * 10^(power - fraction digits) * factor, in nano units.
        let power = i64::from(power) + 9 - i64::try_from(fraction.len()).ok()?;
        // Digits that can not be held exactly are cut off, but for a remainder that rounds up.
        let kept = digits.len().min(38 - 18);
        let mantissa: u128 = digits[..kept].parse().ok()?;
        let rest = digits[kept..].bytes().any(|b| b != b'0');
        let power = power + i64::try_from(digits.len() - kept).ok()?;
        let scaled = mantissa.checked_mul(factor);
        if power >= 0 {
            let ten = 10u128.checked_pow(u32::try_from(power).ok()?)?;
            return scaled?.checked_mul(ten)?.checked_add(u128::from(rest));
        }
        let divisor = u32::try_from(-power).ok().and_then(|power| 10u128.checked_pow(power));
        divisor.map_or(Some(1), |ten| {
            let product = scaled?;
            let up = u128::from(rest || product % ten != 0);
            Some(product / ten + up)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantities_are_exact_whole_numbers() {
        for (text, units, milli) in [
            ("0", 0, 0),
            ("2", 2, 2000),
            ("+2", 2, 2000),
            ("500m", 1, 500),
            ("250m", 1, 250),
            ("1.5", 2, 1500),
            (".5", 1, 500),
            ("5.", 5, 5000),
            ("0.1", 1, 100),
            ("100u", 1, 1),
            ("1n", 1, 1),
            ("0.0000000001", 1, 1),
            ("16Mi", 16_777_216, 16_777_216_000),
            ("50M", 50_000_000, 50_000_000_000),
            ("1G", 1_000_000_000, 1_000_000_000_000),
            ("1k", 1000, 1_000_000),
            ("1K", 1000, 1_000_000),
            ("1Ki", 1024, 1_024_000),
            ("1.5Gi", 1_610_612_736, 1_610_612_736_000),
            ("0.3Ki", 308, 307_200),
            ("1e3", 1000, 1_000_000),
            ("1E3", 1000, 1_000_000),
            ("1e+3", 1000, 1_000_000),
            ("12e-3", 1, 12),
            ("1.5e3", 1500, 1_500_000),
            ("1E", 1_000_000_000_000_000_000, u64::MAX),
            ("7Ei", 8_070_450_532_247_928_832, u64::MAX),
            ("9223372036854775807", 9_223_372_036_854_775_807, u64::MAX),
            ("000000000000000000000000000000000000000000000001", 1, 1000),
            ("1.0000000000000000000000000000000000000000000001", 2, 1001),
            ("0e999", 0, 0),
        ] {
            let quantity: Quantity = text.parse().unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(
                (quantity.units(), quantity.milli(), quantity.as_str()),
                (units, milli, text),
                "{text}"
            );
        }
    }

    #[test]
    fn other_texts_are_no_quantities() {
        let number = "it must begin with a decimal number";
        let suffix = "after the number only n, u, m, k, M, G, T, P, E, Ki, Mi, Gi, Ti, Pi, Ei or an exponent such as \
                      e3 may stand";
        let large = "it is larger than 9223372036854775807";
        for (text, rule) in [
            ("", number),
            (".", number),
            ("e3", number),
            ("Mi", number),
            ("1.2.3", number),
            ("banana", number),
            (" 1", number),
            ("++1", number),
            ("-1", "it must not be negative"),
            ("-0", "it must not be negative"),
            ("1 ", suffix),
            ("1mi", suffix),
            ("1KB", suffix),
            ("1e", suffix),
            ("1e3M", suffix),
            ("1e99999", suffix),
            ("1\n", suffix),
            ("9223372036854775808", large),
            ("8Ei", large),
            ("1e999", large),
            ("99999999999999999999999999999999999999999999", large),
        ] {
            let expected = format!("{text:?} is not a quantity: {rule}");
            assert_eq!(text.parse::<Quantity>().unwrap_err().to_string(), expected);
        }
    }

    proptest! {
        #[test]
        fn decimal_and_binary_suffixes_are_factors(number in 0..1_000_000u64, power in 0..4u32) {
            let suffix = |list: &[&str]| list[power as usize].to_owned();
            let units = |suffix: String| format!("{number}{suffix}").parse::<Quantity>().unwrap().units();
            prop_assert_eq!(units(suffix(&["", "k", "M", "G"])), number * 1000u64.pow(power));
            prop_assert_eq!(units(suffix(&["", "Ki", "Mi", "Gi"])), number * 1024u64.pow(power));
        }

        #[test]
        fn thousandths_are_exact(number in any::<u32>()) {
            let quantity: Quantity = format!("{}.{:03}", number / 1000, number % 1000).parse().unwrap();
            prop_assert_eq!(quantity.milli(), u64::from(number));
            prop_assert_eq!(quantity.units(), u64::from(number).div_ceil(1000));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[0-9.eEkKMi+nu-]{0,60}") {
            if let Ok(quantity) = text.parse::<Quantity>() {
                prop_assert!(quantity.units() <= quantity.milli());
                prop_assert_eq!(quantity.byte_size().bytes(), quantity.units());
            }
        }
    }
}
