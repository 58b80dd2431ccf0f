mod config;
mod output;
mod settings;
fn main() {}
