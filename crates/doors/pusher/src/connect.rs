//! `/app/{key}`: a client connects.
