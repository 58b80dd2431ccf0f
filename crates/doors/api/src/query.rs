//! Reads a query: only known parameters, each at most once.

use tidings_model::clock::{Millis, parse_rfc3339};
use tidings_model::pattern::nearest;
use url::form_urlencoded;

use crate::problem::{Code, Problem, shown};

/// The parameters of a query.
#[derive(Debug)]
pub(crate) struct Query(Vec<(String, String)>);

/// The parameters of every list.
const PAGING: [&str; 2] = ["limit", "cursor"];

impl Query {
    /// Reads a list's query, which may have these filters, `limit` and `cursor`.
    pub(crate) fn read(query: Option<&str>, filters: &[&str]) -> Result<Self, Problem> {
        Self::read_one(query, &[filters, &PAGING].concat())
    }

    /// Reads the query of a single item, which may have these parameters.
    pub(crate) fn read_one(query: Option<&str>, names: &[&str]) -> Result<Self, Problem> {
        let mut found: Vec<(String, String)> = Vec::new();
        for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            let known = || names.iter().copied();
            if !known().any(|known| known == name) {
                let remedy = match nearest(&name, known()) {
                    Some(nearest) => format!("did you mean {nearest:?}?"),
                    None => format!("the parameters are {}", known().collect::<Vec<_>>().join(", ")),
                };
                return Err(wrong(&shown(&name), "there is no such query parameter").remedy(remedy));
            }
            if found.iter().any(|(before, _)| *before == name) {
                return Err(wrong(&name, "given twice").remedy("keep one"));
            }
            if value.contains('\0') {
                // PostgreSQL does not accept it in a query.
                return Err(wrong(&name, "this contains a NUL character").remedy("leave it out"));
            }
            found.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self(found))
    }

    /// A parameter.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// A parameter that is a time.
    pub(crate) fn time(&self, name: &str) -> Result<Option<Millis>, Problem> {
        let read = |text: &str| {
            parse_rfc3339(text).ok_or_else(|| {
                wrong(name, format!("{:?} is not a time", shown(text)))
                    .remedy("write RFC 3339, such as 2026-11-21T09:56:00Z; a + in it is written %2B")
            })
        };
        self.get(name).map(read).transpose()
    }

    /// A parameter that is `true` or `false`.
    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>, Problem> {
        let read = |text: &str| match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(wrong(name, format!("{:?} is neither true nor false", shown(text))).remedy("write true or false")),
        };
        self.get(name).map(read).transpose()
    }
}

/// The refusal of a parameter.
pub(crate) fn wrong(name: &str, detail: impl Into<String>) -> Problem {
    Problem::new(Code::InvalidRequest, detail).field(name)
}
