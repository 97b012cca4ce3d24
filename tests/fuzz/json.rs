//! JSON as a tree that can hold what no document may: a member twice. It reads documents a second time, and changes them
//! so that they still are JSON.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::mutate::Rng;

/// A JSON value; objects keep every member in its order.
#[derive(Debug, Clone)]
pub(crate) enum Json {
    /// Neither list nor object.
    Scalar(Value),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Json;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }

            fn visit_unit<E>(self) -> Result<Json, E> {
                Ok(Json::Scalar(Value::Null))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
                Ok(Json::Scalar(value.into()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
                Ok(Json::Scalar(value.into()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
                Ok(Json::Scalar(value.into()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
                Ok(Json::Scalar(value.into()))
            }

            fn visit_str<E>(self, value: &str) -> Result<Json, E> {
                Ok(Json::Scalar(value.into()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Json, A::Error> {
                let mut list = Vec::new();
                while let Some(element) = elements.next_element()? {
                    list.push(element);
                }
                Ok(Json::List(list))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json, A::Error> {
                let mut object = Vec::new();
                while let Some(member) = members.next_entry()? {
                    object.push(member);
                }
                Ok(Json::Object(object))
            }
        }

        deserializer.deserialize_any(Reader)
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let comma = |index: usize| if index == 0 { "" } else { "," };
        match self {
            Self::Scalar(value) => write!(f, "{value}"),
            Self::List(list) => {
                f.write_str("[")?;
                for (index, element) in list.iter().enumerate() {
                    write!(f, "{}{element}", comma(index))?;
                }
                f.write_str("]")
            }
            Self::Object(object) => {
                f.write_str("{")?;
                for (index, (name, value)) in object.iter().enumerate() {
                    write!(f, "{}{}:{value}", comma(index), Value::from(name.as_str()))?;
                }
                f.write_str("}")
            }
        }
    }
}

/// Texts that are put in place of others.
const TEXTS: [&str; 24] = [
    "",
    " ",
    ".",
    "..",
    "/",
    "../../etc/passwd",
    "/a/../b",
    "a\nb",
    "a\u{0}b",
    "\u{1b}[31m",
    "\u{7f}",
    "\u{85}",
    "\u{202e}",
    "é",
    "A",
    "a--b",
    "a-",
    "0",
    "-1",
    "0777",
    "4294967295",
    "1.0.0",
    "linux",
    "x=y,z:w",
];

impl Json {
    /// Reads a document in the most tolerant way.
    pub(crate) fn read(document: &[u8]) -> Option<Self> {
        serde_json::from_slice(document).ok()
    }

    /// The name of a member that an object has twice, anywhere.
    pub(crate) fn repeated(&self) -> Option<&str> {
        match self {
            Self::Scalar(_) => None,
            Self::List(list) => list.iter().find_map(Self::repeated),
            Self::Object(object) => {
                let is_before =
                    |index: usize, name: &str| object[..index].iter().any(|(found, _)| found == name);
                let twice = object.iter().enumerate().find(|(index, (name, _))| is_before(*index, name));
                let inside = || object.iter().find_map(|(_, value)| value.repeated());
                twice.map(|(_, (name, _))| name.as_str()).or_else(inside)
            }
        }
    }

    /// The member of an object.
    pub(crate) fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(object) => object.iter().find(|(found, _)| found == name).map(|(_, value)| value),
            Self::Scalar(_) | Self::List(_) => None,
        }
    }

    /// The elements of a list.
    pub(crate) fn elements(&self) -> &[Self] {
        match self {
            Self::List(list) => list,
            Self::Scalar(_) | Self::Object(_) => &[],
        }
    }

    fn count(&self) -> usize {
        1 + match self {
            Self::Scalar(_) => 0,
            Self::List(list) => list.iter().map(Self::count).sum(),
            Self::Object(object) => object.iter().map(|(_, value)| value.count()).sum::<usize>(),
        }
    }

    /// The value that is the `index`th in the order of the text.
    fn at(&mut self, index: &mut usize) -> Option<&mut Self> {
        if *index == 0 {
            return Some(self);
        }
        *index -= 1;
        match self {
            Self::Scalar(_) => None,
            Self::List(list) => list.iter_mut().find_map(|element| element.at(index)),
            Self::Object(object) => object.iter_mut().find_map(|(_, value)| value.at(index)),
        }
    }

    fn any(&mut self, rng: &mut Rng) -> &mut Self {
        let mut index = rng.below(self.count());
        let missing = "an index below the count";
        self.at(&mut index).expect(missing)
    }

    /// Changes a few values; `other` and `words` are what is put in.
    pub(crate) fn mutate(&mut self, rng: &mut Rng, other: &Self, words: &[&str]) {
        for _ in 0..=rng.below(3) {
            let foreign = other.clone().any(rng).clone();
            let value = self.any(rng);
            match rng.below(12) {
                0 => *value = foreign,
                1 => *value = Self::List(vec![value.clone()]),
                2 if rng.one_in(8) => {
                    for _ in 0..rng.below(90) {
                        *value = Self::List(vec![std::mem::replace(value, Self::List(Vec::new()))]);
                    }
                }
                _ => value.change(rng, foreign, words),
            }
        }
    }

    fn change(&mut self, rng: &mut Rng, foreign: Self, words: &[&str]) {
        match self {
            Self::Scalar(value) => *value = scalar(rng, value, words),
            Self::List(list) => {
                let at = rng.below(list.len());
                match rng.below(6) {
                    0 if !list.is_empty() => drop(list.remove(at)),
                    1 if !list.is_empty() => list.insert(at, list[at].clone()),
                    2 => list.insert(at, foreign),
                    3 if !list.is_empty() => list.swap(at, 0),
                    4 if rng.one_in(40) && !list.is_empty() => {
                        list.extend(vec![list[at].clone(); rng.below(600)]);
                    }
                    _ => list.clear(),
                }
            }
            Self::Object(object) => member(rng, object, foreign, words),
        }
    }
}

fn member(rng: &mut Rng, object: &mut Vec<(String, Json)>, foreign: Json, words: &[&str]) {
    let at = rng.below(object.len());
    let word = (*rng.pick(words)).to_owned();
    if object.is_empty() {
        object.push((word, foreign));
        return;
    }
    match rng.below(9) {
        0 => drop(object.remove(at)),
        // Given twice: with the same value, or with another.
        1 => object.push(object[at].clone()),
        2 => object.insert(0, (object[at].0.clone(), foreign)),
        3 => {
            let folded =
                if rng.one_in(2) { object[at].0.to_uppercase() } else { object[at].0.to_lowercase() };
            object.push((folded, object[at].1.clone()));
        }
        4 => object[at].0 = word,
        5 => object.insert(at, (word, foreign)),
        6 => {
            let second = rng.below(object.len());
            let value = object[second].1.clone();
            object[second].1 = std::mem::replace(&mut object[at].1, value);
        }
        7 => object.swap(at, 0),
        _ => object[at].1 = foreign,
    }
}

fn scalar(rng: &mut Rng, value: &Value, words: &[&str]) -> Value {
    let numbers = [0, 1, -1, 65535, 65536, 0xffff_fffe, 0xffff_ffff, 0x1_0000_0000, i64::MAX, i64::MIN];
    match rng.below(10) {
        0 => Value::Null,
        1 => rng.one_in(2).into(),
        2 => (*rng.pick(&numbers)).into(),
        3 => 1.5.into(),
        4 => (*rng.pick(words)).into(),
        5 => (*rng.pick(&TEXTS)).into(),
        6 if rng.one_in(10) => "a".repeat(rng.below(9000)).into(),
        _ => match value.as_str() {
            Some(text) => change_text(rng, text, words).into(),
            None => (*rng.pick(&numbers)).into(),
        },
    }
}

/// Changes a text in one place.
pub(crate) fn change_text(rng: &mut Rng, text: &str, words: &[&str]) -> String {
    let characters: Vec<char> = text.chars().collect();
    let (before, after) = characters.split_at(rng.below(characters.len() + 1));
    let before = before.iter().collect::<String>();
    let after = after.iter().skip(rng.below(2)).collect::<String>();
    match rng.below(5) {
        0 => text.to_uppercase(),
        1 => format!("{before}{}{after}", rng.pick(&TEXTS)),
        2 => format!("{before}{}{after}", rng.pick(words)),
        3 => format!("{before}{after}"),
        _ => format!("{text}{text}"),
    }
}
