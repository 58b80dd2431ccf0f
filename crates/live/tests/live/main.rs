//! Sessions over real sockets: who hears what, in which order, and what is left of them.

mod asking;
mod ending;
mod fan_out;
mod node;
mod toy;
mod transports;
