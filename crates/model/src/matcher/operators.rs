//! The operators of matches.

/// The words that are operators when they are an object's only key.
pub const OPERATORS: [&str; 14] = [
    "is",
    "starts_with",
    "ends_with",
    "contains",
    "like",
    "any",
    "in",
    "not",
    "exists",
    "gt",
    "gte",
    "lt",
    "lte",
    "all",
];
