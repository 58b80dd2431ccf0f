//! How large a match may be.

/// The most operators in one match.
pub const MAX_CONDITIONS: usize = 100;
/// The deepest nesting of a match's JSON, values to compare with included; `{"a": 1}` has depth 1.
pub const MAX_DEPTH: usize = 16;
/// The longest JSON of a match, in bytes.
pub const MAX_JSON_LEN: usize = 8 * 1024;
/// The longest regular expression, in bytes.
pub const MAX_PATTERN_LEN: usize = 1024;
/// The largest compiled regular expression with its cache, in bytes.
pub const MAX_REGEX_SIZE: usize = 96 * 1024;
/// The largest compiled match with its caches, in bytes.
pub const MAX_SIZE: usize = 256 * 1024;
