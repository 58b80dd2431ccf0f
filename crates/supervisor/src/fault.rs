//! Fault points: places where a test can have the code panic.
//!
//! They exist in builds with debug assertions only; in a release build a point is nothing. The points belong to the
//! whole process, as the tests that use them run a server of their own.

use std::fmt::Display;

/// Panics if a test has armed the point `name`.
#[inline]
pub fn point(name: &str) {
    point_of(name, &"");
}

/// Panics if a test has armed the point `name`, or the point `name` for what has this id.
#[inline]
pub fn point_of(name: &str, id: &impl Display) {
    #[cfg(debug_assertions)]
    armed::check(name, id);
    #[cfg(not(debug_assertions))]
    let _ = (name, id);
}

#[cfg(debug_assertions)]
pub use armed::arm;

#[cfg(debug_assertions)]
mod armed {
    use std::fmt::Display;
    use std::panic::panic_any;
    use std::sync::atomic::{AtomicBool, Ordering};

    use parking_lot::RwLock;

    static ANY: AtomicBool = AtomicBool::new(false);
    static ARMED: RwLock<Vec<String>> = RwLock::new(Vec::new());

    /// Arms these points, each a line `name`, or `name id` where it is to be hit by what has this id alone; disarms all
    /// others.
    pub fn arm(lines: &str) {
        let points: Vec<_> = lines.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
        ANY.store(!points.is_empty(), Ordering::Release);
        *ARMED.write() = points;
    }

    pub(super) fn check(name: &str, id: &impl Display) {
        if !ANY.load(Ordering::Acquire) {
            return;
        }
        let id = id.to_string();
        let is_armed = ARMED.read().iter().any(|point| match point.split_once(' ') {
            Some((armed, wanted)) => armed == name && wanted == id,
            None => point == name,
        });
        if is_armed {
            panic_any(format!("the fault point {name} is armed"));
        }
    }
}
