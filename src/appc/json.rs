//! The strict reader of JSON documents that come from strangers.
//!
//! What two programs could read in two ways is refused: a member given twice, at any level. What could exhaust this
//! process is refused too: size and depth are limited. A mistake is told with its line and column.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::field::quoted;

/// The largest document that is read, in bytes.
pub const MAX_SIZE: usize = 4 << 20;

/// How many lists and objects may stand inside each other.
pub const MAX_DEPTH: usize = 64;

/// Why a document was not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// The document has more than [`MAX_SIZE`] bytes.
    #[error("the document has {size} bytes, more than the {MAX_SIZE} that are allowed")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
    },
    /// The text is not JSON, or JSON that is not accepted.
    #[error("JSON error at line {line}, column {column}: {problem}")]
    Syntax {
        /// The line, from 1.
        line: usize,
        /// The byte in that line, from 1 (0 is the line's beginning).
        column: usize,
        /// What is wrong there.
        problem: String,
    },
}

/// Reads a document.
///
/// # Errors
/// A document over [`MAX_SIZE`], deeper than [`MAX_DEPTH`], with a member given twice, with anything after its end, or
/// that is not JSON in UTF-8.
pub fn parse(document: &[u8]) -> Result<Value, JsonError> {
    if document.len() > MAX_SIZE {
        return Err(JsonError::TooLarge { size: document.len() });
    }
    let mut reader = serde_json::Deserializer::from_slice(document);
    Strict { depth: 0 }
        .deserialize(&mut reader)
        .and_then(|value| reader.end().map(|()| value))
        .map_err(|error| syntax_error(&error))
}

fn syntax_error(error: &serde_json::Error) -> JsonError {
    let (line, column) = (error.line(), error.column());
    let text = error.to_string();
    let place = format!(" at line {line} column {column}");
    JsonError::Syntax { line, column, problem: text.strip_suffix(&place).unwrap_or(&text).to_owned() }
}

/// A value that stands inside `depth` lists and objects.
#[derive(Clone, Copy)]
struct Strict {
    depth: usize,
}

impl Strict {
    fn inside<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth == MAX_DEPTH {
            return Err(E::custom(format!("more than {MAX_DEPTH} levels of lists and objects")));
        }
        Ok(Self { depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let inside = self.inside()?;
        let mut list = Vec::new();
        while let Some(element) = elements.next_element_seed(inside)? {
            list.push(element);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let inside = self.inside()?;
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            if object.contains_key(&name) {
                return Err(A::Error::custom(format!("the member {} is given twice", quoted(&name))));
            }
            let value = members.next_value_seed(inside)?;
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn mistakes_are_told_with_line_and_column() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        for (document, expected) in [
            ("", "JSON error at line 1, column 0: EOF while parsing a value"),
            ("{\n  \"a\": 1\n  \"b\": 2\n}", "JSON error at line 3, column 3: expected `,` or `}`"),
            ("{\"a\":1,}", "JSON error at line 1, column 8: trailing comma"),
            ("{} {}", "JSON error at line 1, column 4: trailing characters"),
            ("{\"a\":01}", "JSON error at line 1, column 7: invalid number"),
            ("[1e999]", "JSON error at line 1, column 6: number out of range"),
            ("{\"a\":1,\n\"a\":1}", "JSON error at line 2, column 3: the member \"a\" is given twice"),
            (
                "{\"a\":[{\"b\":1,\"\\u0062\":2}]}",
                "JSON error at line 1, column 21: the member \"b\" is given twice",
            ),
            (&nested(65), "JSON error at line 1, column 66: more than 64 levels of lists and objects"),
        ] {
            assert_eq!(parse(document.as_bytes()).unwrap_err().to_string(), expected, "{document}");
        }
        assert!(matches!(parse(b"\"\xff\"").unwrap_err(), JsonError::Syntax { .. }));
        assert!(parse(nested(64).as_bytes()).is_ok());
        assert!(parse(br#"{"a":1,"A":2}"#).is_ok(), "members differ by case");
    }

    #[test]
    fn size_has_a_limit() {
        let fits = "{}".to_owned() + &" ".repeat(MAX_SIZE - 2);
        assert!(parse(fits.as_bytes()).is_ok());
        let error = parse(format!("{fits} ").as_bytes()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the document has 4194305 bytes, more than the 4194304 that are allowed"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(value) = parse(&bytes) {
                prop_assert_eq!(Some(value), serde_json::from_slice(&bytes).ok());
            }
        }

        #[test]
        fn json_like_text_is_read_or_refused(text in r#"[\[\]{}:,"a1 .e-]{0,40}"#) {
            if let Ok(value) = parse(text.as_bytes()) {
                prop_assert_eq!(parse(value.to_string().as_bytes()).map(|v| v.to_string()), Ok(value.to_string()));
            }
        }

        #[test]
        fn a_member_given_twice_is_never_accepted(
            before in "[a-z]{0,3}", name in "\\PC{0,8}", depth in 0usize..20, lists in any::<bool>(),
        ) {
            let name = Value::String(name).to_string();
            let object = format!("{{\"x{before}\":1,{name}:1,\"y{before}\":2,{name}:2}}");
            let (open, close) = if lists { ("[", "]") } else { ("{\"k\":", "}") };
            let document = format!("{}{object}{}", open.repeat(depth), close.repeat(depth));
            prop_assert!(parse(document.as_bytes()).is_err());
        }
    }
}
