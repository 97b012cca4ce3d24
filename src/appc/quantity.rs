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
